//! Bad disks and hostile peers in whole worlds.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use kdelta_sim::byzantine::Attack;
use kdelta_sim::trace::{Keep, What};
use kdelta_sim::{Scenario, run, run_traced};

/// Plays a scenario; returns what was injected and what was noted, each with its seat.
fn told(scenario: &Scenario) -> Vec<String> {
    let (outcome, trace) = run_traced(scenario, Keep::All);
    assert_eq!(outcome.broken, None, "{scenario}");
    let told = trace.entries().iter().filter_map(|entry| match &entry.what {
        What::FaultInjected { fault: text } | What::Note { text } => {
            Some(format!("{} {text}", entry.replica.map_or(-1, |at| i64::try_from(at).unwrap())))
        }
        _ => None,
    });
    told.collect()
}

/// Three replicas that write one commit each, and then `steps`.
fn scenario(steps: &str) -> Scenario {
    let head = "kdelta-sim 1\nseed 5\nreplicas 3\nsegment-bytes 4096\ntrouble-ms 20000\n";
    let writes = "at 10 write 0 count 0 5\nat 20 write 1 put 1 7\nat 30 write 2 bytes 2 5000\n";
    Scenario::parse(&format!("{head}{writes}{steps}")).unwrap()
}

#[test]
fn rot_in_the_log_is_found_and_repaired_from_peers() {
    let rot = "at 5000 disk 1 media zero file=log/0000000000000001.seg range=200..260\n";
    for then in ["", "at 6000 stop 1 100\n", "at 6000 crash 1 lose-all 100\n"] {
        let told = told(&scenario(&format!("{rot}{then}")));
        let of = |what: &str| told.iter().any(|line| line.starts_with(what));
        assert!(of("1 is damaged: log/0000000000000001.seg"), "{told:?}");
        assert!(of("1 is repaired: log/0000000000000001.seg") && of("1 is whole"), "{told:?}");
        assert!(!of("0 is damaged") && !of("2 is damaged"), "{told:?}");
    }
}

#[test]
fn rot_in_any_other_file_is_mended_too() {
    for file in ["log/manifest-0", "log/manifest-1", "log/local-0", "log/local-1", "log/mark-0"] {
        for then in ["", "at 6000 crash 1 keep-all 100\n"] {
            let rot = format!("at 5000 disk 1 media flip file={file} bit=333\n{then}");
            let told = told(&scenario(&format!("at 4000 stop 1 50\n{rot}")));
            assert!(told.iter().any(|line| line == "1 is whole"), "{file}: {told:?}");
        }
    }
}

#[test]
fn seeds_draw_every_fault_of_the_medium_and_mend_what_comes_of_it() {
    let (mut names, mut repaired) = (BTreeSet::new(), 0);
    for seed in 0..60 {
        for line in told(&Scenario::draw(seed)) {
            let mut words = line.split(' ').skip(1);
            names.extend(words.next().map(str::to_owned));
            repaired += usize::from(line.contains("is repaired: log/"));
        }
    }
    for name in ["flip", "zero", "garble", "unreadable", "misdirect", "stale", "lose-sync"] {
        assert!(names.contains(name), "{name} is drawn: {names:?}");
    }
    for name in ["lose-answer", "slow", "stuck"] {
        assert!(names.contains(name), "{name} is drawn: {names:?}");
    }
    assert!(repaired > 0, "something in a log was lost and is back");
}

#[test]
fn honest_replicas_go_on_beside_every_hostile_peer() {
    // Masses that are valid take long to play; `byzantine.rs` has them.
    let short = |attack: &Attack| !matches!(attack, Attack::Sybil | Attack::HugeCommits);
    for attack in Attack::ALL.into_iter().filter(short) {
        let steps = format!(
            "at 100 hostile 3 {attack} 9000 0 2\nat 3000 write 0 add 3 1\nat 3100 write 1 count 0 1\n\
             at 4000 crash 2 lose-all 900\nat 6000 write 2 field 4 1 9\n"
        );
        assert_eq!(run(&scenario(&steps)).broken, None, "{attack}");
    }
}

#[test]
fn a_segment_is_repaired_though_a_log_in_it_was_closed_since() {
    let scenario = Scenario::parse(
        "\
kdelta-sim 1\n\
         seed 2853\n\
         replicas 3\n\
         topology mesh\n\
         segment-bytes 65536\n\
         memory-bytes 4194304\n\
         places 0\n\
         sync-us 50 4000\n\
         delay-us 243 244\n\
         late-ppm 0\n\
         loss-ppm 0\n\
         reset-ppm 0\n\
         mangle-ppm 0\n\
         bytes-per-s 0\n\
         trouble-ms 1249\n\
         at 560 disk 2 drawn D17 3597393002\n\
         at 599 write 1 unfield 3 0\n\
         at 599 write 0 remove 0 3\n\
         at 605 copy 2 3\n\
         at 646 write 2 retype m 1 99904\n\
         at 675 write 3 field 0 2 916195\n\
         at 682 write 3 count 13 17\n\
         at 781 write 1 remove 13 2\n\
         at 1245 write 3 retype m 21 751664\n\
         at 1248 disk 0 drawn D9 1444983148\n\
",
    );
    let told = told(&scenario.unwrap());
    assert!(told.iter().any(|line| line.starts_with("0 is repaired: log/")), "{told:?}");
}

#[test]
fn a_damaged_sidecar_costs_no_commit_that_comes_later() {
    let scenario = "\
         kdelta-sim 1\nseed 2714\nreplicas 5\ntopology ring\nsegment-bytes 4096\n\
         memory-bytes 4194304\nplaces 1\nsync-us 50 51\ndelay-us 17534 17585\nlate-ppm 0\n\
         loss-ppm 0\nreset-ppm 0\nmangle-ppm 0\nbytes-per-s 0\ntrouble-ms 11333\n\
         at 63 write 4 remove 2 2\nat 459 write 2 count 7 -2\nat 485 write 4 count 4 9\n\
         at 524 save 0\nat 536 restore 0\nat 804 write 2 unfield 1 0\n\
         at 880 write 1 retype m 9 544196\nat 1252 write 3 bytes 2 10\n\
         at 1361 write 1 count 10 -6\nat 1366 wipe 3\nat 1567 write 0 remove 6 0\n\
         at 2442 write 3 remove 5 4\nat 2543 write 1 unfield 8 2\nat 2544 copy 2 5\n\
         at 3026 save 4\nat 3029 restore 4\nat 3033 write 5 field 0 5 293591\n\
         at 3054 save 3\nat 3132 restore 3\nat 3613 write 0 retype r 9 725027\n\
         at 3670 write 5 delete b 2\nat 3784 write 0 remove 2 3\n\
         at 3789 write 1 unfield 8 1\nat 4005 write 1 retype c 1 600750\n\
         at 4031 write 4 bytes 2 1\nat 4419 write 0 retype s 6 984159\n\
         at 4569 write 5 bytes 3 28\nat 4588 write 4 field 10 1 790180\n\
         at 4666 write 2 count 0 60\nat 4777 write 1 remove 2 5\nat 4820 write 5 remove 0 5\n\
         at 4837 write 0 retype m 4 57531\nat 4839 write 0 remove 8 2\n\
         at 8018 disk 3 media flip file=index/0000000000000001.six bit=30579\n\
         at 9620 write 2 count 10 -27\n\
         at 9942 write 0 retype s 10 325066\nat 10024 write 1 field 0 1 440574\n\
         at 10407 write 0 count 2 28\nat 10457 write 2 remove 8 5\n\
         at 10571 write 2 field 0 5 20870\nat 10824 write 1 retype r 1 409981\n\
         at 11080 write 2 field 8 4 4623\nat 11118 write 2 remove 7 2\n\
         at 11243 write 3 bytes 0 11\nat 11265 write 0 retype b 1 312753\n\
         at 11332 write 2 unfield 8 2\n";
    let told = told(&Scenario::parse(scenario).unwrap());
    assert!(told.iter().any(|line| line.starts_with("3 is damaged: index/")), "{told:?}");
    assert!(told.iter().any(|line| line == "3 is whole"), "{told:?}");
}

#[test]
fn news_pass_a_narrow_link_though_there_was_a_large_branch() {
    let scenario = "\
         kdelta-sim 1\nseed 1296\nreplicas 6\ntopology ring\nsegment-bytes 65536\n\
         memory-bytes 4194304\nplaces 1\nsync-us 50 4000\ndelay-us 1020 4076\nlate-ppm 0\n\
         loss-ppm 0\nreset-ppm 0\nmangle-ppm 0\nbytes-per-s 27564\ntrouble-ms 1540\n\
         at 303 save 5\nat 310 write 5 add 3 1\nat 323 write 3 put 1 294240\n\
         at 328 restore 5\nat 1393 write 5 add 2 4\nat 1539 write 5 bytes 0 178592\n";
    assert_eq!(run(&Scenario::parse(scenario).unwrap()).broken, None);
}

#[test]
fn a_segment_that_is_cut_short_or_gone_comes_back_from_peers() {
    let mut met = BTreeSet::new();
    for number in 0..12 {
        let steps = format!("at 5000 disk 1 lost {number} 500\n");
        let told = told(&scenario(&steps));
        met.extend(told.iter().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)));
        assert!(told.iter().any(|line| line.starts_with("1 is damaged: log/")), "{told:?}");
        assert!(told.iter().any(|line| line == "1 is whole"), "{told:?}");
    }
    assert!(met.contains("cut") && met.contains("gone"), "{met:?}");
}

#[test]
fn an_older_list_of_segments_that_is_whole_is_no_damage() {
    // The list that is written after the image was saved goes back to what it was.
    let steps = "at 2287 disk 2 drawn D9 3363190554\nat 2457 stop 2 2388\n\
         at 2553 write 1 bytes 6 8\nat 5480 disk 2 drawn D9 1008413914\n";
    let text =
        format!("kdelta-sim 1\nseed 2433\nreplicas 3\ntopology star\ntrouble-ms 5481\n{steps}");
    let told = told(&Scenario::parse(&text).unwrap());
    assert!(told.iter().any(|line| line.starts_with("2 revert file=log/manifest-")), "{told:?}");
}

#[test]
fn strangers_come_in_by_good_tickets_alone() {
    for (tickets, inside) in [
        ("at 100 ticket 0 3 good\n", true),
        ("at 100 ticket 0 3 forged\nat 200 ticket 1 3 expired\n", false),
        ("at 100 ticket 0 3 forged\nat 900 ticket 0 3 good\n", true),
        ("at 50 ticket 0 4 good\nat 5000 ticket 0 3 again\n", false),
        ("at 90 disk 0 power-off 0 lose-all 50\nat 100 ticket 0 3 good\n", false),
        ("at 90 disk 3 power-off 1 lose-all 50\nat 100 ticket 0 3 good\n", true),
        ("at 100 ticket 0 3 good\nat 101 crash 0 lose-all 50\nat 900 crash 3 torn-512 9\n", true),
    ] {
        let head = "kdelta-sim 1\nseed 5\nreplicas 5\nstranger 3\nstranger 4\ntrouble-ms 95000\n";
        let writes = "at 10 write 0 count 0 5\nat 20 write 1 put 1 7\nat 90000 write 3 count 0 2\n";
        let text = format!("{head}{writes}{tickets}");
        let (outcome, trace) = run_traced(&Scenario::parse(&text).unwrap(), Keep::All);
        assert_eq!(outcome.broken, None, "{tickets}");
        // Who is outside has nowhere to write.
        let wrote = trace
            .entries()
            .iter()
            .any(|entry| entry.replica == Some(3) && matches!(entry.what, What::Requested { .. }));
        assert_eq!(wrote, inside, "{tickets}");
    }
}

#[test]
fn commits_beside_a_fork_are_whole_after_a_repair() {
    for text in [
        include_str!("scenarios/rot_beside_a_fork.txt"),
        include_str!("scenarios/set_aside_beside_a_fork.txt"),
    ] {
        let told = told(&Scenario::parse(text).unwrap());
        assert!(told.iter().any(|line| line.ends_with(" is whole")), "{told:?}");
    }
}

/// Plays a scenario in which something was broken once.
fn assert_holds(text: &str) {
    assert_eq!(run(&Scenario::parse(text).unwrap()).broken, None);
}

#[test]
fn both_sides_of_a_fork_may_lie_before_its_proof() {
    assert_holds(include_str!("scenarios/both_sides_before_a_proof.txt"));
}

#[test]
fn what_was_said_of_one_disk_is_not_held_against_another() {
    assert_holds(include_str!("scenarios/repaired_before_it_was_restored.txt"));
}

#[test]
fn who_starts_on_a_read_only_disk_says_hello() {
    assert_holds(include_str!("scenarios/started_on_a_read_only_disk.txt"));
}

#[test]
fn what_cannot_be_read_without_power_is_not_lost() {
    assert_holds(include_str!("scenarios/power_off_while_starting.txt"));
}

#[test]
fn what_is_read_again_after_the_clock_went_back_is_not_new() {
    assert_holds(include_str!("scenarios/read_again_after_the_clock_went_back.txt"));
}

#[test]
fn a_branch_counts_no_more_if_what_builds_upon_it_is_lost_or_refused() {
    assert_holds(include_str!("scenarios/sealed_before_what_builds_upon_a_branch.txt"));
    assert_holds(include_str!("scenarios/full_before_what_builds_upon_a_branch.txt"));
    assert_holds(include_str!("scenarios/refused_beside_a_branch_by_a_failing_disk.txt"));
}

#[test]
fn an_index_that_is_gone_though_the_disk_said_nothing_is_built_anew() {
    assert_holds(include_str!("scenarios/removed_without_an_answer.txt"));
    assert_holds(include_str!("scenarios/repaired_without_an_answer.txt"));
}

#[test]
fn a_proof_that_was_lost_comes_again() {
    assert_holds(include_str!("scenarios/a_proof_was_lost.txt"));
}

#[test]
fn what_is_set_aside_is_not_built_upon_the_other_side_of_a_fork() {
    assert_holds(include_str!("scenarios/the_other_side_came_with_a_repair.txt"));
}

#[test]
fn what_was_acknowledged_is_not_lost_in_a_repair_though_its_log_is_closed() {
    assert_holds(include_str!("scenarios/set_aside_and_then_closed.txt"));
    assert_holds(include_str!("scenarios/another_in_the_place_of_what_was_set_aside.txt"));
}

#[test]
fn what_is_written_beside_a_list_that_was_not_read_once_is_kept() {
    assert_holds(include_str!("scenarios/a_list_that_was_not_read_once.txt"));
}

#[test]
fn what_a_failing_disk_moves_beside_a_fork_names_what_it_did() {
    assert_holds(include_str!("scenarios/moved_beside_a_fork.txt"));
}

#[test]
fn a_clean_mark_that_went_back_promises_less_and_is_no_damage() {
    assert_holds(include_str!("scenarios/a_mark_that_went_back.txt"));
}

#[test]
fn names_of_branches_are_not_taken_for_names_in_records() {
    assert_holds(include_str!("scenarios/a_branch_beside_what_is_told.txt"));
}

#[test]
fn the_last_copy_of_what_a_stranger_has_alone_is_spared() {
    assert_holds(include_str!("scenarios/a_stranger_has_the_last_copy_of_its_own.txt"));
}

#[test]
fn a_disk_that_lied_is_replaced_though_another_lied_too() {
    assert_holds(include_str!("scenarios/lost_by_a_lie_beside_another.txt"));
}

#[test]
fn a_seal_that_is_not_synced_may_follow_a_mark() {
    assert_holds(include_str!("scenarios/sealing_failed_after_a_mark.txt"));
}

#[test]
fn what_a_damaged_replica_wrote_ahead_of_its_time_is_waited_for() {
    assert_holds(include_str!("scenarios/ahead_of_time_and_unreadable.txt"));
}

#[test]
fn who_could_not_read_all_when_it_was_opened_says_so() {
    assert_holds(include_str!("scenarios/no_state_after_a_glitch.txt"));
}

#[test]
fn rot_above_all_marks_is_not_told_from_a_torn_end() {
    assert_holds(include_str!("scenarios/rot_above_all_marks.txt"));
}

#[test]
fn what_nobody_had_who_helped_in_a_repair_is_looked_for_in_the_end() {
    assert_holds(include_str!("scenarios/repaired_by_who_lacks_the_same.txt"));
    assert_holds(include_str!("scenarios/stopped_while_another_is_repaired.txt"));
}

#[test]
fn what_a_repair_brought_that_did_not_end_is_read_as_it_was_written() {
    assert_holds(include_str!("scenarios/ended_by_a_stop_beside_a_fork.txt"));
}

#[test]
fn a_log_is_closed_no_more_whose_proof_went_with_the_power() {
    assert_holds(include_str!("scenarios/a_proof_went_with_the_power.txt"));
}

#[test]
fn what_could_not_be_read_is_read_again_before_its_log_is_closed() {
    assert_holds(include_str!("scenarios/closed_while_unread.txt"));
}

#[test]
fn what_vouches_for_a_branch_is_written_before_it() {
    assert_holds(include_str!("scenarios/unvouched_beside_a_failing_disk.txt"));
}

#[test]
fn a_repair_takes_along_what_is_built_upon_and_what_vouches_for_it() {
    assert_holds(include_str!("scenarios/a_repair_that_lacks_what_nobody_names.txt"));
}

#[test]
fn what_no_list_of_segments_tells_any_more_is_told_and_written_anew() {
    assert_holds(include_str!("scenarios/neither_list_is_good.txt"));
}

#[test]
fn a_commit_that_is_larger_than_the_cache_is_shown_whole() {
    assert_holds(include_str!("scenarios/larger_than_the_cache.txt"));
}

#[test]
fn a_repair_that_a_disk_broke_off_is_done_by_the_next() {
    assert_holds(include_str!("scenarios/a_repair_that_was_refused.txt"));
}

#[test]
fn a_segment_that_no_list_says_is_sealed_may_end_before_its_seal() {
    assert_holds(include_str!("scenarios/sealed_on_no_list.txt"));
}

#[test]
fn who_could_not_join_a_space_on_a_read_only_disk_does_so_later() {
    assert_holds(include_str!("scenarios/joined_on_a_read_only_disk.txt"));
}

#[test]
fn an_owner_that_lost_its_grants_gets_them_back_from_whom_it_does_not_know() {
    assert_holds(include_str!("scenarios/an_owner_that_lost_its_grants.txt"));
}

#[test]
fn a_backup_of_what_had_rotted_lacks_what_a_repair_asked_for() {
    assert_holds(include_str!("scenarios/set_back_to_what_had_rotted.txt"));
}

#[test]
fn what_nobody_has_after_a_repair_is_lost_where_nothing_is_spared() {
    assert_holds(include_str!("scenarios/lost_where_nothing_is_spared.txt"));
}

#[test]
fn what_waits_for_its_time_is_pushed_though_its_author_lost_it() {
    assert_holds(include_str!("scenarios/lost_where_it_was_written_ahead_of_time.txt"));
}

#[test]
fn a_segment_that_is_gone_and_comes_back_with_a_backup_is_listed_as_it_is() {
    assert_holds(include_str!("scenarios/gone_and_back_with_a_backup.txt"));
}

#[test]
fn what_reads_badly_when_its_segment_ends_is_not_sealed_for_good() {
    assert_holds(include_str!("scenarios/rotten_when_it_was_sealed.txt"));
}

#[test]
fn who_waits_for_the_time_of_a_commit_tells_those_who_have_only_it() {
    assert_holds(include_str!("scenarios/its_time_comes_beside_a_copy.txt"));
}

#[test]
fn a_branch_is_kept_though_what_builds_upon_it_cannot_be_read_yet() {
    assert_holds(include_str!("scenarios/unread_upon_a_branch.txt"));
}

#[test]
fn what_a_copy_wrote_is_not_built_upon_by_what_followed_the_own() {
    assert_holds(include_str!("scenarios/a_copy_wrote_what_was_set_aside.txt"));
}

#[test]
fn what_only_a_later_index_knows_vouches_for_a_log_after_a_repair() {
    assert_holds(include_str!("scenarios/only_a_later_index_knew_what_vouches.txt"));
}

#[test]
fn who_begins_anew_beside_its_copy_is_brought_to_it() {
    assert_holds(include_str!("scenarios/anew_where_nobody_dials.txt"));
}

#[test]
fn news_from_a_clock_that_was_ahead_reach_everybody_when_their_time_comes() {
    assert_holds(include_str!("scenarios/all_clocks_were_ahead.txt"));
}

#[test]
fn what_is_emptied_on_the_way_is_taken_from_others() {
    assert_holds(include_str!("scenarios/emptied_on_the_way.txt"));
}

#[test]
fn seats_that_are_left_empty_part_nobody() {
    for (topology, absent) in [("line", 1), ("line", 2), ("ring", 1), ("ring", 3), ("star", 0)] {
        let head = format!("kdelta-sim 1\nseed 5\nreplicas 4\nabsent {absent}\n");
        let text = format!("{head}topology {topology}\ntrouble-ms 99\nat 9 write 3 count 0 1\n");
        let text = if absent == 3 { text.replace("write 3", "write 0") } else { text };
        assert_holds(&text);
    }
}
