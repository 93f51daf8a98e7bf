//! From Envoy's `RBAC` and `RBACPerRoute`.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as wire;

use super::super::Override;
use super::Rbac;
use crate::rbac::HttpRbac;
use crate::rejection::{Notes, Rejection, Within as _};
use crate::stats::{Registry, Scope};

pub(in super::super) fn filter(
    given: &wire::Rbac,
    scope: &Scope,
    notes: &mut Notes,
    registry: &mut Registry,
) -> Result<Rbac, Rejection> {
    let rbac = HttpRbac::decode(given, notes)?;
    let stats = rbac.register(registry, scope);
    Ok(Rbac { rbac: Arc::new(rbac), stats })
}

/// A route without policies of its own leaves the filter out.
pub(in super::super) fn per_route(
    given: &wire::RbacPerRoute,
    notes: &mut Notes,
) -> Result<Override, Rejection> {
    let Some(rbac) = &given.rbac else { return Ok(Override::Disabled) };
    Ok(Override::Rbac(Arc::new(HttpRbac::decode(rbac, notes).within(|| "rbac")?)))
}
