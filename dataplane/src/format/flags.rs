//! Response flags.

/// What went wrong with a request, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }
        const NAMES: &[(ResponseFlags, &str, &str)] = &[$((ResponseFlags::$name, $short, $long)),*];
    };
}

// In Envoy's order, which is the order of the letters in a log.
flags! {
    NO_HEALTHY_UPSTREAM = 0, "UH", "NoHealthyUpstream";
    /// The upstream could not be connected to.
    UPSTREAM_CONNECTION_FAILURE = 1, "UF", "UpstreamConnectionFailure";
    /// A circuit breaker is open.
    UPSTREAM_OVERFLOW = 2, "UO", "UpstreamOverflow";
    NO_ROUTE = 3, "NR", "NoRouteFound";
    /// Retries or connection attempts are used up.
    UPSTREAM_RETRY_LIMIT = 4, "URX", "UpstreamRetryLimitExceeded";
    /// The cluster does not exist.
    NO_CLUSTER = 5, "NC", "NoClusterFound";
    /// A duration limit was reached.
    DURATION_TIMEOUT = 6, "DT", "DurationTimeout";
    /// The caller broke the connection.
    DOWNSTREAM_TERMINATION = 7, "DC", "DownstreamConnectionTermination";
    /// An active health check failed.
    FAILED_LOCAL_HEALTH_CHECK = 8, "LH", "FailedLocalHealthCheck";
    /// The upstream took too long.
    UPSTREAM_REQUEST_TIMEOUT = 9, "UT", "UpstreamRequestTimeout";
    /// The stream was reset here.
    LOCAL_RESET = 10, "LR", "LocalReset";
    /// The upstream reset the stream.
    UPSTREAM_REMOTE_RESET = 11, "UR", "UpstreamRemoteReset";
    /// The upstream closed the connection.
    UPSTREAM_TERMINATION = 12, "UC", "UpstreamConnectionTermination";
    /// An authorization service refused.
    UNAUTHORIZED_EXTERNAL = 13, "UAEX", "UnauthorizedExternalService";
    /// The rate limit service refused or failed.
    RATE_LIMIT_SERVICE_ERROR = 14, "RLSE", "RateLimitServiceError";
    /// The local rate limit refused.
    RATE_LIMITED = 15, "RL", "RateLimited";
    /// A strictly checked header is invalid.
    INVALID_ENVOY_HEADERS = 16, "IH", "InvalidEnvoyRequestHeaders";
    /// The stream was idle for too long.
    STREAM_IDLE_TIMEOUT = 17, "SI", "StreamIdleTimeout";
    /// The caller broke the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    /// The upstream broke the protocol.
    UPSTREAM_PROTOCOL_ERROR = 19, "UPE", "UpstreamProtocolError";
    /// The stream lived too long upstream.
    UPSTREAM_MAX_DURATION = 20, "UMSDR", "UpstreamMaxStreamDurationReached";
    /// Delayed by a fault filter.
    DELAY_INJECTED = 21, "DI", "DelayInjected";
    /// Answered by a fault filter.
    FAULT_INJECTED = 22, "FI", "FaultInjected";
    /// The overload manager refused.
    OVERLOAD_MANAGER = 23, "OM", "OverloadManagerTerminated";
    /// A name could not be resolved.
    DNS_FAILURE = 24, "DF", "DnsResolutionFailed";
    /// The caller reset the stream.
    DOWNSTREAM_REMOTE_RESET = 25, "DR", "DownstreamRemoteReset";
}

impl ResponseFlags {
    /// The server, or the way to it, is why there is no answer of its own.
    pub const UPSTREAM: Self = Self(
        Self::NO_HEALTHY_UPSTREAM.0
            | Self::UPSTREAM_CONNECTION_FAILURE.0
            | Self::UPSTREAM_OVERFLOW.0
            | Self::UPSTREAM_REQUEST_TIMEOUT.0
            | Self::UPSTREAM_REMOTE_RESET.0
            | Self::UPSTREAM_TERMINATION.0
            | Self::UPSTREAM_PROTOCOL_ERROR.0,
    );

    /// Adds the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether any flag of `other` is set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flag with the letters `short`.
    pub fn from_short(short: &str) -> Option<Self> {
        NAMES.iter().find(|(_, name, _)| *name == short).map(|(flag, _, _)| *flag)
    }

    /// The letters of the flags that are set, in Envoy's order.
    pub fn short_names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, short, _)| *short)
    }

    /// The long names of the flags that are set.
    pub fn long_names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(flag, _, _)| self.contains(*flag)).map(|(_, _, long)| *long)
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_found_by_its_letters() {
        for (flag, short, _) in NAMES {
            assert_eq!(ResponseFlags::from_short(short), Some(*flag));
        }
        assert_eq!(ResponseFlags::from_short("XX"), None);
    }

    #[test]
    fn several_flags_keep_their_order() {
        let flags = ResponseFlags::UPSTREAM_RETRY_LIMIT | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        assert_eq!(flags.short_names().collect::<Vec<_>>(), ["UF", "URX"]);
    }
}
