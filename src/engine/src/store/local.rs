//! What a store knows that is not history: its own identity, the names it gives to spaces, whom it
//! admits, and the tickets it issued.
//!
//! It is truth, not derived, and small. It lives in two files that hold the same but for a
//! generation, each with a checksum, and are replaced one after the other (FORMAT 9): a lost file
//! costs nothing, or the last edit if the power was cut between the two, and both lost is an error
//! that is told, never guessed around. Nothing of it is replicated.

use crate::base::{CodecError, Reader, ReplicaId, SpaceId, Writer};
use crate::limits;
use crate::log::{Disk, DiskError, DiskErrorKind, FileId, FileKind};

/// The local truth of one store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Local {
    /// Grows by one with each file that is written.
    pub generation: u64,
    /// Random name of this store: seeds its checksums.
    pub store: [u8; 16],
    /// The current life of this store: the second half of the ids of its own logs.
    pub incarnation: u64,
    /// Earlier lives, newest last, as many as [`limits::INCARNATIONS_MAX`].
    pub past_incarnations: Vec<u64>,
    /// The damaged segments on account of which the current life began: one life is enough for
    /// each loss.
    pub lost_segments: Vec<u64>,
    /// What the host last found the store's directory to be (an inode number, say).
    pub place: Option<u64>,
    /// The spaces, in the order in which they came; the position is the space's index on disk.
    pub spaces: Vec<LocalSpace>,
    /// The replicas that are known by address or admitted.
    pub peers: Vec<LocalPeer>,
    /// The tickets that were issued and can still be used.
    pub tickets: Vec<LocalTicket>,
}

/// A space as this store calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSpace {
    /// The hash of its genesis.
    pub id: SpaceId,
    /// The local name; two spaces of a store never share one.
    pub name: String,
    /// Whether it was ever in a ticket, joined, or open to a peer: then it is never replaced.
    pub shared: bool,
    /// Whether it was replaced by another under its name and is not served any more.
    pub retired: bool,
    /// Whether it was made here: without its genesis it never was.
    pub own: bool,
    /// Who may write there, once that was told here: its genesis may be lost, and come again.
    pub whose: Whose,
    /// The most that it may take here, in bytes, as [`usage`](super::Store::usage) counts; none if
    /// there is no such limit.
    pub quota: Option<u64>,
}

/// What a store knows of who may do what in a space. The genesis tells; a space's id is the hash of
/// it, so that this never changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Whose {
    /// Its genesis was never here.
    #[default]
    Unknown,
    /// Whoever is admitted may read and write all of it.
    Open,
    /// Its roots own it, and grants decide.
    Owned,
}

/// A replica at the far end, as this store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPeer {
    /// Its id.
    pub replica: ReplicaId,
    /// Where it was reached, `host:port`.
    pub addresses: Vec<String>,
    /// The spaces that it may sync with this store.
    pub admitted: Vec<SpaceId>,
    /// Secrets of tickets of its own that were not used yet, with their spaces.
    pub secrets: Vec<(SpaceId, [u8; 32])>,
}

/// A ticket that this store issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTicket {
    /// What its holder proves to know.
    pub secret: [u8; 32],
    /// The space that it opens.
    pub space: SpaceId,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: u64,
    /// How often it can still be used.
    pub uses_left: u32,
}

/// Why the local truth could not be loaded.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Both generations are damaged: names, admissions and the store's identity are lost.
    #[error("both copies of the store's local file (log/local) are damaged: {0}")]
    Damaged(CodecError),
    /// There is a log, and no local file that says whose it is.
    #[error("the store's local file (log/local) is missing beside a log")]
    Missing,
    /// The disk refused.
    #[error("the store's local file cannot be read: {0}")]
    Disk(#[from] DiskError),
}

impl Local {
    /// Goes on under a new life. The oldest are forgotten where there are too many: only the last
    /// that wrote something in a space is asked for.
    pub(crate) fn begin_life(&mut self, incarnation: u64) {
        let kept = limits::INCARNATIONS_MAX - 1;
        let forgotten = self.past_incarnations.len().saturating_sub(kept);
        self.past_incarnations.drain(..forgotten);
        self.past_incarnations.push(std::mem::replace(&mut self.incarnation, incarnation));
    }

    /// Reads the newest whole generation; none if the store is new.
    ///
    /// # Errors
    /// [`LocalError`]. A single lost generation is no error: the other serves, though the one that
    /// is lost may have been newer.
    pub fn load(disk: &impl Disk) -> Result<Option<Self>, LocalError> {
        let mut newest: Option<Self> = None;
        let mut lost = None;
        for file in Self::files() {
            match Self::read(disk, file) {
                Ok(Some(local)) => {
                    if newest.as_ref().is_none_or(|n| n.generation < local.generation) {
                        newest = Some(local);
                    }
                }
                Ok(None) => {}
                Err(LocalError::Disk(error)) if error.kind != DiskErrorKind::Io => {
                    return Err(error.into());
                }
                Err(error) => lost = Some(error),
            }
        }
        sometimes!("store-older-local-file-serves", newest.is_some() && lost.is_some());
        match (newest, lost) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// Reads one generation; none if there is no such file.
    fn read(disk: &impl Disk, file: FileId) -> Result<Option<Self>, LocalError> {
        match read_whole(disk, file) {
            Ok(bytes) => Self::decode(&bytes).map(Some).map_err(LocalError::Damaged),
            Err(error) if error.kind == DiskErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn files() -> impl Iterator<Item = FileId> {
        (0..2).map(|number| FileId { kind: FileKind::Local, number })
    }

    /// Writes the next generation, into both files; durable on return.
    ///
    /// # Errors
    /// The disk's; the generation before is untouched then.
    pub fn save(&mut self, disk: &impl Disk) -> Result<(), DiskError> {
        self.save_once(disk)?;
        // What one file holds is saved. The other holds it too, for the day when one is lost.
        let _ = self.save_once(disk);
        Ok(())
    }

    fn save_once(&mut self, disk: &impl Disk) -> Result<(), DiskError> {
        let next = Self { generation: self.generation + 1, ..self.clone() };
        let file = FileId { kind: FileKind::Local, number: next.generation % 2 };
        if mutant!("local-file-not-synced") {
            disk.write(file, 0, &next.encode())?;
        } else {
            disk.replace(file, &next.encode())?;
        }
        self.generation = next.generation;
        Ok(())
    }

    /// Checks both generations and names the lost files.
    pub fn verify(disk: &impl Disk) -> Vec<(FileId, LocalError)> {
        Self::files().filter_map(|file| Some((file, Self::read(disk, file).err()?))).collect()
    }

    /// Returns the space of that name.
    pub fn space_named(&self, name: &str) -> Option<&LocalSpace> {
        self.spaces.iter().find(|space| !space.retired && space.name == name)
    }

    /// Returns the position of a space.
    pub fn space_index(&self, id: &SpaceId) -> Option<usize> {
        self.spaces.iter().position(|space| space.id == *id)
    }

    /// Returns what is known of a replica.
    pub fn peer(&self, replica: &ReplicaId) -> Option<&LocalPeer> {
        self.peers.iter().find(|peer| peer.replica == *replica)
    }

    /// Returns what is known of a replica, made anew if nothing is.
    pub fn peer_mut(&mut self, replica: ReplicaId) -> Option<&mut LocalPeer> {
        if !self.peers.iter().any(|peer| peer.replica == replica) {
            if self.peers.len() >= limits::PEERS_MAX {
                return None;
            }
            let (addresses, admitted, secrets) = Default::default();
            self.peers.push(LocalPeer { replica, addresses, admitted, secrets });
        }
        self.peers.iter_mut().find(|peer| peer.replica == replica)
    }

    /// Tells whether a peer may sync a space.
    pub fn admits(&self, replica: &ReplicaId, space: &SpaceId) -> bool {
        self.peer(replica).is_some_and(|peer| peer.admitted.contains(space))
    }

    /// Tells whether a replica may sync any space.
    pub fn is_admitted(&self, replica: &ReplicaId) -> bool {
        self.peer(replica).is_some_and(|peer| !peer.admitted.is_empty())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put(MAGIC);
        out.put_u8(VERSION);
        out.put_u64(self.generation);
        out.put(&self.store);
        out.put_u64(self.incarnation);
        out.put_len(self.past_incarnations.len());
        for incarnation in &self.past_incarnations {
            out.put_u64(*incarnation);
        }
        out.put_len(self.lost_segments.len());
        for place in &self.lost_segments {
            out.put_u64(*place);
        }
        out.put_u8(u8::from(self.place.is_some()));
        out.put_u64(self.place.unwrap_or_default());
        out.put_len(self.spaces.len());
        for space in &self.spaces {
            out.put(&space.id.0);
            out.put_bytes(space.name.as_bytes());
            let flags = [space.shared, space.retired, space.own].map(u8::from);
            let limited = u8::from(space.quota.is_some());
            let whose = space.whose as u8;
            out.put_u8(flags[0] | flags[1] << 1 | flags[2] << 2 | whose << 3 | limited << 5);
            if let Some(quota) = space.quota {
                out.put_u64(quota);
            }
        }
        out.put_len(self.peers.len());
        for peer in &self.peers {
            out.put(&peer.replica.0);
            out.put_len(peer.addresses.len());
            for address in &peer.addresses {
                out.put_bytes(address.as_bytes());
            }
            out.put_len(peer.admitted.len());
            for space in &peer.admitted {
                out.put(&space.0);
            }
            out.put_len(peer.secrets.len());
            for (space, secret) in &peer.secrets {
                out.put(&space.0);
                out.put(secret);
            }
        }
        out.put_len(self.tickets.len());
        for ticket in &self.tickets {
            out.put(&ticket.secret);
            out.put(&ticket.space.0);
            out.put_u64(ticket.expires_ms);
            out.put_u32(ticket.uses_left);
        }
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(CodecError::Truncated)?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(CodecError::NotCanonical("checksum"));
        }
        let mut r = Reader::new(body);
        if r.take(MAGIC.len())? != MAGIC {
            return Err(CodecError::Unknown("local file"));
        }
        if !(VERSION_MIN..=VERSION).contains(&r.u8()?) {
            return Err(CodecError::Unknown("local file version"));
        }
        let generation = r.u64()?;
        if generation > limits::SEQ_MAX {
            return Err(CodecError::NotCanonical("generation of the local file"));
        }
        let mut local =
            Self { generation, store: r.array()?, incarnation: r.u64()?, ..Self::default() };
        for _ in 0..r.count(limits::INCARNATIONS_MAX, 8, "incarnations")? {
            local.past_incarnations.push(r.u64()?);
        }
        for _ in 0..r.count(limits::SEGMENTS_MAX, 8, "lost segments")? {
            local.lost_segments.push(r.u64()?);
        }
        let has_place = r.u8()? != 0;
        local.place = Some(r.u64()?).filter(|_| has_place);
        for _ in 0..r.count(limits::SPACES_MAX, 34, "spaces")? {
            let id = SpaceId(r.hash()?);
            let name = text(&mut r, limits::SPACE_NAME_BYTES_MAX)?;
            let flags = r.u8()?;
            if flags > SPACE_FLAGS {
                return Err(CodecError::Unknown("flags of a space"));
            }
            let (shared, retired, own) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
            let whose = Whose::of(flags >> 3 & 3)?;
            let quota = if flags & 32 == 0 { None } else { Some(r.u64()?) };
            local.spaces.push(LocalSpace { id, name, shared, retired, own, whose, quota });
        }
        for _ in 0..r.count(limits::PEERS_MAX, 34, "peers")? {
            let replica = ReplicaId(r.hash()?);
            let (addresses, admitted, secrets) = Default::default();
            let mut peer = LocalPeer { replica, addresses, admitted, secrets };
            for _ in 0..r.count(limits::PEER_ADDRESSES_MAX, 1, "addresses")? {
                peer.addresses.push(text(&mut r, limits::ADDRESS_BYTES_MAX)?);
            }
            for _ in 0..r.count(limits::SPACES_MAX, 32, "admitted spaces")? {
                peer.admitted.push(SpaceId(r.hash()?));
            }
            for _ in 0..r.count(limits::SPACES_MAX, 64, "secrets")? {
                peer.secrets.push((SpaceId(r.hash()?), r.array()?));
            }
            local.peers.push(peer);
        }
        for _ in 0..r.count(limits::TICKETS_MAX, 76, "tickets")? {
            local.tickets.push(LocalTicket {
                secret: r.array()?,
                space: SpaceId(r.hash()?),
                expires_ms: r.u64()?,
                uses_left: r.u32()?,
            });
        }
        r.finish()?;
        Ok(local)
    }
}

impl Whose {
    /// Reads the byte that it is written as.
    pub(super) fn of(byte: u8) -> Result<Self, CodecError> {
        let all = [Self::Unknown, Self::Open, Self::Owned];
        let found = all.into_iter().find(|whose| *whose as u8 == byte);
        found.ok_or(CodecError::Unknown("who owns a space"))
    }
}

fn text(r: &mut Reader<'_>, max: usize) -> Result<String, CodecError> {
    let bytes = r.bytes(max, "text")?;
    let text = std::str::from_utf8(bytes).map_err(|_| CodecError::NotCanonical("text"))?;
    Ok(text.to_owned())
}

fn read_whole(disk: &impl Disk, file: FileId) -> Result<Vec<u8>, DiskError> {
    let len = usize::try_from(disk.len(file)?).unwrap_or(usize::MAX).min(limits::LOCAL_BYTES_MAX);
    let mut bytes = vec![0; len];
    disk.read(file, 0, &mut bytes)?;
    Ok(bytes)
}

const MAGIC: &[u8] = b"KDLOCAL\n";
const VERSION: u8 = 2;
/// Version 1 knew of no quota and not whose a space is; it is read, and written as the present one.
const VERSION_MIN: u8 = 1;
/// All flags of a space.
const SPACE_FLAGS: u8 = 0b11_1111;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MemoryDisk;

    fn sample() -> Local {
        Local {
            generation: 0,
            store: [7; 16],
            incarnation: 42,
            past_incarnations: vec![1, 2],
            lost_segments: vec![3],
            place: Some(9),
            spaces: vec![LocalSpace {
                id: SpaceId([1; 32]),
                name: "default".into(),
                shared: true,
                retired: false,
                own: true,
                whose: Whose::Owned,
                quota: Some(1 << 40),
            }],
            peers: vec![LocalPeer {
                replica: ReplicaId([2; 32]),
                addresses: vec!["[::1]:7440".into()],
                admitted: vec![SpaceId([1; 32])],
                secrets: vec![(SpaceId([1; 32]), [4; 32])],
            }],
            tickets: vec![LocalTicket {
                secret: [3; 32],
                space: SpaceId([1; 32]),
                expires_ms: 5,
                uses_left: 1,
            }],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let disk = MemoryDisk::default();
        assert!(matches!(Local::load(&disk), Ok(None)));
        let mut local = sample();
        for _ in 0..3 {
            local.save(&disk).unwrap();
            assert_eq!(Local::load(&disk).unwrap().as_ref(), Some(&local));
        }
    }

    #[test]
    fn a_file_of_the_first_version_is_read_and_flags_of_a_later_one_are_not() {
        let mut local = sample();
        (local.spaces[0].whose, local.spaces[0].quota) = (Whose::Unknown, None);
        let sealed = |mut bytes: Vec<u8>, at: usize, byte: u8| {
            bytes[at] = byte;
            let body = bytes.len() - 4;
            let crc = crc32fast::hash(&bytes[..body]);
            bytes[body..].copy_from_slice(&crc.to_le_bytes());
            bytes
        };
        let bytes = local.encode();
        let first = sealed(bytes.clone(), MAGIC.len(), 1);
        assert_eq!(Local::decode(&first).unwrap(), local);
        assert!(Local::decode(&sealed(bytes.clone(), MAGIC.len(), 3)).is_err());
        let name = local.spaces[0].name.as_bytes();
        let flags = bytes.windows(name.len()).position(|part| part == name).unwrap() + name.len();
        assert!(Local::decode(&sealed(bytes.clone(), flags, 1)).is_ok());
        for unknown in [3 << 3, 1 << 6, 1 << 7] {
            assert!(Local::decode(&sealed(bytes.clone(), flags, unknown)).is_err(), "{unknown}");
        }
    }

    #[test]
    fn however_many_lives_a_store_has_had_it_can_be_read() {
        let (disk, mut local) = (MemoryDisk::default(), sample());
        let lives = limits::INCARNATIONS_MAX as u64 + 5;
        (100..100 + lives).for_each(|life| local.begin_life(life));
        local.save(&disk).unwrap();
        let read = Local::load(&disk).unwrap().unwrap();
        assert_eq!(read.past_incarnations.len(), limits::INCARNATIONS_MAX);
        assert_eq!(read.past_incarnations.last(), Some(&(98 + lives)));
        assert_eq!(read.incarnation, 99 + lives);
    }

    #[test]
    fn a_flipped_bit_costs_nothing_and_is_named() {
        let mut bytes = sample().encode();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(Local::decode(&bytes).is_err(), "bit {bit} of byte {at}");
                bytes[at] ^= 1 << bit;
            }
        }
        let disk = MemoryDisk::default();
        let mut local = sample();
        local.save(&disk).unwrap();
        local.incarnation = 43;
        local.save(&disk).unwrap();
        let newest = FileId { kind: FileKind::Local, number: local.generation % 2 };
        disk.write(newest, 20, &[0xff]).unwrap();
        let other = Local { generation: local.generation - 1, ..local };
        assert_eq!(Local::load(&disk).unwrap(), Some(other));
        assert_eq!(Local::verify(&disk).len(), 1);
        disk.write(FileId { number: 1 - newest.number, ..newest }, 20, &[0xff]).unwrap();
        assert!(matches!(Local::load(&disk), Err(LocalError::Damaged(_))));
    }
}
