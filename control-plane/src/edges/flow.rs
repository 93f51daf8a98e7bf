//! What flowed over an edge during a window, from one caller or from several.

use serde::{Deserialize, Serialize};
use weft_api::EdgeStatistic;
use weft_api::rest::{Edge, EdgeProtocol, EdgeState};

use super::sample::Sample;
use super::target::EdgeTarget;

/// From this share of failures on, an edge fails.
const FAILING: f64 = 0.05;

/// See the module. Several add up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeFlow {
    /// Seconds covered.
    pub seconds: f64,
    /// What flew meanwhile; of gauges, what is now.
    pub flown: Sample,
    /// How many of what came in policies that are only tried would have refused, since the replicas that were told began.
    #[serde(default)]
    pub shadow_denied: f64,
    /// Requests that completed, or connections begun, as far as each caller tells.
    pub events: f64,
    /// Requests of a caller wait, and none of its was answered.
    pub hangs: bool,
    /// A connection is not TLS.
    pub plaintext: bool,
    /// A connection is TLS.
    pub secured: bool,
    /// Anything ever went over it.
    pub used: bool,
}

impl EdgeFlow {
    pub fn add(&mut self, other: &Self) {
        self.seconds = self.seconds.max(other.seconds);
        self.flown.add(&other.flown);
        self.events += other.events;
        self.shadow_denied += other.shadow_denied;
        self.hangs |= other.hangs;
        self.plaintext |= other.plaintext;
        self.secured |= other.secured;
        self.used |= other.used;
    }

    /// How it does. A server that answers one of its callers does not hang.
    #[must_use]
    pub fn state(&self) -> EdgeState {
        let moves = match self.flown.protocol {
            EdgeProtocol::Http => self.events > 0.0 || self.flown.open() > 0.0,
            EdgeProtocol::Tcp => {
                let bytes = [EdgeStatistic::BytesSent, EdgeStatistic::BytesReceived];
                self.events > 0.0 || bytes.into_iter().any(|statistic| self.flown.of(statistic) > 0.0)
            }
        };
        if self.flown.failed().is_some_and(|share| share >= FAILING) {
            EdgeState::Failing
        } else if self.hangs && self.flown.of(EdgeStatistic::Completed) == 0.0 {
            EdgeState::Silent
        } else if moves {
            EdgeState::Flowing
        } else {
            EdgeState::Idle
        }
    }

    /// As the API shows it.
    #[must_use]
    pub fn edge(&self, source: String, target: &EdgeTarget) -> Edge {
        let per_second = |count: f64| if self.seconds > 0.0 { count / self.seconds } else { 0.0 };
        let of = |statistic| per_second(self.flown.of(statistic));
        let is_tcp = self.flown.protocol == EdgeProtocol::Tcp;
        Edge {
            source,
            destination: target.destination.service.to_string(),
            port: target.destination.port.to_string(),
            subset: target.destination.subset.as_ref().map(ToString::to_string),
            route: target.route(),
            version: target.version().map(str::to_owned),
            protocol: self.flown.protocol,
            state: self.state(),
            rate: per_second(self.events),
            success: self.flown.success(),
            failed: self.flown.failed(),
            denied: self.flown.denied(),
            shadow_denied: (self.shadow_denied > 0.0).then(|| per_second(self.flown.shadow_denied)),
            shadow_denied_total: count(self.shadow_denied),
            open: count(self.flown.open()),
            ejected: count(self.flown.of(EdgeStatistic::Ejected)),
            retries: of(EdgeStatistic::Retries),
            bytes_sent: is_tcp.then(|| of(EdgeStatistic::BytesSent)),
            bytes_received: is_tcp.then(|| of(EdgeStatistic::BytesReceived)),
            p50_ms: self.flown.latencies.quantile(0.5),
            p90_ms: self.flown.latencies.quantile(0.9),
            p99_ms: self.flown.latencies.quantile(0.99),
            mtls: self.secured && !self.plaintext,
            window_seconds: self.seconds,
        }
    }
}

/// A figure as a whole number.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no count is read as none"
)]
pub fn count(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
