//! What a genesis, a grant and a revocation say in their headers, by FORMAT sections 3.1 and 3.3.

use std::collections::BTreeSet;
use std::sync::Arc;

use kdelta_engine::base::{Hash, ReplicaId};

use super::bytes::{Bytes, Wrong, put_bytes, put_len, shared};

/// What only a genesis says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Random.
    pub nonce: Hash,
    /// Of an owned space, the work it asks for and its roots in their order.
    pub owned: Option<(u8, Vec<ReplicaId>)>,
}

/// What a grant or a revocation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Lets somebody do something.
    Grant(Grant),
    /// Takes the grant of this id back.
    Revoke(Hash),
}

/// What somebody is let do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whether whoever shows a secret is meant, and no replica.
    pub bearer: bool,
    /// The replica, or the hash of the secret.
    pub audience: Hash,
    /// A bit for each action.
    pub actions: u8,
    /// Beginnings of keys.
    pub prefixes: Vec<Arc<[u8]>>,
    /// The last millisecond at which it holds.
    pub expiry: Option<u64>,
    /// How often it may be passed on.
    pub depth: u8,
}

impl Genesis {
    pub(super) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Wrong> {
        let mode = bytes.u8()?;
        let nonce = bytes.array()?;
        let owned = match mode {
            0 => None,
            1 => {
                let difficulty = bytes.u8()?;
                let count = bytes.count(16)?;
                let roots = (0..count).map(|_| bytes.array().map(ReplicaId));
                let roots = roots.collect::<Result<Vec<_>, Wrong>>()?;
                let each: BTreeSet<_> = roots.iter().collect();
                if difficulty > 40 || count == 0 || each.len() != count {
                    return Err("the owners of a space are not canonical");
                }
                Some((difficulty, roots))
            }
            _ => return Err("the mode of a space is unknown"),
        };
        Ok(Self { nonce, owned })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.owned.is_some()));
        out.extend_from_slice(&self.nonce);
        if let Some((difficulty, roots)) = &self.owned {
            out.push(*difficulty);
            put_len(out, roots.len());
            roots.iter().for_each(|root| out.extend_from_slice(&root.0));
        }
    }
}

impl Act {
    /// Reads what stands behind the byte of a kind: 4 or 5.
    pub(super) fn read(kind: u8, bytes: &mut Bytes<'_>) -> Result<Self, Wrong> {
        match kind {
            4 => Grant::read(bytes).map(Self::Grant),
            _ => bytes.array().map(Self::Revoke),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Grant(grant) => grant.put(out),
            Self::Revoke(target) => out.extend_from_slice(target),
        }
    }
}

impl Grant {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Wrong> {
        let bearer = match bytes.u8()? {
            0 => false,
            1 => true,
            _ => return Err("the audience of a grant is unknown"),
        };
        let (audience, actions) = (bytes.array()?, bytes.u8()?);
        let count = bytes.count(16)?;
        let prefixes = (0..count).map(|_| bytes.bytes(1024).map(shared));
        let prefixes = prefixes.collect::<Result<Vec<_>, Wrong>>()?;
        let expiry = match bytes.u8()? {
            0 => None,
            1 => Some(bytes.u64()?),
            _ => return Err("a flag is neither 0 nor 1"),
        };
        let depth = bytes.u8()?;
        let ascend = prefixes.windows(2).all(|pair| match pair {
            [a, b] => a < b,
            _ => false,
        });
        let apart = |a: &Arc<[u8]>| prefixes.iter().filter(|b| b.starts_with(a)).count() == 1;
        let sum: usize = prefixes.iter().map(|prefix| prefix.len()).sum();
        let late = expiry.is_some_and(|expiry| expiry >= 1 << 48);
        if !ascend || !prefixes.iter().all(apart) || count == 0 || sum > 2048 {
            return Err("the prefixes of a grant are not canonical");
        }
        if actions == 0 || late || depth > 8 {
            return Err("a grant is out of bounds");
        }
        Ok(Self { bearer, audience, actions, prefixes, expiry, depth })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.bearer));
        out.extend_from_slice(&self.audience);
        out.push(self.actions);
        put_len(out, self.prefixes.len());
        self.prefixes.iter().for_each(|prefix| put_bytes(out, prefix));
        out.push(u8::from(self.expiry.is_some()));
        out.extend(self.expiry.iter().flat_map(|expiry| expiry.to_le_bytes()));
        out.push(self.depth);
    }
}
