//! Traces: digests, causal pasts, lines and pages, of small worlds made up for it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::fs;
use std::path::Path;

use kdelta_engine::base::{CommitId, Rng, sha256};
use kdelta_engine::crdt::Json;
use kdelta_sim::trace::cone::causal_past;
use kdelta_sim::trace::html::{PAGE_ENTRIES_MAX, write_html};
use kdelta_sim::trace::json::write_json_lines;
use kdelta_sim::trace::text::{explain, write_text};
use kdelta_sim::trace::{
    CHECKPOINT_ENTRIES, Entry, Keep, Short, Trace, What, first_difference, hash,
};

/// A world that has only what traces are about: lanes, messages on their way, writes that wait.
struct Toy {
    rng: Rng,
    now: u64,
    lanes: usize,
    up: Vec<bool>,
    number: u64,
    /// When it arrives, its number, from where, to where, whether it arrived before.
    flying: Vec<(u64, u64, usize, usize, bool)>,
    waiting: Vec<(usize, u64, Vec<Short>)>,
    backup: u64,
    split: bool,
    cut: bool,
    trace: Trace,
}

const KINDS: [&str; 4] = ["hello", "have", "commits", "done"];
const HOSTILE: &str =
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\u{202e}\u{1b}[2J";

impl Toy {
    fn new(seed: u64, lanes: usize, keep: Keep) -> Self {
        Self {
            rng: Rng::new(sha256("kdelta/sim/test", &[&seed.to_le_bytes()])),
            now: 0,
            lanes,
            up: vec![true; lanes],
            number: 0,
            flying: Vec::new(),
            waiting: Vec::new(),
            backup: 0,
            split: false,
            cut: false,
            trace: Trace::new(keep),
        }
    }

    fn run(seed: u64, lanes: usize, entries: u64) -> Self {
        let mut toy = Self::new(seed, lanes, Keep::All);
        toy.go_on(entries);
        toy
    }

    fn go_on(&mut self, entries: u64) {
        while self.trace.count() < entries {
            self.now += 1 + self.rng.below(9_000_000);
            self.arrive();
            self.step();
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap()
    }

    fn say(&mut self, lane: impl Into<Option<usize>>, what: What) {
        self.trace.record(self.now, lane.into(), what);
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn arrive(&mut self) {
        self.flying.sort_unstable();
        while self.flying.first().is_some_and(|message| message.0 <= self.now) {
            let (_, number, from, to, again) = self.flying.remove(0);
            if !self.up[to] {
                self.say(None, What::Lost { number, reason: "the receiver is down" });
            } else if again {
                self.say(to, What::Duplicated { number, from });
            } else {
                self.say(to, What::Delivered { number, from });
            }
        }
    }

    fn send(&mut self, lane: usize) {
        let to = (lane + 1 + self.below(self.lanes - 1)) % self.lanes;
        let (number, kind) = (self.next(), KINDS[self.below(KINDS.len())]);
        let bytes = 20 + self.rng.below(4000);
        self.say(lane, What::Sent { number, to, kind, bytes, content: hash(&bytes.to_le_bytes()) });
        let arrives = self.now + 1_000_000 + self.rng.below(40_000_000);
        if self.below(12) == 0 || (self.split && (lane % 2 != to % 2)) {
            self.say(None, What::Lost { number, reason: "dropped on its way" });
            return;
        }
        self.flying.push((arrives, number, lane, to, false));
        if self.below(12) == 0 {
            self.flying.push((arrives + 5_000_000, number, lane, to, true));
        }
    }

    fn write(&mut self, lane: usize) {
        let commit = Short(self.rng.u64());
        let op = ["put \"milk\"", "add 3", "remove \"bread\"", "put {\"a\":[1,2]}"][self.below(4)];
        let key = format!("list/{}", self.below(5)).into();
        self.say(lane, What::Requested { op: op.into(), key, commit: Some(commit) });
        let sync = self.next();
        if self.below(3) > 0 {
            self.say(lane, What::SyncBegun { sync });
            self.waiting.push((lane, sync, vec![commit]));
        }
    }

    fn step(&mut self) {
        let lane = self.below(self.lanes);
        if !self.up[lane] {
            if self.below(4) == 0 {
                self.up[lane] = true;
                self.say(
                    lane,
                    if lane.is_multiple_of(2) { What::Restarted } else { What::CameBack },
                );
            }
            return;
        }
        if let Some(at) = self.waiting.iter().position(|(of, ..)| *of == lane) {
            let (_, sync, commits) = self.waiting.remove(at);
            if self.below(15) == 0 {
                self.say(lane, What::SyncFailed { sync });
            } else {
                self.say(lane, What::SyncDone { sync });
                commits
                    .into_iter()
                    .for_each(|commit| self.say(lane, What::Acknowledged { commit }));
            }
            return;
        }
        match self.below(60) {
            0..=26 => self.send(lane),
            27..=41 => self.write(lane),
            42 => self.split(),
            43 => self.cut(),
            other => self.fault(lane, other),
        }
    }

    fn split(&mut self) {
        self.split = !self.split;
        let side = |odd| (0..self.lanes).filter(|lane| lane % 2 == odd).collect();
        let groups = vec![side(0), side(1)];
        let began = What::PartitionBegan { groups };
        self.say(None, if self.split { began } else { What::PartitionEnded });
    }

    fn cut(&mut self) {
        self.cut = !self.cut;
        let (from, to) = (0, self.lanes - 1);
        let (began, ended) = (What::CutBegan { from, to }, What::CutEnded { from, to });
        self.say(None, if self.cut { began } else { ended });
    }

    fn fault(&mut self, lane: usize, which: usize) {
        let peer = (lane + 1) % self.lanes;
        match which {
            46 => {
                self.waiting.retain(|(of, ..)| *of != lane);
                self.up[lane] = false;
                let mode = "keeps a random part of what was not synced".into();
                let crash = What::Crashed { mode };
                self.say(lane, if lane.is_multiple_of(2) { crash } else { What::WentAway });
            }
            47 => {
                let link = self.next();
                self.say(lane, What::LinkUp { link, peer });
            }
            48 => self.say(lane, What::LinkDown { link: 1, peer, reason: "timed out".into() }),
            49 => self.split(),
            50 => self.cut(),
            44 | 51 => {
                self.say(lane, What::FaultInjected { fault: "bit flip at log/3:4096".into() })
            }
            45 | 52 => self.say(lane, What::FaultHit { fault: "checksum of log/3:4096".into() }),
            53 => self.say(lane, What::ClockJumped { ms: -1500 }),
            54 => self.say(lane, What::ClockDrifts { ppm: 200 }),
            55 => {
                self.backup = self.next();
                self.say(lane, What::BackedUp { backup: self.backup });
            }
            56 => self.say(lane, What::Restored { backup: self.backup }),
            57 if self.lanes < 7 => {
                let to = self.lanes;
                self.lanes += 1;
                self.up.push(true);
                self.say(lane, What::Copied { to });
            }
            58 => self.say(lane, What::Note { text: "compacted segment 3".into() }),
            _ => {
                let (op, key) = ("add 1".into(), "list/0".into());
                self.say(lane, What::Refused { op, key, reason: "the store is read-only".into() });
            }
        }
    }

    /// Ends with a failure.
    fn break_down(&mut self) -> usize {
        self.say(None, What::HealBegan);
        self.go_on(self.trace.count() + 40);
        let name = "what was acknowledged is not lost".into();
        let seen = "commit 3f0a77c1b2d4 of list/3 was acknowledged and is not in the log".into();
        self.say(1, What::Broken { name, seen });
        self.trace.entries().len() - 1
    }
}

/// One entry of each kind, with fields that no other has.
fn pinned() -> Trace {
    let mut trace = Trace::new(Keep::All);
    let commit = Short::from(&CommitId([0xab; 32]));
    let all = [
        What::Requested { op: "put 1".into(), key: "a".into(), commit: Some(commit) },
        What::Requested { op: "get".into(), key: "a".into(), commit: None },
        What::Refused { op: "put 2".into(), key: "b".into(), reason: "full".into() },
        What::Acknowledged { commit },
        What::Sent { number: 1, to: 2, kind: "hello", bytes: 3, content: hash(b"abc") },
        What::Delivered { number: 1, from: 4 },
        What::Duplicated { number: 1, from: 5 },
        What::Lost { number: 6, reason: "dropped" },
        What::LinkUp { link: 7, peer: 8 },
        What::LinkDown { link: 7, peer: 8, reason: "reset".into() },
        What::CutBegan { from: 9, to: 10 },
        What::CutEnded { from: 9, to: 10 },
        What::PartitionBegan { groups: vec![vec![0, 1], vec![2], Vec::new()] },
        What::PartitionEnded,
        What::SyncBegun { sync: 11 },
        What::SyncDone { sync: 11 },
        What::SyncFailed { sync: 12 },
        What::FaultInjected { fault: "rot".into() },
        What::FaultHit { fault: "rot".into() },
        What::Crashed { mode: "none".into() },
        What::Restarted,
        What::WentAway,
        What::CameBack,
        What::BackedUp { backup: 13 },
        What::Copied { to: 14 },
        What::Restored { backup: 13 },
        What::ClockJumped { ms: -15 },
        What::ClockDrifts { ppm: 16 },
        What::HealBegan,
        What::Broken { name: "it holds".into(), seen: "it does not".into() },
        What::Note { text: HOSTILE.into() },
    ];
    for (at, what) in (0..).zip(all) {
        let lane = usize::try_from(at).unwrap() % 3;
        trace.record(at * 1_000_000_007, (lane < 2).then_some(lane), what);
    }
    trace
}

#[test]
fn a_trace_has_one_digest_on_every_machine() {
    let trace = pinned();
    assert_eq!(trace.count(), 31);
    assert_eq!(trace.digest().to_string(), "0e08c3b8ca3cc6f47b928f2f73b0a0f7");
    let empty = Trace::new(Keep::Digest).digest();
    assert_eq!(empty.to_string(), "43746876ba67f1b9f5a91ec3a24bd64f");
    assert_eq!(hash(b"twelve bytes"), 0x3d07_07de_7224_7c06);
}

#[test]
fn every_field_is_in_the_digest() {
    let digest = |what: What| {
        let mut trace = Trace::new(Keep::Digest);
        trace.record(1, Some(0), what);
        trace.digest()
    };
    let sent = |number, to, kind, bytes, content| What::Sent { number, to, kind, bytes, content };
    let note = |text: &'static str| What::Note { text: text.into() };
    let broken = |name: &'static str, seen: &'static str| What::Broken {
        name: name.into(),
        seen: seen.into(),
    };
    let split = |groups: &[&[usize]]| What::PartitionBegan {
        groups: groups.iter().map(|group| group.to_vec()).collect(),
    };
    let all = [
        sent(1, 2, "a", 3, 4),
        sent(9, 2, "a", 3, 4),
        sent(1, 9, "a", 3, 4),
        sent(1, 2, "b", 3, 4),
        sent(1, 2, "a", 9, 4),
        sent(1, 2, "a", 3, 9),
        What::Delivered { number: 1, from: 2 },
        What::Delivered { number: 2, from: 1 },
        What::Duplicated { number: 1, from: 2 },
        note(""),
        note("\0"),
        note("\0\0"),
        note("12345678"),
        note("12345678\0"),
        broken("ab", "c"),
        broken("a", "bc"),
        broken("", "abc"),
        split(&[&[0, 1], &[2]]),
        split(&[&[0], &[1, 2]]),
        split(&[&[0, 1, 2]]),
        split(&[&[0, 1, 2], &[]]),
        What::Requested { op: "a".into(), key: "b".into(), commit: None },
        What::Requested { op: "a".into(), key: "b".into(), commit: Some(Short(0)) },
    ];
    let mut digests: Vec<_> = all.iter().cloned().map(digest).collect();
    digests.extend(pinned().entries().iter().map(|entry| digest(entry.what.clone())));
    let count = digests.len();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

#[test]
fn the_first_difference_is_found() {
    let entries = Toy::run(3, 4, 6000).trace.entries().to_vec();
    let replay = |keep, entries: &[Entry]| {
        let mut trace = Trace::new(keep);
        entries.iter().for_each(|e| trace.record(e.at_ns, e.replica, e.what.clone()));
        trace
    };
    let original = replay(Keep::All, &entries);
    for changed in [0, 1, 1023, 1024, 1025, 3000, 5120, 5999] {
        let mut other = entries.clone();
        other[changed].at_ns += 1;
        // Something else differs later.
        other[5999].replica = Some(77);
        let at = changed as u64;
        let found = first_difference(&original, &replay(Keep::All, &other));
        assert_eq!(found, Some(at..at + 1));
        let block = at / CHECKPOINT_ENTRIES * CHECKPOINT_ENTRIES;
        let found =
            first_difference(&replay(Keep::Digest, &entries), &replay(Keep::Digest, &other));
        let block = block..block + CHECKPOINT_ENTRIES;
        assert_eq!(found, Some(block.clone()));
        // Which is enough to find it in another two runs that keep little.
        let keep = Keep::Between { from: block.start, to: block.end };
        let found = first_difference(&replay(keep, &entries), &replay(keep, &other));
        assert_eq!(found, Some(at..at + 1));
    }
    assert_eq!(first_difference(&original, &replay(Keep::Digest, &entries)), None);
    let shorter = replay(Keep::All, &entries[..2048]);
    assert_eq!(first_difference(&original, &shorter), Some(2048..2049));
    let shorter = replay(Keep::All, &entries[..2050]);
    assert_eq!(first_difference(&shorter, &original), Some(2050..2051));
}

/// Happened-before by its definition: all pairs, closed transitively. For each entry, which others
/// came before it.
fn naive_closure(entries: &[Entry]) -> Vec<Vec<bool>> {
    let lanes = |entry: &Entry| {
        let further = match entry.what {
            What::LinkUp { peer, .. } => Some(peer),
            What::Copied { to } => Some(to),
            _ => None,
        };
        entry.replica.into_iter().chain(further).collect::<Vec<_>>()
    };
    let last_backup = |before: usize, backup: u64| {
        let made = |at: &usize| entries[*at].what == What::BackedUp { backup };
        (0..before).rev().find(made)
    };
    let direct = |a: usize, b: usize| {
        let (one, other) = (&entries[a], &entries[b]);
        let all = other.replica.is_none() && matches!(other.what, What::Broken { .. });
        let same = lanes(one).iter().any(|lane| all || lanes(other).contains(lane));
        same || match (&one.what, &other.what) {
            (
                What::Sent { number: sent, .. },
                What::Delivered { number, .. } | What::Duplicated { number, .. },
            ) => sent == number,
            (What::BackedUp { .. }, What::Restored { backup }) => {
                last_backup(b, *backup) == Some(a)
            }
            _ => false,
        }
    };
    let mut before: Vec<Vec<bool>> = Vec::new();
    for b in 0..entries.len() {
        let mut row = vec![false; entries.len()];
        for a in (0..b).filter(|a| direct(*a, b)) {
            row[a] = true;
            row.iter_mut().zip(&before[a]).for_each(|(to, from)| *to |= from);
        }
        before.push(row);
    }
    before
}

#[test]
fn the_causal_past_is_the_closure_of_what_comes_right_before() {
    for seed in 0..12 {
        let mut toy = Toy::run(seed, 2 + usize::try_from(seed).unwrap() % 4, 160);
        toy.break_down();
        toy.say(None, What::Broken { name: "all".into(), seen: "differ".into() });
        let entries = toy.trace.entries();
        for (index, before) in naive_closure(entries).into_iter().enumerate() {
            let naive: Vec<_> = (0..=index).filter(|at| *at == index || before[*at]).collect();
            assert_eq!(causal_past(entries, index), naive, "seed {seed}, entry {index}");
        }
        assert!(causal_past(entries, entries.len()).is_empty());
    }
}

#[test]
fn an_explanation_ends_with_the_failure_and_leaves_out_what_is_beside_it() {
    let mut trace = Trace::new(Keep::All);
    let sent = |number, to| What::Sent { number, to, kind: "hello", bytes: 9, content: 0 };
    trace.record(1, Some(0), sent(1, 1));
    trace.record(2, Some(2), What::Note { text: "beside".into() });
    trace.record(3, Some(0), sent(2, 1));
    trace.record(4, None, What::Lost { number: 2, reason: "dropped" });
    trace.record(5_000_000_000, Some(1), What::Delivered { number: 1, from: 0 });
    trace.record(12_000_000_000, Some(1), What::Broken { name: "n".into(), seen: "s\n".into() });
    let text = explain(trace.entries(), 5, 99);
    assert_eq!(
        text,
        " 0.000000001  r0  sent       m1 to r1: hello, 9 bytes
 5.000000000  r1  delivered  m1 from r0: hello
12.000000000  r1  broken     n: s\\u{a}
"
    );
    let text = explain(trace.entries(), 5, 1);
    assert!(text.starts_with("… 2 more entries of the causal past before these\n12.0"), "{text}");
    let text = explain(trace.entries(), 2, 9);
    assert!(text.ends_with("m2 to r1: hello, 9 bytes (lost: dropped)\n"), "{text}");
    assert_eq!(explain(trace.entries(), 6, 9), "");
}

#[test]
fn every_entry_is_one_line_of_text() {
    let mut text = String::new();
    write_text(pinned().entries(), &mut text).unwrap();
    assert_eq!(text.lines().count(), 31);
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[test]
fn json_lines_parse_back() {
    let trace = pinned();
    let mut text = String::new();
    write_json_lines(trace.entries(), 100, &mut text).unwrap();
    assert_eq!(text.lines().count(), trace.entries().len());
    for ((number, entry), line) in (100..).zip(trace.entries()).zip(text.lines()) {
        let parsed = Json::parse(line.as_bytes()).unwrap();
        // Members in the order of their names, as the canonical form has them.
        for member in [
            format!("\"n\":{number}"),
            format!("\"at_ns\":{}", entry.at_ns),
            format!("\"what\":\"{}\"", entry.what.name()),
            entry.replica.map_or("\"replica\":null".into(), |lane| format!("\"replica\":{lane}")),
        ] {
            assert!(parsed.as_str().contains(&member), "{member} in {parsed}");
        }
    }
    let last = Json::parse(text.lines().last().unwrap().as_bytes()).unwrap();
    let hostile = Json::string(HOSTILE).unwrap();
    assert!(last.as_str().contains(&format!("\"text\":{hostile}")), "{last}");
    let split = text.lines().find(|line| line.contains("partition-began")).unwrap();
    assert!(split.ends_with(r#""groups":[[0,1],[2],[]]}"#), "{split}");
}

fn page(entries: &[Entry], title: &str, failing: Option<usize>) -> String {
    let mut page = String::new();
    write_html(entries, title, failing, &mut page).unwrap();
    page
}

/// The data that a page embeds, as canonical JSON.
fn data_of(page: &str) -> Json {
    let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
    let end = begin + page[begin..].find("</script>").unwrap();
    Json::parse(&page.as_bytes()[begin..end]).unwrap()
}

#[test]
fn a_page_makes_no_markup_of_what_it_shows() {
    let mut trace = Trace::new(Keep::All);
    let text = || HOSTILE.into();
    trace.record(0, Some(0), What::Requested { op: text(), key: text(), commit: None });
    trace.record(1, Some(0), What::Refused { op: text(), key: text(), reason: text() });
    trace.record(2, Some(0), What::Sent { number: 1, to: 1, kind: HOSTILE, bytes: 0, content: 0 });
    trace.record(3, None, What::Lost { number: 1, reason: HOSTILE });
    trace.record(4, Some(0), What::LinkDown { link: 1, peer: 1, reason: text() });
    trace.record(5, Some(0), What::FaultInjected { fault: text() });
    trace.record(6, Some(0), What::Crashed { mode: text() });
    trace.record(7, Some(0), What::Note { text: text() });
    trace.record(8, Some(0), What::Broken { name: text(), seen: text() });
    let hostile = page(trace.entries(), HOSTILE, Some(8));
    let harmless = page(&[], "", None);
    for mark in ["<script", "</script", "<img", "<"] {
        let expected = harmless.matches(mark).count();
        assert_eq!(hostile.matches(mark).count(), expected, "{mark}");
    }
    assert!(!hostile.contains(['\u{1b}', '\u{202e}']));
    let shown = data_of(&hostile);
    assert_eq!(shown.as_str().matches("<img src=x onerror=alert(2)>").count(), 17, "{shown}");
}

#[test]
fn a_page_loads_nothing() {
    let page = page(Toy::run(1, 4, 200).trace.entries(), "a trace", None);
    assert!(page.contains("default-src 'none'"));
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    for mark in
        ["http:", "https:", "src=", "url(", "import(", "@import", "fetch(", "@font-face", "<link"]
    {
        assert!(!addresses.contains(mark), "{mark}");
    }
}

#[test]
fn a_page_says_what_comes_before_what() {
    let mut toy = Toy::run(5, 4, 260);
    let failing = toy.break_down();
    let page = page(toy.trace.entries(), "Seed 5: what was acknowledged is lost", Some(failing));
    let data = data_of(&page);
    assert!(data.as_str().contains(&format!("\"failing\":{failing},")));
    // Left for a person to look at.
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("trace.html"), page).unwrap();
}

#[test]
fn a_page_holds_twenty_thousand_entries_of_twenty_lanes() {
    let mut toy = Toy::run(6, 20, 19_000);
    let failing = toy.break_down();
    let page = page(toy.trace.entries(), "Twenty replicas", Some(failing));
    assert!(data_of(&page).as_str().contains(&format!("\"total\":{}", failing + 1)));
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("trace-large.html"), page).unwrap();
}

#[test]
fn a_large_trace_keeps_the_past_of_its_failure_on_the_page() {
    let mut trace = Trace::new(Keep::All);
    trace.record(0, Some(0), What::Note { text: "the cause".into() });
    trace.record(1, Some(1), What::Crashed { mode: "early".into() });
    let sent = |number| What::Sent { number, to: 2, kind: "hello", bytes: 9, content: 0 };
    for number in 0..30_000 {
        trace.record(2 + number, Some(1), sent(number));
    }
    trace.record(50_000, Some(0), What::Broken { name: "n".into(), seen: "s".into() });
    let failing = trace.entries().len() - 1;
    let text = page(trace.entries(), "large", Some(failing));
    let data = data_of(&text);
    assert!(data.as_str().contains("\"total\":30003"));
    assert!(data.as_str().contains("\"past\":2,"));
    assert!(data.as_str().contains("the cause"));
    assert!(data.as_str().contains("early"));
    assert!(data.as_str().contains("m29999 to r2") && !data.as_str().contains("\"m1 to r2"));
    assert!(data.as_str().contains(&format!("\"failing\":{}", PAGE_ENTRIES_MAX - 1)));
    // Its parent is the cause, which is the first row.
    assert!(data.as_str().contains("\"n: s\",[0]"));
}
