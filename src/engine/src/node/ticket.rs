//! What a ticket says: whom to call, about which space, and the secret that admits the caller.

use crate::base::{CodecError, Reader, ReplicaId, SpaceId, WallTime, Writer, sha256};
use crate::limits;

/// An invitation to one space of one replica.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Who issued it.
    pub replica: ReplicaId,
    /// The space that it opens.
    pub space: SpaceId,
    /// What the holder proves to know.
    pub secret: [u8; 32],
    /// When it ends.
    pub expires: WallTime,
    /// Where the issuer may be reached, `host:port`, best first.
    pub addresses: Vec<String>,
}

/// Why bytes are not a ticket.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Characters are missing or changed.
    #[error("the ticket is damaged: copy all of it")]
    Damaged,
    /// A newer version wrote it, or it is no ticket at all.
    #[error("this is not a ticket that this version understands: {0}")]
    Codec(#[from] CodecError),
}

impl Ticket {
    /// Returns the ticket's bytes, with a checksum at the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put(&self.replica.0);
        out.put(&self.space.0);
        out.put(&self.secret);
        out.put_varint(self.expires.0);
        out.put_len(self.addresses.len());
        for address in &self.addresses {
            out.put_bytes(address.as_bytes());
        }
        let sum = sha256("kdelta/ticket/1", &[&out]);
        out.extend(sum.iter().take(CHECK_BYTES));
        out
    }

    /// Reads a ticket's bytes.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TicketError::Damaged)?;
        if !sha256("kdelta/ticket/1", &[body]).starts_with(check) {
            return Err(TicketError::Damaged);
        }
        let mut r = Reader::new(body);
        if r.u8()? != VERSION {
            return Err(CodecError::Unknown("ticket version").into());
        }
        let (replica, space) = (ReplicaId(r.hash()?), SpaceId(r.hash()?));
        let (secret, expires) = (r.array()?, WallTime(r.varint()?));
        let mut addresses = Vec::new();
        for _ in 0..r.count(limits::PEER_ADDRESSES_MAX, 1, "addresses")? {
            let text = r.bytes(limits::ADDRESS_BYTES_MAX, "address")?;
            let text =
                std::str::from_utf8(text).map_err(|_| CodecError::NotCanonical("address"))?;
            addresses.push(text.to_owned());
        }
        r.finish()?;
        Ok(Self { replica, space, secret, expires, addresses })
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        let mut out = f.debug_struct("Ticket");
        out.field("replica", &self.replica).field("space", &self.space).finish_non_exhaustive()
    }
}

const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_as_written_and_a_changed_one_is_refused() {
        let ticket = Ticket {
            replica: ReplicaId([1; 32]),
            space: SpaceId([2; 32]),
            secret: [3; 32],
            expires: WallTime(1_700_000_000_000),
            addresses: vec!["example.org:7440".into(), "[::1]:7440".into()],
        };
        let mut bytes = ticket.encode();
        assert_eq!(Ticket::decode(&bytes), Ok(ticket));
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(Ticket::decode(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
