//! Raises and lowers what stock Envoys tell of their requests, by a layer of their runtime (RTDS): 0 unless somebody looks on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weft_api::names::{RUNTIME_LAYER, TAP_RUNTIME_KEYS};
use weft_api::{Resource, ResourceKind, WorkloadId};

use crate::identity::instances::InstanceLookup as _;
use crate::reconciler::{ReconcilerCommand, ReconcilerHandle};
use crate::taps::{Sides, Taps, WantedTaps};

/// How often it is looked how much Envoys tell, and whether viewers still take it.
const TICK: Duration = Duration::from_millis(500);

/// The layer of all Envoys that nobody looks on.
#[must_use]
pub fn nothing_wanted() -> Arc<Resource> {
    layer(Sides::default(), 0)
}

/// Keeps the runtimes of Envoys as taps want them, until the shutdown.
pub fn spawn_tap_runtimes(taps: Taps, reconciler: ReconcilerHandle, shutdown: CancellationToken) {
    let runtimes = TapRuntimes { taps, reconciler, raised: BTreeMap::new() };
    tokio::spawn(async move { shutdown.run_until_cancelled(runtimes.run()).await });
}

/// `envoy.service.runtime.v3.Runtime`, whose bytes are the same in every process: fields stand in order.
#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeLayer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    layer: Option<Struct>,
}

struct TapRuntimes {
    taps: Taps,
    reconciler: ReconcilerHandle,
    /// What is published, of those that have more than nothing.
    raised: BTreeMap<WorkloadId, Arc<Resource>>,
}

impl TapRuntimes {
    async fn run(mut self) {
        self.reconciler
            .tell(ReconcilerCommand::Runtime { workload: None, resource: Some(nothing_wanted()) })
            .await;
        let mut wanted = self.taps.wanted();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_on = !wanted.borrow().is_empty();
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                _ = ticks.tick(), if is_on => self.taps.end_unread(Instant::now()),
            }
            let taps = Arc::clone(&wanted.borrow_and_update());
            self.publish(&taps).await;
        }
    }

    async fn publish(&mut self, wanted: &WantedTaps) {
        let asked = if wanted.is_empty() { BTreeMap::new() } else { self.asked(wanted).await };
        let now = Instant::now();
        let layers: BTreeMap<WorkloadId, Arc<Resource>> = self.taps.with_sampling(|sampling| {
            sampling.keep(|workload| asked.contains_key(workload));
            asked
                .into_iter()
                .map(|(id, sides)| (id.clone(), layer(sides, sampling.adapt(now, &id))))
                .collect()
        });
        for workload in self.raised.keys().filter(|workload| !layers.contains_key(*workload)) {
            let lowered = ReconcilerCommand::Runtime { workload: Some(workload.clone()), resource: None };
            self.reconciler.tell(lowered).await;
        }
        for (workload, layer) in &layers {
            if self.raised.get(workload) != Some(layer) {
                let raised = ReconcilerCommand::Runtime {
                    workload: Some(workload.clone()),
                    resource: Some(Arc::clone(layer)),
                };
                self.reconciler.tell(raised).await;
            }
        }
        self.raised = layers;
    }

    /// The Envoys here that are to tell, and of which of their sides.
    async fn asked(&self, wanted: &WantedTaps) -> BTreeMap<WorkloadId, Sides> {
        let streams = self.reconciler.streams().await.unwrap_or_default();
        let able = streams.into_iter().filter(|stream| stream.takes_runtime());
        let set = Arc::clone(&self.reconciler.published().borrow().set);
        let sides = able.filter_map(|stream| {
            let service = self.reconciler.record(&stream.workload)?.service;
            let sides = wanted.iter().map(|tap| Sides::of(&tap.filter, &stream.workload, &service, &set));
            let sides = sides.fold(Sides::default(), Sides::and);
            sides.any().then_some((stream.workload, sides))
        });
        sides.collect()
    }
}

fn layer(sides: Sides, of_a_million: u32) -> Arc<Resource> {
    let part = |is_asked: bool| (is_asked && of_a_million > 0).then(|| number(of_a_million));
    let keys = TAP_RUNTIME_KEYS.into_iter().zip([part(sides.inbound), part(sides.outbound)]);
    let fields = keys.filter_map(|(key, part)| Some((key.to_owned(), part?))).collect();
    let runtime = RuntimeLayer { name: RUNTIME_LAYER.to_owned(), layer: Some(Struct { fields }) };
    Resource::new(ResourceKind::Runtime, RUNTIME_LAYER, runtime.encode_to_vec(), Vec::new())
}

fn number(of_a_million: u32) -> Value {
    Value { kind: Some(Kind::NumberValue(of_a_million.into())) }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::runtime::v3::Runtime;

    use super::*;

    #[test]
    fn layer_says_which_part_of_which_side_and_nothing_where_nobody_looks() {
        let read = |resource: &Resource| Runtime::decode(&*resource.body).unwrap();
        let nothing = read(&nothing_wanted());
        assert_eq!((&*nothing.name, nothing.layer.unwrap().fields.len()), (RUNTIME_LAYER, 0));
        let one = layer(Sides { outbound: true, inbound: false }, 250_000);
        let fields = read(&one).layer.unwrap().fields;
        assert_eq!(fields.keys().collect::<Vec<_>>(), [TAP_RUNTIME_KEYS[1]]);
        let both = Sides { outbound: true, inbound: true };
        assert_eq!(layer(both, 7).version, layer(both, 7).version);
        assert_ne!(layer(both, 7).version, layer(both, 8).version);
    }
}
