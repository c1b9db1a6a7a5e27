//! Random lives: any step, any fault, any crash, one after the other, against a list of records.

use super::*;

struct Life {
    disk: Shared,
    log: Log<Shared>,
    rng: Rng,
    /// Positions of what was appended and not taken back.
    appended: Vec<Position>,
    acked: usize,
    what: String,
}

impl Life {
    fn new(seed: u8, round: u8) -> Self {
        let (disk, log) = fresh();
        let mut bytes = [seed; 32];
        bytes[0] = round;
        let rng = Rng::new(bytes);
        Self { disk, log, rng, appended: Vec::new(), acked: 0, what: format!("{seed}.{round}") }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=6 => {
                if let Ok(at) = self.log.append(KIND, &body(self.appended.len())) {
                    assert!(self.appended.last().is_none_or(|last| *last < at));
                    self.appended.push(at);
                }
            }
            7..=8 => {
                let _ = self.log.flush();
            }
            9..=12 => {
                let _ = sync(&mut self.log);
            }
            13 => {
                let _ = self.log.idle_mark();
            }
            14 => {
                let _ = self.log.seal_active();
            }
            15 => {
                let _ = self.log.close();
            }
            16 => self.fault(),
            17 => self.disk.faults(|faults| *faults = Faults::default()),
            18 => self.repair(),
            _ => self.crash(),
        }
        self.look();
    }

    fn fault(&mut self) {
        let count = self.rng.below(2) + 1;
        let pass = self.rng.below(3);
        let kind = self.rng.below(5);
        let files = self.disk.all_files();
        let used: usize = files.iter().map(|f| self.disk.content(*f).unwrap().len()).sum();
        let space = used as u64 + self.rng.below(3000);
        self.disk.faults(|faults| match kind {
            0 => (faults.syncs_to_pass, faults.syncs_to_fail) = (pass, count),
            1 => (faults.writes_to_pass, faults.writes_to_fail) = (pass, count),
            2 => faults.space = Some(space),
            3 => faults.sync_error = Some(DiskErrorKind::Full),
            _ => faults.read_only = true,
        });
    }

    /// Writes a closed segment anew, as it is.
    fn repair(&mut self) {
        let closed: Vec<_> = self.log.segments().into_iter().filter(|s| s.sealed).collect();
        if closed.is_empty() {
            return;
        }
        let at = usize::try_from(self.rng.below(closed.len() as u64)).unwrap();
        let place = closed[at].number;
        let (mut records, mut old) = (Vec::new(), Vec::new());
        for item in self.log.scan(Position { segment: place, offset: 0 }) {
            let (position, record) = item.unwrap();
            if position.segment == place {
                records.push((KIND, record.body));
                old.push(position);
            }
        }
        if let Ok(new) = self.log.replace_segment(place, records) {
            for (from, to) in old.iter().zip(new) {
                *self.appended.iter_mut().find(|at| *at == from).unwrap() = to;
            }
        }
    }

    /// Cuts the power, or kills the process, and opens again.
    fn crash(&mut self) {
        let mode = CrashMode::ALL[usize::try_from(self.rng.below(11)).unwrap()];
        self.what += &format!(" {mode:?}");
        self.disk.crash(mode, &mut self.rng);
        if self.rng.below(3) > 0 {
            self.disk.faults(|faults| *faults = Faults::default());
            assert_eq!(verify(&self.disk, &options()).unwrap().problems, vec![], "{}", self.what);
        }
        let recovery;
        (self.log, recovery) = open(&self.disk);
        assert_eq!(recovery.damage, vec![], "{}", self.what);
        let found = self.found();
        assert!(found >= self.acked, "{}: {found} of {}", self.what, self.acked);
        self.appended = self.log.scan(Position::default()).map(|item| item.unwrap().0).collect();
    }

    fn found(&self) -> usize {
        let (found, damage) = numbers(&self.log);
        assert_eq!(damage, vec![], "{}", self.what);
        assert_eq!(found, up_to(found.len()), "{}", self.what);
        found.len()
    }

    /// Brings the list up to date and compares it with the log.
    fn look(&mut self) {
        while let Some(moved) = self.log.take_moved() {
            for (from, to) in moved.records {
                // A record whose append reported no position was taken back before it moved.
                *self.appended.iter_mut().find(|at| **at == from).unwrap() = to;
            }
        }
        let written = self.log.written();
        self.appended.retain(|at| *at < written);
        assert_eq!(self.found(), self.appended.len(), "{}", self.what);
        let durable = self.log.durable();
        let acked = self.appended.iter().take_while(|at| **at < durable).count();
        // Where an opening could not sync, it cannot know all that was durable before.
        let unknown = self.log.trouble().is_some();
        assert!(unknown || acked >= self.acked, "{}: durable never goes back", self.what);
        self.acked = self.acked.max(acked);
    }
}

#[test]
fn whatever_happens_the_log_holds_a_front_part_with_all_that_was_durable() {
    for seed in 0..80 {
        for round in 0..4 {
            let mut life = Life::new(seed, round);
            for _ in 0..60 {
                life.step();
            }
        }
    }
}
