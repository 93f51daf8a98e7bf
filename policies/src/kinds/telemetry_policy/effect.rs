//! What TelemetryPolicies change: what holds for the requests to a port.

use weft_api::{Name, ServiceId};

use super::TelemetryPolicy;
use super::fields::EffectiveTelemetry;
use crate::kinds::merge::levels_of_port;
use crate::set::PolicySet;

impl PolicySet {
    /// What holds for the requests to a port of a service. Later levels win field by field: Mesh, Namespace, Service,
    /// Service port.
    #[must_use]
    pub fn telemetry_for(&self, service: &ServiceId, port: &Name) -> EffectiveTelemetry {
        self.merged::<TelemetryPolicy>(levels_of_port(&self.backend_key(service), port))
    }
}
