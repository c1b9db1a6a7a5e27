//! Single keys: values, conditions, types and pages.

use serde_json::json;

use super::{Client, refusal};

#[tokio::test]
async fn what_was_put_is_got_digit_for_digit() {
    let client = Client::new();
    for value in ["9007199254740993", "1.0", "\"text\"", "null", "[1,2.50]", "{\"a\":1e2,\"b\":[]}"]
    {
        client.put("k", value).await.ok();
        let got = client.get("keys/k").await;
        assert!(got.text.contains(&format!("\"value\":{value},")), "{value}: {}", got.text);
    }
    client.put("k", "{ \"b\": 1, \"a\": 2 }").await.ok();
    assert!(client.get("keys/k").await.text.contains(r#""value":{"a":2,"b":1}"#));
    let refused = client.put("k", r#"{"a":1,"a":2}"#).await;
    assert_eq!(refused.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn a_view_has_all_its_members() {
    let client = Client::new();
    let wrote = client.put("k", "1").await.ok();
    let got = client.get("keys/k").await;
    let view = got.ok();
    assert_eq!(got.headers["etag"], format!("\"{}\"", view["context"].as_str().unwrap()));
    assert_eq!(view["version"], wrote["version"]);
    assert_eq!(view["time"], wrote["time"]);
    assert_eq!(view["author"], wrote["author"]);
    assert_eq!((&view["type"], &view["conflicts"]), (&json!("register"), &json!([])));
    assert_eq!((&wrote["key"], &wrote["durable"]), (&json!("k"), &json!(true)));
    assert_eq!(wrote["seq"], 2, "the genesis is the first");
}

#[tokio::test]
async fn keys_are_any_text() {
    let client = Client::new();
    for key in ["a%2F..%2Fb", "%2Fx%2F%2Fy%2F", "%C3%A4%20b", "a+b", "x/../y", "%25"] {
        client.put(key, "1").await.ok();
        assert_eq!(client.get(&format!("keys/{key}")).await.ok()["value"], 1, "{key}");
    }
    assert_eq!(client.get("keys?key=a%2Bb").await.ok()["key"], "a+b");
    assert_eq!(client.get("keys/%FF").await.refused(), refusal(400, "usage", 2));
    assert_eq!(client.get("keys/").await.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn bytes_come_back_as_base64() {
    let client = Client::new();
    let octets = [("content-type", "application/octet-stream")];
    let put = client.send("PUT /v1/spaces/default/keys/b", &octets, vec![0_u8, 255]).await;
    put.ok();
    let got = client.get("keys/b").await.ok();
    assert_eq!((&got["type"], &got["value"]), (&json!("bytes"), &json!({"base64": "AP8="})));
    let plain = client.send("PUT /v1/spaces/default/keys/b", &[], "1").await;
    assert_eq!(plain.refused(), refusal(415, "usage", 2));
}

#[tokio::test]
async fn values_over_the_limit_are_refused() {
    let client = Client::new();
    let octets = [("content-type", "application/octet-stream")];
    let most = crate::engine::limits::VALUE_BYTES_MAX;
    let put = client.send("PUT /v1/spaces/default/keys/b", &octets, vec![0_u8; most]).await;
    put.ok();
    let put = client.send("PUT /v1/spaces/default/keys/b", &octets, vec![0_u8; most + 1]).await;
    assert_eq!(put.refused(), refusal(413, "limit", 9));
    let text = format!("\"{}\"", "x".repeat(most));
    assert_eq!(client.put("k", &text).await.refused(), refusal(413, "limit", 9));
}

#[tokio::test]
async fn typed_ops_do_what_they_say() {
    let client = Client::new();
    client.op("c", r#"{"op":"counter_add","by":5}"#).await.ok();
    client.op("c", r#"{"op":"counter_add","by":-2}"#).await.ok();
    assert_eq!(client.get("keys/c").await.ok()["value"], 3);
    client.op("s", r#"{"op":"set_add","elements":["b","a",1]}"#).await.ok();
    client.op("s", r#"{"op":"set_remove","elements":["b"]}"#).await.ok();
    assert_eq!(client.get("keys/s").await.ok()["value"], json!(["a", 1]));
    client.op("m", r#"{"op":"map_put","field":"f","value":{"x":1.50}}"#).await.ok();
    assert!(client.get("keys/m").await.text.contains(r#"{"f":{"x":1.50}}"#));
    client.op("m", r#"{"op":"map_delete","field":"f"}"#).await.ok();
    assert_eq!(client.get("keys/m").await.refused(), refusal(404, "not_found", 3));
    let over = client.op("c", r#"{"op":"counter_add","by":9223372036854775807}"#).await;
    assert_eq!(over.refused(), refusal(409, "overflow", 4));
}

#[tokio::test]
async fn another_type_needs_a_retype() {
    let client = Client::new();
    client.put("k", "1").await.ok();
    let op = client.op("k", r#"{"op":"counter_add"}"#).await;
    assert_eq!(op.refused(), refusal(409, "type_mismatch", 4));
    client.op("k", r#"{"op":"counter_add","retype":true}"#).await.ok();
    assert_eq!(client.put("k", "1").await.refused(), refusal(409, "type_mismatch", 4));
    client.put("k?retype=true", "1").await.ok();
    assert_eq!(client.get("keys/k").await.ok()["type"], "register");
}

#[tokio::test]
async fn a_condition_that_does_not_hold_writes_nothing() {
    let client = Client::new();
    let put = async |headers: &[(&str, &str)], query: &str| {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        client.send(&format!("PUT /v1/spaces/default/keys/k{query}"), &headers, "1").await
    };
    let first = put(&[("if-none-match", "*")], "").await.ok();
    let again = put(&[("if-none-match", "*")], "").await;
    assert_eq!(again.refused(), refusal(412, "precondition_failed", 4));
    assert_eq!(again.json()["version"], first["version"]);
    assert!(put(&[], "?if_version=none").await.status.is_client_error());
    let version = first["version"].as_str().unwrap();
    put(&[], &format!("?if_version={version}")).await.ok();
    assert_eq!(put(&[], &format!("?if_version={version}")).await.refused().0, 412);
    let etag = client.get("keys/k").await.headers["etag"].to_str().unwrap().to_owned();
    put(&[("if-match", &etag)], "").await.ok();
    assert_eq!(put(&[("if-match", &etag)], "").await.refused().0, 412);
    put(&[("if-match", "*")], "").await.ok();
    let both = put(&[("if-match", "*")], "?if_version=none").await;
    assert_eq!(both.refused(), refusal(400, "usage", 2));
    let etag = client.get("keys/k").await.headers["etag"].to_str().unwrap().to_owned();
    let known = [("if-none-match", etag.as_str())];
    assert_eq!(client.send("GET /v1/spaces/default/keys/k", &known, "").await.status, 304);
    let absent = client.op("x", r#"{"op":"put","value":1,"if_version":"none"}"#).await;
    absent.ok();
}

#[tokio::test]
async fn a_delete_that_is_only_tried_heeds_its_condition() {
    let client = Client::new();
    let version = client.put("k", "1").await.ok()["version"].as_str().unwrap().to_owned();
    let dry = |condition: &str| format!("keys/k?dry_run=true&if_version={condition}");
    let delete = async |target: String| {
        client.send(&format!("DELETE /v1/spaces/default/{target}"), &[], "").await
    };
    assert_eq!(delete(dry(&version)).await.ok()["live"], 1);
    assert_eq!(delete(dry("none")).await.refused(), refusal(412, "precondition_failed", 4));
    assert_eq!(delete(dry("x")).await.refused(), refusal(400, "usage", 2));
    assert_eq!(client.get("keys/k").await.ok()["value"], 1);
}

#[tokio::test]
async fn the_same_request_twice_is_one_write() {
    let client = Client::new();
    let headers = [("content-type", "application/json"), ("idempotency-key", "r1")];
    let what = "POST /v1/spaces/default/ops/c";
    let first = client.send(what, &headers, r#"{"op":"counter_add"}"#).await.ok();
    let again = client.send(what, &headers, r#"{"op":"counter_add"}"#).await.ok();
    assert_eq!(again["version"], first["version"]);
    assert_eq!(again["repeated"], true);
    client.op("c", r#"{"op":"counter_add","request_id":"r1"}"#).await.ok();
    assert_eq!(client.get("keys/c").await.ok()["value"], 1);
}

#[tokio::test]
async fn a_delete_says_if_there_was_nothing() {
    let client = Client::new();
    client.put("k", "1").await.ok();
    client.delete("k").await.ok();
    assert_eq!(client.get("keys/k").await.refused(), refusal(404, "not_found", 3));
    assert_eq!(client.delete("k").await.refused(), refusal(404, "not_found", 3));
}

#[tokio::test]
async fn durability_is_as_asked() {
    let client = Client::new();
    let put = async |prefer: &str| {
        let headers = [("content-type", "application/json"), ("prefer", prefer)];
        client.send("PUT /v1/spaces/default/keys/k", &headers, "1").await
    };
    assert_eq!(put("durability=buffered").await.ok()["durable"], false);
    assert_eq!(put("durability=local").await.ok()["durable"], true);
    assert_eq!(put("durability=soon").await.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn pages_follow_each_other() {
    let client = Client::new();
    for key in ["a", "p/1", "p/2", "p/3", "q"] {
        client.put(key, "1").await.ok();
    }
    client.delete("p/2").await.ok();
    let page = client.get("keys?prefix=p/&limit=1").await.ok();
    assert_eq!((&page["keys"][0]["key"], &page["next"]), (&json!("p/1"), &json!("p/1")));
    assert!(page["keys"][0].get("value").is_none());
    let page = client.get("keys?prefix=p/&limit=1&after=p/1&values=true").await.ok();
    assert_eq!(page["keys"][0]["key"], "p/3");
    assert_eq!((&page["keys"][0]["value"], &page["next"]), (&json!(1), &json!(null)));
    let all = client.get("keys").await.ok();
    assert_eq!((all["keys"].as_array().unwrap().len(), &all["next"]), (4, &json!(null)));
    let lines = client.get("keys?limit=0").await;
    assert_eq!(lines.headers["content-type"], "application/jsonl");
    assert_eq!(lines.lines().len(), 4);
    assert_eq!(client.get("keys?limit=x").await.refused(), refusal(400, "usage", 2));
}

#[tokio::test]
async fn a_long_list_is_read_in_slices() {
    let client = Client::new();
    let lines: String = (0..3000)
        .map(|n| format!("{{\"op\":\"put\",\"key\":\"k{n:05}\",\"value\":{n}}}\n"))
        .collect();
    client.lines("batch", &lines).await.ok();
    let all = client.get("keys?limit=0").await.lines();
    assert_eq!(all.len(), 3000);
    assert!(all.is_sorted_by_key(|line| line["key"].as_str().unwrap().to_owned()));
    let page = client.get("keys?limit=2999").await.ok();
    assert_eq!(page["next"], "k02998");
    assert_eq!(client.get("keys?limit=3000").await.ok()["next"], json!(null));
}
