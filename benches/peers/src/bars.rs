//! The bars that kdelta set itself, and what a run has to say of each.

use crate::engines::Kind;
use crate::figures::Run;
use crate::render::number;
use crate::work::{get, history, open, put, simulator, sync};

/// One row for each bar, after a head: the work, the bar, the figure, and what came of it.
pub(crate) fn lines(run: &Run) -> Vec<Vec<String>> {
    let mut rows = vec![["work", "bar", "this run", "outcome"].map(str::to_owned).to_vec()];
    for bar in all(run) {
        let row = [bar.work, &bar.bar, &bar.seen, &bar.outcome()];
        rows.push(row.map(ToOwned::to_owned).to_vec());
    }
    rows
}

/// A bar: what was reached of what was asked for, as a part of it.
struct Bar {
    work: &'static str,
    bar: String,
    seen: String,
    /// At least 1 if the bar is met; none if it was not measured.
    reached: Option<f64>,
}

impl Bar {
    fn outcome(&self) -> String {
        match self.reached {
            None => "not measured".to_owned(),
            Some(reached) if reached >= 1.0 => format!("met, {reached:.2}x the bar"),
            Some(reached) => format!("**missed**: {reached:.2}x of the bar"),
        }
    }

    /// `value` must be at least `bound`.
    fn least(work: &'static str, bar: &str, value: Option<f64>, bound: f64, unit: &str) -> Self {
        let seen = value.map_or_else(String::new, |value| format!("{}{unit}", number(value)));
        Self { work, bar: bar.to_owned(), seen, reached: value.map(|value| value / bound) }
    }

    /// `value` must be at most `bound`.
    fn most(work: &'static str, bar: &str, value: Option<f64>, bound: f64, unit: &str) -> Self {
        let seen = value.map_or_else(String::new, |value| format!("{}{unit}", number(value)));
        Self { work, bar: bar.to_owned(), seen, reached: value.map(|value| bound / value) }
    }
}

const KDELTA: &str = "kdelta";

fn all(run: &Run) -> Vec<Bar> {
    let mut bars = gets(run);
    bars.extend(puts(run));
    bars.extend(opens(run));
    bars.extend(syncs(run));
    let events = run.median("simulator", simulator::WHAT, "simulator");
    bars.push(Bar::least(
        "simulator",
        "at least a million messages, disk operations and requests a second on a core",
        events,
        1e6,
        " a second",
    ));
    bars
}

/// The greatest, or the least, of the medians of those who are no kdelta.
fn best(
    run: &Run,
    part: &str,
    what: &str,
    less: bool,
    among: impl Fn(&str) -> bool,
) -> Option<f64> {
    let figures = run.parts.get(part)?.figures.iter().filter(|figure| figure.what == what);
    let medians = figures.filter(|figure| among(&figure.who)).map(|figure| figure.median());
    medians.reduce(if less { f64::min } else { f64::max })
}

fn is_peer(who: &str) -> bool {
    Kind::named(who).is_ok_and(|kind| kind != Kind::Kdelta)
}

fn ratio(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? / b?)
}

fn gets(run: &Run) -> Vec<Bar> {
    let hot = run.median("get", get::HOT, KDELTA);
    let map = best(run, "get", get::HOT, true, |who| who.starts_with("map: "));
    let lmdb = run.median("get", get::HOT, "lmdb");
    let bar = "at most twice a hit of the best concurrent map with the same keys and values";
    let other = "at most 150 ns where LMDB takes 1,300: 0.115 of LMDB";
    vec![
        Bar::most("hot get", bar, ratio(hot, map), 2.0, "x the map's hit"),
        Bar::most("hot get", other, ratio(hot, lmdb), 150.0 / 1300.0, " of LMDB's"),
    ]
}

fn puts(run: &Run) -> Vec<Bar> {
    let durable = |threads: &str| format!("durable put, {threads}");
    let one = run.median("put", &durable("1 thread"), KDELTA);
    let raw = best(run, "put", &durable("1 thread"), false, |who| put::RAW.contains(&who));
    let many = run.median("put", &durable("16 threads"), KDELTA);
    let peer = best(run, "put", &durable("16 threads"), false, is_peer);
    let bar = "at least 0.8 of the faster raw append and `fdatasync` of the same bytes";
    let other = "at least 1.5 times the best peer";
    let mut bars = vec![
        Bar::least("durable put, 1 thread", bar, ratio(one, raw), 0.8, " of the raw append"),
        Bar::least("durable put, 16 threads", other, ratio(many, peer), 1.5, "x the best peer"),
    ];
    for what in [put::NEW, put::HOT, put::COLD] {
        let (own, peer) = (run.median("put", what, KDELTA), best(run, "put", what, false, is_peer));
        let bar = "at least as many as the fastest peer's, unsynced";
        bars.push(Bar::least(what, bar, ratio(own, peer), 1.0, "x the fastest peer"));
    }
    bars
}

fn opens(run: &Run) -> Vec<Bar> {
    let open = |what: &str| run.median("open", what, KDELTA);
    let (clean, killed) = (open(open::CLEAN), open(open::KILLED));
    let ten = |what: &str| open(&format!("{}{what}", open::TEN));
    let (ten_clean, ten_killed) = (ten(open::CLEAN), ten(open::KILLED));
    let growth = |few, many| ratio(many, few);
    let greater = |a: Option<f64>, b: Option<f64>| Some(a?.max(b.unwrap_or(0.0)));
    let history = |what| run.median("history", what, KDELTA);
    let bar = "a million and ten million events within twice of each other";
    let (kept, sought) = ("history of 1,000 events", "at most 6.5 ms, our caches empty");
    vec![
        Bar::most(open::CLEAN, "under 50 ms", greater(clean, ten_clean), 50.0, " ms"),
        Bar::most(open::KILLED, "under 200 ms", greater(killed, ten_killed), 200.0, " ms"),
        Bar::most(open::CLEAN, bar, growth(clean, ten_clean), 2.0, "x"),
        Bar::most(open::KILLED, bar, growth(killed, ten_killed), 2.0, "x"),
        Bar::most(kept, sought, history(history::SPREAD), 6.5, " ms between others"),
        Bar::most(kept, sought, history(history::ROW), 6.5, " ms in a row"),
    ]
}

fn syncs(run: &Run) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (batch, work) in [(1, "fresh replica, 1 event a commit"), (100, "the same, 100 a commit")] {
        let what = sync::fresh_named(batch);
        let own = run.median("sync", &what, sync::WHO);
        let lower =
            best(run, "sync", &what, true, |who| [sync::STREAM, sync::LOCAL].contains(&who));
        let bar = "at least half of the lower of a raw stream and a buffered put of the same";
        bars.push(Bar::least(work, bar, ratio(own, lower), 0.5, " of the lower"));
    }
    let trips = run.median("sync", sync::TRIPS, sync::WHO);
    let bytes = run.median("sync", sync::OVERHEAD, sync::WHO);
    let catch_up = "catch-up of 10 events in a million, 10 logs";
    bars.push(Bar::most(catch_up, "at most 2 round trips", trips, 2.0, ""));
    let bar = "at most 3 KiB both ways besides the commits and what vouches for them";
    bars.push(Bar::most(catch_up, bar, bytes, 3072.0, " bytes"));
    bars
}
