//! The power is cut at boundaries of scripted scenarios, and the checks notice what they should.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use kdelta_sim::crashes::{self, Flaw, Limits, ScenarioReport};

fn text(reports: &[ScenarioReport]) -> String {
    let mut text = String::new();
    crashes::report(reports, &mut text).unwrap();
    text
}

fn flawed(flaw: Flaw, name: &str) -> (Limits, ScenarioReport) {
    let limits = Limits { depth: 1, flaw: Some(flaw), ..Limits::default() };
    let report = crashes::run(Some(&[name]), &limits).pop().unwrap();
    (limits, report)
}

#[test]
fn a_sample_of_the_boundaries_of_every_scenario_is_survived() {
    let limits = Limits { every: 61, depth: 2, ..Limits::default() };
    let reports = crashes::run(None, &limits);
    assert!(reports.len() >= 20);
    let text = text(&reports);
    for report in &reports {
        assert_eq!(report.failures, [], "{text}");
        assert!(report.boundaries > 0 && report.states >= report.boundaries * 10, "{text}");
    }
}

#[test]
#[ignore = "long: every boundary of every scenario, in an optimised build"]
fn every_boundary_of_every_scenario_is_survived() {
    let mut reports = Vec::new();
    for name in crashes::names() {
        let report = crashes::run(Some(&[name]), &Limits::default());
        println!("{}", text(&report).lines().next().unwrap_or_default());
        reports.extend(report);
    }
    let text = text(&reports);
    println!("{text}");
    assert!(reports.iter().all(|report| report.failures.is_empty()), "{text}");
    assert!(reports.iter().all(|report| report.boundaries == report.boundaries_all), "{text}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed_and_seen_again_when_replayed() {
    let (limits, report) = flawed(Flaw::SyncsLie(7), "durable-puts");
    let lost = report.failures.iter().find(|f| f.broken.contains("what is durable is there"));
    let lost = lost.unwrap_or_else(|| panic!("{:?}", report.failures));
    let mode = lost.mode.unwrap();
    let again = crashes::replay(lost.scenario, lost.boundary, mode, lost.seed, &limits);
    assert_eq!(again.as_ref(), Some(lost));
    let honest = Limits { flaw: None, ..limits };
    let none = crashes::replay(lost.scenario, lost.boundary, mode, lost.seed, &honest);
    assert_eq!(none, None);
}

#[test]
fn an_acknowledgement_before_the_sync_is_noticed() {
    let (_, report) = flawed(Flaw::AckBeforeSync, "buffered-puts");
    let lost = report.failures.iter().any(|f| f.broken.contains("what is durable is there"));
    assert!(lost, "{:?}", report.failures);
}

#[test]
fn what_a_peer_saw_and_a_crash_undid_is_noticed() {
    let (_, report) = flawed(Flaw::SyncsLie(5), "both-ways");
    let broken = |law: &str| report.failures.iter().any(|failure| failure.broken.contains(law));
    assert!(broken("what is durable is there") || broken("what a peer saw is there"));
    assert!(report.failures.iter().all(|failure| failure.mode.is_some()), "the script goes on");
}

#[test]
fn the_same_limits_give_the_same_report() {
    let limits = Limits { every: 9, ..Limits::default() };
    let names: &[&str] = &["crash-and-reopen", "both-ways"];
    assert_eq!(crashes::run(Some(names), &limits), crashes::run(Some(names), &limits));
    let other = Limits { seed: 1, ..limits.clone() };
    assert_ne!(crashes::run(Some(names), &limits), crashes::run(Some(names), &other));
}
