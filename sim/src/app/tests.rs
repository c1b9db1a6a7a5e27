use std::collections::{BTreeMap, BTreeSet};

use kdelta_engine::crdt::Op;

use super::*;
use crate::scenario::{Action, Step, Topology};
use crate::trace::Keep;

/// Counts what it is told, by kind; writes at its user's word and at each alarm.
struct Ear {
    told: u32,
}

/// What happened at all ears: by seat, how often each kind of event came.
#[derive(Default)]
struct Heard(BTreeMap<usize, BTreeMap<&'static str, u32>>);

impl App for Ear {
    type Witness = Heard;

    fn start(_: usize) -> Self {
        Self { told: 0 }
    }

    fn on_event(&mut self, event: &Event, replica: &mut Replica<'_>, heard: &mut Heard) -> Done {
        self.told += 1;
        let kind = match event {
            Event::Started => {
                assert_eq!(self.told, 1, "an app that starts knows nothing");
                "started"
            }
            Event::User => {
                replica.write([("steps", Op::CounterAdd(1))])?;
                replica.wake_in(50);
                "user"
            }
            Event::Woken => {
                replica.write([("alarms", Op::CounterAdd(1)), ("all", Op::CounterAdd(1))])?;
                "woken"
            }
            Event::Changed(keys) => {
                assert!(!keys.is_empty());
                "changed"
            }
            Event::Durable(_) => "durable",
            Event::TakenBack(_) => "taken back",
        };
        *heard.0.entry(replica.seat()).or_default().entry(kind).or_default() += 1;
        Ok(())
    }

    fn check_end(&self, replica: &mut Reader<'_>, heard: &Heard) -> Done {
        let of = |kind| heard.0.values().filter_map(|kinds| kinds.get(kind)).sum::<u32>();
        let (steps, alarms) = (replica.counter("steps")?, replica.counter("alarms")?);
        holds(steps == of("user").into(), "each step counts", || format!("{steps} steps"))?;
        holds(alarms == of("woken").into(), "each alarm counts", || format!("{alarms} alarms"))?;
        let written = of("user") + of("woken");
        holds(of("durable") == written, "each write is answered", || format!("of {written}"))?;
        holds(of("changed") > 0 && of("woken") > 0, "there are news", || format!("{:?}", heard.0))
    }

    fn shows(&self, replica: &mut Reader<'_>) -> Result<String, Failed> {
        Ok(replica.counter("all")?.to_string())
    }
}

#[test]
fn an_app_in_a_calm_world_is_told_of_everything_once() {
    let passed = Sim::<Ear>::new().seeds(0..8).replicas(3).faults(Faults::NONE).run().unwrap();
    assert!(passed.seeds == 8 && passed.events > 1_000, "{passed:?}");
    let line = Sim::<Ear>::new().replicas(4).topology(Topology::Line).faults(Faults::NONE);
    let scenario = line.scenario(1);
    assert_eq!((scenario.options.replicas, scenario.options.topology), (4, Topology::Line));
    let (outcome, trace) = line.trace(&scenario, Keep::All);
    // The disks' operations are counted too, and have no entries.
    assert_eq!(outcome.broken, None);
    assert!(outcome.events > trace.entries().len() as u64);
}

#[test]
fn an_app_on_a_seed_goes_the_same_way_twice() {
    let sim = Sim::<Keeper>::new().seeds(0..12);
    assert_eq!(sim.run().unwrap(), sim.run().unwrap());
}

/// Keeps numbers in a set, and remembers which are durable. Draws them, so that none comes twice.
struct Keeper {
    pending: BTreeMap<CommitId, i64>,
}

impl App for Keeper {
    type Witness = BTreeSet<i64>;

    fn start(_: usize) -> Self {
        Self { pending: BTreeMap::new() }
    }

    fn on_event(
        &mut self,
        event: &Event,
        replica: &mut Replica<'_>,
        kept: &mut BTreeSet<i64>,
    ) -> Done {
        match event {
            Event::User => {
                let drawn = i64::try_from(replica.draws().below(1 << 50)).unwrap();
                let commit = replica.write([("kept", Op::SetAdd(vec![number(drawn)?]))])?;
                self.pending.insert(commit, drawn);
            }
            Event::Durable(commit) => kept.extend(self.pending.remove(commit)),
            _ => {}
        }
        Ok(())
    }

    fn check_end(&self, replica: &mut Reader<'_>, kept: &BTreeSet<i64>) -> Done {
        let there = replica.set("kept")?;
        for one in kept {
            let is_there = there.contains(&number(*one)?);
            holds(is_there, "what is durable is kept", || format!("{one} is lost"))?;
        }
        Ok(())
    }

    fn shows(&self, replica: &mut Reader<'_>) -> Result<String, Failed> {
        Ok(format!("{:?}", replica.set("kept")?))
    }
}

#[test]
fn what_was_durable_is_kept_through_every_fault_but_a_lost_disk() {
    Sim::<Keeper>::new().seeds(0..60).run().unwrap();
    let lossy = Sim::<Keeper>::new().seeds(0..60).faults(Faults::ALL);
    let failure = lossy.run().unwrap_err();
    assert_eq!(failure.broken.invariant, "what is durable is kept");
    let lost = |step: &Step| matches!(step.action, Action::Restore { .. } | Action::Wipe { .. });
    assert!(failure.scenario.steps.iter().any(lost), "{failure}");
}

/// Shows each user something else.
struct Liar(usize);

impl App for Liar {
    type Witness = ();

    fn start(seat: usize) -> Self {
        Self(seat)
    }

    fn on_event(&mut self, event: &Event, replica: &mut Replica<'_>, (): &mut ()) -> Done {
        if *event == Event::User {
            replica.note("looks away");
        }
        Ok(())
    }

    fn shows(&self, _: &mut Reader<'_>) -> Result<String, Failed> {
        Ok(self.0.to_string())
    }
}

#[test]
fn users_who_see_different_things_are_noticed_and_the_rest_is_cut_away() {
    let failure = Sim::<Liar>::new().run().unwrap_err();
    assert_eq!(failure.broken.invariant, "all users see the same at the end");
    assert_eq!(failure.scenario.steps, [], "it takes no step: {failure}");
    let notes = failure.story.lines().filter(|line| line.contains("note"));
    assert_eq!(notes.count(), 0, "what only the world notes is no part of it: {failure}");
    assert!(failure.to_string().contains("Sim::<Liar>::new().replay("), "{failure}");
}

/// Writes what its key's type does not allow.
struct Clumsy;

impl App for Clumsy {
    type Witness = ();

    fn start(_: usize) -> Self {
        Self
    }

    fn on_event(&mut self, event: &Event, replica: &mut Replica<'_>, (): &mut ()) -> Done {
        if *event == Event::User {
            replica.write([("key", Op::CounterAdd(1))])?;
            replica.write([("key", Op::SetAdd(vec![text("x")?]))])?;
        }
        Ok(())
    }
}

#[test]
fn a_write_that_makes_no_sense_is_the_apps_fault() {
    let failure = Sim::<Clumsy>::new().run().unwrap_err();
    assert_eq!(failure.broken.invariant, VALID);
    assert!(failure.story.contains("count +1") && failure.story.contains("add \"x\""), "{failure}");
    assert_eq!(failure.scenario.steps.len(), 1, "{failure}");
}

#[test]
fn faults_that_are_off_do_not_happen() {
    let calm = Sim::<Liar>::new().faults(Faults::NONE);
    for seed in 0..20 {
        let scenario = calm.scenario(seed);
        let acts = scenario.steps.iter().all(|step| matches!(step.action, Action::Act { .. }));
        assert!(acts && scenario.options.link.loss_ppm == 0, "seed {seed}");
        let again = crate::Scenario::parse(&scenario.to_string());
        assert_eq!(again.unwrap(), scenario, "seed {seed}: the text form holds it");
    }
}

/// Stops at the word of its user.
struct Stops;

impl App for Stops {
    type Witness = ();

    fn start(_: usize) -> Self {
        Self
    }

    fn on_event(&mut self, event: &Event, _: &mut Replica<'_>, (): &mut ()) -> Done {
        assert_ne!(*event, Event::User, "no user says a word");
        Ok(())
    }
}

#[test]
fn what_stops_at_an_assertion_is_cut_down_as_anything_that_breaks() {
    let failure = Sim::<Stops>::new().seeds(0..1).run().unwrap_err();
    assert_eq!(failure.broken.invariant, crate::check::STOPPED);
    assert!(failure.broken.seen.contains("no user says a word"), "{failure}");
    assert_eq!(failure.scenario.steps.len(), 1, "{failure}");
}
