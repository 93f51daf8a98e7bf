//! What outlier detection is told of tries.

use super::clock::now;
use super::cluster::Picked;
use crate::outlier::{AttemptOutcome, count_ejection};
use crate::stats::Shard;

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
