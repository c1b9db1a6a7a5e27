//! History, points, tags and watches.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Client, refusal};

#[tokio::test]
async fn a_key_has_its_history_newest_first() {
    let client = Client::new();
    let first = client.put("k", "1").await.ok();
    client.op("k", r#"{"op":"put","value":2,"note":{"why":"test"}}"#).await.ok();
    client.delete("k").await.ok();
    let history = client.get("history/k").await.ok();
    let events = history["events"].as_array().unwrap();
    let ops: Vec<&Value> = events.iter().map(|event| &event["op"]).collect();
    assert_eq!(ops, ["delete", "put", "put"]);
    assert_eq!(events[1]["note"], json!({"why": "test"}));
    assert_eq!(events[1]["parents"], json!([first["version"]]));
    assert_eq!((&events[2]["value"], &events[2]["parents"]), (&json!(1), &json!([])));
    let newest = client.get("history/k?limit=1").await.ok();
    assert_eq!(newest["events"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("history/none").await.refused(), refusal(404, "not_found", 3));
}

#[tokio::test]
async fn every_kind_of_event_is_told() {
    let client = Client::new();
    client.op("c", r#"{"op":"counter_add","by":-7}"#).await.ok();
    client.op("s", r#"{"op":"set_add","elements":["x"]}"#).await.ok();
    client.op("s", r#"{"op":"set_remove","elements":["x"]}"#).await.ok();
    client.op("m", r#"{"op":"map_put","field":"f","value":1}"#).await.ok();
    client.op("m", r#"{"op":"map_delete","field":"f"}"#).await.ok();
    let newest =
        async |key: &str| client.get(&format!("history/{key}")).await.ok()["events"].clone();
    assert_eq!(newest("c").await[0]["by"], -7);
    assert_eq!(newest("s").await[0]["op"], "set_remove");
    assert_eq!(newest("s").await[1]["element"], "x");
    assert_eq!(
        (&newest("m").await[1]["field"], &newest("m").await[1]["value"]),
        (&json!("f"), &json!(1))
    );
    assert_eq!(
        (&newest("m").await[0]["op"], &newest("m").await[0]["field"]),
        (&json!("map_delete"), &json!("f"))
    );
}

#[tokio::test]
async fn a_space_has_its_history_with_parents() {
    let (a, b) = (Client::new(), Client::new());
    a.put("k", "1").await.ok();
    b.pull(&a);
    a.put("k", "2").await.ok();
    b.put("j", "3").await.ok();
    b.pull(&a);
    b.post("batch", r#"{"batch":[{"op":"put","key":"x","value":1}],"tag":"t","note":"n"}"#)
        .await
        .ok();
    let commits = b.get("history").await.ok()["commits"].as_array().unwrap().clone();
    let kinds: Vec<&Value> = commits.iter().map(|commit| &commit["kind"]).collect();
    assert_eq!(kinds, ["data", "data", "data", "data", "genesis"]);
    assert_eq!((&commits[0]["tag"], &commits[0]["note"]), (&json!("t"), &json!("n")));
    assert_eq!(commits[0]["parents"].as_array().unwrap().len(), 2);
    assert_eq!(commits[4]["parents"], json!([]));
    // Parents come after their children, also in a part of it.
    for (at, commit) in commits.iter().enumerate() {
        for parent in commit["parents"].as_array().unwrap() {
            assert!(commits[at + 1..].iter().any(|earlier| earlier["commit"] == *parent));
        }
    }
    assert_eq!(b.get("history?limit=2").await.ok()["commits"], json!(commits[..2]));
}

#[tokio::test]
async fn points_name_the_past() {
    let client = Client::new();
    let first = client.put("k", "1").await.ok();
    client.send("PUT /v1/spaces/default/tags/v%201", &[], "").await.ok();
    client.put("k", "2").await.ok();
    let version = first["version"].as_str().unwrap();
    for point in [version, &version[..12], "tag:v%201"] {
        let then = client.get(&format!("keys/k?at={point}")).await.ok();
        assert_eq!(then["value"], 1, "{point}");
    }
    let list = client.get(&format!("keys?at={version}&values=true")).await.ok();
    assert_eq!(list["keys"][0]["value"], 1);
    assert_eq!(client.get("keys/k?at=0s").await.ok()["value"], 2);
    assert_eq!(client.get("keys/k?at=1d").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(client.get("keys/k?at=tag:x").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(client.get("keys/k?at=soon").await.refused(), refusal(400, "usage", 2));
    assert_eq!(client.get("keys/k?at=00000000").await.refused(), refusal(404, "not_found", 3));
}

#[tokio::test]
async fn tags_are_made_moved_listed_and_deleted() {
    let client = Client::new();
    let first = client.put("k", "1").await.ok();
    client.put("k", "2").await.ok();
    let commit = first["commit"].as_str().unwrap();
    let tag = |at: &str| format!("PUT /v1/spaces/default/tags/v1{at}");
    let made = client.send(&tag(&format!("?at={commit}")), &[], "").await.ok();
    assert_eq!((&made["name"], &made["version"]), (&json!("v1"), &json!(commit)));
    assert_eq!(client.get("keys/k?at=tag:v1").await.ok()["value"], 1);
    let moved = client.send(&tag(""), &[], "").await.ok();
    assert_eq!(client.get("keys/k?at=tag:v1").await.ok()["value"], 2);
    let tags = client.get("tags").await.ok();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 1);
    assert_eq!(tags["tags"][0]["version"], moved["version"]);
    let delete = "DELETE /v1/spaces/default/tags/v1";
    assert_eq!(client.send(delete, &[], "").await.ok()["name"], "v1");
    assert_eq!(client.send(delete, &[], "").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(client.get("tags").await.ok()["tags"], json!([]));
    let bad = client.send("PUT /v1/spaces/default/tags/a%0Ab", &[], "").await;
    assert_eq!(bad.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn a_diff_shows_both_ends_and_what_lies_between() {
    let client = Client::new();
    let first = client.put("k", "1").await.ok();
    let second = client.put("k", "2").await.ok();
    client.put("k", "3").await.ok();
    let commit = |wrote: &Value| wrote["commit"].as_str().unwrap().to_owned();
    let (first, second) = (commit(&first), commit(&second));
    let diff = client.get(&format!("diff/k?from={first}&to={second}")).await.ok();
    assert_eq!((&diff["from"]["value"], &diff["to"]["value"]), (&json!(1), &json!(2)));
    assert_eq!((&diff["changed"], diff["events"].as_array().unwrap().len()), (&json!(true), 1));
    let diff = client.get(&format!("diff/k?from={first}")).await.ok();
    assert_eq!((&diff["to"]["value"], diff["events"].as_array().unwrap().len()), (&json!(3), 2));
    let diff = client.get(&format!("diff/k?from={first}&to={first}")).await.ok();
    assert_eq!((&diff["changed"], &diff["events"]), (&json!(false), &json!([])));
    let diff = client.get("diff/k?from=1d").await.ok();
    assert_eq!(diff["from"], json!(null));
    assert_eq!(client.get("diff/k").await.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn an_explanation_names_every_live_event() {
    let (a, b) = (Client::new(), Client::new());
    a.put("k", "1").await.ok();
    b.pull(&a);
    a.put("k", "2").await.ok();
    b.put("k", "3").await.ok();
    b.op("n", r#"{"op":"counter_add","by":2}"#).await.ok();
    a.pull(&b);
    let told = a.get("explain/k").await.ok();
    let live = told["live"].as_array().unwrap();
    assert_eq!(live.len(), 2);
    assert_eq!(live.iter().filter(|event| event["wins"] == true).count(), 1);
    assert!(told["rule"].as_str().unwrap().contains("2 puts are concurrent"));
    let told = a.get("explain/n").await.ok();
    assert_eq!(
        (&told["live"][0]["op"], &told["live"][0]["wins"]),
        (&json!("counter_add"), &json!(true))
    );
    a.delete("k").await.ok();
    assert_eq!(a.get("explain/k").await.refused(), refusal(404, "not_found", 3));
}

/// Reads messages of a watch until there are `count`.
pub(super) async fn messages(client: &Client, target: &str, count: usize) -> Vec<Value> {
    let request = Request::get(format!("/v1/spaces/default/watch{target}")).body(Body::empty());
    let response = client.router.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut text) = (response.into_body(), String::new());
    loop {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let all: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
        if all.len() >= count && text.ends_with("\n\n") {
            return all;
        }
        let frame = body.frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
}

/// A cursor before everything that a client wrote after its first write.
pub(super) async fn cursor_of(client: &Client) -> String {
    let request = Request::get("/v1/spaces/default/watch").body(Body::empty()).unwrap();
    let mut body = client.router.clone().oneshot(request).await.unwrap().into_body();
    // The first piece says that the watch listens.
    body.frame().await.unwrap().unwrap();
    client.put("first", "0").await.ok();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(frame.into()).unwrap();
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let change: Value = serde_json::from_str(data).unwrap();
    assert_eq!(change["key"], "first");
    change["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_changes_and_goes_on_after_a_cursor() {
    let client = Client::new();
    let start = cursor_of(&client).await;
    let wrote = client.put("p/a", "1").await.ok();
    client
        .post(
            "batch",
            r#"{"batch":[{"op":"put","key":"p/a","value":2},{"op":"put","key":"q","value":1},
        {"op":"counter_add","key":"p/c","by":4}]}"#,
        )
        .await
        .ok();
    client.delete("p/a").await.ok();
    let all = messages(&client, &format!("?from={start}"), 5).await;
    let keys: Vec<&Value> = all.iter().map(|change| &change["key"]).collect();
    assert_eq!(keys, ["p/a", "p/a", "q", "p/c", "p/a"]);
    assert_eq!((&all[0]["version"], &all[0]["value"]), (&wrote["version"], &json!(1)));
    assert_eq!(all[1]["previous"], json!([wrote["version"]]));
    assert_eq!(
        (&all[3]["index"], &all[3]["of"], &all[3]["value"]),
        (&json!(2), &json!(3), &json!(4))
    );
    assert_eq!((&all[4]["op"], &all[4]["type"]), (&json!("delete"), &json!(null)));
    assert_eq!(all[4]["current"], json!(null));
    let middle = all[2]["cursor"].as_str().unwrap();
    let rest = messages(&client, &format!("?from={middle}&prefix=p/"), 2).await;
    assert_eq!(rest, [all[3].clone(), all[4].clone()]);
}

#[tokio::test]
async fn a_cursor_of_another_replica_is_gone() {
    let client = Client::new();
    client.put("k", "1").await.ok();
    for cursor in ["1-40-0-00000000", "nonsense", "ff-0-0-0"] {
        let answer = client.get(&format!("watch?from={cursor}")).await;
        assert_eq!(answer.refused(), refusal(410, "gone", 10), "{cursor}");
    }
}
