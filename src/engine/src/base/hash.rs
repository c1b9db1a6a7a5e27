//! SHA-256 with domain separation.
//!
//! Every hash in the formats starts with a short domain text, so that bytes hashed for one purpose
//! never stand for another. CRC32, which finds damage and authenticates nothing, is used where
//! records are framed and nowhere else.

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Returns SHA-256 over `domain` and then all `parts`, without separators.
///
/// Callers keep the parts unambiguous: fixed widths, or lengths in front.
pub fn sha256(domain: &str, parts: &[&[u8]]) -> Hash {
    let mut stream = Sha256Stream::new(domain);
    for part in parts {
        stream.update(part);
    }
    stream.finish()
}

/// SHA-256 over bytes that come in pieces.
#[derive(Debug, Clone)]
pub struct Sha256Stream(Sha256);

impl Sha256Stream {
    /// Starts a hash in `domain`; an empty domain hashes the bytes alone.
    pub fn new(domain: &str) -> Self {
        Self(Sha256::new_with_prefix(domain.as_bytes()))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest.
    pub fn finish(self) -> Hash {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_domain_is_plain_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::super::hex(&sha256("", &[b"a", b"bc"])), expected);
    }
}
