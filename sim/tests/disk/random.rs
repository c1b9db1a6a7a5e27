//! Random scripts: against the disk in memory, against a naive model, and against themselves.

use kdelta_engine::base::sha256;
use kdelta_sim::disk::Counts;

use super::*;

/// One random operation, the same on every disk that it is given.
fn step(rng: &mut Rng) -> impl Fn(&dyn Disk) -> Result<Vec<u8>, DiskErrorKind> + use<> {
    let file = |rng: &mut Rng| {
        let kind = if rng.below(2) == 0 { FileKind::Segment } else { FileKind::Manifest };
        FileId::new(kind, rng.below(3))
    };
    let (one, two, op) = (file(rng), file(rng), rng.below(12));
    let (at, len, [value]) = (rng.below(3000), rng.below(1500), rng.bytes::<1>());
    move |disk| {
        let bytes = vec![value; usize::try_from(len).unwrap()];
        let done = match op {
            0..=3 => disk.write(one, at, &bytes),
            4 | 5 => disk.sync(one),
            6 => disk.allocate(one, at),
            7 => disk.truncate(one, at),
            8 => disk.replace(one, &bytes),
            9 if value % 4 == 0 => disk.remove(one),
            10 if value % 4 == 0 => disk.rename(one, two),
            _ => {
                let mut buffer = bytes;
                let done = disk.read(one, at % 64, &mut buffer);
                return done.map(|()| buffer).map_err(|error| error.kind);
            }
        };
        done.map(|()| Vec::new()).map_err(|error| error.kind)
    }
}

#[test]
fn without_a_fault_it_is_the_disk_in_memory() {
    for seed in 0..30 {
        let (plain, quiet, busy) = (MemoryDisk::new(), SimDisk::new(), SimDisk::new());
        // This one goes the long way, and nothing comes of it.
        busy.set_latency(Latency { read: 0..=9, write: 0..=9, sync: 0..=9 }, 1);
        busy.inject(fault("refuse op=any on=spool pass=0 times=always error=busy"));
        let mut rng = rng(seed);
        for _ in 0..400 {
            if rng.below(40) == 0 {
                let mode = CrashMode::ALL[usize::try_from(rng.below(11)).unwrap()];
                let seed = rng.u64();
                quiet.inject(Fault::Crash { mode, seed });
                busy.inject(Fault::Crash { mode, seed });
                let seed = sha256("kdelta/sim/disk", &[&seed.to_le_bytes()]);
                plain.crash(mode, &mut Rng::new(seed));
            }
            let step = step(&mut rng);
            let done = step(&plain);
            assert_eq!(step(&quiet), done);
            assert_eq!(step(&busy), done);
        }
        for disk in [quiet, busy] {
            assert_eq!(disk.memory().all_files(), plain.all_files());
            for file in plain.all_files() {
                let content = plain.content(file).unwrap();
                assert_eq!(disk.bytes_at(file, 0..u64::MAX).as_ref(), Some(&content));
                assert_eq!(read(&disk, file, 0..content.len() as u64), Ok(content));
            }
        }
    }
}

#[test]
fn rotten_bytes_are_those_that_rotted_and_were_not_written_since() {
    for seed in 0..60 {
        let disk = SimDisk::new();
        let mut rng = rng(seed);
        // The model has each byte twice: as it should be, and as it reads.
        let mut model: Vec<(u8, u8)> = vec![(1, 1); 600];
        disk.write(FILE, 0, &[1; 600]).unwrap();
        for round in 0..120 {
            let value = u8::try_from(round).unwrap();
            let start = rng.below(model.len() as u64 + 1);
            let end = start + 1 + rng.below(90);
            let (from, to) = (usize::try_from(start).unwrap(), usize::try_from(end).unwrap());
            match rng.below(5) {
                0 | 1 => {
                    disk.write(FILE, start, &vec![value; to - from]).unwrap();
                    model.resize(model.len().max(to), (0, 0));
                    model[from..to].fill((value, value));
                }
                2 if start > 0 => {
                    disk.truncate(FILE, start).unwrap();
                    model.truncate(from);
                }
                3 => {
                    disk.inject(Fault::Flip { file: FILE, bit: start * 8 + 3 });
                    model[from..].iter_mut().take(1).for_each(|byte| byte.1 ^= 8);
                }
                _ => {
                    disk.inject(Fault::Zero { file: FILE, range: start..end });
                    let end = to.min(model.len());
                    model[from.min(end)..end].iter_mut().for_each(|byte| byte.1 = 0);
                }
            }
            let seen: Vec<u8> = model.iter().map(|byte| byte.1).collect();
            assert_eq!(read(&disk, FILE, 0..model.len() as u64).unwrap(), seen, "seed {seed}");
            let good: Vec<u8> = model.iter().map(|byte| byte.0).collect();
            assert_eq!(disk.bytes_at(FILE, 0..u64::MAX).unwrap(), good);
        }
        disk.replace(FILE, b"anew").unwrap();
        assert_eq!((disk.bad(), disk.ledger(|ledger| ledger.unsettled().count())), (vec![], 0));
    }
}

#[test]
fn one_list_of_faults_on_one_script_is_one_ledger() {
    let run = |seed: u8| {
        let disk = SimDisk::new();
        let (mut rng, mut drawn) = (rng(seed), Vec::new());
        disk.set_latency(Latency { read: 0..=9, write: 0..=9, sync: 0..=9 }, seed.into());
        for _ in 0..600 {
            if rng.below(6) == 0 {
                let fault = Fault::draw(&disk, &mut rng, &Row::ALL, &mut |_, _| true);
                drawn.extend(fault.iter().map(Fault::to_string));
                fault.map(|fault| disk.inject(fault));
            }
            if disk.is_off() {
                disk.crash(CrashMode::Sectors(512), &mut rng);
            }
            if rng.below(60) == 0 {
                // Whoever looks everywhere after a crash meets all that is bad.
                disk.crash(CrashMode::KeepAll, &mut rng);
                for file in disk.memory().all_files() {
                    let len = disk.len(file).unwrap_or(0);
                    drawn.push(format!("{:?}", read(&disk, file, 0..len)));
                }
                disk.heal();
                disk.recovered();
            }
            let done = step(&mut rng)(&disk);
            drawn.push(format!("{done:?} {:?}", disk.take_delay()));
        }
        let ledger = disk.ledger(|ledger| format!("{ledger:?}"));
        (drawn, ledger, disk.counts())
    };
    let mut all = Counts::default();
    for seed in 0..40 {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(once, again, "seed {seed}");
        all.add(&once.2);
    }
    for row in Row::ALL {
        let (injected, met) = all.of(row);
        assert!(injected > 0 && met > 0, "{row:?}: {injected} injected, {met} met");
    }
}
