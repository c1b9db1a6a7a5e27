//! A shopping cart that loses things, found by the simulator, told as a short story, and mended.
//!
//! A cart that is one value is written as a whole: of two that are written apart, one is shown, and
//! what only the other held is gone from view. A set in which adds win, with a counter for each
//! thing, keeps what was put in and was not taken out.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use kdelta::engine::base::CommitId;
use kdelta::engine::crdt::{Json, Op};
use kdelta::sim::app::{App, Done, Event, Failed, Reader, Replica, Sim, holds, text};

/// What users were told is in the cart, and what anybody ever took out.
#[derive(Default)]
struct Promised {
    put_in: BTreeSet<String>,
    taken_out: BTreeSet<String>,
}

/// What a user wants.
enum Wish {
    PutIn(String),
    TakeOut(String),
    OneMore(String),
}

/// Draws what the user of a cart wants that shows these things. No two things have one name.
fn wish(replica: &mut Replica<'_>, shown: &[String]) -> Wish {
    let draws = replica.draws();
    let thing = shown.get(draws.index(shown.len())).cloned();
    match (draws.below(5), thing) {
        (0, Some(thing)) => Wish::TakeOut(thing),
        (1, Some(thing)) => Wish::OneMore(thing),
        _ => Wish::PutIn(format!("thing-{:x}", draws.below(1 << 32))),
    }
}

/// Checks that what was put in, durably, and was never taken out is still there.
fn nothing_is_lost(shown: &[String], promised: &Promised) -> Done {
    for thing in promised.put_in.difference(&promised.taken_out) {
        let there = shown.contains(thing);
        holds(there, "what is in the cart stays there", || format!("{thing} is not in the cart"))?;
    }
    Ok(())
}

/// The cart as one value, an object.
#[derive(Default)]
struct ValueCart {
    waiting: BTreeMap<CommitId, String>,
}

fn value_shown(replica: &mut Reader<'_>) -> Result<Vec<String>, Failed> {
    let json = replica.register("cart")?;
    let cart: Vec<String> = json.map_or_else(Vec::new, |json| {
        let inside = json.as_str().trim_matches(['[', ']']).to_owned();
        let things = inside.split(',').map(|thing| thing.trim_matches('"').to_owned());
        things.filter(|thing| !thing.is_empty()).collect()
    });
    Ok(cart)
}

impl App for ValueCart {
    type Witness = Promised;

    fn start(_: usize) -> Self {
        Self::default()
    }

    fn on_event(&mut self, event: &Event, cart: &mut Replica<'_>, promised: &mut Promised) -> Done {
        match event {
            Event::User => {
                let mut things = value_shown(cart)?;
                match wish(cart, &things) {
                    Wish::PutIn(thing) => {
                        things.push(thing.clone());
                        let commit = cart.write([("cart", whole(&things)?)])?;
                        self.waiting.insert(commit, thing);
                    }
                    Wish::TakeOut(thing) => {
                        promised.taken_out.insert(thing.clone());
                        things.retain(|other| *other != thing);
                        cart.write([("cart", whole(&things)?)])?;
                    }
                    Wish::OneMore(_) => {}
                }
            }
            Event::Durable(commit) => promised.put_in.extend(self.waiting.remove(commit)),
            _ => {}
        }
        Ok(())
    }

    fn check_end(&self, cart: &mut Reader<'_>, promised: &Promised) -> Done {
        nothing_is_lost(&value_shown(cart)?, promised)
    }
}

fn whole(things: &[String]) -> Result<Op, Failed> {
    let quoted: Vec<String> = things.iter().map(|thing| format!("\"{thing}\"")).collect();
    let json = Json::parse(format!("[{}]", quoted.join(",")).as_bytes());
    // Names are made of letters and digits: they need no escapes.
    json.map(Op::Put).map_err(|_| Failed::from(kdelta::sim::Broken::new("carts are JSON", "")))
}

/// The cart as a set in which adds win, with a counter for each thing.
#[derive(Default)]
struct SetCart {
    waiting: BTreeMap<CommitId, String>,
}

fn set_shown(replica: &mut Reader<'_>) -> Result<Vec<String>, Failed> {
    let things = replica.set("cart")?;
    Ok(things.iter().map(|thing| thing.as_str().trim_matches('"').to_owned()).collect())
}

impl App for SetCart {
    type Witness = Promised;

    fn start(_: usize) -> Self {
        Self::default()
    }

    fn on_event(&mut self, event: &Event, cart: &mut Replica<'_>, promised: &mut Promised) -> Done {
        match event {
            Event::User => {
                let things = set_shown(cart)?;
                match wish(cart, &things) {
                    Wish::PutIn(thing) => {
                        let (set, count) = (vec![text(&thing)?], format!("count/{thing}"));
                        let ops = [("cart", Op::SetAdd(set)), (&*count, Op::CounterAdd(1))];
                        self.waiting.insert(cart.write(ops)?, thing);
                    }
                    Wish::TakeOut(thing) => {
                        promised.taken_out.insert(thing.clone());
                        let (set, count) = (vec![text(&thing)?], format!("count/{thing}"));
                        cart.write([("cart", Op::SetRemove(set)), (&*count, Op::Delete)])?;
                    }
                    // Whoever wants more of a thing puts it in again: that wins over a removal
                    // that did not know.
                    Wish::OneMore(thing) => {
                        let (set, count) = (vec![text(&thing)?], format!("count/{thing}"));
                        cart.write([("cart", Op::SetAdd(set)), (&*count, Op::CounterAdd(1))])?;
                    }
                }
            }
            Event::Durable(commit) => promised.put_in.extend(self.waiting.remove(commit)),
            _ => {}
        }
        Ok(())
    }

    fn check_end(&self, cart: &mut Reader<'_>, promised: &Promised) -> Done {
        for thing in set_shown(cart)? {
            let count = cart.counter(&format!("count/{thing}"))?;
            holds(count > 0, "what is in the cart is there once at least", || {
                format!("{count} of {thing}")
            })?;
        }
        nothing_is_lost(&set_shown(cart)?, promised)
    }

    fn shows(&self, cart: &mut Reader<'_>) -> Result<String, Failed> {
        let mut said = String::new();
        for thing in set_shown(cart)? {
            let count = cart.counter(&format!("count/{thing}"))?;
            said.push_str(&format!("{count} {thing}; "));
        }
        Ok(said)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let seeds = 0..100;
    println!("1. The cart as one value, on {seeds:?}:\n");
    let Err(failure) = Sim::<ValueCart>::new().seeds(seeds.clone()).run() else {
        return Err("the simulator must find that the cart loses things".into());
    };
    println!("{failure}");
    assert_eq!(failure.broken.invariant, "what is in the cart stays there");

    println!("2. The cart as a set in which adds win, on the same seeds:\n");
    let passed = Sim::<SetCart>::new().seeds(seeds).run()?;
    let (events, hours) = (passed.events, passed.virtual_ms / 3_600_000);
    println!("{} seeds hold: {events} events in {hours} hours of their worlds", passed.seeds);
    Ok(())
}
