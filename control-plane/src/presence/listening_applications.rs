//! Where applications listen, as the sidecars beside them see it.
//!
//! An application that listens beyond loopback is reached past its sidecar: without mutual TLS, and whatever policies say.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use envoy_types::pb::io::prometheus::client::MetricFamily;
use weft_api::WorkloadId;
use weft_api::names::{LISTENING_ADDRESS, LISTENING_STATISTIC};

/// What was seen holds so long: sidecars look each few seconds.
const LIFE: Duration = Duration::from_secs(60);
/// Sockets of one workload that are kept.
const MOST: usize = 64;

/// The sockets of applications whose sidecars report to this replica. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ListeningApplications(Arc<Mutex<SeenSockets>>);

#[derive(Debug, Default)]
struct SeenSockets {
    by_workload: HashMap<WorkloadId, (Instant, Vec<SocketAddr>)>,
    swept_at: Option<Instant>,
}

impl ListeningApplications {
    /// Takes what a report says, if it says anything about that.
    pub fn note(&self, now: Instant, workload: &WorkloadId, families: &[MetricFamily]) {
        let Some(family) = families.iter().find(|family| family.name() == LISTENING_STATISTIC) else {
            return;
        };
        let address = |label: &envoy_types::pb::io::prometheus::client::LabelPair| {
            (label.name() == LISTENING_ADDRESS).then(|| label.value().parse().ok())?
        };
        let sockets = family.metric.iter().filter_map(|metric| metric.label.iter().find_map(address));
        let sockets = sockets.take(MOST).collect();
        let mut seen = self.lock();
        if seen.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= LIFE) {
            seen.by_workload.retain(|_, (at, _)| now.saturating_duration_since(*at) < LIFE);
            seen.swept_at = Some(now);
        }
        seen.by_workload.insert(workload.clone(), (now, sockets));
    }

    /// Where a workload's application listens; none where nobody has told lately.
    #[must_use]
    pub fn of(&self, now: Instant, workload: &WorkloadId) -> Option<Vec<SocketAddr>> {
        let seen = self.lock();
        let (at, sockets) = seen.by_workload.get(workload)?;
        (now.saturating_duration_since(*at) < LIFE).then(|| sockets.clone())
    }

    // A lock because each stream of statistics has a task of its own; held for a look at the map.
    fn lock(&self) -> MutexGuard<'_, SeenSockets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::io::prometheus::client::{LabelPair, Metric};

    use super::*;

    #[test]
    fn what_a_sidecar_tells_is_known_until_nothing_is_heard() {
        let (seen, now) = (ListeningApplications::default(), Instant::now());
        let web = "shop/web-1".parse().unwrap();
        let label = |value: &str| LabelPair {
            name: Some(LISTENING_ADDRESS.to_owned()),
            value: Some(value.to_owned()),
        };
        let metric = |value: &str| Metric { label: vec![label(value)], ..Metric::default() };
        let family = MetricFamily {
            name: Some(LISTENING_STATISTIC.to_owned()),
            metric: vec![metric("0.0.0.0:8080"), metric("junk")],
            ..MetricFamily::default()
        };
        seen.note(now, &web, &[]);
        assert_eq!(seen.of(now, &web), None, "who says nothing is not known");
        seen.note(now, &web, &[family]);
        assert_eq!(seen.of(now, &web), Some(vec!["0.0.0.0:8080".parse().unwrap()]));
        assert_eq!(seen.of(now + LIFE, &web), None);
    }
}
