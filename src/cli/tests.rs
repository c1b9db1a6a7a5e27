//! How commands behave: conditions, waits, signals of trouble, and both ways in.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::fake::{Fake, Outcome};
use super::socket::Listening;

pub(crate) const KEYS: &str = "/v1/spaces/default/keys";
pub(crate) const V1: &str = "3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0";
pub(crate) const V2: &str = "77b0e5d2c3f4bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.0";
pub(crate) const ADA: &str = "ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0";
pub(crate) const BOB: &str = "b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb";

pub(crate) fn view(kind: &str, value: &str, conflicts: &str) -> String {
    format!(
        r#"{{"key":"k","type":"{kind}","value":{value},"version":"{V1}","context":"c0","time":"2026-01-02T03:04:05.678Z","author":"{ADA}","conflicts":{conflicts}}}"#
    )
}

pub(crate) fn written() -> String {
    format!(
        r#"{{"key":"k","version":"{V1}","time":"2026-01-02T03:04:05.678Z","author":"{ADA}","seq":7,"durable":true}}"#
    )
}

pub(crate) fn shown(outcome: &Outcome) -> String {
    format!("{}{}exit {}", outcome.stdout, outcome.stderr, outcome.exit)
}

#[test]
fn the_exit_status_of_sync_tells_how_far_it_came() {
    let object = |in_sync: bool| {
        format!(
            r#"{{"peer":"{BOB}","sent_events":1,"received_events":2,"sent_bytes":3,"received_bytes":4,"round_trips":2,"elapsed_ms":5,"in_sync":{in_sync}}}"#
        )
    };
    let error = format!(
        r#"{{"peer":"{ADA}","in_sync":false,"error":{{"code":"unavailable","message":"no answer"}}}}"#
    );
    let answers = [
        (vec![], 6),
        (vec![object(true)], 0),
        (vec![object(true), object(false)], 8),
        (vec![object(true), error.clone()], 8),
        (vec![error.clone(), error], 6),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (peers, exit) in answers {
        let body = format!(r#"{{"peers":[{}]}}"#, peers.join(","));
        let fake = Fake::default().on("POST /v1/sync", 200, &body);
        let outcome = fake.run(dir.path(), "sync --json");
        assert_eq!(outcome.exit, exit, "{body}");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines, peers, "one object a peer, as it came");
        assert_eq!(fake.run(dir.path(), "sync").exit, exit);
        assert_eq!(fake.asked(), ["POST /v1/sync content-type=application/json {}"; 2]);
    }
}

#[test]
fn files_of_lines_are_sent_and_received() {
    let counts = r#"{"commits":1,"events":2,"rejected":0,"tags":0,"skipped":3}"#;
    let stopped = r#"{"code":"partial","exit":8,"detail":"line 2: no op is named putt","hint":"Mend the line and import again","line":2,"commits":1}"#;
    let fake = Fake::default()
        .on("POST /v1/spaces/default/batch?chunk=10", 200, counts)
        .on("POST /v1/spaces/default/import", 200, counts)
        .on("GET /v1/spaces/default/export?prefix=user%2F&history=true", 200, "{\"op\":1}\n{}\n");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl.zst");
    let path = out.to_str().unwrap();
    let exported = fake.run_with(dir.path(), &["export", "user/", path, "--history"], b"", sink());
    assert_eq!(shown(&exported), "exit 0");
    fake.asked();
    let imported = fake.run_with(dir.path(), &["import", path], b"", sink());
    assert_eq!(shown(&imported), "1 commit, 2 events, 3 lines skipped\nexit 0");
    let sent = "POST /v1/spaces/default/import content-type=application/jsonl {\"op\":1}\n{}\n";
    assert_eq!(fake.asked(), [sent]);
    let batch = fake.run_with(dir.path(), &["batch", "-", "--chunk", "10"], b"{}\n", sink());
    assert_eq!(batch.exit, 0);
    assert_eq!(fake.asked().len(), 1);
    let fake = fake.on("POST /v1/spaces/default/import", 400, stopped);
    let partly = fake.run_with(dir.path(), &["import", "-", "--json"], b"x", sink());
    insta::assert_snapshot!(shown(&partly), @r#"
    {"error":{"code":"partial","exit":8,"message":"line 2: no op is named putt","hint":"Mend the line and import again","retryable":false,"commits":1,"line":2}}
    exit 8
    "#);
    let missing = fake.run_with(dir.path(), &["import", "/nowhere/x"], b"", sink());
    assert_eq!(missing.exit, 3);
}

fn sink() -> Box<dyn Write + Send> {
    Box::new(std::io::sink())
}

#[test]
fn a_write_that_reached_too_few_peers_is_partly_done() {
    let fake = Fake::default().on(&format!("PUT {KEYS}/k"), 202, &written());
    let dir = tempfile::tempdir().unwrap();
    let outcome = fake.run(dir.path(), "put k v --durability peers=2");
    assert_eq!(outcome.exit, 8);
    assert_eq!(outcome.stdout, format!("{V1}\n"));
    assert!(fake.asked()[0].contains(" prefer=durability=peers=2 "));
}

#[test]
fn keys_and_names_are_checked_before_anything_is_sent() {
    let fake = Fake::default();
    let dir = tempfile::tempdir().unwrap();
    let long = "k".repeat(1025);
    for words in [["put", "", "v"], ["put", &long, "v"], ["put", "a\0b", "v"]] {
        assert_eq!(fake.run_with(dir.path(), &words, b"", sink()).exit, 2, "{words:?}");
    }
    assert_eq!(fake.run(dir.path(), "sync --as x").exit, 2);
    assert!(fake.asked().is_empty());
    assert_eq!(*fake.closed.lock().unwrap(), 0);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let fake = Fake::default().on(&format!("GET {KEYS}?limit=0"), 200, "{\"key\":\"a\"}\n");
    let dir = tempfile::tempdir().unwrap();
    let outcome = fake.run_with(dir.path(), &["list"], b"", Box::new(Gone));
    assert_eq!((outcome.exit, outcome.stderr.as_str()), (0, ""));
    assert_eq!(*fake.closed.lock().unwrap(), 1, "the store is closed all the same");
}

#[test]
fn a_held_store_is_waited_for_and_then_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default().on(&format!("PUT {KEYS}/k"), 200, &written());
    *fake.held.lock().unwrap() = 3;
    assert_eq!(fake.run(dir.path(), "put k v").exit, 0);
    *fake.held.lock().unwrap() = u32::MAX;
    let outcome = fake.run(dir.path(), "put k v --wait 0");
    assert_eq!(outcome.exit, 6);
    assert!(outcome.stderr.contains("another command holds the store"), "{}", outcome.stderr);
}

/// Serves `fake` as a node on `dir` while `body` runs.
fn with_node<T>(fake: &Fake, dir: &Path, body: impl FnOnce() -> T) -> T {
    with_router(fake.router(), dir, body)
}

/// Serves `router` as a node on `dir` while `body` runs.
fn with_router<T>(router: axum::Router, dir: &Path, body: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let guard = runtime.enter();
    let listening = Listening::start(dir, router).unwrap();
    let out = body();
    runtime.block_on(listening.stop(Duration::from_secs(1)));
    drop(guard);
    out
}

#[test]
fn the_output_is_the_same_with_and_without_a_node() {
    let fake = Fake::default()
        .on(&format!("GET {KEYS}/k"), 200, &view("register", r#"{"n":1.0}"#, "[]"))
        .on(&format!("PUT {KEYS}/k"), 200, &written())
        .on(&format!("GET {KEYS}?limit=0"), 200, "{\"key\":\"a\"}\n{\"key\":\"b\"}\n")
        .on("POST /v1/spaces/default/import", 200, r#"{"commits":0,"events":0}"#);
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        "get k",
        "get k --json",
        "put k v",
        "list",
        "list --limit 0 --json",
        "get gone",
        "get gone --json",
        "import -",
    ];
    let run = || lines.map(|line| (fake.run(dir.path(), line), fake.asked()));
    let without = run();
    let opened = *fake.closed.lock().unwrap();
    let with = with_node(&fake, dir.path(), run);
    assert_eq!(without, with);
    assert_eq!(*fake.closed.lock().unwrap(), opened, "with a node no command opens the store");
    assert_eq!(run(), without, "and without it they open it again");
}

#[test]
fn a_watch_prints_one_line_a_change() {
    let events = ": hello\n\nid: 1\ndata: {\"cursor\":\"1\"}\n\ndata:{\"cursor\":\"2\"}\r\n\r\n";
    let request = "GET /v1/spaces/default/watch?prefix=user%2F&from=7";
    let fake = Fake::default().on(request, 200, events);
    let dir = tempfile::tempdir().unwrap();
    let outcome = fake.run(dir.path(), "watch user/ --from 7");
    assert_eq!(outcome.stdout, "{\"cursor\":\"1\"}\n{\"cursor\":\"2\"}\n");
    assert_eq!(outcome.exit, 6, "it ended although nobody interrupted it");
}

#[test]
fn a_node_that_dies_over_a_request_leaves_the_outcome_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let path = super::socket::candidates(dir.path()).remove(0);
    let parent = path.parent().unwrap();
    if !super::socket::is_trusted(&path) {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().mode(0o700).create(parent).unwrap();
    }
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let node = std::thread::spawn(move || {
        use std::io::Read as _;
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]).unwrap();
    });
    let outcome = Fake::default().run(dir.path(), "put k v --json");
    node.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(outcome.exit, 6);
    assert!(outcome.stderr.contains(r#""outcome":"unknown""#), "{}", outcome.stderr);
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = Fake::default().run(dir.path(), &format!("completions {shell}"));
        assert!(script.exit == 0 && script.stdout.contains("counter"), "{shell}");
    }
    let manual = Fake::default().run(dir.path(), "man").stdout;
    let names = ["KDELTA PUT", "KDELTA COUNTER ADD", "KDELTA SPACE JOIN", "KDELTA SIM REPLAY"];
    for name in names {
        assert!(manual.contains(name), "{name}");
    }
    let version = Fake::default().run(dir.path(), "--version").stdout;
    assert!(version.contains("format 1, protocol 1"), "{version}");
}

#[test]
fn the_simulator_prints_a_line_a_seed_and_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let run = |line: &str| Fake::default().run(dir.path(), line);
    let first = run("sim run --seeds 3..5 --json");
    assert_eq!(first.exit, 0, "{}", first.stderr);
    assert!(first.stderr.starts_with("note: ") && first.stderr.contains("events a second"));
    let lines: Vec<serde_json::Value> =
        first.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [three, four, last] = lines.as_slice() else { panic!("{}", first.stdout) };
    assert_eq!((&three["seed"], &four["seed"]), (&3.into(), &4.into()));
    assert!(three["failed"].is_null() && three["events"].as_u64() > Some(20), "{three}");
    assert_eq!((&last["seeds"], &last["failed"]), (&2.into(), &serde_json::json!([])));
    assert_eq!(run("--json sim run --seeds 3..5").stdout, first.stdout);
    assert_eq!(run("sim replay 3 --json").stdout.lines().next(), first.stdout.lines().next());
    assert!(run("sim show 3").stdout.starts_with("kdelta-sim 1\nseed 3\n"));
    assert!(run("sim list").stdout.starts_with("crash "));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "no store is made");
}

#[test]
fn wrong_words_to_the_simulator_are_told_by_their_exit_status() {
    let dir = tempfile::tempdir().unwrap();
    for (line, exit, said) in [
        ("sim run --seeds 7", 2, "0..100"),
        ("sim run --seed 1 --seeds 1..2", 2, "cannot be used with"),
        ("sim run --nodes 900", 2, "1 to 20"),
        ("sim run --mutant sent-before-durable --seed 1", 2, "no planted bugs"),
        ("sim crashes frob", 2, "no crash scenario"),
        ("sim replay ./nowhere", 3, "nowhere"),
        ("sim replay ./nowhere --nodes 3", 2, "goes with a seed"),
    ] {
        let outcome = Fake::default().run(dir.path(), line);
        assert!(outcome.stderr.contains(said), "{line}: {}", outcome.stderr);
        assert_eq!((outcome.exit, outcome.stdout.as_str()), (exit, ""), "{line}");
    }
    let file = dir.path().join("scenario");
    std::fs::write(&file, "no scenario\n").unwrap();
    let outcome = Fake::default().run(dir.path(), &format!("sim replay {}", file.display()));
    assert!(outcome.exit == 2 && outcome.stderr.contains("line 1"), "{}", outcome.stderr);
}

/// Runs a command and interrupts it once the first request has come, or at once if none will.
fn interrupted(fake: &Fake, dir: &Path, line: &str, after_request: bool) -> (u8, String) {
    use super::args::Globals;
    use super::context::Context;
    use super::grammar::{Asked, parse};

    let out = super::fake::Shared::default();
    let mut console = super::console::Console {
        stdin: Box::new(std::io::empty()),
        stdout: Box::new(out.clone()),
        stderr: sink(),
        stdin_terminal: false,
        stdout_terminal: false,
        stderr_terminal: false,
        colour: false,
    };
    let globals = Globals { data_dir: Some(dir.to_owned()), ..Globals::default() };
    let settings = super::Settings::find(&globals, None, &|_| None).unwrap();
    let words = line.split_whitespace().map(Into::into).collect();
    let Ok(Asked::Command(cli)) = parse(words, false) else { panic!("{line}") };
    let (sender, signals) = tokio::sync::watch::channel(None);
    let outcome = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut context = Context::new(fake, settings, &mut console, false, signals);
        let signal = async {
            let ready = || if after_request { fake.was_asked() } else { !out.text().is_empty() };
            while !ready() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sender.send_replace(Some(super::Exit::Terminated));
        };
        let (outcome, ()) = tokio::join!(super::interruptible(&mut context, cli.command), signal);
        context.close().await.unwrap();
        outcome
    });
    (outcome.map_or_else(|failure| failure.exit, |exit| exit as u8), out.text())
}

#[test]
fn a_signal_ends_a_command_and_closes_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default().on("GET /v1/spaces/default/watch", 0, "");
    let (exit, _) = interrupted(&fake, dir.path(), "watch", true);
    assert_eq!((exit, *fake.closed.lock().unwrap()), (143, 1));
    let left = super::socket::candidates(dir.path());
    assert!(left.iter().all(|path| !path.exists()), "the watch took its socket away");
}

#[test]
fn a_node_that_is_told_to_stop_drains_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    let (exit, said) = interrupted(&fake, dir.path(), "serve", false);
    assert_eq!((exit, *fake.closed.lock().unwrap()), (0, 1));
    assert_eq!(said, format!("replica {} listens on [::]:7440\n", "ab".repeat(32)));
    let left = super::socket::candidates(dir.path());
    assert!(left.iter().all(|path| !path.exists()), "the node took its socket away");
}

#[test]
fn a_refusal_in_the_middle_of_an_import_is_heard() {
    let refuse = || async {
        let problem = r#"{"code":"partial","exit":8,"detail":"line 2: no key","line":2}"#;
        (axum::http::StatusCode::BAD_REQUEST, problem)
    };
    let dir = tempfile::tempdir().unwrap();
    let lines = b"{}\n".repeat(1 << 20);
    let router = axum::Router::new().fallback(refuse);
    let outcome = with_router(router, dir.path(), || {
        Fake::default().run_with(dir.path(), &["import", "-"], &lines, sink())
    });
    assert_eq!(outcome.exit, 8, "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "error: line 2: no key\n");
}
