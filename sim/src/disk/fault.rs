//! The faults of a disk, as plain data that a scenario can list.
//!
//! The text of a fault is its name and `part=value` words, in the order of declaration:
//! `zero file=log/0000000000000001.seg range=512..1024`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use kdelta_engine::log::{CrashMode, DiskErrorKind, FileId};

use super::ledger::Row;
use super::text::{On, Op, ParseFaultError, Times, Word};

/// Declares the faults once; their texts follow from the declaration.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $word:literal {
        $($(#[$part_doc:meta])* $part:ident: $type:ty,)*
    })*) => {
        /// What can go wrong with a disk.
        ///
        /// `pass` counts operations that fit and are let through first.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name { $($(#[$part_doc])* $part: $type,)* },)*
        }

        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($part),* } => {
                        f.write_str($word)?;
                        $(write!(f, concat!(" ", stringify!($part), "={}"), $part.word())?;)*
                        Ok(())
                    })*
                }
            }
        }

        impl FromStr for Fault {
            type Err = ParseFaultError;

            fn from_str(text: &str) -> Result<Self, ParseFaultError> {
                let mut words = text.split_whitespace();
                let fault = match words.next() {
                    $(Some($word) => Self::$name {
                        $($part: part(text, words.next(), stringify!($part))?,)*
                    },)*
                    _ => return Err(ParseFaultError(text.to_owned())),
                };
                match words.next() {
                    None => Ok(fault),
                    Some(_) => Err(ParseFaultError(text.to_owned())),
                }
            }
        }
    };
}

/// Reads the word of one part.
fn part<T: Word>(text: &str, word: Option<&str>, name: &str) -> Result<T, ParseFaultError> {
    word.and_then(|word| word.strip_prefix(name)?.strip_prefix('='))
        .and_then(T::from_word)
        .ok_or_else(|| ParseFaultError(format!("{text} (it wants a {name}=)")))
}

faults! {
    /// One bit on the medium rots.
    Flip "flip" {
        /// Where.
        file: FileId,
        /// Which bit, counted from the start of the file.
        bit: u64,
    }
    /// A part of a file reads as zeros.
    Zero "zero" {
        /// Where.
        file: FileId,
        /// Which bytes.
        range: Range<u64>,
    }
    /// A part of a file reads as random bytes.
    Garble "garble" {
        /// Where.
        file: FileId,
        /// Which bytes.
        range: Range<u64>,
        /// What the bytes are drawn from.
        seed: u64,
    }
    /// A part of a file reads as it did when an image was saved; zeros where there was nothing.
    Revert "revert" {
        /// Where.
        file: FileId,
        /// Which bytes.
        range: Range<u64>,
        /// The number of the image.
        slot: u32,
    }
    /// A file has lost what came after its first bytes, as by a careless hand.
    Cut "cut" {
        /// Which.
        file: FileId,
        /// How many bytes are left.
        len: u64,
    }
    /// A file is not there any more.
    Gone "gone" {
        /// Which.
        file: FileId,
    }
    /// Reads of a part of a file fail.
    Unreadable "unreadable" {
        /// Where.
        file: FileId,
        /// Which bytes.
        range: Range<u64>,
        /// How many reads; `always` ends only when the bytes are written anew.
        times: Times,
    }
    /// Reads yield a part of a file as it is now, after it was written anew.
    Stale "stale" {
        /// Where.
        file: FileId,
        /// Which bytes; beyond the end of the file they are zeros now.
        range: Range<u64>,
        /// How many reads that would have yielded something else.
        times: Times,
    }
    /// A write lands elsewhere on the medium, and where it belongs the old bytes stay.
    Misdirect "misdirect" {
        /// A write of which file.
        on: On,
        /// How many writes land where they belong before.
        pass: u32,
        /// The file on which it lands, if that is long enough.
        to: FileId,
        /// Where it lands.
        offset: u64,
    }
    /// A sync or a replacement lies: the next power cut undoes it.
    LoseSync "lose-sync" {
        /// Of which file.
        on: On,
        /// How many are true before.
        pass: u32,
    }
    /// A write writes a front part and fails.
    ShortWrite "short-write" {
        /// Of which file.
        on: On,
        /// How many are whole before.
        pass: u32,
        /// How many bytes are written.
        keep: u64,
    }
    /// A sync fails, and the bytes that waited for it count as clean; a replacement does nothing.
    FailSync "fail-sync" {
        /// Of which file.
        on: On,
        /// How many succeed before.
        pass: u32,
        /// How many fail.
        times: Times,
        /// How they fail.
        error: DiskErrorKind,
        /// Whether readers then see the old bytes; else the cache keeps the new ones.
        old: bool,
    }
    /// Operations fail without any effect.
    Refuse "refuse" {
        /// Which.
        op: Op,
        /// On which files.
        on: On,
        /// How many are served before.
        pass: u32,
        /// How many fail.
        times: Times,
        /// How they fail.
        error: DiskErrorKind,
    }
    /// A change takes effect, and yet the disk says that it failed.
    LoseAnswer "lose-answer" {
        /// Which operation.
        op: Op,
        /// On which files.
        on: On,
        /// How many are answered before.
        pass: u32,
    }
    /// All files together may have no more than so many bytes.
    Space "space" {
        /// How many.
        bytes: u64,
    }
    /// Nothing can be changed.
    ReadOnly "read-only" {}
    /// Operations take longer.
    Slow "slow" {
        /// Which.
        op: Op,
        /// On which files.
        on: On,
        /// How many are quick before.
        pass: u32,
        /// How many are slow.
        times: Times,
        /// How much longer, in microseconds.
        us: u64,
    }
    /// An operation does not return until this is taken away or the power goes.
    Stuck "stuck" {
        /// Which.
        op: Op,
        /// On which files.
        on: On,
        /// How many return before.
        pass: u32,
    }
    /// The power goes after so many more changes; what follows fails, until the crash.
    PowerOff "power-off" {
        /// How many.
        after: u64,
    }
    /// The cache drops a file: readers see the medium.
    Evict "evict" {
        /// Which file.
        file: FileId,
    }
    /// The process ends, the machine goes on: the cache stays, un-synced bytes too. A power that is
    /// off stays off.
    Kill "kill" {}
    /// The power goes and comes back.
    Crash "crash" {
        /// What it leaves of what was not synced.
        mode: CrashMode,
        /// What the choices of the mode are drawn from.
        seed: u64,
    }
    /// All files are gone.
    Wipe "wipe" {}
    /// An image of the disk is saved, as readers see its good bytes: no fault by itself.
    Save "save" {
        /// Its number.
        slot: u32,
    }
    /// The disk is as it was when the image was saved.
    Restore "restore" {
        /// The number of the image.
        slot: u32,
    }
}

impl Fault {
    /// Returns the rows of the fault table that it belongs to.
    pub fn rows(&self) -> &'static [Row] {
        use DiskErrorKind::{Full, Io};
        match self {
            Self::Crash { mode, .. } => match mode {
                CrashMode::KeepAll => &[Row::D1],
                CrashMode::Sectors(_) => &[Row::D1, Row::D2, Row::D3, Row::D4],
                CrashMode::Torn(_) => &[Row::D2],
                CrashMode::EntryLost => &[Row::D4],
                _ => &[Row::D1, Row::D4],
            },
            Self::FailSync { error: Full, .. } | Self::Refuse { error: Full, .. } => &[Row::D7],
            Self::FailSync { .. } => &[Row::D5],
            Self::Kill {} | Self::Evict { .. } => &[Row::D6],
            Self::Space { .. } => &[Row::D7],
            Self::Unreadable { .. } | Self::Refuse { op: Op::Read, error: Io, .. } => &[Row::D8],
            Self::Flip { .. } | Self::Zero { .. } => &[Row::D9],
            Self::Garble { .. } | Self::Revert { .. } => &[Row::D9],
            Self::Cut { .. } | Self::Gone { .. } => &[Row::D9],
            Self::Misdirect { .. } => &[Row::D10],
            Self::Stale { .. } => &[Row::D11],
            Self::LoseSync { .. } => &[Row::D12],
            Self::ShortWrite { .. } => &[Row::D13],
            Self::LoseAnswer { .. } => &[Row::D14],
            // In the life of a disk that is being recovered it is the row before; the ledger knows.
            Self::PowerOff { .. } => &[Row::D16],
            Self::Slow { .. } | Self::Stuck { .. } => &[Row::D17],
            Self::Wipe {} | Self::Save { .. } | Self::Restore { .. } => &[Row::D18],
            Self::ReadOnly {} | Self::Refuse { .. } => &[Row::D19],
        }
    }

    /// Tells whether the store must be closed before and opened anew after it.
    pub fn restarts(&self) -> bool {
        use Fault::{Crash, Kill, Restore, Wipe};
        matches!(self, Kill {} | Crash { .. } | Wipe {} | Restore { .. })
    }
}
