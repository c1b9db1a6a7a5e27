//! What a node gets back from its peers after damage.

use super::*;
use crate::log::{FileId, FileKind};

#[test]
fn what_vouched_for_a_log_comes_again_after_it_was_lost() {
    let mut world = World::new(3);
    let space = world.share();
    world.put(0, "a", "1");
    let link = world.connect(0, 1);
    world.cut(link);
    world.put(1, "b", "2");
    world.run();
    let place = *world.nodes[1].store().voucher_places().last().unwrap();
    let file = FileId::new(FileKind::Segment, place.segment);
    assert!(world.disks[1].flip_bit(file, (u64::from(place.offset) + 40) * 8));
    world.nodes[1] = world.open(1);
    let store = world.nodes[1].store();
    store.begin_repair().unwrap();
    assert_eq!(store.finish_repair().unwrap().missing, Vec::<String>::new());
    assert_eq!(store.unvouched(&space).unwrap().len(), 1);
    assert_eq!(world.show(1, "a").as_deref(), Some("1"), "it counts as before");

    let link = world.connect(1, 2);
    assert_eq!(world.show(2, "a"), None, "and is handed on to nobody");
    world.cut(link);
    let link = world.connect(0, 1);
    assert_eq!(world.nodes[1].store().unvouched(&space).unwrap(), []);
    world.cut(link);
    world.nodes[1] = world.open(1);
    world.connect(1, 2);
    world.assert_equal();
}
