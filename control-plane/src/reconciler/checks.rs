//! Which health checks each sidecar is to make.

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use weft_api::WorkloadId;
use weft_policies::compile::health_checks;

use super::Reconciler;

impl Reconciler {
    pub(super) fn checks_of(&self, workload: &WorkloadId) -> HealthCheckSpecifier {
        health_checks(workload, &self.mesh.model()).unwrap_or_default()
    }

    pub(super) fn assign_checks(&self, workload: &WorkloadId) {
        let Some(assigned) = self.checks.get(workload) else { return };
        let checks = self.checks_of(workload);
        for assign in assigned {
            assign.send_if_modified(|current| {
                let differs = *current != checks;
                if differs {
                    current.clone_from(&checks);
                }
                differs
            });
        }
    }
}
