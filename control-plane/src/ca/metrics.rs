//! When what the mesh trusts ends, for alarms.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{Authority, Ledger, RotationStage};
use crate::clock::Clock;

/// Roots, issuers and leaves with their ends, as they are when somebody asks.
#[derive(Debug)]
pub struct AuthorityMetrics {
    authority: Arc<Authority>,
    ledger: Ledger,
    clock: Clock,
}

impl AuthorityMetrics {
    #[must_use]
    pub fn new(authority: &Arc<Authority>, ledger: &Ledger, clock: &Clock) -> Self {
        Self { authority: Arc::clone(authority), ledger: ledger.clone(), clock: clock.clone() }
    }
}

impl Collector for AuthorityMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.authority.state();
        let meaning = "Unix seconds when a root of the mesh ends";
        let mut family = encoder.encode_descriptor(
            "ca_root_expires_timestamp_seconds",
            meaning,
            None,
            MetricType::Gauge,
        )?;
        for root in &state.bundle {
            let labels = [("root", root.serial.as_str())];
            ConstGauge::new(root.not_after.unix_timestamp()).encode(family.encode_family(&labels)?)?;
        }
        let meaning = "Unix seconds when the issuer ends that signs now";
        let family = encoder.encode_descriptor(
            "ca_issuer_expires_timestamp_seconds",
            meaning,
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(state.signing.issuer.not_after.unix_timestamp()).encode(family)?;
        let meaning = "Stage of the root's replacement, 1 to 3; 0 while none is under way";
        let family = encoder.encode_descriptor("ca_rotation_stage", meaning, None, MetricType::Gauge)?;
        let stage = state.rotation.as_ref().map_or(0_i64, |rotation| match rotation.stage {
            RotationStage::DistributingRoot => 1,
            RotationStage::RenewingLeaves => 2,
            RotationStage::MovingControlPlanes => 3,
        });
        ConstGauge::new(stage).encode(family)?;
        let meaning = "Instances whose newest certificate has less than a fifth of its life left";
        let family = encoder.encode_descriptor("ca_leaves_not_renewed", meaning, None, MetricType::Gauge)?;
        let overdue = self.ledger.issued().not_renewed(self.clock.unix_seconds());
        ConstGauge::new(i64::try_from(overdue).unwrap_or(i64::MAX)).encode(family)
    }
}
