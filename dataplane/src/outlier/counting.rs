//! What is counted of what outlier detection finds.

use super::{EjectionDecision, EjectionType};
use crate::stats::{OutlierStats, Shard};

/// Counts a detection and what became of it.
pub fn count_ejection(shard: &Shard, stats: &OutlierStats, kind: EjectionType, decision: EjectionDecision) {
    let (detected, enforced) = match kind {
        EjectionType::ServerErrors => {
            (stats.ejections_detected_consecutive_5xx, stats.ejections_enforced_consecutive_5xx)
        }
        EjectionType::GatewayFailures => (
            stats.ejections_detected_consecutive_gateway_failure,
            stats.ejections_enforced_consecutive_gateway_failure,
        ),
        EjectionType::LocalOriginFailures => (
            stats.ejections_detected_consecutive_local_origin_failure,
            stats.ejections_enforced_consecutive_local_origin_failure,
        ),
        EjectionType::SuccessRate => {
            (stats.ejections_detected_success_rate, stats.ejections_enforced_success_rate)
        }
        EjectionType::LocalOriginSuccessRate => (
            stats.ejections_detected_local_origin_success_rate,
            stats.ejections_enforced_local_origin_success_rate,
        ),
        EjectionType::FailurePercentage => {
            (stats.ejections_detected_failure_percentage, stats.ejections_enforced_failure_percentage)
        }
        EjectionType::LocalOriginFailurePercentage => (
            stats.ejections_detected_failure_percentage_local_origin,
            stats.ejections_enforced_failure_percentage_local_origin,
        ),
    };
    shard.inc(detected);
    match decision {
        EjectionDecision::Ejected => {
            shard.inc(enforced);
            shard.inc(stats.ejections_enforced_total);
        }
        EjectionDecision::Overflow => shard.inc(stats.ejections_overflow),
        EjectionDecision::AlreadyEjected | EjectionDecision::NotEnforced => {}
    }
}
