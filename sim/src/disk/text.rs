//! How the parts of a fault are written in a scenario, and read again.
//!
//! Every part is one word without white space. Reading refuses what writing would not write.

use std::fmt;
use std::ops::Range;

use kdelta_engine::log::{CrashMode, DiskErrorKind, FileId, FileKind};

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFaultError(pub(super) String);

impl fmt::Display for ParseFaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a fault: {}", self.0)
    }
}

impl std::error::Error for ParseFaultError {}

/// A part of a fault that is one word.
pub(super) trait Word: Sized {
    /// Writes it.
    fn word(&self) -> String;
    /// Reads it.
    fn from_word(word: &str) -> Option<Self>;
}

/// Which operations of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Names of files, and their lengths.
    List,
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Whatever makes a file that was not there: a write, an allocation or a replacement.
    Create,
    /// Allocations.
    Allocate,
    /// Truncations.
    Truncate,
    /// Syncs.
    Sync,
    /// Replacements.
    Replace,
    /// Removals.
    Remove,
    /// Renames.
    Rename,
    /// All of them, once each.
    Any,
}

impl Op {
    /// All, in order.
    pub const ALL: [Self; 11] = [
        Self::List,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Allocate,
        Self::Truncate,
        Self::Sync,
        Self::Replace,
        Self::Remove,
        Self::Rename,
        Self::Any,
    ];

    /// Tells whether an operation is one of these.
    pub(super) fn covers(self, op: Self) -> bool {
        self == op || (self == Self::Any && op != Self::Create)
    }
}

/// Which files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// Every file.
    Any,
    /// The files of one kind.
    Kind(FileKind),
    /// One file.
    File(FileId),
}

impl On {
    /// Tells whether a file is one of these.
    pub(super) fn covers(self, file: FileId) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(kind) => kind == file.kind,
            Self::File(one) => one == file,
        }
    }
}

/// How often, or until it is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Times {
    /// That often.
    Count(u32),
    /// Until it is taken away.
    Always,
}

impl Times {
    /// Counts one down; false if none was left.
    pub(super) fn take(&mut self) -> bool {
        match self {
            Self::Always => true,
            Self::Count(0) => false,
            Self::Count(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Tells whether none is left.
    pub(super) fn is_over(self) -> bool {
        self == Self::Count(0)
    }
}

impl Word for Op {
    fn word(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.word() == word)
    }
}

impl Word for On {
    fn word(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Kind(kind) => format!("{kind:?}").to_lowercase(),
            Self::File(file) => file.path(),
        }
    }
    fn from_word(word: &str) -> Option<Self> {
        let kinds = FileKind::ALL.into_iter().map(Self::Kind);
        let named = std::iter::once(Self::Any).chain(kinds).find(|on| on.word() == word);
        named.or_else(|| FileId::from_path(word).map(Self::File))
    }
}

impl Word for Times {
    fn word(&self) -> String {
        match self {
            Self::Count(count) => count.to_string(),
            Self::Always => "always".to_owned(),
        }
    }
    fn from_word(word: &str) -> Option<Self> {
        if word == "always" { Some(Self::Always) } else { u32::from_word(word).map(Self::Count) }
    }
}

impl Word for FileId {
    fn word(&self) -> String {
        self.path()
    }
    fn from_word(word: &str) -> Option<Self> {
        Self::from_path(word)
    }
}

impl Word for DiskErrorKind {
    fn word(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
    fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::NotFound,
            Self::PastEnd,
            Self::Full,
            Self::ReadOnly,
            Self::Denied,
            Self::Busy,
            Self::Io,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }
}

impl Word for CrashMode {
    fn word(&self) -> String {
        match self {
            Self::Sectors(size) => format!("sectors:{size}"),
            Self::Torn(size) => format!("torn:{size}"),
            plain => format!("{plain:?}").to_lowercase(),
        }
    }
    fn from_word(word: &str) -> Option<Self> {
        match word.split_once(':') {
            Some(("sectors", size)) => u32::from_word(size).map(Self::Sectors),
            Some(("torn", size)) => u32::from_word(size).map(Self::Torn),
            Some(_) => None,
            None => Self::ALL.into_iter().find(|mode| mode.word() == word),
        }
    }
}

impl Word for Range<u64> {
    fn word(&self) -> String {
        format!("{}..{}", self.start, self.end)
    }
    fn from_word(word: &str) -> Option<Self> {
        let (start, end) = word.split_once("..")?;
        Some(u64::from_word(start)?..u64::from_word(end)?)
    }
}

/// Words whose text is that of the standard library, in its one shortest form.
macro_rules! plain_words {
    ($($type:ty),*) => {$(
        impl Word for $type {
            fn word(&self) -> String {
                self.to_string()
            }
            fn from_word(word: &str) -> Option<Self> {
                word.parse().ok().filter(|read: &Self| read.to_string() == word)
            }
        }
    )*};
}

plain_words!(u32, u64, bool);
