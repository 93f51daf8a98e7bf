//! The fields of TrafficPolicies that are merged by level.

use super::hash_on::HashOn;
use super::{Balancer, RetryBudget, RetryOn, TrafficPolicy};
use crate::kinds::kind::Level;
use crate::kinds::merge::{Effective, Merged, merged_fields};
use crate::object::PolicyKey;
use crate::value::{StatusRange, Timespan};

merged_fields! {
    /// What holds for a call. A field that no policy sets is `None`: the compiled default holds.
    EffectiveTraffic of TrafficPolicy {
        /// How an endpoint is chosen.
        load_balancer: Balancer = "spec.loadBalancer.type", |p| p.load_balancer.as_ref().map(|b| b.balancer);
        /// What of a request is hashed.
        hash_on: Vec<HashOn> = "spec.loadBalancer.hashOn",
            |p| p.load_balancer.as_ref().map(|b| b.hash_on.clone()).filter(|on| !on.is_empty());
        /// How long opening a connection may take.
        connect_timeout: Timespan = "spec.connection.connectTimeout",
            |p| p.connection.as_ref().and_then(|c| c.connect_timeout);
        /// How long a connection stays open unused.
        idle_timeout: Timespan = "spec.connection.idleTimeout", |p| p.connection.as_ref().and_then(|c| c.idle_timeout);
        /// How many connections may be open.
        max_connections: u32 = "spec.connection.maxConnections",
            |p| p.connection.as_ref().and_then(|c| c.max_connections);
        /// How many requests may wait for a connection.
        max_pending_requests: u32 = "spec.connection.maxPendingRequests",
            |p| p.connection.as_ref().and_then(|c| c.max_pending_requests);
        /// How many requests may be open.
        max_requests: u32 = "spec.connection.maxRequests", |p| p.connection.as_ref().and_then(|c| c.max_requests);
        /// How long a connection is silent before the first probe.
        keepalive_time: Timespan = "spec.connection.tcpKeepalive.time",
            |p| p.connection.as_ref().and_then(|c| c.tcp_keepalive).and_then(|k| k.time);
        /// How long after one probe the next one is sent.
        keepalive_interval: Timespan = "spec.connection.tcpKeepalive.interval",
            |p| p.connection.as_ref().and_then(|c| c.tcp_keepalive).and_then(|k| k.interval);
        /// How many probes go unanswered.
        keepalive_probes: u32 = "spec.connection.tcpKeepalive.probes",
            |p| p.connection.as_ref().and_then(|c| c.tcp_keepalive).and_then(|k| k.probes);
        /// Ejection after so many 5xx in a row.
        consecutive_5xx: u32 = "spec.outlierDetection.consecutive5xx",
            |p| p.outlier_detection.and_then(|o| o.consecutive_5xx);
        /// Ejection after so many 502, 503 and 504 in a row.
        consecutive_gateway_failures: u32 = "spec.outlierDetection.consecutiveGatewayFailures",
            |p| p.outlier_detection.and_then(|o| o.consecutive_gateway_failures);
        /// How often ejected endpoints are looked at.
        outlier_interval: Timespan = "spec.outlierDetection.interval", |p| p.outlier_detection.and_then(|o| o.interval);
        /// How long the first ejection lasts.
        base_ejection_time: Timespan = "spec.outlierDetection.baseEjectionTime",
            |p| p.outlier_detection.and_then(|o| o.base_ejection_time);
        /// The greatest part of the endpoints, in percent, that may be ejected at once.
        max_ejection_percent: u32 = "spec.outlierDetection.maxEjectionPercent",
            |p| p.outlier_detection.and_then(|o| o.max_ejection_percent);
        /// How long the whole request may take.
        request_timeout: Timespan = "spec.timeouts.request", |p| p.timeouts.and_then(|t| t.request);
        /// How long one try may take.
        backend_request_timeout: Timespan = "spec.timeouts.backendRequest", |p| p.timeouts.and_then(|t| t.backend_request);
        /// How long a stream may be silent.
        stream_idle_timeout: Timespan = "spec.timeouts.streamIdle", |p| p.timeouts.and_then(|t| t.stream_idle);
        /// How many tries follow the first.
        retry_attempts: u32 = "spec.retry.attempts", |p| p.retry.as_ref().and_then(|r| r.attempts);
        /// Statuses that are tried again.
        retry_codes: Vec<StatusRange> = "spec.retry.codes", |p| p.retry.as_ref().and_then(|r| r.codes.clone());
        /// Failures that are tried again.
        retry_on: Vec<RetryOn> = "spec.retry.on", |p| p.retry.as_ref().and_then(|r| r.on.clone());
        /// The greatest part of all requests that may be second tries.
        retry_budget: RetryBudget = "spec.retry.budget", |p| p.retry.as_ref().and_then(|r| r.budget);
        /// The least time between two tries.
        retry_backoff: Timespan = "spec.retry.backoff", |p| p.retry.as_ref().and_then(|r| r.backoff);
    }
}

impl EffectiveTraffic {
    /// Whether any field of outlier detection is set, which switches it on.
    #[must_use]
    pub fn detects_outliers(&self) -> bool {
        self.outlier_origins().next().is_some()
    }

    /// What of a request is hashed; nothing where that does not choose the endpoint.
    #[must_use]
    pub fn hashed_on(&self) -> &[HashOn] {
        let hashes = self.load_balancer.as_ref().is_some_and(|set| set.value.hashes());
        self.hash_on.as_ref().filter(|_| hashes).map_or(&[], |set| &set.value)
    }

    /// The objects that set a field of outlier detection, once for each; none where it is off.
    pub fn outlier_origins(&self) -> impl Iterator<Item = &PolicyKey> {
        let counts = [&self.consecutive_5xx, &self.consecutive_gateway_failures, &self.max_ejection_percent];
        let counts = counts.into_iter().flatten().map(|set| &set.origin);
        let spans = [&self.outlier_interval, &self.base_ejection_time];
        counts.chain(spans.into_iter().flatten().map(|set| &set.origin))
    }
}
