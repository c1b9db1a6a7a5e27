use super::Client;

/// The page that lists all metrics.
const PAGE: &str = include_str!("../../../../docs/OPERATIONS.md");

#[tokio::test]
async fn requests_are_counted_under_their_routes_alone() {
    let client = Client::new();
    client.put("secret/key", "1").await.ok();
    client.get("keys/secret/other").await.refused();
    client.send("GET /secret/nowhere", &[], "").await.refused();
    client.send("BREW /v1/status", &[], "").await.refused();
    let metrics = client.send("GET /metrics", &[], "").await;
    assert_eq!(metrics.status, 200);
    let kind = metrics.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = metrics.text;
    let counted = |method: &str, route: &str, status: u16| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        text.contains(&format!("kdelta_http_requests_total{{{labels}}} 1\n"))
    };
    assert!(counted("PUT", "/v1/spaces/{space}/keys/{*key}", 200), "{text}");
    assert!(counted("GET", "/v1/spaces/{space}/keys/{*key}", 404), "{text}");
    assert!(counted("GET", "none", 404), "{text}");
    assert!(counted("other", "/v1/status", 405), "{text}");
    assert!(!text.contains("secret"));
    assert!(text.contains("\nkdelta_store_commits 2\n"), "the genesis and a put: {text}");
    assert!(text.contains("\nkdelta_http_running 1\n"), "this one: {text}");
    assert!(text.contains("\nkdelta_ready 1\n"));
    assert!(text.ends_with("# EOF\n"));
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = name.split(' ').next().unwrap();
        assert!(PAGE.contains(&format!("`{name}")), "{name} is not in docs/OPERATIONS.md");
    }
}

#[tokio::test]
async fn what_the_store_counts_of_itself_is_told() {
    let client = Client::new();
    client.put("k", "1").await.ok();
    let stats = client.send("GET /v1/stats", &[], "").await.ok();
    let text = client.send("GET /metrics", &[], "").await.text;
    for name in stats.as_object().unwrap().keys() {
        let known = text.lines().any(|line| {
            let metric =
                line.strip_prefix("# TYPE kdelta_").and_then(|rest| rest.split(' ').next());
            metric.is_some_and(|metric| metric.contains(name.as_str()))
        });
        assert!(known, "{name} is no metric");
    }
}

#[tokio::test]
async fn a_closed_store_is_not_ready() {
    let client = Client::new();
    assert_eq!(client.send("GET /readyz", &[], "").await.ok()["ready"], true);
    client.replica.clone().close().unwrap();
    let refused = client.send("GET /readyz", &[], "").await;
    assert_eq!(refused.refused(), super::refusal(503, "unavailable", 6));
    assert_eq!(client.send("GET /healthz", &[], "").await.ok()["ok"], true);
}
