//! The trace that a request is part of, for builds that send traces.
//!
//! A caller names the trace by the headers of W3C Trace Context; the span of the request is then a
//! child of the caller's. Without somebody who sends traces nothing is done. What headers say is
//! read up to a bound, for it is kept until it is sent.

use axum::http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The longest header that is taken: what the recommendation asks everybody to pass on.
const HEADER_BYTES_MAX: usize = 512;

/// The attribute by which the status of an answer is known.
const STATUS: &str = "http.response.status_code";

/// Makes the span of a request a child of what its headers name. To be called before it is entered.
pub(super) fn begin(span: &Span, headers: &HeaderMap) {
    let parent = parent(headers);
    if parent.span().span_context().is_valid() {
        // It fails where nobody sends traces.
        let _ = span.set_parent(parent);
    }
}

/// Notes how a request was answered.
pub(super) fn end(span: &Span, status: u16) {
    span.set_attribute(STATUS, i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}

fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).filter(|value| value.len() <= HEADER_BYTES_MAX)?;
        value.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(parent: &str, state: &str) -> Context {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", parent.parse().unwrap());
        headers.insert("tracestate", state.parse().unwrap());
        super::parent(&headers)
    }

    #[test]
    fn a_caller_names_its_trace() {
        let context = of(NAMED, "vendor=1");
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.span_id().to_string(), "b7ad6b7169203331");
        assert!(span.is_sampled() && span.is_remote());
        assert_eq!(span.trace_state().get("vendor"), Some("1"));
    }

    #[test]
    fn what_names_no_trace_is_passed_over() {
        let zero = format!("00-{:032}-b7ad6b7169203331-01", 0);
        for wrong in ["", "00", "ff-", "00-zz-zz-01", &zero, &"0".repeat(4096), &NAMED[..50]] {
            assert!(!of(wrong, "").span().span_context().is_valid(), "{wrong}");
        }
        let long = of(NAMED, &format!("vendor={}", "x".repeat(1 << 14)));
        assert!(long.span().span_context().is_valid());
        assert_eq!(long.span().span_context().trace_state().header().len(), 0);
    }
}
