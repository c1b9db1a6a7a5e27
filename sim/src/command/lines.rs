//! What commands print as JSON: one object a line.

use std::fmt::{Error, Write};

use super::Sums;
use crate::check::Broken;
use crate::crashes::ScenarioReport;
use crate::spread::{Figures, Setting};
use crate::trace::json::{list, string};
use crate::{Outcome, Scenario};

/// A scenario that was played: what came of it, and all of it if it failed.
pub(super) fn played(scenario: &Scenario, outcome: &Outcome) -> Result<String, Error> {
    let Outcome { digest, events, virtual_ms, broken } = outcome;
    let mut out = String::new();
    write!(out, "{{\"seed\":{},\"digest\":\"{:032x}\"", scenario.seed, digest.0)?;
    write!(out, ",\"events\":{events},\"virtual_ms\":{virtual_ms},\"failed\":")?;
    match broken {
        None => out.push_str("null"),
        Some(broken) => {
            out.push_str("{\"invariant\":");
            string(&mut out, broken.invariant)?;
            out.push_str(",\"seen\":");
            string(&mut out, &broken.seen)?;
            write!(out, ",\"at_ms\":{virtual_ms},\"scenario\":")?;
            string(&mut out, &scenario.to_string())?;
            out.push('}');
        }
    }
    out.push_str("}\n");
    Ok(out)
}

/// The end of a batch. Marks are null where this build counts none.
pub(super) fn sums(sums: &Sums, marks_missed: Option<&[&str]>) -> Result<String, Error> {
    let Sums { played, failed, events, virtual_ms, digest, .. } = sums;
    let mut out = format!("{{\"seeds\":{played},\"failed\":");
    list(&mut out, failed, |out, seed| write!(out, "{seed}"))?;
    out.push_str(",\"marks_missed\":");
    match marks_missed {
        None => out.push_str("null"),
        Some(missed) => list(&mut out, missed, |out, name| string(out, name))?,
    }
    write!(out, ",\"events\":{events},\"virtual_ms\":{virtual_ms},\"digest\":\"{digest:032x}\"}}")?;
    out.push('\n');
    Ok(out)
}

/// A scenario that was not played.
pub(super) fn scenario(scenario: &Scenario) -> Result<String, Error> {
    let mut out = format!("{{\"seed\":{},\"scenario\":", scenario.seed);
    string(&mut out, &scenario.to_string())?;
    out.push_str("}\n");
    Ok(out)
}

/// A crash scenario that was played.
pub(super) fn crashes(report: &ScenarioReport) -> Result<String, Error> {
    let ScenarioReport { boundaries, states, distinct, nested, recoveries, .. } = report;
    let mut out = "{\"name\":".to_owned();
    string(&mut out, report.name)?;
    write!(out, ",\"boundaries\":{boundaries},\"states\":{states},\"distinct\":{distinct}")?;
    write!(out, ",\"nested\":{nested},\"recoveries\":{recoveries}")?;
    write!(out, ",\"meetings\":{},\"failed\":", report.meetings)?;
    list(&mut out, &report.failures, |out, failure| string(out, &failure.to_string()))?;
    out.push_str("}\n");
    Ok(out)
}

/// How commits spread: figures, and what does not hold of them.
pub(super) fn spread(
    setting: &Setting,
    figures: Option<&Figures>,
    broken: Option<&Broken>,
) -> Result<String, Error> {
    let Setting { seed, replicas, loss_ppm, commits } = setting;
    let mut out = format!("{{\"seed\":{seed},\"replicas\":{replicas},\"loss_ppm\":{loss_ppm}");
    write!(out, ",\"commits\":{commits}")?;
    if let Some(figures) = figures {
        write!(out, ",\"copies_milli\":{}", figures.copies_milli())?;
        write!(out, ",\"hops_milli\":{}", figures.hops_milli())?;
        write!(out, ",\"hops_max\":{},\"last_ms\":{}", figures.hops_max, figures.last_ms)?;
    }
    out.push_str(",\"failed\":");
    match broken {
        None => out.push_str("null"),
        Some(broken) => string(&mut out, &broken.to_string())?,
    }
    out.push_str("}\n");
    Ok(out)
}

/// Something that has a name.
pub(super) fn listed(kind: &str, name: &str, what: &str) -> Result<String, Error> {
    let mut out = "{\"kind\":".to_owned();
    string(&mut out, kind)?;
    out.push_str(",\"name\":");
    string(&mut out, name)?;
    out.push_str(",\"what\":");
    string(&mut out, what)?;
    out.push_str("}\n");
    Ok(out)
}
