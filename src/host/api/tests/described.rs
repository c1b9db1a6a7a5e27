//! `/openapi.json` against the router: what is described is there, and what is there is described.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Client;

/// Routes that the description leaves out: an empty key, and what the socket alone has.
const LEFT_OUT: [&str; 2] = ["/v1/spaces/{space}/keys/", "/v1/backup"];

async fn description(client: &Client) -> Value {
    client.send("GET /openapi.json", &[], "").await.ok()
}

#[tokio::test]
async fn every_route_is_described() {
    let described = description(&Client::new()).await;
    let source = include_str!("../mod.rs");
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let routes: BTreeSet<String> = routes.map(|route| route.replace("{*", "{")).collect();
    assert!(routes.len() > 25);
    for route in routes {
        let known = described["paths"].get(&route).is_some();
        assert!(known || LEFT_OUT.contains(&route.as_str()), "{route} is not described");
    }
}

#[tokio::test]
async fn every_description_has_a_route() {
    let client = Client::new();
    client.put("k", "1").await.ok();
    let described = description(&client).await;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            // A watch does not end.
            if path.ends_with("/watch") {
                continue;
            }
            let (method, path) = (method.to_uppercase(), path.replace("{space}", "default"));
            let path = path.replace(['{', '}'], "");
            let answer = client.send(&format!("{method} {path}"), &[], "").await;
            let title = answer.text.contains("There is no such route");
            assert!(!title && answer.status != 405, "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let described = description(&Client::new()).await;
    let mut left = vec![&described];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(all) => left.extend(all),
            Value::Object(all) => {
                if let Some(Value::String(to)) = all.get("$ref") {
                    let to = to.strip_prefix('#').unwrap();
                    assert!(described.pointer(to).is_some(), "{to}");
                }
                left.extend(all.values());
            }
            _ => {}
        }
    }
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
}
