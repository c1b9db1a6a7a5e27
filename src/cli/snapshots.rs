//! What commands ask for and what they print, pinned word for word.

use super::fake::Fake;
use super::tests::{ADA, BOB, KEYS, V1, V2, shown, view, written};

/// Runs every line and lays out what was asked and what came back.
fn session(fake: &Fake, lines: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for line in lines {
        let outcome = fake.run(dir.path(), line);
        text.push_str(&format!("$ {line}\n"));
        for asked in fake.asked() {
            text.push_str(&format!("> {asked}\n"));
        }
        text.push_str(&format!("{}\n", shown(&outcome)));
    }
    text
}

#[test]
fn writes_travel_as_they_were_given() {
    let fake = Fake::default()
        .on(&format!("PUT {KEYS}/k"), 200, &written())
        .on(&format!("PUT {KEYS}/k?retype=true&if_version=none"), 200, &written())
        .on(&format!("DELETE {KEYS}/k"), 200, &written())
        .on("POST /v1/spaces/default/ops/k", 200, &written());
    let seen = session(
        &fake,
        &[
            "put k 9007199254740993",
            "put k 1.0 --json",
            "put k blue --request-id r1 --durability buffered",
            "put k --string 1.0 --retype --if-version none",
            "put k --raw 1.0",
            "rm k",
            "counter add k",
            "counter add k -3 --request-id r2",
            "set add k red -1 {\"b\":1,\"a\":2.50} --retype",
            "set remove k red --string",
            "map put k --field 1e400",
            "map delete k name --if-version c0",
        ],
    );
    insta::assert_snapshot!(seen, @r#"
    $ put k 9007199254740993
    > PUT /v1/spaces/default/keys/k content-type=application/json 9007199254740993
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ put k 1.0 --json
    > PUT /v1/spaces/default/keys/k content-type=application/json 1.0
    {"key":"k","version":"3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0","time":"2026-01-02T03:04:05.678Z","author":"ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0","seq":7,"durable":true}
    exit 0
    $ put k blue --request-id r1 --durability buffered
    > PUT /v1/spaces/default/keys/k content-type=application/json idempotency-key=r1 prefer=durability=buffered "blue"
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ put k --string 1.0 --retype --if-version none
    > PUT /v1/spaces/default/keys/k?retype=true&if_version=none content-type=application/json "1.0"
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ put k --raw 1.0
    > PUT /v1/spaces/default/keys/k content-type=application/octet-stream 1.0
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ rm k
    > DELETE /v1/spaces/default/keys/k
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ counter add k
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"counter_add","by":1}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ counter add k -3 --request-id r2
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"counter_add","by":-3,"request_id":"r2"}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ set add k red -1 {"b":1,"a":2.50} --retype
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"set_add","elements":["red",-1,{"b":1,"a":2.50}],"retype":true}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ set remove k red --string
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"set_remove","elements":["red"]}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ map put k --field 1e400
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"map_put","field":"--field","value":1e400}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ map delete k name --if-version c0
    > POST /v1/spaces/default/ops/k content-type=application/json {"op":"map_delete","field":"name","if_version":"c0"}
    3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    "#);
}

#[test]
fn values_are_shown_bare_or_as_json() {
    let conflicts = format!(
        r#"[{{"value":"Lake","version":"{V2}","time":"2026-01-02T03:04:06.000Z","author":"{BOB}"}}]"#
    );
    let fake = Fake::default()
        .on(&format!("GET {KEYS}/text"), 200, &view("register", r#""two\nlines""#, &conflicts))
        .on(&format!("GET {KEYS}/json"), 200, &view("register", r#"{"n":1.0}"#, "[]"))
        .on(&format!("GET {KEYS}/bytes"), 200, &view("bytes", r#"{"base64":"aGk="}"#, "[]"))
        .on(&format!("GET {KEYS}/json?at=-5m&degraded=true"), 200, &view("register", "5", "[]"));
    let seen = session(
        &fake,
        &[
            "get text",
            "get text --conflicts",
            "get json",
            "get json --json",
            "get bytes",
            "get bytes --raw",
            "get json --at -5m --degraded",
            "get gone",
            "get gone --json",
            "delete json --dry-run",
        ],
    );
    insta::assert_snapshot!(seen, @r#"
    $ get text
    > GET /v1/spaces/default/keys/text
    two
    lines
    exit 0
    $ get text --conflicts
    > GET /v1/spaces/default/keys/text
    two
    lines

    ALSO    FIELD  VERSION       TIME                      AUTHOR
    "Lake"         77b0e5d2c3f4  2026-01-02T03:04:06.000Z  b0bb0bb0bb0b
    exit 0
    $ get json
    > GET /v1/spaces/default/keys/json
    {"n":1.0}
    exit 0
    $ get json --json
    > GET /v1/spaces/default/keys/json
    {"key":"k","type":"register","value":{"n":1.0},"version":"3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0","context":"c0","time":"2026-01-02T03:04:05.678Z","author":"ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0","conflicts":[]}
    exit 0
    $ get bytes
    > GET /v1/spaces/default/keys/bytes
    {"base64":"aGk="}
    exit 0
    $ get bytes --raw
    > GET /v1/spaces/default/keys/bytes
    hiexit 0
    $ get json --at -5m --degraded
    > GET /v1/spaces/default/keys/json?at=-5m&degraded=true
    5
    exit 0
    $ get gone
    > GET /v1/spaces/default/keys/gone
    error: nothing at GET /v1/spaces/default/keys/gone
    exit 3
    $ get gone --json
    > GET /v1/spaces/default/keys/gone
    {"error":{"code":"not_found","exit":3,"message":"nothing at GET /v1/spaces/default/keys/gone","hint":"","retryable":false}}
    exit 3
    $ delete json --dry-run
    > GET /v1/spaces/default/keys/json
    would delete json (1 live)
    exit 0
    "#);
}

#[test]
fn history_is_a_table_or_a_graph() {
    let event = |version: &str, parents: &str, author: &str, op: &str, rest: &str| {
        format!(
            r#"{{"version":"{version}","parents":[{parents}],"time":"2026-01-02T03:04:05.678Z","author":"{author}","seq":1,"op":"{op}"{rest}}}"#
        )
    };
    let third = "c0ffee000000cccccccccccccccccccccccccccccccccccccccccccccccccccc.0";
    let events = [
        event(third, &format!(r#""{V1}","{V2}""#), ADA, "put", r#","value":"merged""#),
        event(V2, "", BOB, "map_put", r#","field":"name","value":"Bob""#),
        event(V1, "", ADA, "counter_add", r#","by":-3"#),
    ];
    let history = format!(r#"{{"key":"k","events":[{}]}}"#, events.join(","));
    let commits = format!(
        r#"{{"space":"default","commits":[{{"commit":"{0}","author":"{ADA}","seq":2,"time":"2026-01-02T03:04:05.678Z","kind":"data","parents":["{1}"],"events":2,"keys":["a","b"],"tag":"v1","note":{{"why":"x"}}}},{{"commit":"{1}","author":"{ADA}","seq":1,"time":"2026-01-02T03:04:05.000Z","kind":"genesis","parents":[],"events":0,"keys":[]}}]}}"#,
        V2.trim_end_matches(".0"),
        V1.trim_end_matches(".0"),
    );
    let fake = Fake::default().on("GET /v1/spaces/default/history/k?limit=0", 200, &history).on(
        "GET /v1/spaces/default/history?limit=20",
        200,
        &commits,
    );
    let seen = session(
        &fake,
        &["history k", "log k --graph", "history --limit 20", "log --limit 20 --json"],
    );
    insta::assert_snapshot!(seen, @r#"
    $ history k
    > GET /v1/spaces/default/history/k?limit=0
    VERSION       TIME                      AUTHOR        OP           VALUE
    c0ffee000000  2026-01-02T03:04:05.678Z  ada0ada0ada0  put          "merged"
    77b0e5d2c3f4  2026-01-02T03:04:05.678Z  b0bb0bb0bb0b  map_put      name = "Bob"
    3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  counter_add  -3
    exit 0
    $ log k --graph
    > GET /v1/spaces/default/history/k?limit=0
    *  c0ffee000000  2026-01-02T03:04:05.678Z  ada0ada0ada0  put  "merged"
    |\
    | *  77b0e5d2c3f4  2026-01-02T03:04:05.678Z  b0bb0bb0bb0b  map_put  name = "Bob"
    *  3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  counter_add  -3
    exit 0
    $ history --limit 20
    > GET /v1/spaces/default/history?limit=20
    COMMIT        TIME                      AUTHOR        EVENTS  WHAT
    77b0e5d2c3f4  2026-01-02T03:04:05.678Z  ada0ada0ada0  2       a b (tag v1) # {"why":"x"}
    3f2ac19b04d1  2026-01-02T03:04:05.000Z  ada0ada0ada0  0       genesis
    exit 0
    $ log --limit 20 --json
    > GET /v1/spaces/default/history?limit=20
    {"space":"default","commits":[{"commit":"77b0e5d2c3f4bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","author":"ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0","seq":2,"time":"2026-01-02T03:04:05.678Z","kind":"data","parents":["3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"events":2,"keys":["a","b"],"tag":"v1","note":{"why":"x"}},{"commit":"3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","author":"ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0","seq":1,"time":"2026-01-02T03:04:05.000Z","kind":"genesis","parents":[],"events":0,"keys":[]}]}
    exit 0
    "#);
}

#[test]
fn lists_stream_and_end_with_the_error_that_stopped_them() {
    let fake = Fake::default()
        .on(&format!("GET {KEYS}?limit=0"), 200, "{\"key\":\"a\"}\n{\"key\":\"b\"}\n")
        .on(
            &format!("GET {KEYS}?prefix=a&limit=2&values=true"),
            200,
            r#"{"keys":[{"key":"a","value":"x y"},{"key":"ab","value":1.0}],"next":"ab"}"#,
        )
        .on(&format!("GET {KEYS}?limit=1000"), 200, r#"{"keys":[{"key":"a"}],"next":null}"#)
        .on(
            &format!("GET {KEYS}?prefix=d&limit=0"),
            200,
            "{\"key\":\"da\"}\n{\"error\":{\"code\":\"integrity\",\"exit\":7,\"detail\":\"damaged\"}}\n",
        );
    let seen = session(
        &fake,
        &["list", "ls a --limit 2 --values", "list --json", "list --limit 0 --json", "list d"],
    );
    insta::assert_snapshot!(seen, @r#"
    $ list
    > GET /v1/spaces/default/keys?limit=0
    a
    b
    exit 0
    $ ls a --limit 2 --values
    > GET /v1/spaces/default/keys?prefix=a&limit=2&values=true
    a	"x y"
    ab	1.0
    exit 0
    $ list --json
    > GET /v1/spaces/default/keys?limit=1000
    {"keys":[{"key":"a"}],"next":null}
    exit 0
    $ list --limit 0 --json
    > GET /v1/spaces/default/keys?limit=0
    {"key":"a"}
    {"key":"b"}
    exit 0
    $ list d
    > GET /v1/spaces/default/keys?prefix=d&limit=0
    da
    error: damaged
    exit 7
    "#);
}

#[test]
fn diff_and_explain_tell_what_changed_and_why() {
    let diff = format!(
        r#"{{"key":"k","from":{},"to":{}}}"#,
        view("map", r#"{"a":1,"b":2}"#, "[]"),
        view("map", r#"{"a":1,"b":3,"c":4}"#, "[]"),
    );
    let explain = format!(
        r#"{{"key":"k","type":"register","value":"x","rule":"the greatest stamp wins","live":[{{"version":"{V1}","time":"2026-01-02T03:04:05.678Z","author":"{ADA}","type":"register","op":"put","value":"x","wins":true}},{{"version":"{V2}","time":"2026-01-02T03:04:04.000Z","author":"{BOB}","type":"register","op":"put","value":"y","wins":false}}]}}"#
    );
    let fake = Fake::default().on("GET /v1/spaces/default/diff/k?from=-5m", 200, &diff).on(
        "GET /v1/spaces/default/explain/k",
        200,
        &explain,
    );
    insta::assert_snapshot!(session(&fake, &["diff k -5m", "explain k"]), @r#"
    $ diff k -5m
    > GET /v1/spaces/default/diff/k?from=-5m
    - b: 2
    + b: 3
    + c: 4
    exit 0
    $ explain k
    > GET /v1/spaces/default/explain/k
    key    k
    type   register
    value  "x"
    rule   the greatest stamp wins

       VERSION       TIME                      AUTHOR        OP   FIELD  VALUE
    *  3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  put         "x"
       77b0e5d2c3f4  2026-01-02T03:04:04.000Z  b0bb0bb0bb0b  put         "y"
    exit 0
    "#);
}

#[test]
fn what_does_not_count_is_told_in_words() {
    let (id, time) = (V1.trim_end_matches(".0"), "2026-01-02T03:04:05.678Z");
    let why = format!(r#"{{"code":"revoked","text":"the grant {id} was revoked by {id}"}}"#);
    let event = |rest: &str| {
        format!(
            r#"{{"version":"{V2}","parents":[],"time":"{time}","author":"{BOB}","seq":2,"op":"put","value":"y","grant":"{id}",{rest}}}"#
        )
    };
    let explain = |shown: &str, live: &str| {
        format!(
            r#"{{"key":"k",{shown},"live":[{live}],"inert":[{}],"inert_more":true}}"#,
            event(&format!(r#""why":{why}"#))
        )
    };
    let live = format!(
        r#"{{"version":"{V1}","time":"{time}","author":"{ADA}","type":"register","op":"put","value":"x","wins":true,"grant":"{id}"}}"#
    );
    let history = format!(r#"{{"key":"k","events":[{}]}}"#, event(&format!(r#""inert":{why}"#)));
    let commit = |kind: &str, rest: &str| {
        format!(
            r#"{{"commit":"{id}","author":"{ADA}","seq":1,"time":"{time}","kind":"{kind}","parents":[],"events":0,"keys":[],{rest}}}"#
        )
    };
    let commits = [
        commit("revoke", &format!(r#""act":{{"revokes":"{id}"}}"#)),
        commit(
            "grant",
            &format!(
                r#""act":{{"to":"{BOB}","bearer":null,"can":["read","put"],"prefixes":["a/","b/"],"expires":null,"depth":0}}"#
            ),
        ),
        commit(
            "grant",
            r#""act":{"to":null,"bearer":"00","can":["read"],"prefixes":[""],"expires":null,"depth":0}"#,
        ),
        commit("ack", &format!(r#""inert":{why}"#)),
    ];
    let commits = format!(r#"{{"space":"s","commits":[{}]}}"#, commits.join(","));
    let shown = r#""type":"register","value":"x","rule":"One put is live""#;
    let nothing = r#""type":null,"value":null,"rule":"Nothing that counts is live.""#;
    let spaces = "GET /v1/spaces/default";
    let fake = Fake::default()
        .on(&format!("{spaces}/explain/k"), 200, &explain(shown, &live))
        .on(&format!("{spaces}/explain/o"), 200, &explain(nothing, ""))
        .on(&format!("{spaces}/history/k?limit=0&all=true"), 200, &history)
        .on(&format!("{spaces}/history?limit=0&all=true"), 200, &commits);
    let lines = ["explain k", "explain o", "history k --all", "history --all"];
    insta::assert_snapshot!(session(&fake, &lines), @r#"
    $ explain k
    > GET /v1/spaces/default/explain/k
    key    k
    type   register
    value  "x"
    rule   One put is live

       VERSION       TIME                      AUTHOR        OP   FIELD  VALUE  GRANT
    *  3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  put         "x"    3f2ac19b04d1

    INERT         TIME                      AUTHOR        OP   VALUE  WHY
    77b0e5d2c3f4  2026-01-02T03:04:05.678Z  b0bb0bb0bb0b  put  "y"    the grant 3f2ac19b04d1 was revoked by 3f2ac19b04d1
    note: There are more: kdelta history KEY --all
    exit 0
    $ explain o
    > GET /v1/spaces/default/explain/o
    key   o
    rule  Nothing that counts is live.

    INERT         TIME                      AUTHOR        OP   VALUE  WHY
    77b0e5d2c3f4  2026-01-02T03:04:05.678Z  b0bb0bb0bb0b  put  "y"    the grant 3f2ac19b04d1 was revoked by 3f2ac19b04d1
    note: There are more: kdelta history KEY --all
    exit 0
    $ history k --all
    > GET /v1/spaces/default/history/k?limit=0&all=true
    VERSION       TIME                      AUTHOR        OP   VALUE
    77b0e5d2c3f4  2026-01-02T03:04:05.678Z  b0bb0bb0bb0b  put  "y" (inert: the grant 3f2ac19b04d1 was revoked by 3f2ac19b04d1)
    exit 0
    $ history --all
    > GET /v1/spaces/default/history?limit=0&all=true
    COMMIT        TIME                      AUTHOR        EVENTS  WHAT
    3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  0       revoke 3f2ac19b04d1
    3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  0       grant to b0bb0bb0bb0b: read,put a/* b/*
    3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  0       grant to whoever bears it: read *
    3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0  0       ack (inert: the grant 3f2ac19b04d1 was revoked by 3f2ac19b04d1)
    exit 0
    "#);
}

#[test]
fn tags_peers_and_spaces_are_managed() {
    let tag = format!(
        r#"{{"name":"v1","version":"{V1}","time":"2026-01-02T03:04:05.678Z","author":"{ADA}"}}"#
    );
    let peers = format!(
        r#"{{"peers":[{{"replica":"{BOB}","address":"192.0.2.7:7440","connected":true,"in_sync":true,"since":"2026-01-02T03:04:05.678Z","rtt_ms":1.25}},{{"replica":"{ADA}","address":null,"connected":false,"in_sync":null,"since":null,"rtt_ms":null}}],"nearby":[{{"replica":"{ADA}","address":"192.0.2.9:7440"}}]}}"#
    );
    let space = format!(
        r#"{{"name":"team","id":"{BOB}","keys":3,"events":9,"frontier":[],"state_hash":null,"value_hash":"{ADA}"}}"#
    );
    let fake = Fake::default()
        .on("PUT /v1/spaces/default/tags/v1?at=-1h", 200, &tag)
        .on("GET /v1/spaces/default/tags", 200, &format!(r#"{{"tags":[{tag}]}}"#))
        .on("DELETE /v1/spaces/default/tags/v1", 200, r#"{"name":"v1"}"#)
        .on("GET /v1/peers", 200, &peers)
        .on("POST /v1/peers", 200, r#"{"replica":"b"}"#)
        .on(&format!("DELETE /v1/peers/{BOB}"), 200, r#"{"replica":"b"}"#)
        .on("GET /v1/spaces", 200, &format!(r#"{{"spaces":[{space}]}}"#))
        .on("POST /v1/spaces", 200, &space)
        .on("POST /v1/spaces/join", 200, &space);
    let seen = session(
        &fake,
        &[
            "tag v1 --at -1h",
            "tag list",
            "tag delete v1 --dry-run",
            "tag delete v2 --dry-run",
            "tag delete v1",
            "peers",
            &format!("peers add {BOB}@192.0.2.7:7440"),
            &format!("peers remove {BOB} --yes --json"),
            "peers add bob",
            "space list",
            "space create team",
            "space join kd1abc --as team",
        ],
    );
    insta::assert_snapshot!(seen, @r#"
    $ tag v1 --at -1h
    > PUT /v1/spaces/default/tags/v1?at=-1h
    v1 3f2ac19b04d1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.0
    exit 0
    $ tag list
    > GET /v1/spaces/default/tags
    TAG  VERSION       TIME                      AUTHOR
    v1   3f2ac19b04d1  2026-01-02T03:04:05.678Z  ada0ada0ada0
    exit 0
    $ tag delete v1 --dry-run
    > GET /v1/spaces/default/tags
    would delete tag v1
    exit 0
    $ tag delete v2 --dry-run
    > GET /v1/spaces/default/tags
    error: no tag "v2" in this space. List the tags: kdelta tag list
    exit 3
    $ tag delete v1
    > DELETE /v1/spaces/default/tags/v1
    deleted tag v1
    exit 0
    $ peers
    > GET /v1/peers
    PEER          ADDRESS         CONNECTED  IN SYNC  SINCE                     RTT
    b0bb0bb0bb0b  192.0.2.7:7440  yes        yes      2026-01-02T03:04:05.678Z  1.2 ms
    ada0ada0ada0                  no

    NEARBY, NOT ADMITTED                                              ADDRESS
    ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0  192.0.2.9:7440
    exit 0
    $ peers add b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb@192.0.2.7:7440
    > POST /v1/peers content-type=application/json {"replica":"b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb","space":"default","address":"192.0.2.7:7440"}
    admitted b0bb0bb0bb0b
    exit 0
    $ peers remove b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb --yes --json
    > DELETE /v1/peers/b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb
    {"replica":"b"}
    exit 0
    $ peers add bob
    error: "bob" is no replica id. It has 64 hexadecimal digits; the peer prints it with: kdelta id show
    exit 2
    $ space list
    > GET /v1/spaces
    SPACE  ID            KEYS  EVENTS  STATE       VALUE
    team   b0bb0bb0bb0b  3     9       incomplete  ada0ada0ada0
    exit 0
    $ space create team
    > POST /v1/spaces content-type=application/json {"name":"team"}
    team b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb
    exit 0
    $ space join kd1abc --as team
    > POST /v1/spaces/join content-type=application/json {"ticket":"kd1abc","as":"team"}
    team b0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb0bb
    exit 0
    "#);
}

#[test]
fn the_store_is_looked_after() {
    let status = format!(
        r#"{{"replica":"{ADA}","node_running":false,"spaces":[{{"name":"default","id":"{BOB}","keys":2,"events":5,"frontier":[],"state_hash":"{ADA}","value_hash":"{BOB}"}}],"listen":null,"http":null,"peers":[],"disk_bytes":1048576,"memory_bytes":2048,"recovered":{{"clean":true,"replayed_events":0,"truncated_bytes":0}}}}"#
    );
    let fake = Fake::default()
        .on("GET /v1/status", 200, &status)
        .on("GET /v1/stats", 200, r#"{"log":{"segments":2,"bytes":10},"keys":3}"#)
        .on(
            "POST /v1/repair",
            200,
            r#"{"ok":false,"repaired":["a"],"rebuilt":[],"missing":["b"]}"#,
        );
    let dir = tempfile::tempdir().unwrap();
    let mut seen = session(&fake, &["stats", "verify", "verify --deep", "repair", "ticket"]);
    let at = tempfile::tempdir().unwrap();
    let outcome = fake.run(at.path(), "status");
    seen.push_str(&shown(&outcome));
    // The name of the data directory differs from run to run, and so does the width it takes.
    let seen = seen.replace(&at.path().display().to_string(), "DIR");
    let held = seen.lines().map(|line| match line.find("no node runs on ") {
        Some(start) => {
            let rest = line.split_once(", so nobody").map_or("", |(_, rest)| rest);
            format!("{}no node runs on DIR, so nobody{rest}\n", &line[..start])
        }
        None => format!("{line}\n"),
    });
    insta::assert_snapshot!(held.collect::<String>(), @r#"
    $ stats
    > GET /v1/stats
    log.segments  2
    log.bytes     10
    keys          3
    exit 0
    $ verify
    1 segment, 2 commits, 3 events, 4.00 KiB
    exit 0
    $ verify --deep
    1 segment, 2 commits, 3 events, 4.00 KiB
    FILE                      OFFSET  KIND      AFFECTED
    log/0000000000000001.seg  4096    checksum  user/1 user/2
    error: damage was found in 1 place. Fetch what is lost from peers: kdelta repair
    exit 7
    $ repair
    > POST /v1/repair content-type=application/json {"from":[]}
    1 damaged part replaced, 0 derived files rebuilt
    still missing: b
    error: something is still missing. Name a peer that may hold it: kdelta repair --from ID@ADDR
    exit 7
    $ ticket
    error: no node runs on DIR, so nobody could be met. Start one in another terminal: kdelta serve
    exit 6
    replica     ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0ada0
    node        not running
    data        DIR
    disk        1.00 MiB
    memory      2.00 KiB
    last close  in order

    SPACE    ID            KEYS  EVENTS  STATE         VALUE
    default  b0bb0bb0bb0b  2     5       ada0ada0ada0  b0bb0bb0bb0b
    exit 0
    "#);
    let file = dir.path().join("taken");
    std::fs::write(&file, b"").unwrap();
    let refused = fake.run(dir.path(), &format!("backup {}", file.display()));
    assert_eq!(refused.exit, 4);
}

#[test]
fn the_settings_are_told_with_their_origin() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kdelta.toml"), "wait = \"1s\"\n").unwrap();
    let outcome = Fake::default().run(dir.path(), "config show --space s --json");
    let seen = outcome.stdout.replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(seen, @r#"{"settings":[{"name":"data-dir","value":"DIR","origin":"environment KDELTA_DATA_DIR"},{"name":"space","value":"s","origin":"flag"},{"name":"memory","value":536870912,"origin":"default"},{"name":"wait-ms","value":1000,"origin":"file DIR/kdelta.toml"},{"name":"durability","value":"local","origin":"default"},{"name":"log","value":"warn","origin":"default"},{"name":"log-format","value":"text","origin":"default"},{"name":"listen","value":"[::]:7440","origin":"default"},{"name":"mdns","value":"on","origin":"default"},{"name":"http","value":"127.0.0.1:7441","origin":"default"},{"name":"http-auth","value":"token","origin":"default"},{"name":"http-allow","value":"","origin":"default"},{"name":"http-cert","value":"","origin":"default"},{"name":"http-key","value":"","origin":"default"},{"name":"otlp","value":"off","origin":"default"},{"name":"url","value":"","origin":"default"},{"name":"token-file","value":"","origin":"default"},{"name":"cacert","value":"","origin":"default"},{"name":"passphrase-file","value":"","origin":"default"}]}"#);
}
