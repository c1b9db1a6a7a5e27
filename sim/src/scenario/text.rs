//! The text form of a scenario: a head of `name value` lines, then one step a line.
//!
//! ```text
//! kdelta-sim 1
//! seed 42
//! replicas 3
//! at 120 write 2 count 0 5 ; put 1 7
//! at 300 crash 1 torn-512 2000
//! ```
//!
//! Lines that begin with `#` and empty ones are passed over. What the head does not name has the
//! default of [`Options`].

use std::fmt::{self, Write as _};
use std::str::{FromStr, SplitWhitespace};

use kdelta_engine::log::CrashMode;

use super::{
    Action, DiskFault, LinkOptions, Options, Right, SEATS_MAX, Scenario, Step, TicketKind,
    Topology, WorkOp,
};
use crate::disk::Row;

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ScenarioError {}

impl Default for Options {
    fn default() -> Self {
        Self {
            replicas: 3,
            absent: Vec::new(),
            strangers: Vec::new(),
            topology: Topology::Mesh,
            told: false,
            annihilation: false,
            owned: false,
            segment_bytes: 64 << 10,
            memory_bytes: 4 << 20,
            places: true,
            sync_us: [50, 4_000],
            link: LinkOptions {
                delay_us: [1_000, 40_000],
                late_ppm: 0,
                loss_ppm: 0,
                reset_ppm: 0,
                bytes_per_s: 0,
                mangle_ppm: 0,
            },
            trouble_ms: 10_000,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { replicas, absent, topology, segment_bytes, memory_bytes, .. } = &self.options;
        let Options { places, sync_us, link, trouble_ms, strangers, .. } = &self.options;
        writeln!(f, "{MAGIC}\nseed {}\nreplicas {replicas}", self.seed)?;
        for seat in absent {
            writeln!(f, "absent {seat}")?;
        }
        for seat in strangers {
            writeln!(f, "stranger {seat}")?;
        }
        writeln!(f, "topology {}", topology.name())?;
        for (name, on) in [
            ("told", self.options.told),
            ("annihilation", self.options.annihilation),
            ("owned", self.options.owned),
        ] {
            if on {
                writeln!(f, "{name} 1")?;
            }
        }
        writeln!(f, "segment-bytes {segment_bytes}\nmemory-bytes {memory_bytes}")?;
        writeln!(f, "places {}", u8::from(*places))?;
        writeln!(f, "sync-us {} {}", sync_us[0], sync_us[1])?;
        writeln!(f, "delay-us {} {}", link.delay_us[0], link.delay_us[1])?;
        writeln!(f, "late-ppm {}\nloss-ppm {}", link.late_ppm, link.loss_ppm)?;
        writeln!(f, "reset-ppm {}\nmangle-ppm {}", link.reset_ppm, link.mangle_ppm)?;
        writeln!(f, "bytes-per-s {}\ntrouble-ms {trouble_ms}", link.bytes_per_s)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "at {} {}", step.at_ms, step.action))
    }
}

impl Scenario {
    /// Reads the text form.
    ///
    /// # Errors
    /// [`ScenarioError`] names the line.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut scenario = Self { seed: 0, options: Options::default(), steps: Vec::new() };
        let mut begun = false;
        for (at, line) in text.lines().enumerate() {
            let fail = |reason| ScenarioError { line: at + 1, reason };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !begun && line != MAGIC {
                return Err(fail(format!("a scenario begins with `{MAGIC}`")));
            }
            if begun {
                scenario.line(&mut Words(line.split_whitespace())).map_err(fail)?;
            }
            begun = true;
        }
        scenario.steps.sort_by_key(|step| step.at_ms);
        if begun { Ok(scenario) } else { Err(ScenarioError { line: 1, reason: "empty".into() }) }
    }

    fn line(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let Options { absent, sync_us, link, .. } = &mut self.options;
        let options = match words.word()? {
            "at" => {
                let at_ms = words.number()?;
                self.steps.push(Step { at_ms, action: words.action()? });
                return words.end();
            }
            "seed" => Slot::Long(&mut self.seed),
            "replicas" => {
                self.options.replicas = words.seat()?;
                return words.end();
            }
            "absent" => {
                absent.push(words.seat()?);
                return words.end();
            }
            "stranger" => {
                self.options.strangers.push(words.seat()?);
                return words.end();
            }
            "topology" => {
                self.options.topology = Topology::named(words.word()?)?;
                return words.end();
            }
            "told" => {
                self.options.told = words.number::<u8>()? != 0;
                return words.end();
            }
            "annihilation" => {
                self.options.annihilation = words.number::<u8>()? != 0;
                return words.end();
            }
            "owned" => {
                self.options.owned = words.number::<u8>()? != 0;
                return words.end();
            }
            "segment-bytes" => Slot::Short(&mut self.options.segment_bytes),
            "memory-bytes" => {
                self.options.memory_bytes = words.number()?;
                return words.end();
            }
            "places" => {
                self.options.places = words.number::<u8>()? != 0;
                return words.end();
            }
            "sync-us" => Slot::Pair(sync_us),
            "delay-us" => Slot::Pair(&mut link.delay_us),
            "late-ppm" => Slot::Short(&mut link.late_ppm),
            "loss-ppm" => Slot::Short(&mut link.loss_ppm),
            "reset-ppm" => Slot::Short(&mut link.reset_ppm),
            "mangle-ppm" => Slot::Short(&mut link.mangle_ppm),
            "bytes-per-s" => Slot::Long(&mut link.bytes_per_s),
            "trouble-ms" => Slot::Long(&mut self.options.trouble_ms),
            other => return Err(format!("`{other}` is not known")),
        };
        match options {
            Slot::Short(slot) => *slot = words.number()?,
            Slot::Long(slot) => *slot = words.number()?,
            Slot::Pair(slot) => *slot = [words.number()?, words.number()?],
        }
        words.end()
    }
}

enum Slot<'a> {
    Short(&'a mut u32),
    Long(&'a mut u64),
    Pair(&'a mut [u64; 2]),
}

impl Topology {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Mesh, "mesh"),
        (Self::Ring, "ring"),
        (Self::Line, "line"),
        (Self::Star, "star"),
        (Self::Web, "web"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(one, _)| *one == self).map_or("mesh", |(_, name)| name)
    }

    fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(one, _)| *one).ok_or_else(|| format!("no topology is called `{name}`"))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { seat, ops } => {
                write!(f, "write {seat}")?;
                for (at, op) in ops.iter().enumerate() {
                    write!(f, "{} {op}", if at == 0 { "" } else { " ;" })?;
                }
                Ok(())
            }
            Self::Act { seat, number } => write!(f, "act {seat} {number}"),
            Self::Sync { seat, with } => write!(f, "sync {seat} {with}"),
            Self::Ticket { from, to, kind } => write!(f, "ticket {from} {to} {}", kind.name()),
            Self::Grant { from, to, right } => write!(f, "grant {from} {to} {}", right.name()),
            Self::Revoke { from, of } => write!(f, "revoke {from} {of}"),
            Self::Repair { seat } => write!(f, "repair {seat}"),
            Self::Crash { seat, mode, away_ms } => {
                write!(f, "crash {seat} {} {away_ms}", mode_name(*mode))
            }
            Self::Stop { seat, away_ms } => write!(f, "stop {seat} {away_ms}"),
            Self::Copy { seat, to } => write!(f, "copy {seat} {to}"),
            Self::Save { seat } => write!(f, "save {seat}"),
            Self::Restore { seat } => write!(f, "restore {seat}"),
            Self::Wipe { seat } => write!(f, "wipe {seat}"),
            Self::Disk { seat, fault } => write!(f, "disk {seat} {fault}"),
            Self::Hostile { to, attack, ms, seats } => {
                write!(f, "hostile {to} {attack} {ms}")?;
                seats.iter().try_for_each(|seat| write!(f, " {seat}"))
            }
            Self::Part { sides, ms } => {
                f.write_str("part ")?;
                sides.iter().try_for_each(|side| f.write_char(char::from(b'a' + side % 26)))?;
                write!(f, " {ms}")
            }
            Self::OneWay { from, to, ms } => write!(f, "one-way {from} {to} {ms}"),
            Self::Clog { from, to, ms } => write!(f, "clog {from} {to} {ms}"),
            Self::Reset { a, b } => write!(f, "reset {a} {b}"),
            Self::Pause { seat, ms } => write!(f, "pause {seat} {ms}"),
            Self::Jump { seat, ms } => write!(f, "jump {seat} {ms}"),
            Self::Drift { seat, ppm } => write!(f, "drift {seat} {ppm}"),
        }
    }
}

impl fmt::Display for WorkOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(key, by) => write!(f, "count {key} {by}"),
            Self::Put(key, value) => write!(f, "put {key} {value}"),
            Self::Bytes(key, len) => write!(f, "bytes {key} {len}"),
            Self::Add(key, element) => write!(f, "add {key} {element}"),
            Self::Remove(key, element) => write!(f, "remove {key} {element}"),
            Self::Field(key, field, value) => write!(f, "field {key} {field} {value}"),
            Self::Unfield(key, field) => write!(f, "unfield {key} {field}"),
            Self::Delete(kind, key) => write!(f, "delete {kind} {key}"),
            Self::Retype(kind, key, value) => write!(f, "retype {kind} {key} {value}"),
        }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SyncsFail(pass, fail) => write!(f, "syncs-fail {pass} {fail}"),
            Self::WritesFail(pass, fail) => write!(f, "writes-fail {pass} {fail}"),
            Self::Full(bytes, ms) => write!(f, "full {bytes} {ms}"),
            Self::ReadOnly(ms) => write!(f, "read-only {ms}"),
            Self::PowerOff(changes, mode, ms) => {
                write!(f, "power-off {changes} {} {ms}", mode_name(*mode))
            }
            Self::Glitch(number) => write!(f, "glitch {number}"),
            Self::Newest(number) => write!(f, "newest {number}"),
            Self::Lost(number, ms) => write!(f, "lost {number} {ms}"),
            Self::Drawn(row, number) => write!(f, "drawn {row:?} {number}"),
            Self::Media(fault) => write!(f, "media {fault}"),
        }
    }
}

/// Returns how a scenario spells a crash mode.
pub(crate) fn mode_name(mode: CrashMode) -> String {
    match mode {
        CrashMode::LoseAll => "lose-all".into(),
        CrashMode::KeepAll => "keep-all".into(),
        CrashMode::Prefix => "prefix".into(),
        CrashMode::Sectors(size) => format!("sectors-{size}"),
        CrashMode::Torn(size) => format!("torn-{size}"),
        CrashMode::ZeroTail => "zero-tail".into(),
        CrashMode::GarbageTail => "garbage-tail".into(),
        CrashMode::EntryLost => "entry-lost".into(),
        other => format!("{other:?}"),
    }
}

fn mode_named(name: &str) -> Result<CrashMode, String> {
    let known = CrashMode::ALL.into_iter().find(|mode| mode_name(*mode) == name);
    known.ok_or_else(|| format!("no crash mode is called `{name}`"))
}

fn row_named(name: &str) -> Result<Row, String> {
    let known = Row::ALL.into_iter().find(|row| format!("{row:?}") == name);
    known.ok_or_else(|| format!("no row of faults is called `{name}`"))
}

/// The words of a line that are left.
struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "the line ends too early".to_owned())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("`{word}` is no number that fits here"))
    }

    fn letter(&mut self) -> Result<char, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("`{word}` is not one letter"))
    }

    fn seat(&mut self) -> Result<usize, String> {
        let seat = self.number()?;
        let fits = seat <= SEATS_MAX;
        if fits { Ok(seat) } else { Err(format!("there are at most {SEATS_MAX} seats")) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |word| Err(format!("`{word}` is one word too many")))
    }

    fn action(&mut self) -> Result<Action, String> {
        Ok(match self.word()? {
            "write" => {
                let seat = self.seat()?;
                let mut ops = vec![self.op()?];
                while let Some(word) = self.0.next() {
                    if word != ";" {
                        return Err(format!("`;` stands between ops, not `{word}`"));
                    }
                    ops.push(self.op()?);
                }
                Action::Write { seat, ops }
            }
            "act" => Action::Act { seat: self.seat()?, number: self.number()? },
            "sync" => Action::Sync { seat: self.seat()?, with: self.seat()? },
            "ticket" => {
                let (from, to) = (self.seat()?, self.seat()?);
                Action::Ticket { from, to, kind: TicketKind::named(self.word()?)? }
            }
            "grant" => {
                let (from, to) = (self.seat()?, self.seat()?);
                Action::Grant { from, to, right: Right::named(self.word()?)? }
            }
            "revoke" => Action::Revoke { from: self.seat()?, of: self.seat()? },
            "repair" => Action::Repair { seat: self.seat()? },
            "crash" => {
                let (seat, mode) = (self.seat()?, mode_named(self.word()?)?);
                Action::Crash { seat, mode, away_ms: self.number()? }
            }
            "stop" => Action::Stop { seat: self.seat()?, away_ms: self.number()? },
            "copy" => Action::Copy { seat: self.seat()?, to: self.seat()? },
            "save" => Action::Save { seat: self.seat()? },
            "restore" => Action::Restore { seat: self.seat()? },
            "wipe" => Action::Wipe { seat: self.seat()? },
            "disk" => Action::Disk { seat: self.seat()?, fault: self.disk_fault()? },
            "hostile" => {
                let (to, attack) = (self.seat()?, self.word()?);
                let attack = attack.parse().map_err(|error| format!("{error}"))?;
                let (ms, mut seats) = (self.number()?, Vec::new());
                for word in self.0.by_ref() {
                    seats.push(Words(word.split_whitespace()).seat()?);
                }
                Action::Hostile { to, attack, ms, seats }
            }
            "part" => {
                let sides = self.word()?.bytes().map(|side| side.wrapping_sub(b'a')).collect();
                Action::Part { sides, ms: self.number()? }
            }
            "one-way" => {
                Action::OneWay { from: self.seat()?, to: self.seat()?, ms: self.number()? }
            }
            "clog" => Action::Clog { from: self.seat()?, to: self.seat()?, ms: self.number()? },
            "reset" => Action::Reset { a: self.seat()?, b: self.seat()? },
            "pause" => Action::Pause { seat: self.seat()?, ms: self.number()? },
            "jump" => Action::Jump { seat: self.seat()?, ms: self.number()? },
            "drift" => Action::Drift { seat: self.seat()?, ppm: self.number()? },
            other => return Err(format!("nothing is called `{other}`")),
        })
    }

    fn op(&mut self) -> Result<WorkOp, String> {
        Ok(match self.word()? {
            "count" => WorkOp::Count(self.number()?, self.number()?),
            "put" => WorkOp::Put(self.number()?, self.number()?),
            "bytes" => WorkOp::Bytes(self.number()?, self.number()?),
            "add" => WorkOp::Add(self.number()?, self.number()?),
            "remove" => WorkOp::Remove(self.number()?, self.number()?),
            "field" => WorkOp::Field(self.number()?, self.number()?, self.number()?),
            "unfield" => WorkOp::Unfield(self.number()?, self.number()?),
            "delete" => WorkOp::Delete(self.letter()?, self.number()?),
            "retype" => WorkOp::Retype(self.letter()?, self.number()?, self.number()?),
            other => return Err(format!("no op is called `{other}`")),
        })
    }

    fn disk_fault(&mut self) -> Result<DiskFault, String> {
        Ok(match self.word()? {
            "syncs-fail" => DiskFault::SyncsFail(self.number()?, self.number()?),
            "writes-fail" => DiskFault::WritesFail(self.number()?, self.number()?),
            "full" => DiskFault::Full(self.number()?, self.number()?),
            "read-only" => DiskFault::ReadOnly(self.number()?),
            "power-off" => {
                DiskFault::PowerOff(self.number()?, mode_named(self.word()?)?, self.number()?)
            }
            "glitch" => DiskFault::Glitch(self.number()?),
            "newest" => DiskFault::Newest(self.number()?),
            "lost" => DiskFault::Lost(self.number()?, self.number()?),
            "drawn" => DiskFault::Drawn(row_named(self.word()?)?, self.number()?),
            "media" => {
                let words: Vec<&str> = self.0.by_ref().collect();
                let fault = words.join(" ").parse();
                DiskFault::Media(fault.map_err(|error| format!("{error}"))?)
            }
            other => return Err(format!("no fault of a disk is called `{other}`")),
        })
    }
}

const MAGIC: &str = "kdelta-sim 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for seed in 0..300 {
            let scenario = Scenario::draw(seed);
            assert_eq!(Scenario::parse(&scenario.to_string()), Ok(scenario));
        }
    }

    #[test]
    fn a_fault_of_the_medium_and_a_hostile_peer_are_written_as_they_are_read() {
        let lines = "at 5 hostile 4 bad-hash 900 0 2\n\
            at 6 disk 1 media flip file=log/0000000000000001.seg bit=99\n\
            at 7 disk 1 drawn D9 12\n\
            at 8 disk 1 glitch 5\n\
            at 8 disk 1 newest 6\n\
            at 8 disk 1 lost 7 500\n\
            at 8 disk 1 media cut file=log/0000000000000001.seg len=900\n\
            at 8 disk 1 media gone file=log/manifest-0\n\
            at 9 sync 1 0\n\
            at 9 ticket 1 0 forged\n\
            at 9 repair 1\n";
        let scenario = Scenario::parse(&format!("{MAGIC}\n{lines}")).unwrap();
        assert!(scenario.to_string().ends_with(lines), "{scenario}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let text = format!("# why\n{MAGIC}\nseed 1\nat 5 write 1 frob 2\n");
        let error = Scenario::parse(&text).unwrap_err();
        assert_eq!(error.to_string(), "line 4: no op is called `frob`");
        for line in ["at 1 hostile 4 rude 5 0", "at 1 disk 0 drawn D99 1", "at 1 disk 0 media rot"]
        {
            let text = format!("{MAGIC}\n{line}");
            assert_eq!(Scenario::parse(&text).unwrap_err().line, 2, "{line}");
        }
        for line in ["seed", "seed x", "seed 1 2", "at 1 crash 0 hard 1", "absent 900", "huh"] {
            let text = format!("{MAGIC}\n{line}");
            assert_eq!(Scenario::parse(&text).unwrap_err().line, 2, "{line}");
        }
        assert!(Scenario::parse("").is_err() && Scenario::parse("seed 1").is_err());
    }
}
