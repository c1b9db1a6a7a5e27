//! A shop that oversells, found by the simulator, told as a short story, and mended.
//!
//! Each till looks at the stock before it sells. That is not enough: what another till sold may not
//! be here yet. The simulator plays both tills under parted networks, crashes and bad disks, and
//! cuts the first failure down to what it takes. Then each till gets a share of the stock that only
//! it sells from, and the same seeds hold.

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::ops::Range;

use kdelta::engine::crdt::Op;
use kdelta::sim::app::{App, Done, Event, Faults, Reader, Replica, Sim, holds};
use kdelta::sim::scenario::Topology;

/// How many there are to sell; of shares, in each.
const STOCK: i64 = 3;
const SEEDS: Range<u64> = 0..200;

/// Sells while the counter shows more than nothing.
struct Till;

impl App for Till {
    type Witness = ();

    fn start(_: usize) -> Self {
        Self
    }

    fn on_event(&mut self, event: &Event, till: &mut Replica<'_>, (): &mut ()) -> Done {
        match event {
            // The first till brings the stock. That write may be lost in a crash: it looks again.
            Event::Started if till.seat() == 0 && till.get("stock")?.is_none() => {
                till.write([("stock", Op::CounterAdd(STOCK))])?;
            }
            Event::User => {
                let stock = till.counter("stock")?;
                if stock > 0 {
                    till.note(format!("sees {stock} in stock and sells one"));
                    till.write([("stock", Op::CounterAdd(-1))])?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, till: &mut Reader<'_>, (): &()) -> Done {
        let stock = till.counter("stock")?;
        holds(stock >= 0, "nothing is sold that is not there", || format!("the stock is {stock}"))
    }
}

/// Sells from a share of its own: nobody else takes from it, so what is seen is what is there.
struct SharingTill;

/// The share of the till with that public key, and what it sold.
fn share(till: &Reader<'_>) -> (String, String) {
    let name: String = till.id().to_string().chars().take(8).collect();
    (format!("share/{name}"), format!("sold/{name}"))
}

impl App for SharingTill {
    type Witness = ();

    fn start(_: usize) -> Self {
        Self
    }

    fn on_event(&mut self, event: &Event, till: &mut Replica<'_>, (): &mut ()) -> Done {
        let (share, sold) = share(till);
        match event {
            Event::Started if till.get(&share)?.is_none() => {
                till.write([(&*share, Op::CounterAdd(STOCK))])?;
            }
            // Both counters in one commit: no crash and no peer sees one without the other.
            Event::User if till.counter(&share)? > 0 => {
                till.write([(&*share, Op::CounterAdd(-1)), (&*sold, Op::CounterAdd(1))])?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, till: &mut Reader<'_>, (): &()) -> Done {
        for (key, _) in till.list("share/")? {
            let left = till.counter(key.as_str())?;
            holds(left >= 0, "nothing is sold that is not there", || format!("{key} is {left}"))?;
        }
        Ok(())
    }

    fn check_end(&self, till: &mut Reader<'_>, (): &()) -> Done {
        let mut total = 0;
        let shares = till.list("share/")?;
        for (key, _) in till.list("sold/")?.into_iter().chain(shares.clone()) {
            total += till.counter(key.as_str())?;
        }
        let all = i128::from(STOCK) * i128::try_from(shares.len()).unwrap_or(0);
        holds(total == all, "what is sold and what is left is all there was", || {
            format!("{total} of {all}")
        })
    }

    fn shows(&self, till: &mut Reader<'_>) -> Result<String, kdelta::sim::app::Failed> {
        let mut lines = String::new();
        for (key, _) in till.list("")? {
            lines.push_str(&format!("{key} {}; ", till.counter(key.as_str())?));
        }
        Ok(lines)
    }
}

/// Three tills, each of which knows the others.
fn shop<A: App>() -> Sim<A> {
    Sim::new().seeds(SEEDS).replicas(3).topology(Topology::Mesh)
}

fn main() -> Result<(), Box<dyn Error>> {
    // Copies of tills come last.
    let faults = Faults { copies: false, ..Faults::default() };
    println!("1. Tills that look at the one stock before they sell, on {SEEDS:?}:\n");
    let Err(failure) = shop::<Till>().faults(faults).run() else {
        return Err("the simulator must find that the shop oversells".into());
    };
    println!("{failure}");
    assert_eq!(failure.broken.invariant, "nothing is sold that is not there");

    println!("2. Tills that sell from shares of their own, on the same seeds:\n");
    let passed = shop::<SharingTill>().faults(faults).run()?;
    let (events, hours) = (passed.events, passed.virtual_ms / 3_600_000);
    println!("{} seeds hold: {events} events in {hours} hours of their worlds\n", passed.seeds);

    println!("3. And where somebody runs a copy of a till's disk beside it:\n");
    let Err(failure) = shop::<SharingTill>().run() else {
        return Err("the simulator must find that a copied till sells its share twice".into());
    };
    println!("{}", failure.story);
    assert_eq!(failure.broken.invariant, "nothing is sold that is not there");
    println!(
        "The copy has the till's key, and so its share: both sell it. A copy needs a share of its own."
    );
    Ok(())
}
