//! What does not count in an owned space: shown where it is asked for, and why.

use serde_json::{Value, json};

use super::past::{cursor_of, messages};
use super::{Client, refusal};
use crate::engine::event::Owned;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Who owns the space `default`, a replica that may write there, and the id of its grant.
async fn team() -> (Client, Client, String) {
    let (a, b) = (Client::new(), Client::new());
    let owned = Owned { difficulty: 0, roots: vec![a.replica.id()] };
    a.replica.create_owned_space("default", owned).unwrap();
    let to = b.replica.id().to_string();
    let asked = json!({"to": to, "can": ["read", "write"]}).to_string();
    let grant = a.send("POST /v1/grants", &JSON, asked).await.ok();
    b.pull(&a);
    (a, b, grant["id"].as_str().unwrap().to_owned())
}

async fn revoke(a: &Client, grant: &str) {
    a.send(&format!("DELETE /v1/grants/{grant}"), &[], "").await.ok();
}

#[tokio::test]
async fn what_a_revoked_writer_wrote_is_shown_everywhere_with_the_reason() {
    let (a, b, grant) = team().await;
    let first = b.put("k", "1").await.ok();
    a.pull(&b);
    revoke(&a, &grant).await;
    let second = b.put("k", "2").await.ok();
    b.put("only", "3").await.ok();
    a.pull(&b);
    b.pull(&a);
    let told = a.get("explain/k").await.ok();
    assert_eq!((&told["value"], &told["live"][0]["grant"]), (&json!(1), &json!(grant)));
    let inert = told["inert"].as_array().unwrap();
    assert_eq!(inert.len(), 1);
    assert_eq!((&inert[0]["version"], &inert[0]["value"]), (&second["version"], &json!(2)));
    assert_eq!((&inert[0]["op"], &inert[0]["author"]), (&json!("put"), &second["author"]));
    assert_eq!(inert[0]["why"]["code"], "revoked");
    let text = inert[0]["why"]["text"].as_str().unwrap();
    assert!(text.starts_with(&format!("the grant {grant} was revoked by ")), "{text}");
    // Nothing of this key counts: there is still something to be explained.
    let only = a.get("explain/only").await.ok();
    assert_eq!(
        (&only["type"], &only["value"], &only["live"]),
        (&json!(null), &json!(null), &json!([]))
    );
    assert_eq!(only["inert"][0]["why"]["code"], "revoked");
    assert_eq!(a.get("explain/none").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(a.get("keys/only").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(a.get("history/only").await.refused(), refusal(404, "not_found", 3));
    let events = a.get("history/k").await.ok()["events"].as_array().unwrap().clone();
    assert_eq!((events.len(), &events[0]["grant"]), (1, &json!(grant)));
    let all = a.get("history/k?all=true").await.ok()["events"].clone();
    assert_eq!((&all[0]["inert"], &all[1]), (&inert[0]["why"], &events[0]));
    assert_eq!(all[0]["parents"], json!([first["version"]]));
    for target in ["explain/k", "explain/only", "history/k?all=true", "history/only?all=true"] {
        assert_eq!(a.get(target).await.ok(), b.get(target).await.ok(), "{target}");
    }
}

#[tokio::test]
async fn a_space_tells_who_was_granted_what_and_which_commits_do_not_count() {
    let (a, b, grant) = team().await;
    b.put("k", "1").await.ok();
    a.pull(&b);
    revoke(&a, &grant).await;
    b.put("k", "2").await.ok();
    a.pull(&b);
    b.pull(&a);
    let commits = async |client: &Client, target: &str| {
        client.get(target).await.ok()["commits"].as_array().unwrap().clone()
    };
    let counted = commits(&a, "history").await;
    let kinds: Vec<&Value> = counted.iter().map(|commit| &commit["kind"]).collect();
    assert_eq!(kinds, ["revoke", "data", "grant", "genesis"]);
    assert_eq!(counted[0]["act"], json!({"revokes": grant}));
    let said = &counted[2]["act"];
    assert_eq!(
        (&counted[2]["commit"], &said["can"]),
        (&json!(grant), &json!(["read", "put", "delete"]))
    );
    assert_eq!(
        (&said["to"], &said["prefixes"]),
        (&json!(b.replica.id().to_string()), &json!([""]))
    );
    assert_eq!(counted[1]["grant"], json!(grant));
    let all = commits(&a, "history?all=true").await;
    let inert: Vec<&Value> = all.iter().filter(|commit| commit.get("inert").is_some()).collect();
    assert_eq!((all.len(), inert.len()), (5, 1));
    assert_eq!((&inert[0]["keys"], &inert[0]["inert"]["code"]), (&json!(["k"]), &json!("revoked")));
    assert_eq!(all, commits(&b, "history?all=true").await);
    assert_eq!(counted, commits(&b, "history").await);
    assert_eq!(commits(&a, "history?all=true&limit=2").await, all[..2]);
}

#[tokio::test]
async fn an_export_leaves_out_what_does_not_count() {
    let (a, b, grant) = team().await;
    b.put("k", "1").await.ok();
    b.op("n", r#"{"op":"counter_add","by":1}"#).await.ok();
    a.pull(&b);
    revoke(&a, &grant).await;
    // Had it counted, the key would be of another type by then.
    b.op("n", r#"{"op":"put","value":"text","retype":true}"#).await.ok();
    b.post("batch", r#"{"batch":[{"op":"put","key":"k","value":2}],"tag":"t","note":"n"}"#)
        .await
        .ok();
    a.op("n", r#"{"op":"counter_add","by":2}"#).await.ok();
    a.pull(&b);
    b.pull(&a);
    for client in [&a, &b] {
        let exported = client.get("export?history=true").await;
        let lines = exported.lines();
        assert_eq!(lines.len(), 3, "{}", exported.text);
        assert!(lines.iter().all(|line| line.get("note").is_none() && line.get("tag").is_none()));
        let fresh = Client::new();
        let imported = fresh.lines("import", &exported.text).await.ok();
        assert_eq!(imported["rejected"], 0, "{imported}");
        assert_eq!(fresh.shown().await, a.shown().await);
        assert_eq!(fresh.shown().await, [json!(["k", "register", 1]), json!(["n", "counter", 3])]);
    }
}

#[tokio::test]
async fn an_export_knows_of_a_revocation_before_it_comes_to_it() {
    let (a, b) = (Client::new(), Client::new());
    let owned = Owned { difficulty: 0, roots: vec![a.replica.id()] };
    a.replica.create_owned_space("default", owned).unwrap();
    let to = b.replica.id().to_string();
    let mut grants = Vec::new();
    for prefix in ["n", "m"] {
        let asked = json!({"to": to, "can": ["write"], "prefixes": [prefix]}).to_string();
        let grant = a.send("POST /v1/grants", &JSON, asked).await.ok();
        grants.push(grant["id"].as_str().unwrap().to_owned());
    }
    b.pull(&a);
    b.op("n", r#"{"op":"counter_add","by":1}"#).await.ok();
    a.pull(&b);
    b.op("n", r#"{"op":"put","value":"inert","retype":true}"#).await.ok();
    // Under the other grant, so that it counts whatever comes before it in the log.
    b.put("m", "1").await.ok();
    a.op("n", r#"{"op":"put","value":"x","retype":true}"#).await.ok();
    revoke(&a, &grants[0]).await;
    b.pull(&a);
    let exported = b.get("export?history=true").await;
    let fresh = Client::new();
    fresh.lines("import", &exported.text).await.ok();
    assert_eq!(fresh.shown().await, b.shown().await, "{}", exported.text);
    assert_eq!(exported.lines().len(), 3, "nothing had to be set right: {}", exported.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_what_keys_show_once_a_revocation_comes() {
    let (a, b, grant) = team().await;
    b.put("k", "1").await.ok();
    a.pull(&b);
    revoke(&a, &grant).await;
    let start = cursor_of(&b).await;
    b.put("k", "2").await.ok();
    b.put("only", "3").await.ok();
    let before = messages(&b, &format!("?from={start}"), 2).await;
    assert_eq!((&before[0]["current"], &before[1]["current"]), (&json!(2), &json!(3)));
    b.pull(&a);
    let last = before[1]["cursor"].as_str().unwrap();
    let told = messages(&b, &format!("?from={last}"), 3).await;
    let keys: Vec<&Value> = told.iter().map(|change| &change["key"]).collect();
    assert_eq!(keys, ["first", "k", "only"]);
    let shown: Vec<&Value> = told.iter().map(|change| &change["current"]).collect();
    assert_eq!(shown, [&json!(null), &json!(1), &json!(null)]);
    for change in &told {
        assert_eq!((&change["op"], &change["commit"]), (&json!("revoke"), &json!(null)));
        assert_eq!(change["author"], a.replica.id().to_string());
    }
    // What was told of the revocation is not told again after it.
    let middle = told[1]["cursor"].as_str().unwrap();
    assert_eq!(messages(&b, &format!("?from={middle}"), 1).await, told[2..]);
    let only_k = messages(&b, &format!("?from={last}&prefix=k"), 1).await;
    assert_eq!(only_k[0]["key"], "k");
    // Whoever asks for all is told what does not count too, and why.
    let all = messages(&b, &format!("?from={start}&all=true"), 5).await;
    assert_eq!((&all[0]["value"], &all[0]["current"]), (&json!(2), &json!(1)));
    assert_eq!(all[0]["inert"], b.get("explain/k").await.ok()["inert"][0]["why"]);
    assert_eq!(all[1]["inert"]["code"], "revoked");
    assert_eq!(all[2..], told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revocation_took_from_many_keys_is_told_in_parts() {
    let (a, b, grant) = team().await;
    revoke(&a, &grant).await;
    let start = cursor_of(&b).await;
    for part in 0..3 {
        let put = |at: u32| json!({"op": "put", "key": format!("{part}/{at:03}"), "value": at});
        let batch: Vec<Value> = (0..200).map(put).collect();
        b.post("batch", &json!({ "batch": batch }).to_string()).await.ok();
    }
    b.pull(&a);
    let told = messages(&b, &format!("?from={start}"), 601).await;
    let keys: Vec<&str> = told.iter().map(|change| change["key"].as_str().unwrap()).collect();
    assert!(keys.is_sorted_by_key(|key| key.replace("first", "")), "each is told once, in order");
    assert_eq!((keys.len(), keys[0], keys[600]), (601, "first", "2/199"));
    // Within a commit nobody knows how far it was read: it is told again.
    let middle = told[300]["cursor"].as_str().unwrap();
    assert_eq!(messages(&b, &format!("?from={middle}"), 400).await, told[201..]);
    let end = told[400]["cursor"].as_str().unwrap();
    assert_eq!(messages(&b, &format!("?from={end}"), 200).await, told[401..]);
}
