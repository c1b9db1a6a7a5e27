//! The binary as a shell runs it: words, streams and exit statuses, without a store.

#![expect(
    clippy::expect_used,
    reason = "a test may panic; clippy.toml grants that to test functions, not to their helpers"
)]

use std::io::Read as _;
use std::process::{Command, Output, Stdio};

/// The binary with an empty home of its own.
fn kdelta(home: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kdelta"));
    command.env_clear().env("HOME", home.path()).current_dir(home.path()).stdin(Stdio::null());
    command
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn run(home: &tempfile::TempDir, words: &[&str]) -> Output {
    kdelta(home).args(words).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn the_version_names_format_and_protocol() {
    let output = run(&home(), &["--version"]);
    assert!(output.status.success());
    let version = format!("kdelta {} (format 1, protocol 1)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&output.stdout), version);
}

#[test]
fn wrong_words_are_one_line_on_stderr_and_exit_2() {
    let home = home();
    for (words, near) in [
        (&["set", "k", "v"][..], "did you mean: put k v"),
        (&["gte", "k"], "did you mean: get"),
        (&["get", "k", "--jsno"], "did you mean: --json"),
        (&["put", "k"], "Usage: kdelta put"),
        (&["config", "show", "--memory", "lots"], "512MiB"),
    ] {
        let output = run(&home, words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert!(said.starts_with("error: ") && said.lines().count() == 1, "{words:?}: {said}");
        assert!(said.contains(near), "{words:?}: {said}");
    }
}

#[test]
fn wrong_words_are_an_object_with_json() {
    let output = run(&home(), &["gte", "k", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let object: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    let error = &object["error"];
    assert_eq!((&error["code"], &error["exit"]), (&"usage".into(), &2.into()));
    assert_eq!((&error["hint"], &error["retryable"]), (&"did you mean: get".into(), &false.into()));
}

#[test]
fn looking_at_the_settings_makes_nothing() {
    let home = home();
    let output = run(&home, &["config", "show"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains(".local/share/kdelta"), "{shown}");
    assert_eq!(home.path().read_dir().expect("a directory").count(), 0);
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let home = home();
    let mut child = kdelta(&home)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!((child.wait().expect("it ends").code(), said.as_str()), (Some(0), ""));
}

#[test]
fn every_help_has_an_example_and_no_colour_in_a_pipe() {
    let home = home();
    for words in [&["put", "--help"][..], &["set", "add", "-h"], &["help", "serve"]] {
        let output = run(&home, words);
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains("Example"), "{words:?}: {help}");
        assert!(!help.contains('\u{1b}'), "{words:?}");
    }
}

#[test]
fn a_batch_of_the_simulator_prints_while_it_goes_on_and_ends_when_told() {
    use std::io::{BufRead as _, BufReader};

    let home = home();
    let words = ["sim", "run", "--seeds", "0..1000000", "--json"];
    let start = || {
        let mut child = kdelta(&home);
        child.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("UTF-8");
        assert!(first.starts_with("{\"seed\":0,"), "{first}");
        (child, lines)
    };
    let (mut child, lines) = start();
    drop(lines);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "nobody reads any more");
    let (mut child, lines) = start();
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let told = rustix::process::Signal::INT;
    rustix::process::kill_process(pid.expect("a process"), told).expect("it is ours");
    for line in lines {
        let line = line.expect("UTF-8");
        serde_json::from_str::<serde_json::Value>(&line).expect("only whole lines");
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_that_sends_no_traces_says_so() {
    let home = home();
    let output = run(&home, &["serve", "--otlp", "on", "--http", "off"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("no traces") && said.contains("--features otlp"), "{said}");
    // Commands that send none anyway are not concerned.
    let output = kdelta(&home).args(["put", "k", "1"]).env("KDELTA_OTLP", "on").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
