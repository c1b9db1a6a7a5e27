//! What a node tells whoever watches over it, as OpenMetrics text.
//!
//! Names and labels are part of the interface and stand in `docs/OPERATIONS.md`. No label holds
//! what callers choose: a request is counted under the route that it took, never under its key.
//! What the store and the network count themselves is read when it is asked for; only requests are
//! counted here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::replica::Replica;

/// The media type of the text.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper bounds of the buckets for the time that requests took, in seconds.
const BUCKETS: [f64; 9] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// What is read of the store and the network: its name there, its name here, and what it is.
const GAUGES: [(&str, &str, &str); 12] = [
    ("commits", "store_commits", "Commits that are held"),
    ("events", "store_events", "Events that are held"),
    ("logs", "store_logs", "Logs of authors, counted in each space"),
    ("segments", "store_segments", "Segments of the log"),
    ("segment_bytes", "store_segment_bytes", "Bytes of the segment that grows"),
    ("sidecar_memory_bytes", "store_sidecar_memory_bytes", "Memory for looking into sidecars"),
    ("waiting_commits", "store_waiting_commits", "Commits that wait for what they build upon"),
    ("outbox", "outbox_messages", "Messages that wait for durability"),
    ("links", "links", "Connections of peers"),
    ("strangers", "strangers", "Connections that are not admitted yet"),
    ("disk_bytes", "disk_bytes", "Bytes on disk"),
    ("memory_bytes", "resident_memory_bytes", "Resident memory of the process"),
];

/// The same, of what only grows.
const COUNTERS: [(&str, &str, &str); 7] = [
    ("connections_refused", "connections_refused", "Connections that found no place"),
    ("spread.pushes", "spread_pushes", "Chunks of new commits that peers pushed"),
    ("spread.duplicates", "spread_duplicates", "Of those, the ones that brought nothing new"),
    ("spread.prunes", "spread_prunes", "Peers that were told that names of commits are enough"),
    ("spread.grafts", "spread_grafts", "Peers that were asked for what they had named"),
    ("spread.told", "spread_told", "Messages to peers that name what is held"),
    ("spread.stalls", "spread_stalls", "Peers that nothing is pushed to since they lag"),
];

/// What is counted of requests.
#[derive(Debug, Clone, Default)]
pub struct Requests(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    answered: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
    running: Gauge,
    watching: Gauge,
    began: SystemTime,
}

impl Default for Counted {
    fn default() -> Self {
        Self {
            answered: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            running: Gauge::default(),
            watching: Gauge::default(),
            began: SystemTime::now(),
        }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

/// A request that is under way, or a watch.
#[derive(Debug)]
pub struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Requests {
    /// Counts a request as under way until what is returned is dropped.
    #[must_use]
    pub fn begin(&self) -> Running {
        self.0.running.inc();
        Running(self.0.running.clone())
    }

    /// Counts a watch until what is returned is dropped.
    #[must_use]
    pub fn watching(&self) -> Running {
        self.0.watching.inc();
        Running(self.0.watching.clone())
    }

    /// Counts an answer; `method` and `route` are of the few that there are.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let answered = Answered { method, route: route.to_owned(), status };
        self.0.answered.get_or_create(&answered).inc();
        let route = Route { route: route.to_owned() };
        self.0.seconds.get_or_create(&route).observe(took.as_secs_f64());
    }

    /// Writes all metrics of a replica. Costs a look at its tables and at the sizes of its files.
    ///
    /// # Errors
    /// Writing text failed, which it does not.
    pub fn text(&self, replica: &Replica) -> Result<String, std::fmt::Error> {
        let mut all = Registry::with_prefix("kdelta");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        all.register("build", "The program that runs", build);
        let began = self.0.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let began = ConstGauge::new(began.as_secs_f64());
        all.register("start_time_seconds", "When it was opened, since the epoch", began);
        let stats = replica.stats();
        let of = |name: &str| {
            let found = stats.iter().find(|(known, _)| known == name);
            found.map_or(0, |(_, value)| *value)
        };
        for (name, metric, help) in GAUGES {
            all.register(
                metric,
                help,
                ConstGauge::new(i64::try_from(of(name)).unwrap_or(i64::MAX)),
            );
        }
        for (name, metric, help) in COUNTERS {
            all.register(metric, help, ConstCounter::new(of(name)));
        }
        let writable = i64::from(replica.unready().is_none());
        all.register("ready", "1 if writes can be made durable", ConstGauge::new(writable));
        let peers = Family::<State, Gauge>::default();
        for (state, count) in states(replica) {
            peers.get_or_create(&State { state }).set(count);
        }
        all.register("peers", "Peers that are known, by how they are reached", peers);
        let requests = "Requests over HTTP that were answered";
        all.register("http_requests", requests, self.0.answered.clone());
        let seconds = "How long it took until an answer began";
        all.register("http_request_seconds", seconds, self.0.seconds.clone());
        all.register("http_running", "Requests that are under way", self.0.running.clone());
        all.register("watchers", "Watches that are open", self.0.watching.clone());
        let mut text = String::new();
        encode(&mut text, &all)?;
        Ok(text)
    }
}

/// Counts the peers that are in sync, connected without, and away.
fn states(replica: &Replica) -> [(&'static str, i64); 3] {
    let mut counts = [("in_sync", 0), ("connected", 0), ("away", 0)];
    for peer in replica.status().peers {
        let at = match (peer.connected, peer.in_sync) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
        if let Some((_, count)) = counts.get_mut(at) {
            *count += 1;
        }
    }
    counts
}
