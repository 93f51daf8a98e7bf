//! A request on a route that forwards.

use http::request::Parts;
use weft_routing::route::RouteRef;

use super::super::request_context::RequestContext;
use super::super::upgraded::DownstreamUpgrade;
use crate::route::{self, Forward, HashedPeer, RouteConfig};
use crate::runtime::{Cluster, HttpManager, Router};

/// The route of a request, and what it asks for besides.
pub(in super::super) struct Routed<'a> {
    pub(in super::super) manager: &'a HttpManager,
    pub(in super::super) router: &'a Router,
    pub(in super::super) routes: &'a RouteConfig,
    pub(in super::super) found: RouteRef,
    pub(in super::super) forward: &'a Forward,
    /// The caller's side of an upgrade, where one is asked for.
    pub(in super::super) upgrade: Option<DownstreamUpgrade>,
}

impl Routed<'_> {
    /// What the request is hashed to, where the cluster balances by that. A cookie that is made for it waits for the
    /// response.
    pub(in super::super) fn hash(
        &self,
        context: &mut RequestContext,
        cluster: &Cluster,
        parts: &Parts,
    ) -> Option<u64> {
        if self.forward.hash.is_empty() || !cluster.balancing.policy.hashes() {
            return None;
        }
        let facts = &context.connection.downstream.facts;
        let peer = HashedPeer { remote: context.remote, connection: (facts.peer, facts.local) };
        let mut cookies = Vec::new();
        let hash = route::hash(&self.forward.hash, &context.head(parts), peer, &mut cookies);
        context.stream.set_cookies = cookies;
        hash
    }
}
