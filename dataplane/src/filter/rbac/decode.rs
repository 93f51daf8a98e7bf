//! From Envoy's `RBAC` and `RBACPerRoute`.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as wire;
use weft_routing::decode::rbac;
use weft_routing::rejection::{Notes, Rejection, Within as _};

use super::super::Override;
use super::{Rbac, register};
use crate::stats::{StatsRegistry, StatsScope};

pub(in super::super) fn filter(
    given: &wire::Rbac,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Rbac, Rejection> {
    let policies = rbac::http(given, notes)?;
    let stats = register(&policies, registry, scope);
    Ok(Rbac { rbac: Arc::new(policies), stats })
}

/// A route without policies of its own leaves the filter out.
pub(in super::super) fn per_route(
    given: &wire::RbacPerRoute,
    notes: &mut Notes,
) -> Result<Override, Rejection> {
    let Some(policies) = &given.rbac else { return Ok(Override::Disabled) };
    Ok(Override::Rbac(Arc::new(rbac::http(policies, notes).within(|| "rbac")?)))
}
