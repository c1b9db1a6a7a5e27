//! Each planted bug makes a difference: what holds without it does not hold with it.
//!
//! Small scenarios, one a mutant, through the public face of the engine. Whether a simulator finds
//! the same bugs by chance is the simulator's own test.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml grants that to test functions, not to their helpers"
)]

mod log;
mod nodes;
mod owned;
mod store;
mod values;

use std::collections::BTreeSet;
use std::panic::{catch_unwind, set_hook, take_hook};

use kdelta_engine::base::mutant;

/// Tells whether what is promised holds.
type Scenario = fn() -> bool;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("ack-before-sync", log::what_is_called_durable_survives),
    ("new-segment-not-listed", log::the_loss_of_a_new_segment_is_noticed),
    ("failed-sync-ignored", log::records_survive_a_failed_sync),
    ("cut-below-the-mark", log::rot_costs_what_it_hit_and_no_more),
    ("torn-tail-kept", log::a_torn_tail_is_no_damage_later),
    ("checksum-without-place", log::a_record_elsewhere_is_no_record),
    ("short-write-counts", log::records_survive_a_failed_write),
    ("read-error-is-the-end", log::what_cannot_be_read_now_is_there_later),
    ("newest-segment-not-verified", log::rot_in_the_newest_segment_is_found),
    ("add-counts-again", values::an_event_counts_once),
    ("tie-broken-by-arrival", values::the_order_of_arrival_makes_no_difference),
    ("frame-limit-unread", values::a_frame_that_is_too_long_is_refused_at_once),
    ("credit-ignored", values::credit_ends),
    ("fingerprint-without-tips", values::ranges_that_differ_in_one_tip_are_told_apart),
    ("incarnation-kept", store::no_number_names_two_commits_after_a_restore),
    ("stamp-not-resumed", store::stamps_go_on_after_a_reopening_though_the_clock_went_back),
    ("out-of-order-dropped", store::what_comes_before_its_past_is_taken_after_it),
    ("waiting-room-unbounded", store::what_waits_is_bounded),
    ("early-commit-taken", store::what_comes_from_the_future_waits),
    ("signature-unchecked", store::a_changed_signature_is_refused),
    ("branches-share-a-name", store::both_branches_of_a_fork_count),
    ("local-file-not-synced", store::a_store_opens_after_a_crash),
    ("taken-back-but-shown", store::what_the_disk_refused_is_not_shown),
    ("conflicts-lost-on-disk", store::conflicts_outlive_a_reopening),
    ("removed-comes-back", store::what_was_removed_stays_away),
    ("batch-shown-in-part", store::a_batch_is_shown_whole),
    ("sidecar-misses-the-last", store::all_of_a_sealed_segment_is_handed_on),
    ("moved-records-not-followed", store::what_was_moved_is_handed_on),
    ("sent-before-durable", nodes::nothing_leaves_before_it_is_durable),
    ("gap-not-asked-for", nodes::what_was_missed_comes_with_the_next_connection),
    ("same-count-is-in-sync", nodes::what_was_missed_comes_with_the_next_connection),
    ("not-passed-on", nodes::news_pass_through_a_third_replica),
    ("lazy-not-told", nodes::who_is_pushed_nothing_is_told),
    ("announced-not-fetched", nodes::who_is_pushed_nothing_is_told),
    ("prune-not-heeded", nodes::what_came_twice_comes_once),
    ("push-skips-a-link", nodes::news_reach_all_who_are_connected),
    ("address-in-the-nonce", nodes::two_runs_say_the_same),
    ("dialling-never-done", nodes::a_lost_peer_is_dialled_again),
    ("timeouts-on-wall-clock", nodes::a_lost_peer_is_dialled_again),
    ("short-is-in-sync", nodes::who_lacks_something_is_not_in_sync),
    ("inert-counts", owned::what_was_written_too_late_is_not_shown),
    ("states-outlive-a-revocation", owned::a_revocation_changes_what_was_shown_before),
    ("revoked-from-the-beginning", owned::what_the_revoker_had_seen_stays),
    ("prefixes-unread", owned::who_may_write_some_keys_writes_no_others),
];

/// Mutants that need more of a history than a small scenario has, and what they need.
const LEFT_TO_SIMULATION: &[(&str, &str)] = &[
    ("record-replayed-twice", "one commit in the log twice, both readable"),
    ("branch-replayed-twice", "a commit of a branch in the log twice, both counting"),
    ("hollow-taken", "a peer that takes chunks apart and empties what is in them"),
];

#[test]
fn each_mutant_breaks_what_holds_without_it() {
    let (mut broken, mut survivors) = (Vec::new(), Vec::new());
    for (name, scenario) in SCENARIOS {
        mutant::choose(None).unwrap();
        if !holds(*scenario) {
            broken.push(*name);
        }
        mutant::choose(Some(name)).unwrap();
        let error = mutant::choose(Some("no such")).unwrap_err().to_string();
        assert!(mutant::ALL.iter().all(|known| error.contains(known.name)), "{error}");
        assert_eq!(mutant::chosen().map(|mutant| mutant.name), Some(*name));
        if holds(*scenario) {
            survivors.push(*name);
        }
    }
    mutant::choose(None).unwrap();
    assert!(broken.is_empty(), "these do not hold without a mutant: {broken:?}");
    assert!(survivors.is_empty(), "these change nothing: {survivors:?}");
}

/// A broken engine may also stop at an assertion of its own.
fn holds(scenario: Scenario) -> bool {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let held = catch_unwind(scenario).unwrap_or(false);
    set_hook(hook);
    held
}

#[test]
fn every_mutant_has_a_scenario_or_a_reason() {
    let scenarios = SCENARIOS.iter().map(|(name, _)| *name);
    let named: BTreeSet<&str> = scenarios.chain(LEFT_TO_SIMULATION.iter().map(|l| l.0)).collect();
    let all: BTreeSet<&str> = mutant::ALL.iter().map(|mutant| mutant.name).collect();
    assert_eq!(named, all);
}
