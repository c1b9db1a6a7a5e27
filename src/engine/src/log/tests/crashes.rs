//! A power cut at every change of a scripted run, with every kind of loss, and during recovery.
//!
//! The specification is a list of the records that were appended: after any crash the log holds a
//! front part of it, with all that was durable.

use super::*;

/// What was appended and how many of the first were durable at least.
#[derive(Debug, Default)]
struct Model {
    appended: Vec<Position>,
    acked: usize,
}

impl Model {
    fn look(&mut self, log: &mut Log<Shared>) {
        while let Some(moved) = log.take_moved() {
            for (from, to) in moved.records {
                let place = self.appended.iter_mut().find(|at| **at == from).unwrap();
                *place = to;
            }
        }
        let durable = log.durable();
        let acked = self.appended.iter().take_while(|at| **at < durable).count();
        assert!(acked >= self.acked, "durable never goes back");
        self.acked = acked;
    }

    fn append(&mut self, log: &mut Log<Shared>, count: usize) -> Result<(), LogError> {
        for _ in 0..count {
            let at = log.append(KIND, &body(self.appended.len()))?;
            self.appended.push(at);
        }
        Ok(())
    }
}

/// Opens, appends, flushes, syncs, marks and seals until something fails or all is done.
fn script(disk: &Shared, model: &mut Model) -> Result<(), LogError> {
    let Ok((mut log, _)) = Log::open(disk.clone(), &options()) else { return Ok(()) };
    let log = &mut log;
    let steps = |log: &mut Log<Shared>, model: &mut Model| -> Result<(), LogError> {
        for round in 0..3 {
            model.append(log, 2)?;
            sync(log)?;
            model.look(log);
            model.append(log, 1)?;
            log.flush()?;
            model.append(log, 3)?;
            sync(log)?;
            model.look(log);
            log.idle_mark()?;
            model.append(log, 1)?;
            log.flush()?;
            if round == 1 {
                model.append(log, 1)?;
                log.seal_active()?;
                model.look(log);
            }
        }
        log.close()?;
        model.look(log);
        model.append(log, 2)?;
        log.flush()
    };
    let result = steps(log, model);
    model.look(log);
    result
}

/// The law that holds after every crash.
fn check(disk: &Shared, model: &Model, what: &str) -> Vec<usize> {
    let verified = verify(disk, &options()).unwrap();
    assert_eq!(verified.problems, vec![], "{what}: a crash is no damage");
    let (log, recovery) = open(disk);
    assert_eq!(recovery.damage, vec![], "{what}: a crash is no damage");
    assert_eq!(recovery.refused, None, "{what}");
    assert!(log.durable() >= log.written(), "{what}");
    let (found, damage) = numbers(&log);
    assert_eq!(damage, vec![], "{what}");
    assert_eq!(found, up_to(found.len()), "{what}: a front part");
    assert!(found.len() >= model.acked, "{what}: {} of {}", found.len(), model.acked);
    found
}

fn changes_of_the_script() -> u64 {
    let disk = Shared::default();
    script(&disk, &mut Model::default()).unwrap();
    disk.changes()
}

fn crash_at(change: u64, mode: CrashMode, seed: u8) -> (Shared, Model) {
    let disk = Shared::default();
    let mut model = Model::default();
    disk.faults(|faults| faults.power_off_in = Some(change));
    // The power goes off inside; where it does not, all went well.
    let _ = script(&disk, &mut model);
    disk.crash(mode, &mut Rng::new([seed; 32]));
    (disk, model)
}

#[test]
fn a_power_cut_at_any_change_loses_nothing_that_was_durable() {
    for change in 0..=changes_of_the_script() {
        for mode in CrashMode::ALL {
            for seed in 0..5 {
                let (disk, model) = crash_at(change, mode, seed);
                let what = format!("{mode:?} at {change}, seed {seed}");
                let found = check(&disk, &model, &what);
                // What was recovered is durable from then on, and the log can be used on.
                disk.crash(CrashMode::LoseAll, &mut Rng::new([seed; 32]));
                assert_eq!(check(&disk, &model, &what), found, "{what}: recovery is idempotent");
                let mut log = open(&disk).0;
                append(&mut log, found.len()..found.len() + 2);
                sync(&mut log).unwrap();
                disk.crash(mode, &mut Rng::new([seed; 32]));
                let (found_now, _) = numbers(&open(&disk).0);
                assert_eq!(found_now.len(), found.len() + 2, "{what}: goes on");
            }
        }
    }
}

#[test]
fn a_power_cut_during_recovery_changes_nothing() {
    let modes =
        [CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Sectors(64), CrashMode::Torn(1)];
    for change in 0..=changes_of_the_script() {
        for mode in modes {
            let (disk, model) = crash_at(change, mode, 1);
            for inner in 0.. {
                let disk = Shared::new(disk.snapshot());
                let before = disk.changes();
                disk.faults(|faults| faults.power_off_in = Some(inner));
                let _ = Log::open(disk.clone(), &options());
                let done = disk.changes() - before < inner;
                let mut rng = Rng::new([u8::try_from(inner).unwrap(); 32]);
                disk.crash(mode, &mut rng);
                check(&disk, &model, &format!("{mode:?} at {change}, then {inner} in recovery"));
                if done || inner == 40 {
                    break;
                }
            }
        }
    }
}

#[test]
fn failing_syncs_and_writes_lose_nothing_that_was_durable() {
    for fault in 0..changes_of_the_script() {
        for (writes, count) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
            for mode in [CrashMode::LoseAll, CrashMode::KeepAll, CrashMode::Sectors(64)] {
                let disk = Shared::default();
                let mut model = Model::default();
                disk.faults(|faults| {
                    if writes {
                        (faults.writes_to_pass, faults.writes_to_fail) = (fault, count);
                    } else {
                        (faults.syncs_to_pass, faults.syncs_to_fail) = (fault, count);
                    }
                });
                let _ = script(&disk, &mut model);
                disk.faults(|faults| *faults = Faults::default());
                disk.crash(mode, &mut Rng::new([7; 32]));
                let what = format!("fault {fault} writes {writes} x{count}, {mode:?}");
                check(&disk, &model, &what);
            }
        }
    }
}
