//! The statistics that an edge is made of, the traffic from one service to another: callers' proxies push them to Envoy's
//! metrics service, and the control plane reads them.

use crate::names::inbound_port;

/// Upper bounds of the buckets of histograms, in the unit of what is counted (milliseconds for times): Envoy's defaults. Both
/// proxies report by them; what is above the last is in a bucket of its own.
pub const HISTOGRAM_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// What a statistic is of, by Envoy's names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Measured<'a> {
    /// A cluster, `cluster.CLUSTER.`.
    Cluster(&'a str),
    /// The routes of a virtual host with that `stat_prefix`, `vhost.HOST.route.PREFIX.`. They have no connections, and
    /// nobody counts what is open of them.
    Route(&'a str),
}

/// A statistic of a cluster or a route, by Envoy's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EdgeStatistic {
    /// Requests sent to an endpoint, each try for itself; for TCP some proxies count connections.
    Begun,
    /// Requests that were answered, by the server or by the proxy in its place; one that is tried again counts once.
    Completed,
    /// Answers of 500 and above, among them those that the proxy gives for a reset, a timeout or a failed connection.
    ServerErrors,
    /// Answers of 403, as a policy's Deny gives.
    Denied,
    /// Tries after the first.
    Retries,
    /// Connections that the caller's sidecar opened, whether or not they came about.
    Connections,
    /// Connections that could not be opened.
    FailedConnections,
    /// TLS handshakes that succeeded.
    Handshakes,
    /// Bytes sent to the server.
    BytesSent,
    /// Bytes received from the server.
    BytesReceived,
    /// Requests that are under way; a gauge.
    Open,
    /// Connections that are open; a gauge.
    OpenConnections,
    /// Members that outlier detection leaves alone for a while, since they failed; a gauge.
    Ejected,
    /// Time to the answer, in milliseconds; a histogram.
    Latency,
}

/// How a statistic is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatisticKind {
    /// It only rises, until the proxy restarts.
    Counter,
    /// It rises and falls.
    Gauge,
    /// A distribution, in buckets by the bounds of `HISTOGRAM_BOUNDS`.
    Histogram,
}

impl EdgeStatistic {
    /// All of them; each stands at its own place, `statistic as usize`.
    pub const ALL: [Self; 14] = [
        Self::Begun,
        Self::Completed,
        Self::ServerErrors,
        Self::Denied,
        Self::Retries,
        Self::Connections,
        Self::FailedConnections,
        Self::Handshakes,
        Self::BytesSent,
        Self::BytesReceived,
        Self::Open,
        Self::OpenConnections,
        Self::Ejected,
        Self::Latency,
    ];

    /// Its name, below `cluster.CLUSTER.` or `vhost.HOST.route.PREFIX.`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begun => "upstream_rq_total",
            Self::Completed => "upstream_rq_completed",
            Self::ServerErrors => "upstream_rq_5xx",
            Self::Denied => "upstream_rq_403",
            Self::Retries => "upstream_rq_retry",
            Self::Connections => "upstream_cx_total",
            Self::FailedConnections => "upstream_cx_connect_fail",
            Self::Handshakes => "ssl.handshake",
            Self::BytesSent => "upstream_cx_tx_bytes_total",
            Self::BytesReceived => "upstream_cx_rx_bytes_total",
            Self::Open => "upstream_rq_active",
            Self::OpenConnections => "upstream_cx_active",
            Self::Ejected => "outlier_detection.ejections_active",
            Self::Latency => "upstream_rq_time",
        }
    }

    /// How it is reported.
    #[must_use]
    pub const fn kind(self) -> StatisticKind {
        match self {
            Self::Begun
            | Self::Completed
            | Self::ServerErrors
            | Self::Denied
            | Self::Retries
            | Self::Connections
            | Self::FailedConnections
            | Self::Handshakes
            | Self::BytesSent
            | Self::BytesReceived => StatisticKind::Counter,
            Self::Open | Self::OpenConnections | Self::Ejected => StatisticKind::Gauge,
            Self::Latency => StatisticKind::Histogram,
        }
    }

    /// Reads a whole name into what is measured and what is counted of it; none of other statistics.
    #[must_use]
    pub fn parse(name: &str) -> Option<(Measured<'_>, Self)> {
        let cluster = name.strip_prefix("cluster.");
        // The name of a virtual host has dots, a prefix of ours has none.
        let route = || Some(name.strip_prefix("vhost.")?.rsplit_once(".route.")?.1);
        let rest = cluster.or_else(route)?;
        let (measured, statistic) = Self::ALL.into_iter().find_map(|statistic| {
            let measured = rest.strip_suffix(statistic.name())?.strip_suffix('.')?;
            Some((measured, statistic))
        })?;
        // What was tried again is counted below a name of its own, `cluster.CLUSTER.retry.`: it is no cluster's.
        if measured.ends_with(".retry") {
            return None;
        }
        let measured =
            if cluster.is_some() { Measured::Cluster(measured) } else { Measured::Route(measured) };
        Some((measured, statistic))
    }
}

/// The port, by the name of its own cluster on the called side, of whose requests or connections this statistic counts how
/// many the policies that are only tried would refuse; none of other statistics. The two filters of a port count apart.
#[must_use]
pub fn shadow_denied(name: &str) -> Option<&str> {
    let filter = name.strip_suffix(".rbac.shadow_denied")?;
    let port = match filter.strip_prefix("http.") {
        Some(port) => port,
        None => filter.strip_suffix(".deny").or_else(|| filter.strip_suffix(".allow"))?,
    };
    inbound_port(port).is_some().then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_trial_would_refuse_at_a_port_of_either_kind() {
        assert_eq!(
            shadow_denied("http.inbound/shop/cart/http.rbac.shadow_denied"),
            Some("inbound/shop/cart/http")
        );
        for filter in ["deny", "allow"] {
            let name = format!("inbound/shop/db/tcp.{filter}.rbac.shadow_denied");
            assert_eq!(shadow_denied(&name), Some("inbound/shop/db/tcp"));
        }
        for name in [
            "http.inbound/shop/cart/http.rbac.deny.denied",
            "http.outbound.rbac.shadow_denied",
            "inbound/shop/db/tcp.rbac.shadow_denied",
            "cluster.inbound/shop/cart/http.upstream_rq_total",
        ] {
            assert_eq!(shadow_denied(name), None, "{name}");
        }
    }

    #[test]
    fn reads_every_name_that_it_gives() {
        for (place, statistic) in EdgeStatistic::ALL.into_iter().enumerate() {
            let name = format!("cluster.shop/cart/http.{}", statistic.name());
            assert_eq!(EdgeStatistic::parse(&name), Some((Measured::Cluster("shop/cart/http"), statistic)));
            let route = format!(
                "vhost.outbound/shop/vhds/cart.shop_80.route.shop/cart/http/other.{}",
                statistic.name()
            );
            assert_eq!(
                EdgeStatistic::parse(&route),
                Some((Measured::Route("shop/cart/http/other"), statistic))
            );
            assert_eq!(statistic as usize, place);
        }
    }

    #[test]
    fn passes_over_other_statistics() {
        for name in [
            "cluster.a.membership_total",
            "http.inbound.upstream_rq_total",
            "cluster.upstream_rq_total",
            "vhost.all.route.upstream_rq_total",
            "vhost.all.vcluster.other.upstream_rq_total",
            "vhost.all.route.rule.retry.upstream_rq_completed",
            "cluster.shop/cart/http.retry.upstream_rq_completed",
        ] {
            assert_eq!(EdgeStatistic::parse(name), None, "{name}");
        }
    }
}
