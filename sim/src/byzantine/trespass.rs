//! Commits of an owned space by somebody who has no right to write there.
//!
//! All are structurally valid and rightly signed, so honest peers keep them and pass them on; none
//! may ever count. Their stamps lie.

use kdelta_engine::base::{CommitId, GrantId, Hlc, Rng, SpaceId};
use kdelta_engine::causal::Tip;
use kdelta_engine::event::{
    Act, Actions, Audience, Commit, Grant, KeyPair, Prefixes, Voucher, root_grant,
};

use super::forge::{Author, Put};

/// What a hostile peer was granted in an owned space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// To read, so that it may sync; it stands.
    pub read: GrantId,
    /// To write, and the commit and stamp of that; it was taken back at once.
    pub write: (GrantId, Tip, Hlc),
}

/// One who writes without a right.
pub(super) struct Trespass<'a> {
    pub(super) key: &'a KeyPair,
    pub(super) space: SpaceId,
    pub(super) now: Hlc,
    pub(super) pass: Option<&'a Pass>,
}

impl Trespass<'_> {
    /// Makes a log of some commits, in one way after the other.
    pub(super) fn commits(&self, rng: &mut Rng, number: u64) -> (Vec<Commit>, Voucher) {
        let mut author = Author::new(self.key, self.space, number);
        let root = root_grant(&self.space, 0);
        let read = self.pass.map_or(root, |pass| pass.read);
        let mut commits: Vec<Option<Commit>> = Vec::new();
        match number % 6 {
            0 => commits.push(self.put(rng, &mut author, self.now, None)),
            1 => commits.push(self.put(rng, &mut author, self.now, Some(root))),
            2 => commits.push(self.put(rng, &mut author, self.now, Some(read))),
            3 => {
                // Written, as it says, when it still might.
                let written = self.pass.map(|pass| pass.write);
                let (grant, tip, stamp) = written.unwrap_or((root, author.tip(), self.now));
                let deps = if written.is_some() { vec![tip] } else { Vec::new() };
                let put = Put { deps, grant: Some(grant), ..forged(stamp.next()) };
                commits.push(author.write(rng, put));
                commits.push(self.put(rng, &mut author, stamp.next().next(), Some(grant)));
            }
            4 => {
                let own = Act::Grant(all(self.key));
                let above = if number.is_multiple_of(4) { root } else { read };
                commits.push(author.decree(rng, self.now, Vec::new(), (above, own)));
                let CommitId(id) = author.tip().id;
                commits.push(self.put(rng, &mut author, self.now.next(), Some(GrantId(id))));
            }
            _ => {
                let target = self.pass.map_or(root, |pass| pass.read);
                let target = if number.is_multiple_of(5) { root } else { target };
                // Its own it may give up; all others are nothing to it.
                let act = (if target == root { read } else { root }, Act::Revoke(root));
                commits.push(author.decree(rng, self.now, Vec::new(), act));
            }
        }
        (commits.into_iter().flatten().collect(), author.voucher())
    }

    fn put(
        &self,
        rng: &mut Rng,
        author: &mut Author,
        hlc: Hlc,
        grant: Option<GrantId>,
    ) -> Option<Commit> {
        author.write(rng, Put { grant, ..forged(hlc) })
    }
}

fn forged(hlc: Hlc) -> Put<'static> {
    Put { hlc, deps: Vec::new(), key: TRESPASSED, bytes: 16, grant: None }
}

/// Everything, to oneself.
fn all(key: &KeyPair) -> Grant {
    Grant {
        audience: Audience::Replica(key.id()),
        actions: Actions::ALL,
        prefixes: Prefixes::all(),
        expiry_ms: None,
        depth: 0,
    }
}

/// The key that none but those write, so that nobody ever shows it.
pub(crate) const TRESPASSED: &str = "trespassed";
