//! The statistics of each kind of object, resolved together when it is prepared.

use super::registry::{StatsRegistry, StatsScope};
use super::shard::{CodesId, CounterId, GaugeId, HistogramId, Shard};

macro_rules! group {
    ($(#[$doc:meta])* $name:ident {
        counters { $($counter:ident $(= $counter_name:literal)?),* $(,)? }
        gauges { $($gauge:ident $(= $gauge_name:literal)?),* $(,)? }
        histograms { $($histogram:ident $(= $histogram_name:literal)?),* $(,)? }
        codes { $($codes:ident = $stem:literal),* $(,)? }
        groups { $($group:ident: $group_type:ident = $scope:literal),* $(,)? }
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $(#[doc = concat!("Counter `", stringify!($counter), "`.")] pub $counter: CounterId,)*
            $(#[doc = concat!("Gauge `", stringify!($gauge), "`.")] pub $gauge: GaugeId,)*
            $(#[doc = concat!("Histogram `", stringify!($histogram), "`.")] pub $histogram: HistogramId,)*
            $(#[doc = concat!("Response codes `", $stem, "_*`.")] pub $codes: CodesId,)*
            $(#[doc = concat!("Statistics below `", $scope, "`.")] pub $group: $group_type,)*
        }

        impl $name {
            /// Resolves every statistic of the group below `scope`.
            pub fn register(registry: &mut StatsRegistry, scope: &StatsScope) -> Self {
                Self {
                    $($counter: registry.counter(scope, group!(@name $counter $($counter_name)?)),)*
                    $($gauge: registry.gauge(scope, group!(@name $gauge $($gauge_name)?)),)*
                    $($histogram: registry.histogram(scope, group!(@name $histogram $($histogram_name)?)),)*
                    $($codes: registry.codes(scope, $stem),)*
                    $($group: $group_type::register(registry, &scope.child($scope)),)*
                }
            }
        }
    };
    (@name $field:ident $literal:literal) => { $literal };
    (@name $field:ident) => { stringify!($field) };
}

group! {
    /// `access_logs.grpc_access_log.*`, of all logs together; register with [`StatsScope::plain`].
    AccessLogStats {
        counters { logs_written, logs_dropped }
        gauges {}
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `http.PREFIX.tracing.*`: why requests began a trace, or did not; register below [`StatsScope::http`].
    TracingStats {
        counters { random_sampling, client_enabled, service_forced, not_traceable, health_check }
        gauges {}
        histograms {}
        codes {}
        groups {}
    }
}

/// What was told to OpenTelemetry collectors, of all together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpStats {
    /// Records that were taken.
    pub sent: CounterId,
    /// Those that were not, for want of room or of a collector.
    pub dropped: CounterId,
    /// Batches that were sent because it was time, where that is counted.
    pub timer_flushed: Option<CounterId>,
}

impl OtlpStats {
    /// `tracing.opentelemetry.*`.
    pub fn of_spans(registry: &mut StatsRegistry) -> Self {
        let scope = StatsScope::plain("tracing.opentelemetry");
        Self {
            sent: registry.counter(&scope, "spans_sent"),
            dropped: registry.counter(&scope, "spans_dropped"),
            timer_flushed: Some(registry.counter(&scope, "timer_flushed")),
        }
    }

    /// `access_logs.open_telemetry_access_log.*`.
    pub fn of_logs(registry: &mut StatsRegistry) -> Self {
        let scope = StatsScope::plain("access_logs.open_telemetry_access_log");
        Self {
            sent: registry.counter(&scope, "logs_written"),
            dropped: registry.counter(&scope, "logs_dropped"),
            timer_flushed: None,
        }
    }
}

group! {
    /// `cluster.NAME.*`; register with [`StatsScope::cluster`].
    ClusterStats {
        counters {
            upstream_cx_total, upstream_cx_http1_total, upstream_cx_http2_total, upstream_cx_connect_fail,
            upstream_cx_connect_timeout, upstream_cx_connect_attempts_exceeded, upstream_cx_overflow,
            upstream_cx_destroy, upstream_cx_destroy_local, upstream_cx_destroy_remote,
            upstream_cx_destroy_with_active_rq, upstream_cx_destroy_local_with_active_rq,
            upstream_cx_destroy_remote_with_active_rq, upstream_cx_close_notify, upstream_cx_idle_timeout,
            upstream_cx_max_requests, upstream_cx_max_duration_reached, upstream_cx_none_healthy,
            upstream_cx_protocol_error, upstream_cx_rx_bytes_total, upstream_cx_tx_bytes_total,
            upstream_rq_total, upstream_rq_completed, upstream_rq_pending_total, upstream_rq_pending_overflow,
            upstream_rq_pending_failure_eject, upstream_rq_cancelled, upstream_rq_maintenance_mode,
            upstream_rq_timeout, upstream_rq_per_try_timeout, upstream_rq_max_duration_reached,
            upstream_rq_rx_reset, upstream_rq_tx_reset, upstream_rq_retry, upstream_rq_retry_success,
            upstream_rq_retry_overflow, upstream_rq_retry_limit_exceeded,
            upstream_rq_retry_backoff_exponential, upstream_internal_redirect_failed_total, upstream_cx_pool_overflow, upstream_rq_per_try_idle_timeout,
            upstream_flow_control_paused_reading_total, upstream_flow_control_resumed_reading_total,
            upstream_flow_control_backed_up_total, upstream_flow_control_drained_total, retry_or_shadow_abandoned,
            lb_healthy_panic, lb_zone_routing_all_directly, membership_change, update_attempt, update_success,
            update_failure, update_empty, update_no_rebuild, assignment_stale, assignment_timeout_received,
            bind_errors, original_dst_host_invalid,
        }
        gauges {
            upstream_cx_active, upstream_rq_active, upstream_rq_pending_active, upstream_cx_rx_bytes_buffered,
            upstream_cx_tx_bytes_buffered, membership_healthy, membership_degraded, membership_excluded,
            membership_total, max_host_weight, version, warming_state,
        }
        histograms { upstream_rq_time, upstream_cx_connect_ms, upstream_cx_length_ms, upstream_rq_per_cx }
        codes { upstream_rq = "upstream_rq" }
        groups {
            tls: TlsStats = "ssl",
            outlier: OutlierStats = "outlier_detection",
            breaker: BreakerStats = "circuit_breakers.default",
            breaker_high: BreakerStats = "circuit_breakers.high",
            ext_authz: ExtAuthzClusterStats = "ext_authz",
        }
    }
}

/// `cluster.NAME.ext_authz.*`: verdicts on requests to the cluster. Most clusters have none, and show none.
#[derive(Clone, Debug)]
pub struct ExtAuthzClusterStats {
    /// Requests that went on.
    pub ok: CounterId,
    /// Requests that were refused.
    pub denied: CounterId,
    /// Requests on which there was no verdict.
    pub error: CounterId,
    /// Those that went on all the same.
    pub failure_mode_allowed: CounterId,
}

impl ExtAuthzClusterStats {
    fn register(registry: &mut StatsRegistry, scope: &StatsScope) -> Self {
        let mut counter = |name| registry.sparse_counter(scope, name);
        Self {
            ok: counter("ok"),
            denied: counter("denied"),
            error: counter("error"),
            failure_mode_allowed: counter("failure_mode_allowed"),
        }
    }
}

impl ClusterStats {
    /// Counts a request as answered, as Envoy does: when the head of the server's answer is there, or when the router
    /// answers in the server's place.
    pub fn answered(&self, shard: &Shard, status: u16) {
        shard.inc(self.upstream_rq_completed);
        shard.response_code(self.upstream_rq, status);
    }
}

group! {
    /// `vhost.HOST.route.PREFIX.*`; register with [`StatsScope::route`].
    RouteStats {
        counters {
            upstream_rq_total, upstream_rq_completed, upstream_rq_timeout, upstream_rq_retry,
            upstream_rq_retry_success, upstream_rq_retry_overflow, upstream_rq_retry_limit_exceeded,
        }
        gauges {}
        histograms { upstream_rq_time }
        codes { upstream_rq = "upstream_rq" }
        groups {}
    }
}

impl RouteStats {
    /// As [`ClusterStats::answered`].
    pub fn answered(&self, shard: &Shard, status: u16) {
        shard.inc(self.upstream_rq_completed);
        shard.response_code(self.upstream_rq, status);
    }
}

group! {
    /// `dns_cache.NAME.*`: hosts that requests name, by worker and summed.
    DnsCacheStats {
        counters {
            dns_query_attempt, dns_query_success, dns_query_failure, dns_query_timeout, host_added,
            host_address_changed, host_overflow, host_removed, dns_rq_pending_overflow,
        }
        gauges {}
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `cluster.NAME.circuit_breakers.PRIORITY.*`. The gauges are 0 or 1, set by the control thread on a scrape.
    BreakerStats {
        counters {}
        gauges {
            cx_open, cx_pool_open, rq_pending_open, rq_open, rq_retry_open, remaining_cx, remaining_cx_pools,
            remaining_pending, remaining_rq, remaining_retries,
        }
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `cluster.NAME.outlier_detection.*`.
    OutlierStats {
        counters {
            ejections_enforced_total, ejections_detected_consecutive_5xx, ejections_enforced_consecutive_5xx,
            ejections_detected_consecutive_gateway_failure, ejections_enforced_consecutive_gateway_failure,
            ejections_detected_consecutive_local_origin_failure,
            ejections_enforced_consecutive_local_origin_failure, ejections_overflow, ejections_total,
            ejections_consecutive_5xx, ejections_success_rate, ejections_detected_success_rate,
            ejections_enforced_success_rate, ejections_detected_local_origin_success_rate,
            ejections_enforced_local_origin_success_rate, ejections_detected_failure_percentage,
            ejections_enforced_failure_percentage, ejections_detected_failure_percentage_local_origin,
            ejections_enforced_failure_percentage_local_origin,
        }
        gauges { ejections_active }
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `SCOPE.ssl.*`, of a listener or a cluster.
    TlsStats {
        counters {
            handshake, connection_error, no_certificate, session_reused, fail_verify_no_cert,
            fail_verify_error, fail_verify_san, fail_verify_cert_hash,
        }
        gauges {}
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `http.PREFIX.*`; register with [`StatsScope::http`].
    HttpStats {
        counters {
            downstream_cx_total, downstream_cx_ssl_total, downstream_cx_http1_total, downstream_cx_http2_total,
            downstream_cx_upgrades_total, downstream_cx_destroy, downstream_cx_destroy_local,
            downstream_cx_destroy_remote, downstream_cx_destroy_active_rq, downstream_cx_destroy_local_active_rq,
            downstream_cx_destroy_remote_active_rq, downstream_cx_idle_timeout,
            downstream_cx_max_duration_reached, downstream_cx_max_requests_reached,
            downstream_cx_overload_disable_keepalive, downstream_cx_protocol_error, downstream_cx_drain_close,
            downstream_cx_delayed_close_timeout, downstream_cx_rx_bytes_total, downstream_cx_tx_bytes_total,
            downstream_rq_total, downstream_rq_http1_total, downstream_rq_http2_total, downstream_rq_completed,
            downstream_rq_1xx, downstream_rq_2xx, downstream_rq_3xx, downstream_rq_4xx, downstream_rq_5xx,
            downstream_rq_rx_reset, downstream_rq_tx_reset, downstream_rq_too_many_premature_resets, downstream_rq_response_before_rq_complete,
            downstream_rq_non_relative_path, downstream_rq_too_large, downstream_rq_ws_on_non_ws_route,
            downstream_rq_timeout, downstream_rq_idle_timeout, downstream_rq_header_timeout,
            downstream_rq_max_duration_reached, downstream_rq_overload_close,
            downstream_rq_failed_path_normalization, downstream_rq_redirected_with_normalized_path,
            downstream_rq_rejected_via_ip_detection, downstream_flow_control_paused_reading_total,
            downstream_flow_control_resumed_reading_total, no_route, no_cluster, rq_direct_response, rq_redirect,
            rq_reset_after_downstream_response_started, rq_total,
            passthrough_internal_redirect_bad_location, rs_too_large,
        }
        gauges {
            downstream_cx_active, downstream_cx_ssl_active, downstream_cx_http1_active,
            downstream_cx_http2_active, downstream_cx_upgrades_active, downstream_rq_active,
            downstream_cx_rx_bytes_buffered, downstream_cx_tx_bytes_buffered,
        }
        histograms { downstream_cx_length_ms, downstream_rq_time }
        codes {}
        groups { rbac: RbacStats = "rbac" }
    }
}

impl HttpStats {
    /// The counter of a response's class, `downstream_rq_2xx` for 200.
    pub fn downstream_rq_class(&self, code: u16) -> Option<CounterId> {
        Some(match code / 100 {
            1 => self.downstream_rq_1xx,
            2 => self.downstream_rq_2xx,
            3 => self.downstream_rq_3xx,
            4 => self.downstream_rq_4xx,
            5 => self.downstream_rq_5xx,
            _ => return None,
        })
    }
}

group! {
    /// `SCOPE.rbac.*`, of a connection manager or a network filter.
    RbacStats {
        counters { allowed, denied, shadow_allowed, shadow_denied }
        gauges {}
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `listener.ADDRESS.*`; register with [`StatsScope::listener`].
    ListenerStats {
        counters {
            downstream_cx_total, downstream_cx_destroy, downstream_cx_overflow,
            downstream_cx_overload_reject, downstream_global_cx_overflow, downstream_cx_transport_socket_connect_timeout,
            downstream_listener_filter_error, downstream_listener_filter_remote_close,
            downstream_pre_cx_timeout, no_filter_chain_match,
        }
        gauges { downstream_cx_active, downstream_pre_cx_active }
        histograms { downstream_cx_length_ms }
        codes {}
        groups { tls: TlsStats = "ssl" }
    }
}

group! {
    /// `tcp.PREFIX.*`; register with [`StatsScope::tcp`].
    TcpStats {
        counters {
            downstream_cx_total, downstream_cx_no_route, downstream_cx_rx_bytes_total,
            downstream_cx_tx_bytes_total, downstream_flow_control_paused_reading_total,
            downstream_flow_control_resumed_reading_total, idle_timeout, max_downstream_connection_duration,
            upstream_flush_total, early_data_received_count_total,
        }
        gauges {
            downstream_cx_rx_bytes_buffered, downstream_cx_tx_bytes_buffered, upstream_flush_active,
        }
        histograms {}
        codes {}
        groups {}
    }
}

group! {
    /// `server.*`; register with `StatsScope::plain("server")`.
    ServerStats {
        counters { dynamic_unknown_fields, static_unknown_fields, envoy_bug_failures, debug_assertion_failures }
        gauges {
            uptime, concurrency, memory_allocated, memory_heap_size, memory_physical_size, live, state, version,
            total_connections, parent_connections, days_until_first_cert_expiring,
            seconds_until_first_ocsp_response_expiring, hot_restart_epoch, hot_restart_generation,
        }
        histograms { initialization_time_ms }
        codes {}
        groups {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::shard::{Shard, StatsSnapshot};
    use super::*;

    #[test]
    fn a_cluster_has_envoys_names() {
        let mut registry = StatsRegistry::new();
        let stats = ClusterStats::register(&mut registry, &StatsScope::cluster("shop/web/http"));
        let shard = Shard::default();
        shard.inc(stats.tls.handshake);
        shard.inc(stats.outlier.ejections_enforced_total);
        shard.set(stats.breaker.rq_open, 1);
        let totals = StatsSnapshot::sum([&shard.collect()]);
        let names: Vec<_> = registry.readings(&totals).into_iter().map(|r| r.name.to_string()).collect();
        for name in [
            "ssl.handshake",
            "outlier_detection.ejections_enforced_total",
            "circuit_breakers.default.rq_open",
            "circuit_breakers.high.remaining_rq",
            "membership_healthy",
            "upstream_rq_time",
        ] {
            assert!(names.contains(&format!("cluster.shop/web/http.{name}")), "{name}");
        }
    }

    #[test]
    fn a_class_outside_http_has_no_counter() {
        let stats = HttpStats::register(&mut StatsRegistry::new(), &StatsScope::http("in"));
        assert_eq!(stats.downstream_rq_class(204), Some(stats.downstream_rq_2xx));
        assert_eq!(stats.downstream_rq_class(999), None);
    }
}
