//! The planted bugs that a batch finds: each is planted in turn, until something breaks.

use kdelta_engine::base::mutant;

use super::found;
use super::{Batch, EVERY, Listed, Play, go_on, say};
use crate::command::{CommandError, Front};
use crate::running::quietly;

/// The planted bugs that no batch finds.
pub const NOT_FOUND: &[Listed] = &[];

/// What is played for each if nothing is said.
pub const PLAIN: Batch = Batch { seeds: 0..500, every: EVERY, names: Vec::new(), brief: false };

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    play: Play,
    /// How many plays it took.
    plays: usize,
    broken: String,
}

/// Plays a batch for each planted bug, or for those named, up to the first play that finds it, and
/// prints which play that is and which promise broke there. Then plays without a bug what was
/// played with one; a brief batch only what found one. False if a bug that is not listed was not
/// found, if one that is listed was, or if a promise is broken without a bug.
///
/// # Errors
/// [`CommandError::Usage`] if a name is unknown, or without the feature; those of the front.
pub fn play(batch: &Batch, front: &mut dyn Front) -> Result<bool, CommandError> {
    let known = |name: &String| mutant::ALL.iter().any(|mutant| mutant.name == *name);
    if let Some(unknown) = batch.names.iter().find(|name| !known(name)) {
        return Err(CommandError::Usage(format!("there is no mutant `{unknown}`")));
    }
    plant(None)?;
    // What a bug makes the engine say when it stops is in the table.
    quietly(|| hunt(batch, front))
}

fn hunt(batch: &Batch, front: &mut dyn Front) -> Result<bool, CommandError> {
    let (mut fine, mut found_all, mut furthest) = (true, 0, 0);
    let wanted = |name: &str| batch.names.is_empty() || batch.names.iter().any(|n| n == name);
    let plays = batch.plays();
    let wanted: Vec<_> = mutant::ALL.iter().filter(|mutant| wanted(mutant.name)).collect();
    let mut broke = Vec::new();
    for mutant in &wanted {
        let listed = NOT_FOUND.iter().any(|entry| entry.name == mutant.name);
        let few = if listed && batch.brief { batch.first_seeds().count() } else { plays.len() };
        let before = if batch.brief { found::before(mutant.name) } else { None };
        go_on(front)?;
        plant(Some(mutant.name))?;
        let found = first(before.iter().chain(plays.iter().take(few)));
        plant(None)?;
        fine &= found.is_some() != listed;
        let (name, row) = (mutant.name, mutant.row);
        match found {
            Some(Found { play, plays, broken }) => {
                found_all += 1;
                furthest = furthest.max(plays);
                let promise = broken.split(": ").next().unwrap_or_default();
                let note = if listed { " (listed as not found)" } else { "" };
                say(front, format!("{name:<28} {row:<5} {plays:>4} {play}: {promise}{note}"))?;
                if !broke.contains(&play) {
                    broke.push(play);
                }
            }
            None if listed => say(front, format!("{name:<28} {row:<5}    - listed: not found"))?,
            None => {
                say(front, format!("{name:<28} {row:<5}    - NOT FOUND, {}", mutant.caught_by))?;
            }
        }
    }
    let again = if batch.brief { &broke } else { plays.get(..furthest).unwrap_or(&plays) };
    for play in again {
        if let Some(broken) = play.broken() {
            say(front, format!("without a bug, {play}: {broken}"))?;
            fine = false;
        }
    }
    let (all, clean) = (wanted.len(), again.len());
    say(front, format!("{found_all} of {all} found; without a bug {clean} plays"))?;
    Ok(fine)
}

/// Returns the first play in which something breaks.
fn first<'a>(plays: impl Iterator<Item = &'a Play>) -> Option<Found> {
    plays
        .zip(1..)
        .find_map(|(play, plays)| play.broken().map(|broken| Found { play: *play, plays, broken }))
}

/// Plants a bug in this process in place of the one before, or none.
///
/// # Errors
/// [`CommandError::Usage`]: it is not known, or this build has none.
#[cfg(feature = "mutants")]
pub(crate) fn plant(name: Option<&str>) -> Result<(), CommandError> {
    mutant::choose(name).map_err(|error| CommandError::Usage(error.to_string()))
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn plant(_: Option<&str>) -> Result<(), CommandError> {
    Err(CommandError::Usage(super::needs("has no planted bugs", "mutants")))
}
