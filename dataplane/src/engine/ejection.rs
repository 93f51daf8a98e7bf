//! What outlier detection is told of tries, and what is counted of what it finds.

use super::clock::now;
use super::cluster::Picked;
use crate::outlier::{AttemptOutcome, EjectionDecision, EjectionType};
use crate::stats::{OutlierStats, Shard};

/// Reports how a try at an endpoint ended, where the cluster looks at that.
pub(super) fn report(shard: &Shard, picked: &Picked, outcome: AttemptOutcome) {
    let config = &picked.view.config;
    if config.outliers.config().is_none() {
        return;
    }
    if let Some((kind, decision)) = config.outliers.report(picked.index, outcome, now()) {
        count_ejection(shard, &config.stats.outlier, kind, decision);
    }
}

/// Counts what outlier detection found.
fn count_ejection(shard: &Shard, stats: &OutlierStats, kind: EjectionType, decision: EjectionDecision) {
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
