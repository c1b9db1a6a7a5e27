//! The word that shows a grant over HTTP: who bears it may do what the grant says.
//!
//! It names the space and the grant, and has the secret whose hash the grant names. What it lets
//! do, until when, and whether it was taken back stand in the history of the space, so the word
//! says nothing of that, and stays as short as it is.

use std::fmt;
use std::str::FromStr;

use crate::engine::base::{GrantId, Reader, SpaceId, Writer, sha256};
use crate::engine::event::Audience;

/// What a token begins with: the name and the version of its form.
const PREFIX: &str = "kg1";
/// Letters and digits that survive being spoken, typed and double-clicked.
const BASE: data_encoding::Encoding = data_encoding::BASE32_DNSSEC;
/// Bytes of a checksum at the end.
const CHECK_BYTES: usize = 4;
/// The longest word that is read, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// A token. Whoever has it may do what its grant says.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The space of which it opens something.
    pub space: SpaceId,
    /// The grant that it shows.
    pub grant: GrantId,
    /// What only its bearers know.
    pub secret: [u8; 32],
}

/// A word is no token, or not all of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is damaged: copy all of it")]
pub struct Damaged;

impl Token {
    /// Tells whether a word means to be one.
    pub fn is_meant(word: &str) -> bool {
        word.starts_with(PREFIX)
    }

    /// Returns whom the grant must mean.
    pub fn audience(&self) -> Audience {
        Audience::bearer(&self.secret)
    }

    /// Returns the word. It is a secret.
    pub fn word(&self) -> String {
        let mut out = Vec::new();
        out.put(&self.space.0);
        out.put(&self.grant.0);
        out.put(&self.secret);
        let sum = sum(&out);
        out.extend(sum);
        format!("{PREFIX}{}", BASE.encode(&out))
    }
}

impl FromStr for Token {
    type Err = Damaged;

    fn from_str(word: &str) -> Result<Self, Damaged> {
        let word = word.trim();
        let text = word.strip_prefix(PREFIX).filter(|text| text.len() <= WORD_BYTES_MAX);
        let bytes = BASE.decode(text.ok_or(Damaged)?.as_bytes()).map_err(|_| Damaged)?;
        let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(Damaged)?;
        if sum(body) != *check {
            return Err(Damaged);
        }
        let mut reader = Reader::new(body);
        let mut hash = || reader.hash().map_err(|_| Damaged);
        let token = Self { space: SpaceId(hash()?), grant: GrantId(hash()?), secret: hash()? };
        reader.finish().map_err(|_| Damaged)?;
        Ok(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of logs.
        let mut out = f.debug_struct("Token");
        out.field("space", &self.space).field("grant", &self.grant).finish_non_exhaustive()
    }
}

fn sum(body: &[u8]) -> [u8; CHECK_BYTES] {
    let sum = sha256("kdelta/token/check/1", &[body]);
    sum.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_as_written_and_a_changed_one_is_refused() {
        let (space, grant) = (SpaceId([1; 32]), GrantId([2; 32]));
        let token = Token { space, grant, secret: [3; 32] };
        let word = token.word();
        assert_eq!(word.parse(), Ok(token.clone()));
        assert_eq!(format!(" {word}\n").parse(), Ok(token.clone()));
        let written = BASE.decode(&word.as_bytes()[3..]).unwrap();
        for bit in 0..written.len() * 8 {
            let mut bytes = written.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let word = format!("{PREFIX}{}", BASE.encode(&bytes));
            assert_eq!(word.parse::<Token>(), Err(Damaged), "bit {bit}");
        }
        for word in ["", "kg1", "kg2", "kd1abc", &word[..word.len() - 1], &word[1..]] {
            assert_eq!(word.parse::<Token>(), Err(Damaged), "{word}");
        }
        assert_eq!("kg1".repeat(1 << 20).parse::<Token>(), Err(Damaged));
        assert!(!format!("{token:?}").contains(&"3".repeat(4)));
    }
}
