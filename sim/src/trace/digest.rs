//! The digest of a trace: a fast fold of every entry into 128 bits.
//!
//! Two runs with unequal digests differ. That equal digests mean equal runs is as good as 128 mixed
//! bits are against chance; against somebody who looks for two traces of one digest they are
//! nothing, and nothing that is signed or sent may rest on them.
//!
//! **The fold.** An entry is a row of 64-bit words: its time, its lane (all ones: none), its tag
//! ([`What::tag`]), and its fields in the order of their declaration. A number is one word, a
//! signed one in two's complement; a list is its length and its parts; text is its length in bytes
//! and then its bytes, eight to a word, little-endian, the last word filled up with zeros;
//! something optional is one word 0, or 1 and then its words. Each word goes into two accumulators,
//! in `u64` arithmetic that wraps:
//!
//! ```text
//! a = (a ^ word) * A;             a = a ^ (a >> 32)
//! b = (rotate_left(b, 23) + word) * B;  b = b ^ (b >> 29)
//! ```
//!
//! `A` and `B` are odd, so each step is a bijection of the accumulator and of the word: two traces
//! that differ in one word only are always told apart. The digest mixes the accumulators once
//! more, with the number of entries, and depends on nothing but the words: not on the machine, the
//! process or how the code was built.

use std::fmt;

use super::{Entry, What};

/// The digest of all entries up to some point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    /// Writes 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Returns a hash of `bytes`, to stand for them in an entry, made as the digest is.
///
/// Cost: linear, one multiplication for eight bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut fold = Fold::new();
    fold.bytes(bytes);
    let [a, b] = fold.mixed(0);
    a ^ b
}

/// The accumulators.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    a: u64,
    b: u64,
}

impl Fold {
    pub(super) const fn new() -> Self {
        Self { a: A_START, b: B_START }
    }

    /// Returns the digest of what was folded, which was `count` entries.
    pub(super) fn digest(&self, count: u64) -> Digest {
        let [a, b] = self.mixed(count);
        Digest((u128::from(a) << 64) | u128::from(b))
    }

    fn mixed(&self, count: u64) -> [u64; 2] {
        let mut last = self.clone();
        for word in [count, A_START, count, B_START] {
            last.word(word);
        }
        [last.a, last.b]
    }

    #[inline]
    fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(A);
        self.a ^= self.a >> 32;
        self.b = self.b.rotate_left(23).wrapping_add(word).wrapping_mul(B);
        self.b ^= self.b >> 29;
    }

    #[inline]
    fn number(&mut self, number: usize) {
        self.word(number as u64);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Folds one entry.
    #[inline]
    pub(super) fn entry(&mut self, entry: &Entry) {
        self.word(entry.at_ns);
        self.word(entry.replica.map_or(u64::MAX, |lane| lane as u64));
        self.word(u64::from(entry.what.tag()));
        match &entry.what {
            What::Sent { number, to, kind, bytes, content } => {
                self.word(*number);
                self.number(*to);
                self.text(kind);
                self.word(*bytes);
                self.word(*content);
            }
            What::Delivered { number, from } | What::Duplicated { number, from } => {
                self.word(*number);
                self.number(*from);
            }
            What::SyncBegun { sync: number }
            | What::SyncDone { sync: number }
            | What::SyncFailed { sync: number }
            | What::BackedUp { backup: number }
            | What::Restored { backup: number }
            | What::Acknowledged { commit: super::Short(number) } => self.word(*number),
            other => self.rare(other),
        }
    }

    /// Folds the fields of what does not happen often.
    fn rare(&mut self, what: &What) {
        match what {
            What::Requested { op, key, commit } => {
                self.text(op);
                self.text(key);
                self.word(u64::from(commit.is_some()));
                if let Some(commit) = commit {
                    self.word(commit.0);
                }
            }
            What::Refused { op, key, reason } => {
                [op, key, reason].into_iter().for_each(|text| self.text(text));
            }
            What::Lost { number, reason } => {
                self.word(*number);
                self.text(reason);
            }
            What::LinkUp { link, peer } => {
                self.word(*link);
                self.number(*peer);
            }
            What::LinkDown { link, peer, reason } => {
                self.word(*link);
                self.number(*peer);
                self.text(reason);
            }
            What::CutBegan { from, to } | What::CutEnded { from, to } => {
                self.number(*from);
                self.number(*to);
            }
            What::PartitionBegan { groups } => {
                self.number(groups.len());
                for group in groups {
                    self.number(group.len());
                    group.iter().for_each(|lane| self.number(*lane));
                }
            }
            What::FaultInjected { fault: text }
            | What::FaultHit { fault: text }
            | What::Crashed { mode: text }
            | What::Note { text } => self.text(text),
            What::Copied { to } => self.number(*to),
            What::ClockJumped { ms: signed } | What::ClockDrifts { ppm: signed } => {
                self.word(signed.cast_unsigned());
            }
            What::Broken { name, seen } => {
                self.text(name);
                self.text(seen);
            }
            // The tag says it all, or `entry` folded the fields.
            What::PartitionEnded
            | What::Restarted
            | What::WentAway
            | What::CameBack
            | What::HealBegan
            | What::Sent { .. }
            | What::Delivered { .. }
            | What::Duplicated { .. }
            | What::SyncBegun { .. }
            | What::SyncDone { .. }
            | What::SyncFailed { .. }
            | What::BackedUp { .. }
            | What::Restored { .. }
            | What::Acknowledged { .. } => {}
        }
    }
}

/// Odd multipliers whose bits are spread: the golden ratio and the square root of three, as 64-bit
/// fractions made odd.
const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xbb67_ae85_84ca_a73b;
/// Where the accumulators begin: the fractions of the square roots of five and of seven.
const A_START: u64 = 0x3c6e_f372_fe94_f82b;
const B_START: u64 = 0xa54f_f53a_5f1d_36f1;
