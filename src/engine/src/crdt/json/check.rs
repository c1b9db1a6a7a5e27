//! Tells canonical JSON from all else, without an allocation.

use std::cmp::Ordering;

use crate::limits::{JSON_DEPTH_MAX, VALUE_BYTES_MAX};

/// Tells whether `bytes` are one JSON value in canonical form. Allocates nothing.
pub fn is_canonical(bytes: &[u8]) -> bool {
    let mut check = Check { bytes, at: 0 };
    bytes.len() <= VALUE_BYTES_MAX
        && std::str::from_utf8(bytes).is_ok()
        && check.value(0).is_some()
        && check.at == bytes.len()
}

/// Walks over canonical JSON and stops at whatever is not. `None` means "not canonical".
struct Check<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Check<'a> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let text = rest(self.bytes, self.at);
        let word = match text.first()? {
            b'{' | b'[' if depth == JSON_DEPTH_MAX => return None,
            b'{' => return self.object(depth + 1),
            b'[' => return self.array(depth + 1),
            b'"' => return self.string().map(|_| ()),
            b't' => "true".len(),
            b'f' => "false".len(),
            b'n' => "null".len(),
            _ => {
                self.at += number_len(text)?;
                return Some(());
            }
        };
        self.at += word;
        matches!(text.get(..word)?, b"true" | b"false" | b"null").then_some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(depth)?;
            match self.next()? {
                b']' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Some(());
        }
        let mut last = None;
        loop {
            let name = self.string()?;
            if last.is_some_and(|last| compare_names(last, name) != Ordering::Less) {
                return None;
            }
            last = Some(name);
            if self.next()? != b':' {
                return None;
            }
            self.value(depth)?;
            match self.next()? {
                b'}' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    /// Returns what stands between the quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.next()? != b'"' {
            return None;
        }
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => return self.bytes.get(start..self.at - 1),
                0..0x20 => return None,
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => match rest(self.bytes, self.at) {
                        [b'0', b'0', b'0', b'0'..=b'7' | b'b' | b'e' | b'f', ..]
                        | [b'0', b'0', b'1', b'0'..=b'9' | b'a'..=b'f', ..] => self.at += 4,
                        _ => return None,
                    },
                    _ => return None,
                },
                _ => {}
            }
        }
    }
}

/// Compares two names in canonical escaped form by their UTF-8 bytes.
pub(super) fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    if a.contains(&b'\\') || b.contains(&b'\\') { unescaped(a).cmp(unescaped(b)) } else { a.cmp(b) }
}

/// Yields the bytes that a canonical escaped string stands for.
fn unescaped(mut text: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, taken) = match text {
            [b'\\', b'u', _, _, high, low, ..] => {
                let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
                (digit(high)? << 4 | digit(low)?, 6)
            }
            [b'\\', b'b', ..] => (8, 2),
            [b'\\', b'f', ..] => (12, 2),
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', byte, ..] => (*byte, 2),
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        text = rest(text, taken);
        Some(byte)
    })
}

/// Returns the length of the JSON number at the front of `text`, if one is there.
pub(super) fn number_len(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| rest(text, at).iter().take_while(|c| c.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    at += match text.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at += 1 + Some(fraction).filter(|len| *len > 0)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at += Some(digits(at)).filter(|len| *len > 0)?;
    }
    Some(at)
}

pub(super) fn rest(text: &[u8], at: usize) -> &[u8] {
    text.get(at..).unwrap_or_default()
}
