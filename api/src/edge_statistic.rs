//! The statistics that an edge is made of, the traffic from one service to another: callers' proxies push them to Envoy's
//! metrics service, and the control plane reads them.

/// A statistic of a cluster, by Envoy's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EdgeStatistic {
    /// Requests sent to the cluster, each try of a retried one.
    Requests,
    /// Answers of 500 and above.
    ServerErrors,
    /// Answers of 403, as a policy's Deny gives.
    Denied,
    /// Time to the answer, in milliseconds; a histogram.
    Latency,
    /// TCP connections that were begun, whether or not they came about.
    Connections,
    /// Connections that could not be opened.
    FailedConnections,
    /// TLS handshakes that succeeded.
    Handshakes,
}

impl EdgeStatistic {
    /// Every statistic of an edge: what a proxy pushes, and nothing else of a cluster.
    pub const ALL: [Self; 7] = [
        Self::Requests,
        Self::ServerErrors,
        Self::Denied,
        Self::Latency,
        Self::Connections,
        Self::FailedConnections,
        Self::Handshakes,
    ];

    /// Its name, below `cluster.CLUSTER.`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "upstream_rq_total",
            Self::ServerErrors => "upstream_rq_5xx",
            Self::Denied => "upstream_rq_403",
            Self::Latency => "upstream_rq_time",
            Self::Connections => "upstream_cx_total",
            Self::FailedConnections => "upstream_cx_connect_fail",
            Self::Handshakes => "ssl.handshake",
        }
    }

    /// Reads a whole name, `cluster.CLUSTER.NAME`, into the cluster and what is counted of it; none of other statistics.
    #[must_use]
    pub fn parse(name: &str) -> Option<(&str, Self)> {
        let rest = name.strip_prefix("cluster.")?;
        Self::ALL.into_iter().find_map(|statistic| {
            let cluster = rest.strip_suffix(statistic.name())?.strip_suffix('.')?;
            Some((cluster, statistic))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_name_that_it_gives() {
        for statistic in EdgeStatistic::ALL {
            let name = format!("cluster.shop/cart/http.{}", statistic.name());
            assert_eq!(EdgeStatistic::parse(&name), Some(("shop/cart/http", statistic)));
        }
    }

    #[test]
    fn passes_over_other_statistics() {
        for name in
            ["cluster.a.membership_total", "http.inbound.upstream_rq_total", "cluster.upstream_rq_total"]
        {
            assert_eq!(EdgeStatistic::parse(name), None, "{name}");
        }
    }
}
