//! Queries as callers write them.

use serde_json::{Value, json};

#[cfg(test)]
use kdelta::host::query as language;
#[cfg(not(test))]
#[path = "../../../src/host/query/mod.rs"]
#[allow(dead_code, missing_docs, reason = "the host uses what is not used here")]
mod language;

use language::{Gather, Page, Query, Request, Row};

/// A request, or an expression alone: its pages are what it answers at once.
pub fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let request = match serde_json::from_str(text) {
        Ok(request) => request,
        Err(_) if text.starts_with('{') => return,
        Err(_) => Request { tests: vec![text.to_owned()], ..Request::default() },
    };
    let of = |limit, after| Request { limit: Some(limit), after, ..request.clone() };
    let Ok(whole) = Query::new(of(0, None)) else { return };
    // What rows are sorted by may be too long for a cursor.
    let Some(whole) = answer(&whole) else { return };
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let query = Query::new(of(2, after)).expect("only the page differs");
        let Some(page) = answer(&query) else { return };
        assert!(page.rows.len() <= 2, "a page has no more than was asked for");
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(rows, whole.rows, "pages are what is answered at once");
}

fn answer(query: &Query) -> Option<Page> {
    let mut gather = Gather::new(query);
    for (key, value) in rows() {
        let wanted = query.after_key().is_none_or(|after| key > after);
        let about = [key, "register", "aa.0", "2026-01-02T03:04:05.678Z", "bb"].map(str::to_owned);
        if wanted && !gather.take(&Row::new(about, value)).ok()? {
            break;
        }
    }
    gather.finish().ok()
}

fn rows() -> [(&'static str, Value); 5] {
    [
        ("a", json!({"a": 1, "b": "xy", "c": [1, {"d": null}]})),
        ("b", json!({"a": 1.5, "b": "", "c": []})),
        ("c", json!([[], {}, "a", 9_007_199_254_740_993_i64])),
        ("d", json!(-7)),
        ("e", json!({"a": "1", "c": {"d": true}})),
    ]
}
