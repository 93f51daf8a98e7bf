//! `envoy.filters.http.rbac`: authorization of a request by what it says and who sends it.

pub(super) mod decode;
pub(super) mod run;

use std::sync::Arc;

use crate::rbac::HttpRbac;
use crate::stats::RbacStats;

/// `envoy.filters.http.rbac`, with its own policies for routes that say nothing else.
#[derive(Debug, Clone)]
pub struct Rbac {
    pub rbac: Arc<HttpRbac>,
    /// `http.PREFIX.rbac.*`; a route's own policies count here too.
    pub stats: RbacStats,
}
