//! Batches, imports and exports.

use serde_json::{Value, json};

use super::{Client, refusal};

#[tokio::test]
async fn a_batch_is_one_commit_or_nothing() {
    let client = Client::new();
    let ops = r#"{"batch":[{"op":"put","key":"a","value":1},{"op":"counter_add","key":"n","by":2}],
        "tag":"v1","note":"why"}"#;
    let done = client.post("batch", ops).await.ok();
    assert_eq!(
        (&done["commits"], &done["events"], &done["tags"]),
        (&json!(1), &json!(2), &json!(1))
    );
    assert_eq!(client.get("keys/a?at=tag:v1").await.ok()["value"], 1);
    let bad = r#"{"batch":[{"op":"put","key":"b","value":1},{"op":"counter_add","key":"a"}]}"#;
    assert_eq!(client.post("batch", bad).await.refused(), refusal(409, "type_mismatch", 4));
    assert_eq!(client.get("keys/b").await.status, 404);
    assert_eq!(client.post("batch", r#"{"batch":[]}"#).await.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn lines_are_checked_before_the_first_is_written() {
    let client = Client::new();
    let good = "{\"op\":\"put\",\"key\":\"a\",\"value\":1}\n";
    let bad = client.lines("batch?chunk=1", &format!("{good}{good}{{\"op\":\"put\"}}\n")).await;
    assert_eq!(bad.refused(), refusal(400, "usage", 2));
    assert_eq!(bad.json()["line"], 3);
    assert_eq!(client.get("keys/a").await.status, 404);
    let done = client.lines("batch?chunk=2", &good.repeat(5)).await.ok();
    assert_eq!((&done["commits"], &done["events"]), (&json!(3), &json!(5)));
}

#[tokio::test]
async fn an_import_run_again_skips_what_is_in() {
    let client = Client::new();
    let line = "{\"op\":\"counter_add\",\"key\":\"n\",\"by\":1}\n";
    let tagged = "{\"op\":\"put\",\"key\":\"a\",\"value\":1,\"tag\":\"t\",\"note\":2}\n";
    let lines = format!("{line}{line}\n{tagged}");
    let first = client.lines("import", &lines).await.ok();
    assert_eq!(
        first,
        json!({"commits": 3, "events": 3, "rejected": 0, "tags": 1, "skipped": 0, "durable": true})
    );
    assert_eq!(client.get("keys/n").await.ok()["value"], 2);
    let again = client.lines("import", &format!("{lines}{line}")).await.ok();
    assert_eq!(
        (&again["commits"], &again["skipped"], &again["tags"]),
        (&json!(1), &json!(3), &json!(0))
    );
    assert_eq!(client.get("keys/n").await.ok()["value"], 3);
}

#[tokio::test]
async fn a_bad_line_stops_an_import_after_those_before_it() {
    let client = Client::new();
    let lines = "{\"op\":\"put\",\"key\":\"a\",\"value\":1}\n\n\
        {\"op\":\"counter_add\",\"key\":\"a\"}\n{\"op\":\"put\",\"key\":\"b\",\"value\":1}\n";
    let stopped = client.lines("import", lines).await;
    assert_eq!(stopped.refused(), refusal(400, "partial", 8));
    let told = stopped.json();
    assert_eq!(
        (&told["line"], &told["commits"], &told["rejected"]),
        (&json!(3), &json!(1), &json!(1))
    );
    assert!(told["reason"].as_str().unwrap().contains("counter"), "{told}");
    assert_eq!(client.get("keys/a").await.ok()["value"], 1);
    assert_eq!(client.get("keys/b").await.status, 404);
}

/// Writes a bit of everything.
async fn fill(client: &Client) {
    client.put("r", "{\"n\":1.0}").await.ok();
    client.put("r", "2").await.ok();
    client.put("gone", "1").await.ok();
    client.delete("gone").await.ok();
    client.op("c", r#"{"op":"counter_add","by":5}"#).await.ok();
    client.op("c", r#"{"op":"counter_add","by":-2}"#).await.ok();
    client.op("s", r#"{"op":"set_add","elements":["a","b",3]}"#).await.ok();
    client.op("s", r#"{"op":"set_remove","elements":["b"]}"#).await.ok();
    client.op("m", r#"{"op":"map_put","field":"x","value":[1]}"#).await.ok();
    client.op("m", r#"{"op":"map_put","field":"y","value":null}"#).await.ok();
    client.op("t", r#"{"op":"counter_add"}"#).await.ok();
    client.op("t", r#"{"op":"put","value":"text","retype":true}"#).await.ok();
    let octets = [("content-type", "application/octet-stream")];
    client.send("PUT /v1/spaces/default/keys/b", &octets, vec![1_u8, 2]).await.ok();
    client.send("PUT /v1/spaces/default/tags/plain", &[], "").await.ok();
    let batch = r#"{"batch":[{"op":"put","key":"p/1","value":1},{"op":"put","key":"p/2","value":2}],
        "tag":"inside","note":{"n":1}}"#;
    client.post("batch", batch).await.ok();
    client.put("r", "3").await.ok();
}

async fn exported(from: &Client, query: &str) -> (Client, String) {
    let lines = from.get(&format!("export{query}")).await;
    assert_eq!(lines.status, 200, "{}", lines.text);
    let fresh = Client::new();
    fresh.lines("import", &lines.text).await.ok();
    (fresh, lines.text)
}

#[tokio::test]
async fn an_export_gives_a_fresh_store_the_same_live_state() {
    let client = Client::new();
    fill(&client).await;
    let (fresh, text) = exported(&client, "").await;
    assert_eq!(fresh.shown().await, client.shown().await);
    assert!(text.contains("{\"op\":\"put\",\"key\":\"r\",\"value\":3}\n"), "{text}");
    let (part, _) = exported(&client, "?prefix=p/").await;
    assert_eq!(part.shown().await.len(), 2);
}

/// The history of a key without what is new in every store.
async fn told(client: &Client, key: &str) -> Vec<Value> {
    let history = client.get(&format!("history/{key}?limit=0")).await.ok();
    let told = |event: &Value| {
        let mut event = event.clone();
        let parents = event["parents"].as_array().unwrap().len();
        for member in ["version", "parents", "time", "author", "log", "seq"] {
            event.as_object_mut().unwrap().remove(member);
        }
        json!([event, parents])
    };
    history["events"].as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn an_export_with_history_gives_equal_history_tags_and_notes() {
    let client = Client::new();
    fill(&client).await;
    let version = told(&client, "r").await.len();
    assert_eq!(version, 3);
    let (fresh, text) = exported(&client, "?history=true").await;
    assert_eq!(fresh.shown().await, client.shown().await);
    for key in ["r", "gone", "c", "s", "m", "t", "b", "p/1", "p/2"] {
        assert_eq!(told(&fresh, key).await, told(&client, key).await, "{key}");
    }
    for point in ["tag:plain", "tag:inside"] {
        for key in ["r", "p/1"] {
            let value = async |client: &Client| {
                client.get(&format!("keys/{key}?at={point}")).await.json()["value"].clone()
            };
            assert_eq!(value(&fresh).await, value(&client).await, "{key} at {point}");
        }
    }
    assert!(text.lines().all(|line| line.starts_with("{\"batch\":[")));
    // Run again, all of it is there.
    let again = fresh.lines("import", &text).await.ok();
    assert_eq!(again["commits"], 0);
}

#[tokio::test]
async fn a_tag_in_the_past_stays_there() {
    let client = Client::new();
    let first = client.put("k", "1").await.ok();
    client.put("k", "2").await.ok();
    let commit = first["commit"].as_str().unwrap();
    client.send(&format!("PUT /v1/spaces/default/tags/old?at={commit}"), &[], "").await.ok();
    client.send(&format!("PUT /v1/spaces/default/tags/old2?at={commit}"), &[], "").await.ok();
    let (fresh, _) = exported(&client, "?history=true").await;
    assert_eq!(fresh.get("keys/k?at=tag:old").await.ok()["value"], 1);
    assert_eq!(fresh.get("keys/k?at=tag:old2").await.ok()["value"], 1);
    assert_eq!(fresh.get("keys/k").await.ok()["value"], 2);
}

#[tokio::test]
async fn what_was_concurrent_comes_out_as_it_was_shown() {
    let (a, b) = (Client::new(), Client::new());
    a.put("r", "1").await.ok();
    a.op("s", r#"{"op":"set_add","elements":["x","y"]}"#).await.ok();
    a.put("d", "1").await.ok();
    a.put("both", "1").await.ok();
    a.op("c", r#"{"op":"counter_add","by":1}"#).await.ok();
    b.pull(&a);
    // Apart: the add wins over the remove, the counter over the delete, both delete, types differ.
    a.op("s", r#"{"op":"set_add","elements":["x"]}"#).await.ok();
    b.op("s", r#"{"op":"set_remove","elements":["x"]}"#).await.ok();
    a.op("c", r#"{"op":"counter_add","by":10}"#).await.ok();
    b.delete("c").await.ok();
    a.delete("both").await.ok();
    b.delete("both").await.ok();
    b.op("t", r#"{"op":"counter_add","by":7}"#).await.ok();
    a.put("t", "\"text\"").await.ok();
    b.put("r", "2").await.ok();
    a.put("r", "3").await.ok();
    a.put("d", "5").await.ok();
    b.delete("d").await.ok();
    a.pull(&b);
    b.pull(&a);
    let shown = a.shown().await;
    assert_eq!(shown, b.shown().await);
    for client in [&a, &b] {
        let (fresh, text) = exported(client, "?history=true").await;
        assert_eq!(fresh.shown().await, shown, "{text}");
        let (fresh, text) = exported(client, "").await;
        assert_eq!(fresh.shown().await, shown, "{text}");
    }
}
