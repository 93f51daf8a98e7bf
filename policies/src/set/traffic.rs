//! What holds for a call: TrafficPolicies of all levels merged field by field, each value with its origin.

use serde::Serialize;
use weft_api::{Name, ServiceId};

use super::index::Target;
use super::{HttpRouteMatch, PolicyKey, PolicySet};
use crate::finding::steps;
use crate::kinds::TrafficPolicy;
use crate::kinds::reference::Level;
use crate::kinds::traffic_policy::{Balancer, RetryOn};
use crate::value::{StatusRange, Timespan};

/// A value, and who set it where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective<T> {
    /// The value.
    pub value: T,
    /// The object that set it.
    pub origin: PolicyKey,
    /// The path in that object.
    pub path: String,
    /// The level at which it speaks.
    #[serde(skip)]
    pub level: Level,
}

/// Makes [`EffectiveTraffic`], its merge, and the list of fields that a policy sets, from one table.
macro_rules! traffic_fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $path:literal, |$policy:ident| $read:expr;)*) => {
        /// What holds for a call. A field that no policy sets is `None`: the compiled default holds.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct EffectiveTraffic {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<Effective<$type>>,)*
        }

        impl EffectiveTraffic {
            /// Takes over every field that the policy sets.
            fn merge(&mut self, policy: &TrafficPolicy, origin: &PolicyKey, level: Level) {
                $({
                    let $policy = policy;
                    if let Some(value) = $read {
                        let origin = origin.clone();
                        self.$field = Some(Effective { value, origin, path: $path.to_owned(), level });
                    }
                })*
            }

            /// The objects that set any field, sorted.
            #[must_use]
            pub fn origins(&self) -> Vec<PolicyKey> {
                let mut origins = Vec::new();
                $(origins.extend(self.$field.as_ref().map(|set| set.origin.clone()));)*
                origins.sort();
                origins.dedup();
                origins
            }
        }

        /// The paths of the fields that a policy sets.
        pub(super) fn fields_set(policy: &TrafficPolicy) -> Vec<&'static str> {
            let mut paths = Vec::new();
            $({
                let $policy = policy;
                if $read.is_some() {
                    paths.push($path);
                }
            })*
            paths
        }
    };
}

traffic_fields! {
    /// How an endpoint is chosen.
    load_balancer: Balancer = "spec.loadBalancer.type", |p| p.load_balancer.as_ref().map(|b| b.balancer);
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
    /// Time between probes.
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
    /// The least time between two tries.
    retry_backoff: Timespan = "spec.retry.backoff", |p| p.retry.as_ref().and_then(|r| r.backoff);
}

impl EffectiveTraffic {
    /// Whether any field of outlier detection is set, which switches it on.
    #[must_use]
    pub fn detects_outliers(&self) -> bool {
        self.consecutive_5xx.is_some()
            || self.consecutive_gateway_failures.is_some()
            || self.outlier_interval.is_some()
            || self.base_ejection_time.is_some()
            || self.max_ejection_percent.is_some()
    }

    /// Whether any field of retries is set.
    #[must_use]
    pub fn sets_retries(&self) -> bool {
        self.retry_attempts.is_some()
            || self.retry_codes.is_some()
            || self.retry_on.is_some()
            || self.retry_backoff.is_some()
    }

    /// Takes over the timeouts and retries that a rule of an HTTPRoute writes itself: nothing is more specific.
    fn merge_rule(&mut self, one: &HttpRouteMatch) {
        let rule = one.rule();
        let origin = one.route.key();
        let at = |block: &'static str, field: &'static str| {
            steps!["spec", "rules", one.rule_index, block, field].to_string()
        };
        let level = Level::RouteRule;
        macro_rules! take {
            ($to:ident, $value:expr, $block:literal, $field:literal) => {
                if let Some(value) = $value {
                    let path = at($block, $field);
                    self.$to = Some(Effective { value, origin: origin.clone(), path, level });
                }
            };
        }
        if let Some(timeouts) = rule.timeouts {
            take!(request_timeout, timeouts.request, "timeouts", "request");
            take!(backend_request_timeout, timeouts.backend_request, "timeouts", "backendRequest");
        }
        if let Some(retry) = &rule.retry {
            take!(retry_attempts, retry.attempts, "retry", "attempts");
            take!(retry_codes, retry.codes.clone(), "retry", "codes");
            take!(retry_backoff, retry.backoff, "retry", "backoff");
        }
    }
}

impl PolicySet {
    /// What holds for calls to a port of a service, and with `rule` for requests that a rule of its routes takes.
    ///
    /// Later levels win field by field: Mesh, Namespace, Service, Service port, Route, Route rule, and last what the
    /// rule writes itself. For a rule, `service` and `port` are those of the parent; only timeouts and retries are
    /// read then. Connections, balancing and ejection belong to the backend: ask for it without a rule.
    #[must_use]
    pub fn traffic_for(
        &self,
        service: &ServiceId,
        port: &Name,
        rule: Option<&HttpRouteMatch>,
    ) -> EffectiveTraffic {
        let mut targets = vec![
            (Level::Mesh, Target::Mesh),
            (Level::Namespace, Target::Namespace(service.namespace.clone())),
            (Level::Service, Target::Service(service.clone(), None)),
            (Level::ServicePort, Target::Service(service.clone(), Some(port.clone()))),
        ];
        if let Some(one) = rule {
            targets.push((Level::Route, Target::HttpRoute(one.route.id(), None)));
            if let Some(name) = &one.rule().name {
                targets.push((Level::RouteRule, Target::HttpRoute(one.route.id(), Some(name.clone()))));
            }
        }
        let mut traffic = EffectiveTraffic::default();
        for (level, target) in targets {
            for policy in self.index.traffic.get(&target).into_iter().flatten() {
                traffic.merge(&policy.spec, &policy.key(), level);
            }
        }
        if let Some(one) = rule {
            traffic.merge_rule(one);
        }
        traffic
    }
}
