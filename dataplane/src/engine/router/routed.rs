//! A request on a route that forwards.

use weft_routing::route::RouteRef;

use super::super::upgraded::DownstreamUpgrade;
use crate::route::{Forward, RouteConfig};
use crate::runtime::{HttpManager, Router};

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
