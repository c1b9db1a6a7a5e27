//! The power is cut at every boundary of scripted scenarios.

use kdelta_sim::crashes::{self, Flaw, Limits};

fn text(reports: &[crashes::ScenarioReport]) -> String {
    let mut text = String::new();
    crashes::report(reports, &mut text).unwrap();
    text
}

#[test]
#[ignore = "long: every boundary of every scenario"]
fn every_boundary_of_every_scenario_is_survived() {
    let reports = crashes::run(None, &Limits::default());
    let text = text(&reports);
    println!("{text}");
    assert!(reports.iter().all(|report| report.failures.is_empty()), "{text}");
    assert!(reports.iter().all(|report| report.boundaries == report.boundaries_all), "{text}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let limits = Limits { flaw: Some(Flaw::SyncsLie(7)), ..Limits::default() };
    let reports = crashes::run(Some(&["durable-puts"]), &limits);
    assert!(!reports[0].failures.is_empty());
}
