//! The rare paths of the engine that a batch took, and those that it missed.

use kdelta_engine::base::mark;

use super::{Batch, EVERY, Listed, go_on, needs, say};
use crate::command::{CommandError, Front};

/// The marks that no batch hits.
pub const OUT_OF_REACH: &[Listed] = &[];

/// What is played if nothing is said.
pub const PLAIN: Batch = Batch { seeds: 0..1_000, every: EVERY, names: Vec::new(), brief: false };

/// Plays a batch, and prints how often each mark was hit. False if one was missed that is not
/// listed, if one that is listed was hit, or if a promise was broken.
///
/// # Errors
/// [`CommandError::Usage`] without the feature; those of the front.
pub fn play(batch: &Batch, front: &mut dyn Front) -> Result<bool, CommandError> {
    reset();
    if hits().is_empty() {
        return Err(CommandError::Usage(needs("counts no rare paths", "marks")));
    }
    let mut fine = true;
    for play in batch.plays() {
        go_on(front)?;
        if let Some(broken) = play.broken() {
            say(front, format!("{play}: {broken}"))?;
            fine = false;
        }
    }
    let hits = hits();
    for (name, count) in &hits {
        say(front, format!("{name:<36} {count:>10}"))?;
    }
    for wrong in judge(&hits, OUT_OF_REACH) {
        say(front, wrong)?;
        fine = false;
    }
    let hit = hits.iter().filter(|(_, count)| *count > 0).count();
    say(front, format!("{} marks, {hit} hit, {} out of reach", hits.len(), OUT_OF_REACH.len()))?;
    Ok(fine)
}

/// Names the marks that were missed and should not be, and those listed for which that is untrue.
fn judge(hits: &[(&'static str, u64)], listed: &[Listed]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, count) in hits {
        match (listed.iter().find(|entry| entry.name == *name), count) {
            (None, 0) => {
                let what = mark::ALL.iter().find(|mark| mark.name == *name).map(|mark| mark.what);
                wrong.push(format!("missed: {name}: {}", what.unwrap_or_default()));
            }
            (Some(_), 1..) => wrong.push(format!("listed as out of reach, and hit: {name}")),
            _ => {}
        }
    }
    let known = |entry: &&Listed| hits.iter().any(|(name, _)| *name == entry.name);
    let unknown = listed.iter().filter(|entry| !known(entry));
    wrong.extend(unknown.map(|entry| format!("listed, and no mark: {}", entry.name)));
    wrong
}

#[cfg(feature = "marks")]
pub(crate) use mark::{hits, reset};

/// Marks are not counted in this build: there are none.
#[cfg(not(feature = "marks"))]
pub(crate) fn hits() -> Vec<(&'static str, u64)> {
    Vec::new()
}

#[cfg(not(feature = "marks"))]
pub(crate) fn reset() {}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &[Listed] = &[
        Listed { name: "log-stalled", why: "no time", test: "none" },
        Listed { name: "no-such", why: "no mark", test: "none" },
    ];

    #[test]
    fn a_missed_mark_and_an_untrue_entry_are_named() {
        let hits = [("log-stalled", 0), ("log-torn-tail", 0), ("log-disk-full", 3)];
        let wrong = judge(&hits, LISTED);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("missed: log-torn-tail: a torn tail is found"), "{wrong:?}");
        assert!(wrong[1].contains("no mark: no-such"), "{wrong:?}");
        let wrong = judge(&[("log-stalled", 1)], LISTED);
        assert!(wrong[0].contains("and hit: log-stalled"), "{wrong:?}");
    }
}
