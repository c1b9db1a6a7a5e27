//! The last opening: what a replica holds and shows at the end is what its disk says, index or not.

use std::sync::Arc;

use kdelta_engine::base::Rng;
use kdelta_engine::log::{CrashMode, Disk, FileKind};
use kdelta_engine::store::Store;

use super::{Broken, facts, seat_now};
use crate::draw::Stream;
use crate::world::{SeatDisk, World};

impl World {
    /// Opens a copy of each disk, of some without the files that are derived from the log: all of
    /// it is replayed then. It misses nothing, and shows what the replica shows.
    pub(super) fn check_last_openings(&mut self) -> Result<(), Broken> {
        let space = self.space;
        for at in self.members() {
            let whole = self.draws.of(Stream::Again, at as u64).below(2) == 0;
            let Some(store) = self.store(at) else { continue };
            let shown = facts::show(store, &space);
            let mut again = self.open_again(at, whole)?;
            if let Some(damage) = again.damage() {
                let seen = format!("seat {at}, when all is mended: {damage}");
                return Err(Broken::new("what is whole is not called damaged", seen));
            }
            if facts::show(&mut again, &space) != shown {
                let way = if whole { "as it is" } else { "without its index" };
                let seen = format!("seat {at} shows something else when opened {way}");
                return Err(Broken::new(OPENS, seen));
            }
        }
        Ok(())
    }

    fn open_again(&self, at: usize, whole: bool) -> Result<Store<SeatDisk>, Broken> {
        let fail = |why: String| Broken::new(OPENS, format!("seat {at}: {why}"));
        let seat = self.seats.get(at).ok_or_else(|| fail("nobody sits there".to_owned()))?;
        let image = image_of(&seat.disk);
        if !whole {
            let files = image.files(FileKind::Sidecar);
            let gone = files.and_then(|all| all.into_iter().try_for_each(|f| image.remove(f)));
            gone.map_err(|error| fail(error.to_string()))?;
        }
        let opened = seat.open(image, &self.options, [2; 32], seat_now());
        opened.map_err(|error| fail(error.to_string()))
    }
}

/// Copies a disk with all that was written to it, and none of its faults.
pub(super) fn image_of(disk: &SeatDisk) -> SeatDisk {
    let image = Arc::new(disk.fork());
    image.heal();
    image.crash(CrashMode::KeepAll, &mut Rng::new([0; 32]));
    image
}

/// What is promised of the next opening.
const OPENS: &str = "a replica opens to what it was";
