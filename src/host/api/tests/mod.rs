//! The router over a replica, called as clients call it.

mod bulk;
mod described;
mod inert;
mod keys;
mod observe;
mod past;
mod query;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::engine::limits;
use crate::engine::store::{Run, Serving};
use crate::host::clock;
use crate::host::replica::Replica;

/// A replica behind its router.
struct Client {
    replica: Replica,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A whole answer.
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The answer of a request that must succeed.
    fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    /// Status, code and exit of a request that must fail.
    fn refused(&self) -> (u16, String, u64) {
        let problem = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(problem["status"], self.status.as_u16());
        let code = problem["code"].as_str().unwrap().to_owned();
        (self.status.as_u16(), code, problem["exit"].as_u64().unwrap())
    }

    fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn refusal(status: u16, code: &str, exit: u64) -> (u16, String, u64) {
    (status, code.to_owned(), exit)
}

impl Client {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let replica = Replica::open(dir.path().join("data")).unwrap();
        Self { router: super::router(replica.clone()), replica, _dir: dir }
    }

    async fn send(&self, what: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
        let (method, target) = what.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        Answered { status: parts.status, headers: parts.headers, text }
    }

    async fn get(&self, target: &str) -> Answered {
        self.send(&format!("GET /v1/spaces/default/{target}"), &[], "").await
    }

    async fn put(&self, key: &str, json: &str) -> Answered {
        let what = format!("PUT /v1/spaces/default/keys/{key}");
        self.send(&what, &[("content-type", "application/json")], json.to_owned()).await
    }

    async fn delete(&self, key: &str) -> Answered {
        self.send(&format!("DELETE /v1/spaces/default/keys/{key}"), &[], "").await
    }

    async fn post(&self, target: &str, json: &str) -> Answered {
        let what = format!("POST /v1/spaces/default/{target}");
        self.send(&what, &[("content-type", "application/json")], json.to_owned()).await
    }

    async fn op(&self, key: &str, json: &str) -> Answered {
        self.post(&format!("ops/{key}"), json).await
    }

    async fn lines(&self, target: &str, lines: &str) -> Answered {
        let what = format!("POST /v1/spaces/default/{target}");
        self.send(&what, &[("content-type", "application/jsonl")], lines.to_owned()).await
    }

    /// All that readers see of the space.
    async fn shown(&self) -> Vec<Value> {
        let all = self.get("keys?limit=0&values=true").await;
        assert_eq!(all.status, StatusCode::OK, "{}", all.text);
        let shown = |line: &Value| serde_json::json!([line["key"], line["type"], line["value"]]);
        all.lines().iter().map(shown).collect()
    }

    /// Takes over the space of another replica, and what it holds by now.
    fn pull(&self, other: &Self) {
        let space = other.replica.read(|store| store.space_named("default")).unwrap();
        if self.replica.read(|store| store.space_named("default")).is_none() {
            self.replica.read(|store| store.join_space(space, "default")).unwrap();
        }
        let have = self.replica.read(|store| store.version(&space)).unwrap();
        let frontier = other.replica.read(|store| store.frontier(&space)).unwrap();
        let run = |tip: &crate::engine::causal::Tip| Run {
            log: tip.log,
            after: have.get(&tip.log),
            upto: tip.seq,
        };
        let mut serving = Serving::new(frontier.iter().map(run));
        loop {
            let next = other
                .replica
                .read(|store| store.next_chunk(&space, &mut serving, limits::CHUNK_BYTES_MAX));
            let Some(chunk) = next.unwrap() else { break };
            self.replica.read(|store| store.insert_chunk(clock::now(), &chunk.bytes)).unwrap();
        }
        self.replica.flush().unwrap();
    }
}

#[tokio::test]
async fn what_leads_nowhere_is_a_problem_too() {
    let client = Client::new();
    let nowhere = client.send("GET /v2/x", &[], "").await;
    assert_eq!(nowhere.refused(), refusal(404, "usage", 2));
    let method = client.send("PATCH /v1/status", &[], "").await;
    assert_eq!(method.refused(), refusal(405, "usage", 2));
    assert!(client.send("GET /healthz", &[], "").await.ok()["ok"].as_bool().unwrap());
}

#[tokio::test]
async fn spaces_are_made_listed_and_told() {
    let client = Client::new();
    client.put("a", "1").await.ok();
    let made = client.send("POST /v1/spaces", &[], r#"{"name":"two words"}"#).await.ok();
    assert_eq!(made["name"], "two words");
    let again = client.send("POST /v1/spaces", &[], r#"{"name":"two words"}"#).await;
    assert_eq!(again.refused(), refusal(409, "conflict", 4));
    let bad = client.send("POST /v1/spaces", &[], r#"{"name":"a/b"}"#).await;
    assert_eq!(bad.refused(), refusal(400, "usage", 2));
    let nobody = client.send("POST /v1/spaces", &[], r#"{"nmae":"x"}"#).await;
    assert_eq!(nobody.refused(), refusal(400, "usage", 2));
    let all = client.send("GET /v1/spaces", &[], "").await.ok();
    let names: Vec<&str> =
        all["spaces"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default", "two words"]);
    assert_eq!((&all["spaces"][0]["keys"], &all["spaces"][0]["events"]), (&1.into(), &1.into()));
    let by_name = client.send("GET /v1/spaces/two%20words", &[], "").await.ok();
    let id = by_name["id"].as_str().unwrap();
    let by_id = client.send(&format!("GET /v1/spaces/{id}"), &[], "").await.ok();
    assert_eq!(by_id, by_name);
    let missing = client.send("GET /v1/spaces/missing/keys/a", &[], "").await;
    assert_eq!(missing.refused(), refusal(404, "not_found", 3));
}

#[tokio::test]
async fn the_first_write_makes_a_space() {
    let client = Client::new();
    let json = [("content-type", "application/json")];
    client.send("PUT /v1/spaces/mine/keys/a", &json, "1").await.ok();
    assert_eq!(client.send("GET /v1/spaces/mine/keys/a", &[], "").await.ok()["value"], 1);
}

#[tokio::test]
async fn status_has_all_its_members() {
    let client = Client::new();
    client.put("a", "1").await.ok();
    let status = client.send("GET /v1/status", &[], "").await.ok();
    for member in [
        "replica",
        "node_running",
        "spaces",
        "listen",
        "http",
        "peers",
        "disk_bytes",
        "memory_bytes",
        "recovered",
    ] {
        assert!(status.get(member).is_some(), "{member}");
    }
    let space = &status["spaces"][0];
    assert_eq!(space["name"], "default");
    assert_eq!(space["state_hash"].as_str().unwrap().len(), 64);
    assert_eq!(space["frontier"][0]["seq"], 2);
    let id = client.send("GET /v1/id", &[], "").await.ok();
    assert_eq!(id["replica"], status["replica"]);
    assert!(client.send("GET /v1/stats", &[], "").await.ok().is_object());
}

#[tokio::test]
async fn two_replicas_with_the_same_commits_have_the_same_hashes() {
    let (a, b) = (Client::new(), Client::new());
    a.put("k", "1").await.ok();
    b.pull(&a);
    a.put("k", "2").await.ok();
    b.put("k", "3").await.ok();
    let hashes = async |client: &Client| {
        let space = client.get("").await;
        assert_eq!(space.status, StatusCode::NOT_FOUND);
        let space = client.send("GET /v1/spaces/default", &[], "").await.ok();
        (space["state_hash"].clone(), space["value_hash"].clone())
    };
    assert_ne!(hashes(&a).await, hashes(&b).await);
    b.pull(&a);
    a.pull(&b);
    assert_eq!(hashes(&a).await, hashes(&b).await);
    let shown = a.get("keys/k").await.ok();
    assert_eq!(shown["conflicts"].as_array().unwrap().len(), 1);
    assert_eq!(shown, b.get("keys/k").await.ok());
}
