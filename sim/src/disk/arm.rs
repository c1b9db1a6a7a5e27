//! Faults that wait for an operation which fits.

use kdelta_engine::log::FileId;

use super::State;
use super::delay::Delay;
use super::fault::Fault;
use super::ledger::FaultId;
use super::text::{On, Op, Times};

/// One fault that waits.
#[derive(Debug, Clone)]
pub(super) struct Armed {
    pub(super) id: FaultId,
    pub(super) fault: Fault,
    op: Op,
    on: On,
    pass: u32,
    times: Times,
}

impl Armed {
    /// Lets a fault wait, if it is of those that do.
    pub(super) fn new(id: FaultId, fault: &Fault) -> Option<Self> {
        use Fault::{FailSync, LoseAnswer, LoseSync, Misdirect, Refuse, ShortWrite, Slow, Stuck};
        let once = Times::Count(1);
        let (op, on, pass, times) = match fault {
            Misdirect { on, pass, .. } | ShortWrite { on, pass, .. } => {
                (Op::Write, *on, *pass, once)
            }
            LoseSync { on, pass } => (Op::Sync, *on, *pass, once),
            FailSync { on, pass, times, .. } => (Op::Sync, *on, *pass, *times),
            LoseAnswer { op, on, pass } => (*op, *on, *pass, once),
            Stuck { op, on, pass } => (*op, *on, *pass, Times::Always),
            Refuse { op, on, pass, times, .. } | Slow { op, on, pass, times, .. } => {
                (*op, *on, *pass, *times)
            }
            _ => return None,
        };
        let waits = !times.is_over();
        waits.then(|| Self { id, fault: fault.clone(), op, on, pass, times })
    }
}

/// Which waiting faults an operation may meet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Misdirect,
    LoseSync,
    ShortWrite,
    FailSync,
    LoseAnswer,
    Refuse,
    Delay,
}

impl Sort {
    fn of(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::Misdirect { .. } => Self::Misdirect,
            Fault::LoseSync { .. } => Self::LoseSync,
            Fault::ShortWrite { .. } => Self::ShortWrite,
            Fault::FailSync { .. } => Self::FailSync,
            Fault::LoseAnswer { .. } => Self::LoseAnswer,
            Fault::Refuse { .. } => Self::Refuse,
            Fault::Slow { .. } | Fault::Stuck { .. } => Self::Delay,
            _ => return None,
        })
    }
}

impl State {
    /// Lets an operation meet what waits for it. Of several that are due the first injected one is
    /// returned; the others wait for the next operation.
    pub(super) fn due(&mut self, sort: Sort, op: Op, file: FileId) -> Option<(FaultId, Fault)> {
        let mut due = None;
        for armed in &mut self.armed {
            let fits = armed.op.covers(op) && armed.on.covers(file);
            if !fits || Sort::of(&armed.fault) != Some(sort) {
                continue;
            }
            if armed.pass > 0 {
                armed.pass -= 1;
            } else if due.is_none() && armed.times.take() {
                due = Some((armed.id, armed.fault.clone()));
            }
        }
        self.armed.retain(|armed| !armed.times.is_over());
        due
    }

    /// Draws how long an operation takes, what is slow or stuck included.
    pub(super) fn delay(&mut self, op: Op, file: FileId) -> Delay {
        let mut delay = self.clock.draw(op);
        if let Some((id, fault)) = self.due(Sort::Delay, op, file) {
            delay.add(match &fault {
                Fault::Slow { us, .. } => Delay { us: *us, stuck: false },
                _ => Delay { us: 0, stuck: true },
            });
            self.ledger.told(id, fault.rows());
        }
        delay
    }
}
