//! What a replica shows is the fold of what its own disk has, also while that disk refuses.
//!
//! The end of a run is too late to see that: a restart reads all anew. So a drawn share of the
//! moments at which all that was written is durable is looked at, and the first such moment after a
//! disk refused something. Nothing is compared while bytes of the disk are bad, nor while a store
//! says that it could not read some of them when it was opened: that stays so until it is repaired
//! or opened again.

use kdelta_engine::base::Key;
use kdelta_engine::store::ReadError;

use super::Broken;
use crate::draw::Stream;
use crate::oracle;
use crate::world::World;

impl World {
    /// Holds what a seat shows against its disk, at some moments.
    pub(crate) fn glance(&mut self, at: usize) {
        let (draws, space, rotted) = (self.draws, self.space, self.some_bytes_went_bad());
        let Some(seat) = self.seats.get_mut(at) else { return };
        let Some(store) = seat.node.as_ref().map(|node| node.store_ref()) else { return };
        let end = store.written();
        let whole = store.damage().is_none() && seat.disk.bad().is_empty();
        // What vouched for a log and rotted is asked for, a while after the repair.
        let vouched = !rotted || store.unvouched(&space).is_ok_and(|ends| ends.is_empty());
        let whole = whole && vouched && !(rotted && store.loss(&space).is_some());
        if end != store.durable() || !whole {
            return;
        }
        let moment = (at as u64) << 48 ^ end.segment << 32 ^ u64::from(end.offset);
        let drawn = draws.of(Stream::Glance, moment).below(GLANCES) == 0;
        if std::mem::take(&mut seat.refused) || drawn {
            self.facts.broken = self.facts.broken.take().or(self.compare(at).err());
        }
    }

    /// Checks that whoever makes do with what is intact of a damaged replica is served, is told
    /// when something may be missing, and is shown the same as ever where nothing is.
    pub(crate) fn check_degraded(&mut self, at: usize) {
        let space = self.space;
        let Some(store) = self.store(at) else { return };
        if store.damage().is_none() || !store.has_space(&space) {
            return;
        }
        let names = "crbsm".chars().flat_map(|kind| (0..4).map(move |n| format!("{kind}{n}")));
        for key in names.filter_map(|name| Key::new(&name).ok()) {
            let plain = store.get(&space, &key, None);
            let (partly, short) = store.with_degraded(|store| store.get(&space, &key, None));
            let fine = match (&plain, &partly) {
                (Ok(plain), Ok(partly)) => plain == partly && !short,
                (Err(ReadError::Damaged(_)), Ok(_)) => short,
                (Err(ReadError::Damaged(_)) | Ok(_), Err(_)) => false,
                (Err(_), _) => true,
            };
            if !fine {
                let seen = format!("seat {at}, {key}: {plain:?}, and {short}: {partly:?}");
                self.facts.broken = Some(Broken::new("what is intact is shown", seen));
                return;
            }
        }
    }

    /// Holds what a seat shows against the fold of what its disk has.
    ///
    /// # Errors
    /// [`Broken`], the first difference.
    pub(super) fn compare(&mut self, at: usize) -> Result<(), Broken> {
        let fail = |what: String| Broken::new("the fold of a disk is what is shown", what);
        let Some(seat) = self.seats.get(at) else { return Ok(()) };
        let memory = seat.disk.memory();
        let files = memory.all_files().into_iter();
        let files = files.filter_map(|file| Some((file, memory.content(file)?))).collect();
        let image = oracle::read_image(&files);
        let image = image.map_err(|fault| fail(format!("the disk of seat {at}: {fault}")))?;
        let Some(store) = self.store(at) else { return Ok(()) };
        oracle::compare(&image, store).map_err(|found| fail(format!("seat {at}: {found}")))
    }
}

/// Of so many moments one is looked at.
const GLANCES: u64 = 64;
