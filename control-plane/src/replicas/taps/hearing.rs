//! Which sidecars tell of what a tap asks for, and which cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::rest::{TapListening, UnheardSidecar};
use weft_policies::PolicySet;

use crate::presence::workloads::{DeclaredProxy, WorkloadRecord};
use crate::reconciler::ReconcilerHandle;
use crate::taps::{Sides, TapFilter, Taps};

/// Sidecars that are named as unheard; more are too many to read.
const MOST_NAMED: usize = 100;

const NO_STREAM: &str =
    "its weft-proxy has no stream for taps: it is of an earlier release, or just starts; upgrade it, or wait";
const NO_RUNTIME: &str = "its Envoy takes no runtime layer from the control plane: write its bootstrap anew with `weft proxy \
                          bootstrap`, and start it with that";
const NOT_CONNECTED: &str = "it is not connected: see `weft proxy list`";
const NO_REPLICA: &str = "it is connected to a control plane that does not answer, or to none";

/// A sidecar of a replica that a tap asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SidecarHearing {
    pub workload: String,
    /// Calls of its application are asked for.
    pub calls: bool,
    /// Why it is not heard.
    pub unheard: Option<String>,
}

/// The sidecars that are connected here, for their configuration or to tell.
pub(super) async fn hearing(
    reconciler: &ReconcilerHandle,
    taps: &Taps,
    filter: &TapFilter,
) -> Vec<SidecarHearing> {
    let (records, told_by) = (reconciler.records(), taps.told_by());
    let set = Arc::clone(&reconciler.published().borrow().set);
    let mut found = BTreeMap::new();
    for stream in reconciler.streams().await.unwrap_or_default() {
        let Some(record) = records.get(&stream.workload) else { continue };
        let Some(sides) = asked(filter, record, &set) else { continue };
        let (is_heard, reason) = match record.declared.proxy {
            DeclaredProxy::Weft => (false, NO_STREAM),
            DeclaredProxy::Envoy => (stream.takes_runtime(), NO_RUNTIME),
            DeclaredProxy::Grpc | DeclaredProxy::None => continue,
        };
        let workload = stream.workload.to_string();
        let heard = found.entry(workload.clone()).or_insert_with(|| SidecarHearing {
            workload,
            calls: sides.outbound,
            unheard: Some(reason.to_owned()),
        });
        // One of several streams of an Envoy suffices.
        if is_heard {
            heard.unheard = None;
        }
    }
    // A weft-proxy may tell here and have its configuration of another replica.
    for workload in &told_by {
        if let Some(sides) = records.get(workload).and_then(|record| asked(filter, record, &set)) {
            let (workload, calls) = (workload.to_string(), sides.outbound);
            found.insert(workload.clone(), SidecarHearing { workload, calls, unheard: None });
        }
    }
    found.into_values().collect()
}

/// What all replicas say together: who is heard by one of them is heard.
#[derive(Debug, Default)]
pub(super) struct MeshHearing(BTreeMap<String, SidecarHearing>);

impl MeshHearing {
    pub(super) fn of<'a>(said: impl Iterator<Item = &'a SidecarHearing>) -> Self {
        let mut known = BTreeMap::<String, SidecarHearing>::new();
        for sidecar in said {
            let one = known.entry(sidecar.workload.clone()).or_insert_with(|| sidecar.clone());
            if sidecar.unheard.is_none() {
                one.unheard = None;
            }
        }
        Self(known)
    }

    /// Whether there are callers whose sidecars do not tell.
    pub(super) fn lacks_callers(&self) -> bool {
        self.0.values().any(|sidecar| sidecar.calls && sidecar.unheard.is_some())
    }

    /// What a viewer is told.
    pub(super) fn listening(
        &self,
        reconciler: &ReconcilerHandle,
        filter: &TapFilter,
        unheard_replicas: usize,
    ) -> TapListening {
        let heard = self.0.values().filter(|sidecar| sidecar.unheard.is_none()).count();
        let connected =
            self.0.values().filter_map(|one| Some(sidecar(&one.workload, one.unheard.as_deref()?)));
        let mut unheard: BTreeSet<UnheardSidecar> = connected.collect();
        let set = Arc::clone(&reconciler.published().borrow().set);
        let reason = if unheard_replicas > 0 { NO_REPLICA } else { NOT_CONNECTED };
        for (id, record) in &reconciler.records() {
            let id = id.to_string();
            if record.left_at.is_none() && !self.0.contains_key(&id) && asked(filter, record, &set).is_some()
            {
                unheard.insert(sidecar(&id, reason));
            }
        }
        TapListening { heard, unheard: unheard.into_iter().take(MOST_NAMED).collect(), unheard_replicas }
    }
}

fn asked(filter: &TapFilter, record: &WorkloadRecord, set: &PolicySet) -> Option<Sides> {
    let sides = Sides::of(filter, &record.id, &record.service, set);
    (record.declared.proxy.is_sidecar() && sides.any()).then_some(sides)
}

fn sidecar(workload: &str, reason: &str) -> UnheardSidecar {
    UnheardSidecar { workload: workload.to_owned(), reason: reason.to_owned() }
}
