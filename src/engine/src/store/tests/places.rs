//! Who reads on after a repair misses nothing, and meets nothing again but what came again.

use super::*;
use crate::log::FileId;

/// Three segments of four authors who know nothing of each other, and a peer that holds all.
struct World {
    disk: Arc<MemoryDisk>,
    peer: TestStore,
    space: SpaceId,
    /// All commits as they lie there.
    all: Vec<Arrived>,
    /// What rotted, and what builds upon it: it comes again after all else.
    moved: BTreeSet<CommitId>,
    segment: u64,
}

fn arrived(store: &TestStore, space: &SpaceId, from: Position) -> Vec<Arrived> {
    store.arrived(space, from, store.written(), usize::MAX).unwrap().0
}

fn ids(arrived: &[Arrived]) -> Vec<CommitId> {
    arrived.iter().map(|arrived| arrived.tip.id).collect()
}

impl World {
    /// Makes one in which a commit in the middle of a segment rotted.
    fn with_rot_in(segment: u64) -> Self {
        let (disk, other) = (Arc::new(MemoryDisk::new()), Arc::new(MemoryDisk::new()));
        let (mut store, mut peer) = (open(&disk, 1), open(&other, 2));
        let space = store.create_space(now(1), "default").unwrap();
        peer.join_space(space, "default").unwrap();
        let mut authors = [3, 4, 5, 6].map(|seed| open(&Arc::new(MemoryDisk::new()), seed));
        for author in &mut authors {
            author.join_space(space, "default").unwrap();
            pass(&mut store, author, space);
        }
        for i in 0..120 {
            let author = &mut authors[(i % 4) as usize];
            write(author, 10 + i, vec![put(&format!("key-{i:03}"), &i.to_string())]);
            pass(author, &mut store, space);
            store.sync().unwrap();
        }
        pass(&mut store, &mut peer, space);
        let all = arrived(&store, &space, Position::default());
        store.log.close().unwrap();
        let within: Vec<_> = all.iter().filter(|a| a.position.segment == segment).collect();
        let lost = within[within.len() / 2];
        let file = FileId { kind: FileKind::Segment, number: segment };
        assert!(disk.flip_bit(file, u64::from(lost.next.offset - 1) * 8));
        let upon = |a: &&Arrived| a.tip.log == lost.tip.log && a.tip.seq >= lost.tip.seq;
        let moved = all.iter().filter(upon).map(|a| a.tip.id).collect();
        Self { disk, peer, space, all, moved, segment }
    }

    fn repair(&mut self, store: &mut TestStore) {
        store.begin_repair().unwrap();
        pass(&mut self.peer, store, self.space);
        assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
    }

    fn stays(&self, ids: impl IntoIterator<Item = CommitId>) -> Vec<CommitId> {
        ids.into_iter().filter(|id| !self.moved.contains(id)).collect()
    }
}

#[test]
fn a_reader_goes_on_after_a_repair_where_it_was() {
    for segment in 1..4 {
        let mut world = World::with_rot_in(segment);
        let mut store = open(&world.disk, 1);
        let mut places = Vec::new();
        for (at, read) in world.all.iter().enumerate() {
            // It has read up to here since it came, or begins here.
            let start = store.place(&world.space, Position::default()).unwrap();
            places.push((at, store.go_on(&start, &world.all[..=at], read.next)));
            places.push((at, store.place(&world.space, read.next).unwrap()));
        }
        let all = ids(&world.all);
        let end = world.all.iter().rposition(|a| a.position.segment == segment).unwrap() - 3;
        let upto = store.place_of_end(&world.space, world.all[end].next).unwrap();
        world.repair(&mut store);
        for (at, place) in places {
            let from = store.find(&world.space, &place).unwrap();
            let rest = ids(&arrived(&store, &world.space, from));
            let moved = rest.iter().filter(|id| world.moved.contains(id)).count();
            assert_eq!(moved, world.moved.len(), "what is moved comes after all else");
            let (rest, expected) = (world.stays(rest), world.stays(all[at + 1..].to_vec()));
            let at_of = |ids: &[CommitId]| -> Vec<usize> {
                ids.iter().map(|id| all.iter().position(|other| other == id).unwrap()).collect()
            };
            let (rest, expected) = (at_of(&rest), at_of(&expected));
            assert!(rest.ends_with(&expected), "segment {segment}, after {at}: {rest:?}");
            let gone = world.moved.contains(&all[at]) && world.all[at].position.segment >= segment;
            assert!(gone || rest.len() == expected.len(), "segment {segment}, after {at}");
        }
        let upto = store.find(&world.space, &upto).unwrap();
        let read = store.arrived(&world.space, Position::default(), upto, usize::MAX).unwrap().0;
        assert_eq!(ids(&read), world.stays(all[..=end].to_vec()));
    }
}

#[test]
fn a_cursor_outlives_a_repair() {
    let mut world = World::with_rot_in(2);
    let mut store = open(&world.disk, 1);
    world.repair(&mut store);
    let digits = |arrived: &Arrived| arrived.tip.id.to_string()[..8].to_owned();
    let (mut found_again, mut elsewhere) = (0, 0);
    for reopened in [false, true] {
        if reopened {
            store.close().unwrap();
            store = open(&world.disk, 1);
        }
        for read in &world.all {
            let found = store.find_cursor(&world.space, read.position, &digits(read)).unwrap();
            let gone = world.moved.contains(&read.tip.id);
            if gone && read.position.segment >= world.segment {
                elsewhere += 1;
                let start = Position { offset: 0, ..read.position };
                assert_eq!(found, Some(start), "nobody knows what followed it there");
            } else {
                found_again += usize::from(found != Some(read.position));
                assert_eq!(store.commit_at(found.unwrap()).unwrap(), read.tip.id);
            }
        }
        let last = world.all.iter().rfind(|a| a.position.segment == world.segment).unwrap();
        let never = store.find_cursor(&world.space, last.position, "00000000").unwrap();
        assert_eq!(never, None);
        let other = Position { segment: 1, ..last.position };
        assert_eq!(store.find_cursor(&world.space, other, &digits(last)).unwrap(), None);
    }
    assert!(found_again > 10 && elsewhere > 0, "{found_again} {elsewhere}");
}
