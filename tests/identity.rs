//! A replica's key: shown, copied, locked, drawn, and taken by another store. Nothing is lost on
//! the way, and no secret is.

#![allow(clippy::indexing_slicing, reason = "a member that is missing fails the test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests: what goes wrong fails the test"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{Home, files_of};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn id(home: &Home, name: &str) -> String {
    home.json(name, &["id", "show"])["replica"].as_str().unwrap().to_owned()
}

/// Writes a passphrase into a file and returns the file's path.
fn passphrase(home: &Home, name: &str, text: &str) -> String {
    let path = home.path(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Syncs two stores, one of which runs a node meanwhile; both must end equal.
fn met(home: &Home, serving: &str, calling: &str) {
    let node = home.serve(serving, &[]);
    let ticket = home.ok(serving, &["ticket"]);
    assert_eq!(home.json(calling, &["sync", &ticket])["in_sync"], true);
    assert_eq!(home.hashes(serving), home.hashes(calling));
    node.stop();
}

#[test]
fn an_identity_is_shown_the_same_with_and_without_a_node() {
    let home = Home::new();
    let shown = home.json("a", &["id", "show"]);
    let file = home.path("a").join("identity.key");
    assert_eq!(shown["file"], file.to_str().unwrap());
    assert_eq!((&shown["locked"], &shown["loose_mode"]), (&json!(false), &Value::Null));
    assert_eq!(mode(&file), 0o600);
    let node = home.serve("a", &["--http", "127.0.0.1:0"]);
    assert_eq!(home.json("a", &["id", "show"]), shown);
    assert_eq!(node.replica(), shown["replica"]);
    let far = home.json("a", &["id", "show", "--url", &format!("http://{}", node.http())]);
    assert_eq!(far, json!({"replica": shown["replica"], "work": shown["work"]}));
    let refused = home.fails("a", 6, &["id", "new", "--yes"]);
    assert_eq!(refused["code"], "unavailable", "{refused}");
    node.stop();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(home.json("a", &["id", "show"])["loose_mode"], "0640");
}

#[test]
fn a_store_that_takes_another_key_hands_on_what_it_wrote_under_the_first() {
    let home = Home::new();
    home.ok("a", &["put", "k", "first"]);
    let first = id(&home, "a");
    let before = files_of(&home.path("a"));
    let would = home.json("a", &["id", "new", "--dry-run"]);
    assert_eq!((&would["dry_run"], &would["before"]), (&json!(true), &json!(first)));
    let refused = home.fails("a", 2, &["id", "new"]);
    assert!(refused["hint"].as_str().unwrap().contains("--yes"), "{refused}");
    assert!(files_of(&home.path("a")) == before, "no file has changed");
    let taken = home.json("a", &["id", "new", "--yes"]);
    let second = id(&home, "a");
    assert_ne!(first, second);
    assert_eq!((&taken["replica"], &taken["before"]), (&json!(second), &json!(first)));
    assert_eq!(taken["kept"], would["kept"]);
    let kept = Path::new(taken["kept"].as_str().unwrap());
    assert_eq!(mode(kept), 0o600);
    assert!(
        std::fs::read(kept).unwrap() == before[&home.path("a").join("identity.key")],
        "the key is kept"
    );
    let written = home.json("a", &["put", "k", "second"]);
    assert_eq!(written["author"], second);
    met(&home, "a", "b");
    let history = home.json("b", &["history", "k"]);
    let authors: Vec<_> = history["events"].as_array().unwrap().iter().collect();
    let authors: Vec<_> = authors.iter().map(|event| event["author"].clone()).collect();
    assert_eq!(authors, [json!(second), json!(first)]);
    // And back to the first key.
    home.ok("a", &["id", "import", kept.to_str().unwrap(), "--yes"]);
    assert_eq!(id(&home, "a"), first);
    assert_eq!(home.json("a", &["put", "k", "third"])["seq"], 1, "a log of its own");
    met(&home, "a", "b");
    assert_eq!(home.ok("b", &["get", "k"]), "third");
    assert_eq!(home.json("a", &["verify", "--deep"])["ok"], true);
}

#[test]
fn two_stores_under_one_key_never_give_one_number_to_two_commits() {
    let home = Home::new();
    home.ok("a", &["counter", "add", "hits", "1"]);
    home.ok("b", &["put", "own", "of b"]);
    let key = home.path("key");
    let exported = home.json("a", &["id", "export", key.to_str().unwrap()]);
    assert_eq!(exported["replica"], id(&home, "a"));
    assert_eq!(mode(&key), 0o600);
    assert_eq!(home.fails("a", 4, &["id", "export", key.to_str().unwrap()])["code"], "conflict");
    for store in ["b", "fresh"] {
        home.ok(store, &["id", "import", key.to_str().unwrap(), "--yes"]);
        assert_eq!(id(&home, store), id(&home, "a"));
    }
    // All three join one space, and write apart.
    let third = home.serve("c", &[]);
    home.ok("c", &["put", "origin", "c"]);
    let ticket = home.ok("c", &["ticket"]);
    for store in ["a", "b", "fresh"] {
        home.ok(store, &["sync", &ticket, "--as", "team"]);
        for at in ["10", "100"] {
            home.ok(store, &["counter", "add", "hits", at, "--space", "team"]);
        }
    }
    for store in ["a", "b", "fresh", "a", "b"] {
        assert_eq!(home.json(store, &["sync", "--space", "team"])["in_sync"], true, "{store}");
    }
    let of = |store: &str, space: &str| home.json(store, &["space", "info", space]);
    for store in ["a", "b", "fresh"] {
        assert_eq!(home.ok(store, &["get", "hits", "--space", "team"]), "330", "{store}");
        let (here, there) = (of(store, "team"), of("c", "default"));
        assert_eq!(here["state_hash"], there["state_hash"], "{store}");
        assert_eq!(here["closed"], Value::Null, "no log is forked: {here}");
    }
    assert_eq!(home.ok("b", &["get", "own"]), "of b");
    assert_eq!(home.ok("a", &["get", "hits"]), "1");
    third.stop();
}

#[test]
fn a_locked_key_wants_its_passphrase_and_tells_nothing_without() {
    let home = Home::new();
    home.ok("a", &["put", "k", "v"]);
    let file = home.path("a").join("identity.key");
    let plain = std::fs::read_to_string(&file).unwrap();
    let seed = plain.lines().find_map(|line| line.strip_prefix("secret ")).unwrap().to_owned();
    let (one, two) = (passphrase(&home, "one", "one\n"), passphrase(&home, "two", "two\nmore"));
    assert_eq!(home.fails("a", 2, &["id", "passphrase"])["code"], "usage");
    let locked = home.json("a", &["id", "passphrase", "--new-passphrase-file", &one]);
    assert_eq!(locked["locked"], true);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(home.json("a", &["id", "show"])["locked"], true, "that needs no passphrase");
    let refused = home.fails("a", 5, &["get", "k"]);
    assert_eq!(refused["code"], "unauthorised", "{refused}");
    assert!(refused["hint"].as_str().unwrap().contains("KDELTA_PASSPHRASE_FILE"), "{refused}");
    let refused = home.fails("a", 5, &["get", "k", "--passphrase-file", &two]);
    assert_eq!(refused["code"], "unauthorised", "{refused}");
    home.fails("a", 3, &["get", "k", "--passphrase-file", "/nowhere/x"]);
    assert_eq!(home.ok("a", &["get", "k", "--passphrase-file", &one]), "v");
    // A node holds the key; commands that ask it need no passphrase.
    let node = home.serve_with("a", &[], &[("KDELTA_PASSPHRASE_FILE", &one)]);
    assert_eq!(home.ok("a", &["get", "k"]), "v");
    // Neither a backup nor a copy of a locked key has it in the clear.
    let (backup, copy) = (home.path("backup"), home.path("copy"));
    home.ok("a", &["backup", backup.to_str().unwrap()]);
    home.ok("a", &["id", "export", copy.to_str().unwrap()]);
    node.stop();
    let raw: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap()).collect();
    for path in [&backup, &copy, &file] {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(32).any(|part| part == raw), "{}", path.display());
        assert!(!bytes.windows(64).any(|part| part == seed.as_bytes()), "{}", path.display());
    }
    let backup = backup.to_str().unwrap();
    home.fails("b", 5, &["restore", backup, "--same-identity"]);
    assert!(!home.path("b/identity.key").exists(), "nothing is made");
    home.ok("b", &["restore", backup, "--same-identity", "--passphrase-file", &one]);
    assert_eq!(
        home.json("b", &["id", "show"])["replica"],
        home.json("a", &["id", "show"])["replica"]
    );
    assert_eq!(home.ok("b", &["get", "k", "--passphrase-file", &one]), "v");
    home.ok("c", &["restore", backup]);
    assert_eq!(home.ok("c", &["get", "k"]), "v", "under a key of its own");
    // A copy stays locked where it is taken.
    home.ok("d", &["put", "d", "1"]);
    let copy = copy.to_str().unwrap();
    home.fails("d", 5, &["id", "import", copy, "--yes"]);
    home.fails("d", 5, &["id", "import", copy, "--yes", "--file-passphrase-file", &two]);
    assert_eq!(home.ok("d", &["get", "d"]), "1", "what failed changed nothing");
    home.ok("d", &["id", "import", copy, "--yes", "--file-passphrase-file", &one]);
    assert_eq!(home.ok("d", &["get", "d", "--passphrase-file", &one]), "1");
    // Changed, and removed.
    let change = ["id", "passphrase", "--passphrase-file", &one, "--new-passphrase-file", &two];
    home.ok("a", &change);
    home.fails("a", 5, &["get", "k", "--passphrase-file", &one]);
    home.ok("a", &["id", "passphrase", "--remove", "--passphrase-file", &two]);
    assert_eq!(home.ok("a", &["get", "k"]), "v");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), plain);
}

#[test]
fn a_key_is_drawn_until_it_holds_the_work_and_a_search_can_be_ended() {
    let home = Home::new();
    let one = passphrase(&home, "one", "one");
    let new = ["id", "new", "--difficulty", "8", "--passphrase", "--new-passphrase-file", &one];
    let shown = home.json("a", &new);
    assert!(shown["work"].as_u64().unwrap() >= 8, "{shown}");
    assert_eq!((&shown["locked"], &shown["before"]), (&json!(true), &Value::Null));
    assert_eq!(home.json("a", &["id", "show"])["work"], shown["work"]);
    home.ok("a", &["put", "k", "v", "--passphrase-file", &one]);
    assert_eq!(home.fails("a", 2, &["id", "new", "--difficulty", "41"])["code"], "usage");
    let mut endless = home.command("b");
    let mut endless = endless.args(["id", "new", "--difficulty", "40"]).spawn().unwrap();
    // The signal is caught from early on; before that it ends the process all the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    common::signal(&endless, "INT");
    let status = common::wait(&mut endless);
    assert!(!status.success(), "{status}");
    assert!(!home.path("b").join("identity.key").exists(), "nothing has changed");
}

#[test]
fn what_is_no_key_is_not_taken() {
    let home = Home::new();
    home.ok("a", &["put", "k", "v"]);
    let before = id(&home, "a");
    home.fails("a", 3, &["id", "import", "/nowhere/key", "--yes"]);
    let key = home.path("a").join("identity.key");
    let good = std::fs::read(&key).unwrap();
    let file = home.path("bad");
    for bytes in [&b""[..], b"kdelta-identity 1\n", &good[..100], &[0xff; 4097], &[b'a'; 1 << 20]] {
        std::fs::write(&file, bytes).unwrap();
        let refused = home.fails("a", 7, &["id", "import", file.to_str().unwrap(), "--yes"]);
        assert_eq!(refused["code"], "integrity", "{refused}");
    }
    // Nor is another file lost for the sake of the earlier key.
    let kept = home.path("a").join(format!("identity.key.old-{}", &before[..8]));
    std::fs::write(&kept, "of somebody else").unwrap();
    assert_eq!(home.fails("a", 4, &["id", "new", "--yes"])["code"], "conflict");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "of somebody else");
    assert_eq!(id(&home, "a"), before);
    // A key that was lost comes back from its copy, to the store that it wrote.
    std::fs::write(&file, &good).unwrap();
    std::fs::remove_file(&key).unwrap();
    home.ok("a", &["id", "import", file.to_str().unwrap()]);
    assert_eq!(id(&home, "a"), before);
    assert_eq!(home.json("a", &["put", "k", "again"])["author"], before);
    met(&home, "a", "b");
    assert_eq!(home.ok("b", &["get", "k"]), "again");
}

#[test]
fn a_damaged_store_is_repaired_before_it_takes_another_key() {
    let home = Home::new();
    home.damage("a");
    let before = id(&home, "a");
    let refused = home.fails("a", 7, &["id", "new", "--yes"]);
    assert_eq!(refused["code"], "integrity", "{refused}");
    assert_eq!(id(&home, "a"), before);
}

#[test]
fn a_person_at_a_terminal_is_asked_and_what_is_typed_is_not_shown() {
    let home = Home::new();
    home.ok("a", &["put", "k", "v"]);
    let passphrase = passphrase(&home, "one", "open sesame");
    home.ok("a", &["id", "passphrase", "--new-passphrase-file", &passphrase]);
    for (typed, exit) in
        [("open sesame\n", Some(0)), ("open sesamf\n", Some(5)), ("\x03", Some(130))]
    {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let open = || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let flags = OFlags::NOCTTY.bits().cast_signed();
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).custom_flags(flags).open(&name).unwrap()
        };
        let slave = open();
        let mut command = home.command("a");
        command.args(["get", "k"]).stdin(open()).stderr(open());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        drop(command);
        let mut screen = std::fs::File::from(master);
        let (mut shown, mut byte) = (Vec::new(), [0]);
        // It is asked for once nothing is echoed any more.
        while !shown.ends_with(b"Passphrase: ") {
            screen.read_exact(&mut byte).unwrap();
            shown.push(byte[0]);
        }
        assert!(!tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ECHO));
        match typed {
            // No terminal of its own sends it the signal.
            "\x03" => common::signal(&child, "INT"),
            _ => screen.write_all(typed.as_bytes()).unwrap(),
        }
        let status = common::wait(&mut child);
        assert_eq!(status.code(), exit, "{typed:?}");
        assert!(tcgetattr(&slave).unwrap().local_modes.contains(LocalModes::ECHO), "{typed:?}");
        // The screen ends when nobody has the other side open.
        drop(slave);
        let _ = screen.read_to_end(&mut shown);
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(shown.contains("is locked by a passphrase"), "{shown}");
        assert!(!shown.contains("sesam"), "{shown}");
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, if exit == Some(0) { "v\n" } else { "" }, "{typed:?}");
    }
}
