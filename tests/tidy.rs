//! The house rules that a compiler does not hold: floors, sizes and words.
//!
//! Reads the sources as text. The scan of functions counts braces outside strings and comments;
//! it needs code that `cargo fmt` has seen, which CI checks first.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Which floors a floor may name, besides itself. A floor that is not listed fails the test.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("causal", &["base"]),
    ("crdt", &["base", "causal"]),
    ("event", &["base", "causal", "crdt"]),
    ("log", &["base"]),
    ("store", &["base", "causal", "crdt", "event", "log"]),
    ("sync", &["base", "causal", "event"]),
    ("node", &["base", "causal", "crdt", "event", "log", "store", "sync"]),
];

/// What the engine must not name: it takes time, randomness, disk and network as arguments.
const ENGINE_BANS: &[&str] = &[
    "HashMap",
    "HashSet",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::{",
    "std::fs",
    "std::thread",
    "std::net",
    "std::env",
    "std::process",
    "thread_local!",
    "getrandom",
    "tokio",
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with one of the `endings`, sorted.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                found.extend(files(&path, endings));
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    let mut all = files(&root().join("src"), &[".rs"]);
    for folder in ["tests", "benches", "examples", "sim"] {
        all.extend(files(&root().join(folder), &[".rs"]));
    }
    assert!(all.len() > 10, "the scan found {} files: it looks in the wrong place", all.len());
    all
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn check(problems: Vec<String>) {
    let mut text = String::new();
    for problem in &problems {
        writeln!(text, "  {problem}").unwrap();
    }
    assert!(problems.is_empty(), "{} problems:\n{text}", problems.len());
}

/// The text without comments and the contents of strings and characters; lines stay lines.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        rest = &rest[skipped..];
    }
    out
}

/// The number of hashes if `rest` begins with a raw string.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|b| *b == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Whether a `'` begins a character and not a lifetime.
fn is_char(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

/// The length of a quoted literal with its quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The identifiers that `code` names directly under the crate: `crate::x` and `crate::{x, y::z}`.
fn crate_paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut word, mut first) = (1, String::new(), true);
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => first = true,
                    c if first && (c.is_alphanumeric() || c == '_') => {
                        word.push(c);
                        continue;
                    }
                    _ => {}
                }
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                    first = c == ',' && depth == 1;
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
        }
    }
    found
}

#[test]
fn a_floor_names_only_floors_below_it() {
    let engine = root().join("src/engine/src");
    let names: Vec<&str> = FLOORS.iter().map(|(floor, _)| *floor).collect();
    let mut problems = Vec::new();
    for path in files(&engine, &[".rs"]) {
        let relative = path.strip_prefix(&engine).unwrap();
        let floor = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        if ["lib.rs", "limits.rs"].contains(&floor) {
            continue;
        }
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == floor) else {
            problems.push(format!("{}: floor {floor:?} is not in the table", name(&path)));
            continue;
        };
        for used in crate_paths(&code_only(&read(&path))) {
            let is_floor = names.contains(&used.as_str());
            if is_floor && used != floor && !allowed.contains(&used.as_str()) {
                problems.push(format!("{}: {floor} must not name {used}", name(&path)));
            }
        }
    }
    check(problems);
}

#[test]
fn the_command_line_sees_only_the_public_face() {
    let mut problems = Vec::new();
    for path in files(&root().join("src/host"), &[".rs"]) {
        if crate_paths(&code_only(&read(&path))).iter().any(|used| used == "cli") {
            problems.push(format!("{}: host must not name cli", name(&path)));
        }
    }
    for path in files(&root().join("src/cli"), &[".rs"]) {
        let code = code_only(&read(&path));
        if crate_paths(&code).iter().any(|used| used == "host" || used == "engine") {
            problems.push(format!("{}: name it through `kdelta::`", name(&path)));
        }
        if code.contains("kdelta_engine") {
            problems.push(format!("{}: the engine is reached through `kdelta`", name(&path)));
        }
    }
    check(problems);
}

#[test]
fn the_engine_has_no_environment() {
    let mut problems = Vec::new();
    for path in files(&root().join("src/engine/src"), &[".rs"]) {
        let code = code_only(&read(&path));
        for ban in ENGINE_BANS.iter().filter(|ban| code.contains(**ban)) {
            problems.push(format!("{}: names {ban}", name(&path)));
        }
        let globals = ["static ", "pub static ", "pub(crate) static "];
        // The choice of a mutant and the counts of marks, each under a feature that is off.
        let for_simulations = ["base/mutant.rs", "base/mark.rs"].iter().any(|f| path.ends_with(f));
        let globals = if for_simulations { &globals[1..] } else { &globals[..] };
        for line in code.lines().filter(|line| globals.iter().any(|g| line.trim().starts_with(g))) {
            problems.push(format!("{}: a global: {}", name(&path), line.trim()));
        }
    }
    check(problems);
}

#[test]
fn files_and_lines_are_short() {
    let mut problems = Vec::new();
    for path in sources() {
        let text = read(&path);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", name(&path)));
        }
        // What a program prints is pinned in literals as it is, however wide.
        let code = code_only(&text);
        for (at, (line, code)) in text.lines().zip(code.lines()).enumerate() {
            let comment = line.trim_start().starts_with("//") && !line.contains("http");
            let columns = if comment { line } else { code }.chars().count();
            if columns > LINE_COLUMNS_MAX {
                problems.push(format!("{}:{}: {columns} columns", name(&path), at + 1));
            }
        }
    }
    check(problems);
}

#[test]
fn functions_are_short() {
    let mut problems = Vec::new();
    for path in sources() {
        for (line, length) in function_lengths(&code_only(&read(&path))) {
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{line}: a function of {length} lines", name(&path)));
            }
        }
    }
    check(problems);
}

/// First line and length of every function that has a body, in lines that carry code: pinned
/// output and comments make no function hard to follow.
fn function_lengths(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = code.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let named = words.iter().position(|word| *word == "fn");
        let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "async", "fn"];
        let Some(named) = named else { continue };
        if !words[..named].iter().all(|word| modifiers.contains(word)) {
            continue;
        }
        let (mut depth, mut inner, mut opened) = (0_i64, 0_i64, false);
        'body: for (further, line) in lines[at..].iter().enumerate() {
            for c in line.chars() {
                match c {
                    '{' => (depth, opened) = (depth + 1, true),
                    '}' => depth -= 1,
                    '(' | '[' => inner += 1,
                    ')' | ']' => inner -= 1,
                    ';' if !opened && inner == 0 => break 'body,
                    _ => {}
                }
                if opened && depth == 0 {
                    let body = &lines[at..=at + further];
                    let carry = |line: &&&str| !line.trim().is_empty();
                    found.push((at + 1, body.iter().filter(carry).count()));
                    break 'body;
                }
            }
        }
    }
    found
}

#[test]
fn nothing_is_left_half_done() {
    let marks = ["FIX", "ME"].concat();
    let macros = [["to", "do!("].concat(), ["unimpl", "emented!("].concat()];
    let mut problems = Vec::new();
    for path in sources() {
        let text = read(&path);
        if text.contains(&marks) {
            problems.push(format!("{}: {marks}", name(&path)));
        }
        for found in macros.iter().filter(|found| code_only(&text).contains(found.as_str())) {
            problems.push(format!("{}: {found}…)", name(&path)));
        }
    }
    check(problems);
}

#[test]
fn no_text_names_the_place_where_it_was_written() {
    let places: Vec<String> = ["work", "root", "home"].iter().map(|d| format!("/{d}/")).collect();
    let mut all = sources();
    all.extend(files(&root().join("docs"), &[".md"]));
    all.extend(files(&root(), &[".toml"]).into_iter().filter(|p| !name(p).contains("target")));
    for file in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".ci/run"] {
        all.push(root().join(file));
    }
    let mut problems = Vec::new();
    for path in all {
        // Domains of hashes look like places, and are none.
        let text = read(&path).replace("kdelta/root/1", "");
        for place in places.iter().filter(|place| text.contains(place.as_str())) {
            problems.push(format!("{}: names {place}", name(&path)));
        }
    }
    check(problems);
}

#[test]
fn every_module_says_what_it_is() {
    let mut problems = Vec::new();
    for path in files(&root().join("src"), &[".rs"]) {
        // The module that has the tests says what they are about, where its name does not.
        let tests = name(&path).contains("/tests/") || name(&path).ends_with("/tests.rs");
        if !tests && !read(&path).starts_with("//! ") {
            problems.push(format!("{}: begins without a module comment", name(&path)));
        }
    }
    check(problems);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut problems = Vec::new();
    let mut pages = files(&root().join("docs"), &[".md"]);
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    for page in pages {
        let text = read(&page);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !page.parent().unwrap().join(target).exists() {
                problems.push(format!("{}: leads to {target}, which is not there", name(&page)));
            }
        }
    }
    check(problems);
}

#[test]
fn the_simulator_has_the_lints_of_the_workspace_but_for_one() {
    let table = |file: &str, head: &str| -> Vec<String> {
        let text = read(&root().join(file));
        let from = text.find(&format!("[{head}rust]")).unwrap();
        let lints = text[from..].lines().filter(|line| !line.starts_with('#'));
        let lints = lints.take_while(|line| !line.starts_with("[profile"));
        let lints = lints.filter(|line| !line.is_empty() && !line.starts_with("unsafe_code"));
        lints.map(|line| line.replace(head, "lints.")).collect()
    };
    assert_eq!(table("sim/Cargo.toml", "lints."), table("Cargo.toml", "workspace.lints."));
    assert!(read(&root().join("sim/src/lib.rs")).contains("#![forbid(unsafe_code)]"));
}

#[test]
fn the_scan_sees_what_it_should() {
    let code = "use crate::{base::Key, limits, store::{A, B}};\nfn f() { crate::event::x(); }";
    assert_eq!(crate_paths(code), ["base", "limits", "store", "event"]);
    let text = "fn a() { // {\n let s = \"{\\\"{\"; let c = '{'; let r = r#\"{\"#;\n}\nfn b<'a>();";
    assert_eq!(function_lengths(&code_only(text)), [(1, 3)]);
    assert!(code_only("let x = 1; /* HashMap */ \"HashMap\"").find("HashMap").is_none());
}
