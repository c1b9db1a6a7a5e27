use serde_json::json;

use super::{Client, refusal};

async fn filled() -> Client {
    let client = Client::new();
    client.put("user/1", r#"{"name":"Ada","age":36,"city":"London"}"#).await.ok();
    client.put("user/2", r#"{"name":"Bob","age":20,"city":"Oslo"}"#).await.ok();
    client.put("user/3", r#"{"name":"Cid","age":17,"city":"Oslo"}"#).await.ok();
    client.op("stock/nuts", r#"{"op":"counter_add","by":7}"#).await.ok();
    client.op("stock/tags", r#"{"op":"set_add","elements":["red","green"]}"#).await.ok();
    client
}

#[tokio::test]
async fn rows_are_found_by_what_they_hold() {
    let client = filled().await;
    let asked = r#"{"prefix":"user/","where":["age >= 18"],"sort":["age"],"select":["name"]}"#;
    let page = client.post("query", asked).await.ok();
    let names: Vec<_> = page["rows"].as_array().unwrap().iter().map(|row| &row["fields"]).collect();
    assert_eq!(names, [&json!({"name": "Bob"}), &json!({"name": "Ada"})]);
    assert_eq!(page["next"], json!(null));
    let page = client.post("query", r#"{"where":["@type = 'counter'"]}"#).await.ok();
    let row = &page["rows"][0];
    assert_eq!((&row["key"], &row["value"]), (&json!("stock/nuts"), &json!(7)));
    assert!(row["version"].is_string() && row["time"].is_string());
    let page = client.post("query", r#"{"where":["@value contains 'red'"]}"#).await.ok();
    assert_eq!(page["rows"][0]["key"], "stock/tags");
}

#[tokio::test]
async fn a_query_asks_an_earlier_point() {
    let client = filled().await;
    client
        .send("PUT /v1/spaces/default/tags/v1", &[("content-type", "application/json")], "")
        .await
        .ok();
    client.put("user/3", r#"{"name":"Cid","age":18,"city":"Oslo"}"#).await.ok();
    client.delete("user/1").await.ok();
    let sum = |at: &str| format!(r#"{{"prefix":"user/","sum":["age"],"group_by":["city"]{at}}}"#);
    let now = client.post("query", &sum("")).await.ok();
    assert_eq!(now["groups"], json!([{"group": {"city": "Oslo"}, "count": 2, "sum": {"age": 38}}]));
    let then = client.post("query", &sum(r#","at":"tag:v1""#)).await.ok();
    assert_eq!(
        then["groups"],
        json!([
            {"group": {"city": "London"}, "count": 1, "sum": {"age": 36}},
            {"group": {"city": "Oslo"}, "count": 2, "sum": {"age": 37}},
        ])
    );
}

#[tokio::test]
async fn pages_of_a_query_follow_each_other() {
    let client = filled().await;
    let first = client.post("query", r#"{"prefix":"user/","limit":2}"#).await.ok();
    assert_eq!(first["rows"].as_array().unwrap().len(), 2);
    let after = json!({"prefix": "user/", "limit": 2, "after": first["next"]});
    let second = client.post("query", &after.to_string()).await.ok();
    assert_eq!(second["rows"][0]["key"], "user/3");
    assert_eq!(second["next"], json!(null));
    for sort in ["", r#","sort":["age"]"#] {
        let all = client.post("query", &format!(r#"{{"prefix":"user/","limit":0{sort}}}"#)).await;
        assert_eq!(all.headers["content-type"], "application/jsonl");
        assert_eq!(all.lines().len(), 3);
    }
}

#[tokio::test]
async fn the_deepest_value_that_is_stored_can_be_asked() {
    let client = Client::new();
    let deep = format!("[{}{}]", "[".repeat(127), "]".repeat(127));
    client.op("deep", &format!(r#"{{"op":"set_add","elements":[{deep}]}}"#)).await.ok();
    let page =
        client.post("query", r#"{"where":["@value[0][0] = 1 or exists @value[0][0]"]}"#).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains(&deep));
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_refused() {
    let client = filled().await;
    for wrong in [
        "",
        "[]",
        "{",
        r#"{"where":"a = 1"}"#,
        r#"{"wehre":[]}"#,
        r#"{"where":["a ~ 1"]}"#,
        r#"{"limit":-1}"#,
        r#"{"at":5}"#,
        r#"{"at":"tag:none "}"#,
        r#"{"after":"x"}"#,
        r#"{"degraded":"yes"}"#,
        r#"{"count":true,"select":["a"]}"#,
    ] {
        let (status, ..) = client.post("query", wrong).await.refused();
        assert!([400, 404].contains(&status), "{wrong}: {status}");
    }
    let other =
        client.send("POST /v1/spaces/nowhere/query", &[("content-type", "application/json")], "{}");
    assert_eq!(other.await.refused(), refusal(404, "not_found", 3));
    let text =
        client.send("POST /v1/spaces/default/query", &[("content-type", "text/plain")], "{}");
    assert_eq!(text.await.refused(), refusal(415, "usage", 2));
    let large = format!(r#"{{"prefix":"{}"}}"#, "x".repeat(300 << 10));
    assert_eq!(client.post("query", &large).await.refused(), refusal(413, "limit", 9));
}
