use std::collections::BTreeSet;

use super::*;
use crate::base::ReplicaId;
use proptest::prelude::*;

fn log(n: usize) -> LogId {
    LogId { replica: ReplicaId([u8::try_from(n).unwrap(); 32]), incarnation: 7 }
}

type Commit = (LogId, u64);

/// A history as a graph: commits in causal order, each with its deps.
#[derive(Debug, Clone, Default)]
struct Graph(Vec<(Commit, Vec<Commit>)>);

impl Graph {
    /// The specification: walk the graph.
    fn past(&self, of: Commit) -> BTreeSet<Commit> {
        let mut seen = BTreeSet::new();
        let mut open = vec![of];
        while let Some(next) = open.pop() {
            if next.1 > 0 && seen.insert(next) {
                open.push((next.0, next.1 - 1));
                let found = self.0.iter().find(|(commit, _)| *commit == next);
                open.extend(found.unwrap().1.iter().copied());
            }
        }
        seen
    }

    fn clocks(&self) -> Clocks {
        let mut clocks = Clocks::new();
        for ((log, seq), deps) in &self.0 {
            clocks.record(*log, *seq, deps).unwrap();
        }
        clocks
    }
}

/// Each step: a log writes, with deps on some commits that exist, not always the newest.
fn graph() -> impl Strategy<Value = Graph> {
    let dep = (0usize..4, 0u64..3);
    prop::collection::vec((0usize..4, prop::collection::vec(dep, 0..3)), 0..24).prop_map(|steps| {
        let mut graph = Graph::default();
        let mut tips = [0u64; 4];
        for (author, wanted) in steps {
            let deps: VersionVector = wanted
                .into_iter()
                .filter(|(other, _)| *other != author)
                .map(|(other, back)| (log(other), tips[other].saturating_sub(back)))
                .collect();
            tips[author] += 1;
            graph.0.push(((log(author), tips[author]), deps.iter().collect()));
        }
        graph
    })
}

proptest! {
    #[test]
    fn the_index_says_what_walking_the_graph_says(graph in graph()) {
        let clocks = graph.clocks();
        for (commit, _) in &graph.0 {
            let past = graph.past(*commit);
            let vector: VersionVector = past.iter().copied().collect();
            prop_assert_eq!(clocks.past(&commit.0, commit.1), Some(vector.clone()));
            for n in 0..5 {
                let known = clocks.known(&commit.0, commit.1, &log(n));
                prop_assert_eq!(known, Some(vector.get(&log(n))));
            }
            for (other, _) in &graph.0 {
                let said = clocks.is_past((&other.0, other.1), (&commit.0, commit.1));
                prop_assert_eq!(said, Some(past.contains(other)));
            }
        }
    }

    #[test]
    fn a_window_answers_the_same_or_not_at_all(
        graph in graph(),
        starts in prop::array::uniform4(0u64..8),
    ) {
        let clocks = graph.clocks();
        let start = starts.iter().enumerate().map(|(n, s)| (log(n), *s));
        let start: VersionVector = start.collect();
        let window = clocks.window(&start);
        for ((log, seq), _) in &graph.0 {
            let inside = *seq >= start.get(log).min(clocks.tip(log));
            let expected = clocks.past(log, *seq).filter(|_| inside);
            prop_assert_eq!(window.past(log, *seq), expected);
        }
        prop_assert_eq!(&window.window(&start), &window);
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Clocks::decode(&mut reader), Ok(window));
        prop_assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn damaged_bytes_are_refused_or_canonical(
        graph in graph(),
        place: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let mut bytes = Vec::new();
        graph.clocks().encode(&mut bytes);
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut reader = Reader::new(&bytes);
        if let Ok(clocks) = Clocks::decode(&mut reader) {
            let mut again = Vec::new();
            clocks.encode(&mut again);
            prop_assert_eq!(again.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
        }
    }
}

#[test]
fn a_log_without_deps_costs_no_steps() {
    let mut clocks = Clocks::new();
    for seq in 1..=10_000 {
        clocks.record(log(1), seq, &[]).unwrap();
    }
    assert!(clocks.bytes() < 1024);
    assert_eq!(clocks.past(&log(1), 5000).unwrap().get(&log(1)), 5000);
}

#[test]
fn disorder_is_named_and_changes_nothing() {
    let mut clocks = Clocks::new();
    clocks.record(log(1), 1, &[]).unwrap();
    let before = clocks.clone();
    let gap = RecordError::Gap { log: log(1), seq: 3, tip: 1 };
    assert_eq!(clocks.record(log(1), 3, &[]), Err(gap));
    assert!(clocks.record(log(1), 1, &[]).is_err());
    let missing = RecordError::UnknownDep { log: log(2), seq: 1 };
    assert_eq!(clocks.record(log(1), 2, &[(log(2), 1)]), Err(missing));
    assert_eq!(clocks, before);
    assert_eq!(clocks.known(&log(1), 2, &log(1)), None);
    assert_eq!(clocks.known(&log(2), 1, &log(1)), None);
}

#[test]
fn a_branch_begins_where_it_leaves_its_log() {
    let mut clocks = Clocks::new();
    for seq in 1..=4 {
        clocks.record(log(1), seq, &[]).unwrap();
    }
    clocks.begin(log(2), 3);
    assert!(clocks.record(log(2), 1, &[]).is_err());
    clocks.record(log(2), 3, &[(log(1), 2)]).unwrap();
    clocks.record(log(2), 4, &[]).unwrap();
    assert_eq!(clocks.known(&log(2), 4, &log(1)), Some(2));
    assert_eq!(clocks.known(&log(2), 2, &log(1)), None, "what lies before is in the log");
    let mut bytes = Vec::new();
    clocks.encode(&mut bytes);
    assert_eq!(Clocks::decode(&mut Reader::new(&bytes)), Ok(clocks));
}

#[test]
fn a_commit_from_below_the_window_is_recorded_by_its_past() {
    let mut clocks = Clocks::new();
    for seq in 1..=5 {
        clocks.record(log(1), seq, &[]).unwrap();
    }
    clocks.forget(&[(log(1), 5)].into_iter().collect());
    assert!(clocks.record(log(2), 1, &[(log(1), 2)]).is_err());
    clocks.record_past(log(2), 1, &[(log(1), 2)].into_iter().collect()).unwrap();
    assert_eq!(clocks.known(&log(2), 1, &log(1)), Some(2));
}

/// Many logs, each of which knows of all: what is held and written for each pair of them.
#[test]
fn a_pair_of_logs_costs_some_bytes() {
    let name = |n: u64| LogId { replica: ReplicaId([0; 32]), incarnation: n };
    let (mut clocks, count) = (Clocks::new(), 300);
    // The names come in no order.
    let names: Vec<LogId> = (0..count).map(|n| name(n * 7919 % 1009)).collect();
    for log in &names {
        clocks.record(*log, 1, &[]).unwrap();
    }
    for log in &names {
        let deps: Vec<_> =
            names.iter().filter(|other| *other != log).map(|other| (*other, 1)).collect();
        clocks.record(*log, 2, &deps).unwrap();
    }
    let pairs = names.len() * names.len();
    assert!(clocks.bytes() < pairs * 64, "{} bytes", clocks.bytes());
    let mut bytes = Vec::new();
    clocks.encode(&mut bytes);
    assert!(bytes.len() < pairs * 6, "{} bytes", bytes.len());
    assert_eq!(Clocks::decode(&mut Reader::new(&bytes)), Ok(clocks));
}
