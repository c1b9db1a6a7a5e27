//! Which play found each planted bug when all of them were looked for last.
//!
//! A brief search tries that play first, so that it costs one play where nothing has moved; where
//! the engine or what is drawn has changed, it searches the batch as ever. What such a search
//! prints goes back into this table.

use super::{EVERY, Play};

/// The planted bugs by name, each with the first play of the whole batch that finds it.
pub(super) const FOUND_BY: &[(&str, Play)] = &[
    ("ack-before-sync", Play::Seed(59)),
    ("add-counts-again", Play::Seed(1)),
    ("address-in-the-nonce", Play::Seed(1)),
    ("announced-not-fetched", Play::Spread),
    ("batch-shown-in-part", Play::Seed(1)),
    ("branch-replayed-twice", Play::Seed(45)),
    ("branches-share-a-name", Play::Seed(3)),
    ("checksum-without-place", Play::Seed(0)),
    ("conflicts-lost-on-disk", Play::Seed(1)),
    ("credit-ignored", Play::Seed(123)),
    ("cut-below-the-mark", Play::Seed(17)),
    ("dialling-never-done", Play::Seed(5)),
    ("early-commit-taken", Play::Seed(38)),
    ("failed-sync-ignored", Play::Cuts("failing-syncs", EVERY)),
    ("fingerprint-without-tips", Play::Seed(334)),
    ("frame-limit-unread", Play::Seed(5)),
    ("gap-not-asked-for", Play::Seed(0)),
    ("hollow-taken", Play::Seed(42)),
    ("incarnation-kept", Play::Seed(3)),
    ("inert-counts", Play::Seed(14)),
    ("lazy-not-told", Play::Spread),
    ("local-file-not-synced", Play::Seed(0)),
    ("moved-records-not-followed", Play::Seed(16)),
    ("new-segment-not-listed", Play::Seed(491)),
    ("newest-segment-not-verified", Play::Seed(17)),
    ("not-passed-on", Play::Seed(4)),
    ("out-of-order-dropped", Play::Seed(42)),
    ("prefixes-unread", Play::Seed(26)),
    ("prune-not-heeded", Play::Spread),
    ("push-skips-a-link", Play::Seed(1)),
    ("read-error-is-the-end", Play::Seed(40)),
    ("record-replayed-twice", Play::Seed(20)),
    ("removed-comes-back", Play::Seed(1)),
    ("revoked-from-the-beginning", Play::Seed(2)),
    ("same-count-is-in-sync", Play::Seed(0)),
    ("sent-before-durable", Play::Seed(4)),
    ("short-is-in-sync", Play::Seed(62)),
    ("short-write-counts", Play::Seed(20)),
    ("sidecar-misses-the-last", Play::Seed(1)),
    ("signature-unchecked", Play::Seed(20)),
    ("stamp-not-resumed", Play::Seed(1)),
    ("states-outlive-a-revocation", Play::Seed(14)),
    ("taken-back-but-shown", Play::Seed(38)),
    ("tie-broken-by-arrival", Play::Seed(18)),
    ("timeouts-on-wall-clock", Play::Seed(3)),
    ("torn-tail-kept", Play::Seed(21)),
    ("waiting-room-unbounded", Play::Seed(45)),
];

/// Returns the play that found a bug.
pub(super) fn before(name: &str) -> Option<Play> {
    FOUND_BY.iter().find(|(known, _)| *known == name).map(|(_, play)| *play)
}

#[cfg(test)]
mod tests {
    use kdelta_engine::base::mutant;

    use super::super::mutants::NOT_FOUND;
    use super::*;

    #[test]
    fn each_bug_was_found_by_a_play_or_is_listed_as_not_found() {
        for mutant in mutant::ALL {
            let listed = NOT_FOUND.iter().any(|entry| entry.name == mutant.name);
            assert_ne!(before(mutant.name).is_some(), listed, "{}", mutant.name);
        }
        assert_eq!(FOUND_BY.len() + NOT_FOUND.len(), mutant::ALL.len());
    }
}
