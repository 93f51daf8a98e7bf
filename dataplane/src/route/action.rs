//! What happens to a request that matched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use weft_routing::matcher::RequestHead;
use weft_routing::route::{PathRewrite, Redirect, Substitution};

use super::{ClusterChoice, HashPolicy, RetryPolicy};
use crate::format::Format;

/// What a route does.
#[derive(Debug)]
pub enum RouteAction {
    /// Sends the request on.
    Forward(Box<Forward>),
    /// Answers with another place.
    Redirect(Box<Redirect>),
    Direct(DirectResponse),
    /// `non_forwarding_action`: for servers that answer themselves; here an error.
    NonForwarding,
}

/// `RouteAction`, meant.
#[derive(Debug)]
pub struct Forward {
    pub cluster: ClusterChoice,
    /// The answer where the cluster does not exist: 503, 404 or 500.
    pub cluster_not_found: StatusCode,
    /// Limit of the whole answer from the end of the request on: 15 s by default, `None` is no limit.
    pub timeout: Option<Duration>,
    /// Limit of silence on the stream, where it differs from the connection manager's: `Some(None)` is no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// `max_stream_duration`, where it differs from the connection manager's: `Some(None)` is no limit.
    pub max_stream_duration: Option<Option<Duration>>,
    /// The largest `grpc-timeout` that is honoured; `Some(None)` honours any, `None` ignores the header.
    pub grpc_timeout_max: Option<Option<Duration>>,
    /// Taken off the `grpc-timeout` before it is used.
    pub grpc_timeout_offset: Duration,
    /// How it is tried again; the virtual host's where the route has none.
    pub retry: Option<Arc<RetryPolicy>>,
    /// What of a request is hashed, for clusters that balance by that.
    pub hash: Box<[HashPolicy]>,
    /// How the path changes.
    pub path_rewrite: Option<PathRewrite>,
    /// How the authority changes.
    pub host_rewrite: Option<HostRewrite>,
    /// Whether the former authority is kept in `x-forwarded-host`.
    pub append_forwarded_host: bool,
    /// Which of the cluster's circuit breakers counts.
    pub priority: Priority,
    /// Upgrades that differ from the connection manager's.
    pub upgrades: Vec<RouteUpgrade>,
}

/// How the authority changes on the way to the upstream.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// `host_rewrite_literal`.
    Literal(Box<str>),
    /// `auto_host_rewrite`: the endpoint's host name.
    Auto,
    /// `host_rewrite_header`: the value of a header, if it is there.
    Header(HeaderName),
    /// `host_rewrite_path_regex`: made from the path.
    Path(Substitution),
}

impl HostRewrite {
    /// The new authority; `hostname` is the endpoint's. `None` keeps the old one.
    pub fn authority(&self, head: &RequestHead<'_>, hostname: Option<&str>) -> Option<String> {
        match self {
            Self::Literal(host) => Some(host.to_string()),
            Self::Auto => hostname.map(str::to_owned),
            Self::Header(name) => head.headers.get(name)?.to_str().ok().map(str::to_owned),
            Self::Path(substitution) => Some(substitution.apply(head.path_only())),
        }
    }
}

/// `priority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// `DEFAULT`.
    #[default]
    Default,
    /// `HIGH`.
    High,
}

/// `upgrade_configs` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUpgrade {
    /// For instance `websocket`, or `CONNECT`.
    pub kind: Box<str>,
    /// Whether it is allowed.
    pub enabled: bool,
    /// `connect_config`: CONNECT ends here and its content goes on as TCP.
    pub terminates_connect: bool,
}

/// `direct_response`.
#[derive(Debug)]
pub struct DirectResponse {
    pub status: StatusCode,
    pub body: Bytes,
    /// `body_format`: how the body is made from the request; `%LOCAL_REPLY_BODY%` is `body`.
    pub format: Option<Arc<Format>>,
}
