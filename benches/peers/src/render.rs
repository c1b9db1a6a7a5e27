//! The document: tables between markers, and plots, all from what the run kept.
//!
//! The prose of `docs/PERFORMANCE.md` is written by hand and stays; what lies between a line
//! `<!-- table: NAME -->` and the next `<!-- end -->` is replaced.

use std::fmt::Write as _;

use crate::engines::Kind;
use crate::figures::{Figure, Part, Run, docs};
use crate::work::{get, growth, history, import, open, put, space, sync};
use crate::{Outcome, Res, bars, machine, svg, syncs};

/// Renders the tables and the plots.
pub(crate) fn write(run: &Run) -> Outcome {
    let path = docs().join("PERFORMANCE.md");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(path, filled(&text, run)?)?;
    for (file, part, what, title) in plots() {
        let Some(part) = run.parts.get(part) else { continue };
        // Beside the raw stream's bar those of whoever syncs could not be told apart.
        let wanted = |it: &&Figure| it.what == what && it.who != sync::STREAM;
        let figures: Vec<&Figure> = part.figures.iter().filter(wanted).collect();
        if !figures.is_empty() {
            let picture = svg::bars(&title, &figures, part.quick);
            std::fs::write(docs().join("performance").join(file), picture)?;
        }
    }
    Ok(())
}

fn plots() -> Vec<(&'static str, &'static str, String, String)> {
    let plot =
        |file, part, what: &str, title: &str| (file, part, what.to_owned(), title.to_owned());
    vec![
        plot("put-1.svg", "put", "durable put, 1 thread", "Durable puts a second, 1 thread"),
        plot("put-16.svg", "put", "durable put, 16 threads", "Durable puts a second, 16 threads"),
        plot("buffered.svg", "put", put::NEW, "Buffered puts a second, new keys"),
        plot("hot.svg", "get", get::HOT, "Nanoseconds of a hot get"),
        plot("cold.svg", "get", get::COLD, "Nanoseconds of a cold get"),
        plot("open.svg", "open", open::KILLED, "Milliseconds to open after a kill"),
        plot("history.svg", "history", history::SPREAD, "Milliseconds for 1,000 versions of a key"),
        plot("space.svg", "space", space::DISK, "Bytes on disk a key"),
        plot("sync.svg", "sync", &sync::fresh_named(1), "Events a second to a fresh replica"),
        plot("growth-open.svg", "growth", "open", "Milliseconds to open, as the store grows"),
        plot("growth-put.svg", "growth", "buffered put", "Microseconds of a put, as it grows"),
        plot("growth-get.svg", "growth", "get, caches empty", "Microseconds of a get, as it grows"),
    ]
}

/// The text with all its tables replaced.
fn filled(text: &str, run: &Run) -> Res<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        let (before, marked) = rest.split_at(at);
        let (name, _) = marked[BEGIN.len()..].split_once(" -->").ok_or("a marker has no end")?;
        let end = marked.find(END).ok_or_else(|| format!("the table {name} has no end"))?;
        let body = table(name, run)?;
        write!(out, "{before}{BEGIN}{name} -->\n{body}{END}")?;
        rest = &marked[end + END.len()..];
    }
    Ok(out + rest)
}

const BEGIN: &str = "<!-- table: ";
const END: &str = "<!-- end -->";

fn table(name: &str, run: &Run) -> Res<String> {
    match name {
        "machine" => return Ok(machines(run)),
        "versions" => return Ok(versions()),
        "bars" => return Ok(markdown(&bars::lines(run))),
        _ => {}
    }
    let (part_name, whats) = contents(name)?;
    let Some(part) = run.parts.get(part_name) else {
        return Ok("Not measured yet.\n".to_owned());
    };
    let whats: Vec<&str> = match &whats {
        Some(whats) => whats.iter().map(String::as_str).collect(),
        None => part.whats(),
    };
    let of_logs = |figure: &Figure| growth::is_of_logs(&figure.who);
    let kept = match name {
        "growth-events" => only(part, |figure| !of_logs(figure)),
        "growth-logs" => only(part, of_logs),
        _ => part.clone(),
    };
    let part = &kept;
    let rows = if part_name == "limits" || whats.len() > 7 {
        down(part, &whats)
    } else {
        across(part, &whats)
    };
    Ok(format!("{}\n{}", caption(part), markdown(&rows)))
}

/// A part with some of its figures.
fn only(part: &Part, wanted: impl Fn(&Figure) -> bool) -> Part {
    let mut part = part.clone();
    part.figures.retain(wanted);
    part
}

/// Which part a table is of, and which of its figures; without them, all.
fn contents(name: &str) -> Res<(&'static str, Option<Vec<String>>)> {
    let these = |whats: &[&str]| Some(whats.iter().map(|what| (*what).to_owned()).collect());
    let synced = |what: &str| format!("{what}, with the last sync");
    Ok(match name {
        "put-durable" => {
            let batch = format!("durable batch of {} puts, 1 thread", put::BATCH);
            let threads = ["1 thread", "4 threads", "16 threads"];
            let threads = threads.iter().map(|threads| format!("durable put, {threads}"));
            ("put", Some(threads.chain([batch]).collect()))
        }
        "put-buffered" => ("put", these(&[put::NEW, put::HOT, put::COLD])),
        "put-synced" => ("put", Some([put::NEW, put::HOT, put::COLD].map(synced).to_vec())),
        "put-processor" => {
            let processor =
                [put::NEW, put::HOT, put::COLD].map(|what| format!("{what}, processor"));
            ("put", Some(processor.to_vec()))
        }
        "get" => ("get", these(&[get::HOT, get::COLD])),
        "open" => ("open", these(&[open::CLEAN, open::KILLED])),
        "open-ten" => {
            let ten = [open::CLEAN, open::KILLED].map(|what| format!("{}{what}", open::TEN));
            ("open", Some(ten.to_vec()))
        }
        "history" => ("history", these(&[history::SPREAD, history::ROW])),
        "import" => ("import", these(&[import::WHAT, import::BYTES])),
        "space" => ("space", None),
        "sync-fresh" => ("sync", Some([1, 100].map(sync::fresh_named).to_vec())),
        "sync-bytes" => {
            let bytes =
                [1, 100].map(|batch| format!("{}: bytes an event", sync::fresh_named(batch)));
            ("sync", Some(bytes.to_vec()))
        }
        "sync-short" => {
            let short =
                [sync::TRIPS, sync::OVERHEAD, sync::HEADERS, sync::CATCH_UP, sync::PUT, sync::SEEN];
            ("sync", these(&short))
        }
        "growth-events" | "growth-logs" => {
            let asked = growth::ASKED.map(|(what, _)| what);
            ("growth", these(&[&asked[..], &[growth::CATCH_UP]].concat()))
        }
        "simulator" => ("simulator", None),
        "limits" => ("limits", None),
        _ => return Err(format!("no table is called {name:?}").into()),
    })
}

fn caption(part: &Part) -> String {
    let mut text = String::new();
    if part.quick {
        text.push_str("**Quick run: small counts, for a first look only.** ");
    }
    let rounds = part.figures.iter().map(|figure| figure.rounds.len()).max().unwrap_or(0);
    let _ = write!(text, "Median of {rounds} rounds, {}", part.machine.date);
    let _ = write!(text, ", load {:.1} at the start, {:.0} s", part.machine.load, part.seconds);
    for (name, value) in &part.settings {
        let value = value.parse().map_or_else(|_| value.clone(), number);
        let _ = write!(text, "; {name}: {value}");
    }
    text + ".\n"
}

/// One column for each thing that was done, one row for each who did it.
fn across(part: &Part, whats: &[&str]) -> Vec<Vec<String>> {
    let mut whos = Vec::new();
    for figure in part.figures.iter().filter(|figure| whats.contains(&figure.what.as_str())) {
        if !whos.contains(&figure.who.as_str()) {
            whos.push(figure.who.as_str());
        }
    }
    let unit = |what: &&str| {
        let figure = part.figures.iter().find(|figure| figure.what == **what);
        figure.map_or("", |figure| figure.unit.as_str()).to_owned()
    };
    let mut head = vec![String::new()];
    head.extend(whats.iter().map(|what| format!("{what} ({})", unit(what))));
    let mut rows = vec![head];
    for who in whos {
        let cell = |what: &&str| {
            let of = |who: &str| part.figures.iter().find(|it| it.what == **what && it.who == who);
            of(who).map_or_else(|| "–".to_owned(), |figure| cell(figure, of("kdelta")))
        };
        rows.push(std::iter::once(who.to_owned()).chain(whats.iter().map(cell)).collect());
    }
    rows
}

/// One row for each figure.
fn down(part: &Part, whats: &[&str]) -> Vec<Vec<String>> {
    let mut rows = vec![["what", "who", "median"].map(str::to_owned).to_vec()];
    for figure in part.figures.iter().filter(|figure| whats.contains(&figure.what.as_str())) {
        let value = format!("{} {}", cell(figure, None), figure.unit);
        rows.push(vec![figure.what.clone(), figure.who.clone(), value]);
    }
    rows
}

/// A median, how far the rounds are apart, and how many times better kdelta is.
fn cell(figure: &Figure, kdelta: Option<&Figure>) -> String {
    let mut text = format!("{} ±{:.0} %", number(figure.median()), figure.spread() * 100.0);
    if let Some(kdelta) = kdelta.filter(|kdelta| kdelta.who != figure.who) {
        let ratio = match is_better_when_less(&figure.unit) {
            true => figure.median() / kdelta.median(),
            false => kdelta.median() / figure.median(),
        };
        let _ = write!(text, " ({ratio:.2}x)");
    }
    text
}

/// Whether less of a unit is better.
pub(crate) fn is_better_when_less(unit: &str) -> bool {
    ["ns", "µs", "ms", "bytes", "MiB", "round trips"].contains(&unit)
}

/// A number with three digits that count, or all before the point, in groups of three.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        _ if value.fract() == 0.0 => 0,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let (whole, part) = text.split_once('.').map_or((text.as_str(), None), |(w, p)| (w, Some(p)));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    part.map_or(grouped.clone(), |part| format!("{grouped}.{part}"))
}

fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

fn machines(run: &Run) -> String {
    let mut rows = vec![
        ["parts", "machine", "kernel", "files on", "kdelta at", "built with"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, part) in &run.parts {
        let it = &part.machine;
        let machine = format!("{}, {} cores, {} GiB", it.cpu, it.cores, it.memory_gib);
        let row = [&machine, &it.kernel, &it.file_system, &it.commit, &it.rustc];
        let row = row.map(|text| text.replace('|', "/"));
        if let Some(old) = rows.iter_mut().find(|old| old[1..] == row) {
            old[0] = format!("{}, {name}", old[0]);
        } else {
            rows.push(std::iter::once(name.clone()).chain(row).collect());
        }
    }
    markdown(&rows)
}

/// Everyone's version, durability and kind.
fn versions() -> String {
    let mut rows =
        vec![["who", "version", "durable means", "buffered means"].map(str::to_owned).to_vec()];
    for kind in Kind::ALL {
        let (package, durable, buffered) = kind.settings();
        let version = package.map_or_else(library, machine::version);
        rows.push([kind.name(), &version, durable, buffered].map(str::to_owned).to_vec());
    }
    for kind in syncs::Kind::ALL {
        let version = machine::version(kind.name());
        rows.push([kind.name(), &version, "–", kind.durability()].map(str::to_owned).to_vec());
    }
    for package in ["dashmap", "papaya", "quinn"] {
        rows.push([package, &machine::version(package), "–", "–"].map(str::to_owned).to_vec());
    }
    markdown(&rows)
}

/// The version of the system's RocksDB, where the system can tell.
fn library() -> String {
    let version = machine::said("dpkg-query", &["-W", "-f", "${Version}", "librocksdb-dev"]);
    format!("{version} (the system's library)")
}
