//! Random histories: some replicas, each with two logs at times, that grant, pass on, revoke each
//! other and themselves, and write, with rights or without.

use proptest::prelude::*;

use super::orders::some_order;
use super::*;
use crate::base::{Reader, Rng};

const KEYS: [&str; 4] = ["a/1", "a/2", "b/1", "c"];
const PREFIXES: [&[&str]; 4] = [&[""], &["a/", "b/"], &["a/"], &["a/1", "c"]];

/// One step of a script: bytes that decide on the author, what it has seen, and what it does.
type Step = [u8; 8];

pub(super) fn script(max: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..max)
}

/// Plays a script. Whatever its bytes, what comes of it is a history; most of what happens in it is
/// done by somebody who may.
pub(super) fn play(replicas: u8, roots: u8, difficulty: u8, script: &[Step]) -> History {
    let mut history = History::new(roots);
    history.owned.difficulty = difficulty;
    for step in script {
        let [author, see, also, grant, ..] = *step;
        let log = (author % replicas, u64::from(author / 128));
        let count = history.commits.len();
        let pick = |byte: u8| (count > 0 && byte < 220).then(|| usize::from(byte) % count);
        let last = count.checked_sub(1).filter(|_| see % 3 == 0);
        let seen: Vec<usize> = [pick(see), pick(also), last].into_iter().flatten().collect();
        let named = named(&history, log, &seen, grant);
        let does = does(&history, replicas, step);
        let at = history.write(log, seen, named, does);
        // Time passes, at times.
        let hlc = &mut history.commits[at].standing.hlc;
        *hlc = Hlc(hlc.0 + (u64::from(step[7] % 16) << 16));
    }
    history
}

/// Picks among the grants that the author holds and has seen; now and then another one.
fn named(history: &History, log: (u8, u64), seen: &[usize], byte: u8) -> Option<GrantId> {
    let own = LogId { replica: replica(log.0), incarnation: log.1 };
    let commits = history.commits.iter().enumerate();
    let known = commits.filter(|(at, said)| {
        let by = |seen: &usize| seen == at || history.commits[*seen].past.contains(at);
        said.standing.at.0 == own || seen.iter().any(by)
    });
    let audience = Audience::Replica(replica(log.0));
    let to = |said: &Said| matches!(&said.act, Some(Act::Grant(g)) if g.audience == audience);
    let mut held: Vec<GrantId> =
        known.filter(|(_, said)| to(said)).map(|(_, said)| said.grant_id()).collect();
    if usize::from(log.0) < history.owned.roots.len() {
        held.push(root(log.0));
    }
    match byte {
        250.. => None,
        240.. => Some(root(byte % 3)),
        230.. => history.commits.get(usize::from(byte) % 7).map(Said::grant_id),
        _ if held.is_empty() => Some(root(0)),
        _ => held.get(usize::from(byte) % held.len()).copied(),
    }
}

fn does(history: &History, replicas: u8, step: &Step) -> Does {
    let [.., what, a, b, c] = *step;
    let key = KEYS[usize::from(a) % KEYS.len()];
    match what % 16 {
        0..=2 => Does::Put(key),
        3 => Does::Delete(key),
        4 => Does::Tag,
        5 => Does::Nothing,
        6..=10 => {
            let audience = match a {
                240.. => Audience::bearer(&[a; 32]),
                _ => Audience::Replica(replica(a % replicas)),
            };
            let actions = [255, 255, 255, 0b0011_0111, 0b0001_0111, 2, 0b1001_0010, 0b0011_0001];
            let prefixes = PREFIXES[usize::from(b >> 4) % PREFIXES.len()];
            let grant = Grant {
                audience,
                actions: Actions::from_byte(actions[usize::from(b) % 8]).unwrap(),
                prefixes: Prefixes::new(prefixes.iter().map(|p| p.as_bytes())).unwrap(),
                expiry_ms: (c % 4 == 0).then_some(u64::from(c)),
                depth: (7_u8).saturating_sub(what / 32),
            };
            Does::Act(Act::Grant(grant))
        }
        _ if a < 50 => revoke(root(b % 3)),
        _ => {
            let grants = history.commits.iter().filter(|said| said.kind == Kind::Grant || b > 250);
            let ids: Vec<_> = grants.map(Said::grant_id).collect();
            revoke(ids.get(usize::from(b) % ids.len().max(1)).copied().unwrap_or(root(1)))
        }
    }
}

fn some_history(max: usize) -> impl Strategy<Value = History> {
    let sizes = (3u8..=6, 1u8..=3, prop::sample::select(vec![0u8, 0, 0, 1]));
    (sizes, script(max)).prop_map(|((replicas, roots, difficulty), script)| {
        play(replicas, roots, difficulty, &script)
    })
}

/// What the verdicts of some histories are, one of each kind.
#[test]
fn random_histories_come_to_every_verdict() {
    let mut rng = Rng::new([3; 32]);
    let (mut found, mut fine, mut void_revocations) = (BTreeSet::new(), 0, 0);
    for round in 0..400_u32 {
        let script: Vec<Step> = (0..24).map(|_| rng.bytes()).collect();
        let history = play(4, 2, u8::from(round % 8 == 0), &script);
        let known = (0..history.commits.len()).collect();
        for (at, verdict) in spec::verdicts(&history, &known) {
            fine += u32::from(verdict.is_ok());
            let Err(reason) = verdict else { continue };
            let revokes = matches!(history.commits[at].act, Some(Act::Revoke(_)));
            let revoked = matches!(reason, Reason::Revoked { .. });
            void_revocations += u32::from(revokes && revoked);
            found.insert(match reason {
                Reason::NotWithinParent(axis) => format!("{axis:?}"),
                other => format!("{other:?}").split(' ').next().unwrap().to_owned(),
            });
        }
    }
    // All but too many acts; of what goes beyond a parent, four.
    assert_eq!(found.len(), 11 + 4, "{found:?}");
    assert!(fine > 1000 && void_revocations > 20, "{fine} fine, {void_revocations} void");
}

fn coded(history: &History, authority: &Authority) -> Authority {
    let mut bytes = Vec::new();
    authority.encode(&mut bytes);
    let mut reader = Reader::new(&bytes);
    let read = Authority::decode(&SPACE, &history.owned, &mut reader).unwrap();
    reader.finish().unwrap();
    assert_eq!(&read, authority);
    read
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// At each step on the way what is known is a history of its own. What changes was announced.
    #[test]
    fn the_engine_says_what_the_specification_says(
        history in some_history(20), seed: [u8; 32],
    ) {
        let order = some_order(&history, &mut Rng::new(seed));
        let mut authority = Authority::new(&SPACE, &history.owned);
        let (mut known, mut before) = (BTreeSet::new(), Vec::new());
        let mut sound = vec![Err(Reason::NoGrant); history.commits.len()];
        for at in order {
            let Admitted { sound: verdict, changed } = history.tell(&mut authority, at);
            prop_assert_eq!(&verdict, &spec::sound(&history, at), "commit {}", at);
            sound[at] = verdict;
            known.insert(at);
            authority = coded(&history, &authority);
            let all = history.judged(&authority, &sound);
            for (at, expected) in spec::verdicts(&history, &known) {
                prop_assert_eq!(&all[at], &expected, "commit {} of {:?}", at, &known);
            }
            for (position, (old, new)) in before.iter().zip(&all).enumerate() {
                let grant = history.commits[position].standing.grant;
                let told = position == at || grant.is_some_and(|grant| changed.contains(&grant));
                // Of a revocation the verdict alone may change, which no key shows.
                let shows = !matches!(history.commits[position].act, Some(Act::Revoke(_)));
                prop_assert!(old == new || told || !shows, "commit {} unannounced", position);
            }
            before = all;
        }
    }

    #[test]
    fn the_order_of_arrival_changes_nothing(history in some_history(40), seed: [u8; 32]) {
        let mut rng = Rng::new(seed);
        let first = history.told(&some_order(&history, &mut rng));
        for _ in 0..3 {
            prop_assert_eq!(&history.told(&some_order(&history, &mut rng)), &first);
        }
    }

    #[test]
    fn changed_bytes_are_refused_or_are_another_authority(
        history in some_history(12), flips in prop::collection::vec(any::<u32>(), 64),
    ) {
        let all: Vec<usize> = (0..history.commits.len()).collect();
        let (authority, _) = history.told(&all);
        let mut bytes = Vec::new();
        authority.encode(&mut bytes);
        for flip in flips {
            let mut bytes = bytes.clone();
            let bit = usize::try_from(flip).unwrap() % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut reader = Reader::new(&bytes);
            let read = Authority::decode(&SPACE, &history.owned, &mut reader);
            if let (Ok(read), 0) = (read, reader.remaining()) {
                let mut again = Vec::new();
                read.encode(&mut again);
                prop_assert_eq!(&again, &bytes);
                prop_assert_ne!(&read, &authority);
            }
        }
        for len in 0..bytes.len() {
            let read = Authority::decode(&SPACE, &history.owned, &mut Reader::new(&bytes[..len]));
            prop_assert!(read.is_err());
        }
    }
}
