//! Authority as bytes, for the tables of a sidecar: local, deterministic, bounded.
//!
//! Grants come before those that were given under them, and revocations in the order in which they
//! are judged, each with how it was. What genesis says is not in it.

use std::collections::BTreeMap;

use super::{Authority, Held, Rank, Revocation, Seniority, Written, act_bytes};
use crate::base::{CodecError, GrantId, Reader, SpaceId, Writer};
use crate::causal::Tip;
use crate::event::{Act, Grant, Owned};
use crate::limits;

/// Fewest bytes of a grant: where it is, its parent, and what it says.
const GRANT_BYTES_MIN: usize = Tip::BYTES_MIN + 32 + 33 + 5;
/// Fewest bytes of a revocation: where it is, what it was written under, its target and a flag.
const REVOCATION_BYTES_MIN: usize = Tip::BYTES_MIN + 32 + 32 + 1;
/// Most acts that there is room for.
const ACTS_HELD_MAX: usize = limits::AUTHORITY_BYTES_MAX / limits::ACT_BYTES;

impl Authority {
    /// Appends what is known.
    pub(crate) fn encode(&self, out: &mut impl Writer) {
        let mut grants: BTreeMap<_, _> = BTreeMap::new();
        for (id, held) in &self.grants {
            if let Some(written) = &held.written {
                grants.insert((held.rank, id), (written, &held.grant));
            }
        }
        out.put_len(grants.len());
        for ((_, id), (written, grant)) in grants {
            tip(written.at, id).encode(out);
            out.put(&written.parent.0);
            grant.encode(out);
        }
        out.put_len(self.revocations.len());
        for (seniority, revocation) in &self.revocations {
            tip(revocation.at, &GrantId(seniority.id.0)).encode(out);
            out.put(&seniority.named.0);
            out.put(&revocation.target.0);
            out.put_u8(u8::from(revocation.effective));
        }
    }

    /// Takes what [`encode`](Self::encode) made of the space that genesis describes.
    ///
    /// # Errors
    /// [`CodecError`]: it made no such bytes.
    pub(crate) fn decode(
        space: &SpaceId,
        owned: &Owned,
        reader: &mut Reader<'_>,
    ) -> Result<Self, CodecError> {
        let mut authority = Self::new(space, owned);
        let count = reader.count(ACTS_HELD_MAX, GRANT_BYTES_MIN, "grants")?;
        let mut last = None;
        for _ in 0..count {
            let place = authority.read_grant(reader)?;
            ascend(&mut last, place)?;
        }
        let count = reader.count(ACTS_HELD_MAX, REVOCATION_BYTES_MIN, "revocations")?;
        let mut last = None;
        for _ in 0..count {
            let place = authority.read_revocation(reader)?;
            ascend(&mut last, place)?;
        }
        if authority.bytes > limits::AUTHORITY_BYTES_MAX {
            return Err(CodecError::TooLarge("authority"));
        }
        for numbers in authority.acts.values_mut() {
            numbers.sort_unstable();
            if !numbers.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(CodecError::NotCanonical("a commit has one act"));
            }
        }
        Ok(authority)
    }

    fn read_grant(&mut self, reader: &mut Reader<'_>) -> Result<(Rank, GrantId), CodecError> {
        let Tip { log, seq, id } = Tip::decode(reader)?;
        let (id, parent) = (GrantId(id.0), GrantId(reader.hash()?));
        let grant = Grant::decode(reader)?;
        let above = self.grants.get(&parent).map(|held| held.rank.below);
        let below = match above {
            Some(above) if above < limits::GRANT_DEPTH_MAX => above + 1,
            _ => return Err(CodecError::NotCanonical("a grant comes after its parent")),
        };
        if self.grants.contains_key(&id) {
            return Err(CodecError::NotCanonical("a grant is there once"));
        }
        let rank = Rank { below, root: 0 };
        self.acts.entry(log).or_default().push((seq, None));
        self.bytes += act_bytes(&Act::Grant(grant.clone()));
        self.hold(id, Held { written: Some(Written { at: (log, seq), parent }), rank, grant });
        Ok((rank, id))
    }

    fn read_revocation(&mut self, reader: &mut Reader<'_>) -> Result<Seniority, CodecError> {
        let Tip { log, seq, id } = Tip::decode(reader)?;
        let (named, target) = (GrantId(reader.hash()?), GrantId(reader.hash()?));
        let effective = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(CodecError::NotCanonical("a flag is 0 or 1")),
        };
        let Some(held) = self.grants.get(&named).filter(|_| self.grants.contains_key(&target))
        else {
            return Err(CodecError::NotCanonical("a revocation names grants that are known"));
        };
        let seniority = Seniority { rank: held.rank, named, id };
        let at = (log, seq);
        self.acts.entry(log).or_default().push((seq, Some(seniority)));
        self.bytes += limits::ACT_BYTES;
        self.under.entry(named).or_default().insert(seniority);
        self.revocations.insert(seniority, Revocation { at, target, effective: false });
        if effective {
            self.mark(seniority, target, true);
        }
        Ok(seniority)
    }
}

fn tip((log, seq): super::At, id: &GrantId) -> Tip {
    Tip { log, seq, id: crate::base::CommitId(id.0) }
}

/// Checks that each comes after the one before.
fn ascend<T: Ord>(last: &mut Option<T>, next: T) -> Result<(), CodecError> {
    if last.as_ref().is_some_and(|last| *last >= next) {
        return Err(CodecError::NotCanonical("acts are ascending"));
    }
    *last = Some(next);
    Ok(())
}
