//! What happens to a request that matched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::rewrite::{PathRewrite, Redirect, Substitution};
use super::{LevelConfig, RetryPolicy};
use crate::format::Format;
use crate::matcher::RequestHead;

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

/// Where a request is sent.
#[derive(Debug)]
pub enum ClusterChoice {
    Named(Arc<str>),
    /// The cluster that a header names.
    Header(HeaderName),
    /// One of several, by weight.
    Weighted {
        clusters: Vec<WeightedCluster>,
        /// Sum of the weights.
        total: u64,
    },
}

/// A member of `weighted_clusters`.
#[derive(Debug)]
pub struct WeightedCluster {
    pub name: Arc<str>,
    /// Its part of the sum.
    pub weight: u32,
    /// `host_rewrite_literal`.
    pub host_rewrite: Option<Box<str>>,
    pub(crate) common: LevelConfig,
}

/// A cluster that was chosen for one request.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'c, 'h> {
    /// Its name, of the configuration or of a header.
    pub name: &'h str,
    /// The member of `weighted_clusters` that was chosen, for its header operations.
    pub weighted: Option<&'c WeightedCluster>,
}

impl ClusterChoice {
    /// The cluster for this request. `random` is spread evenly. `None` where the header is missing.
    pub fn choose<'h, 'c: 'h>(&'c self, head: &RequestHead<'h>, random: u64) -> Option<Chosen<'c, 'h>> {
        match self {
            Self::Named(name) => Some(Chosen { name, weighted: None }),
            Self::Header(name) => {
                let name = head.headers.get(name)?.to_str().ok()?;
                Some(Chosen { name, weighted: None })
            }
            Self::Weighted { .. } => {
                let member = self.member(self.choose_member(random)?)?;
                Some(Chosen { name: &member.name, weighted: Some(member) })
            }
        }
    }

    /// The place of a member of `weighted_clusters`, by weight. `random` is spread evenly. `None` where nothing is weighed.
    pub fn choose_member(&self, random: u64) -> Option<u32> {
        let Self::Weighted { clusters, total } = self else { return None };
        let mut at = ((u128::from(random) * u128::from(*total)) >> 64) as u64;
        let chosen = clusters.iter().position(|cluster| {
            let weight = u64::from(cluster.weight);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        });
        u32::try_from(chosen?).ok()
    }

    /// The members of `weighted_clusters`.
    pub fn members(&self) -> &[WeightedCluster] {
        match self {
            Self::Weighted { clusters, .. } => clusters,
            Self::Named(_) | Self::Header(_) => &[],
        }
    }

    /// The member of `weighted_clusters` at a place.
    pub fn member(&self, place: u32) -> Option<&WeightedCluster> {
        self.members().get(place as usize)
    }

    /// The clusters that are named.
    pub fn names(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Named(name) => vec![name],
            Self::Header(_) => Vec::new(),
            Self::Weighted { clusters, .. } => clusters.iter().map(|cluster| &cluster.name).collect(),
        }
    }
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
