//! What is told of connections and sessions: a span for each, and what came of it.
//!
//! Of strangers only whoever asks for much is told. What was said in a session is not.

use std::collections::BTreeMap;

use tracing::Span;
use tracing::field::Empty;

use super::quic::{LinkId, NetEvent};
use crate::engine::base::SpaceId;
use crate::engine::node::Ended;

/// The spans of the connections that stand, and of the sessions on them.
#[derive(Debug, Default)]
pub(super) struct Spans(BTreeMap<LinkId, Link>);

#[derive(Debug)]
struct Link {
    span: Span,
    admitted: bool,
    sessions: BTreeMap<SpaceId, Span>,
}

impl Spans {
    /// Takes note of a connection that came or went.
    pub(super) fn note(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { link, peer, outgoing, .. } => {
                let span = tracing::info_span!("link", id = link.0, %peer);
                span.in_scope(|| tracing::debug!(outgoing, "connected"));
                self.0.insert(*link, Link { span, admitted: false, sessions: BTreeMap::new() });
            }
            NetEvent::Closed { link, reason } => {
                let Some(link) = self.0.remove(link) else { return };
                link.span.in_scope(|| match link.admitted {
                    true => tracing::info!(%reason, "the peer is gone"),
                    false => tracing::debug!(%reason, "turned away"),
                });
            }
            NetEvent::Received { .. } | NetEvent::Drained { .. } | NetEvent::DialFailed { .. } => {}
        }
    }

    /// Takes note of a peer that is no stranger.
    pub(super) fn admitted(&mut self, link: LinkId) {
        if let Some(link) = self.0.get_mut(&link) {
            link.admitted = true;
            link.span.in_scope(|| tracing::info!("the peer is admitted"));
        }
    }

    /// Takes note of a session that begins.
    pub(super) fn began(&mut self, link: LinkId, space: SpaceId) {
        if let Some(link) = self.0.get_mut(&link) {
            let span = tracing::info_span!(
                parent: &link.span,
                "session",
                %space,
                in_sync = Empty,
                sent_bytes = Empty,
                received_bytes = Empty,
                round_trips = Empty,
            );
            link.sessions.insert(space, span);
        }
    }

    /// Takes note of one that ended.
    pub(super) fn ended(&mut self, link: LinkId, space: SpaceId, ended: &Ended) {
        let Some(link) = self.0.get_mut(&link) else { return };
        let Some(span) = link.sessions.remove(&space) else { return };
        let Ended { problem, stats } = ended;
        span.record("in_sync", problem.is_none());
        span.record("sent_bytes", stats.bytes_sent);
        span.record("received_bytes", stats.bytes_received);
        span.record("round_trips", stats.round_trips);
        span.in_scope(|| match problem {
            None => tracing::debug!("in sync"),
            Some(problem) if link.admitted => tracing::info!(?problem, "not in sync"),
            Some(problem) => tracing::debug!(?problem, "not in sync"),
        });
    }
}
