//! What the reconciler is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use tokio::sync::watch;
use weft_api::{Resource, WorkloadId};
use weft_policies::compile::ControlPlaneAddresses;
use weft_policies::set::{PolicyKey, PolicySet};

use super::stream::{Connected, StreamId};
use crate::presence::registry::{PortHealth, PresenceReport};
use crate::presence::workloads::WorkloadRecord;

#[derive(Debug)]
pub enum ReconcilerCommand {
    /// The log of policies has a new head.
    Policies {
        revision: u64,
        set: Arc<PolicySet>,
        /// Those that differ from before.
        changed: Vec<PolicyKey>,
    },
    /// The record of a workload changed.
    Record {
        id: WorkloadId,
        record: Option<Box<WorkloadRecord>>,
    },
    /// All records were read: what is not among them is gone, and the world is complete.
    Records(Vec<WorkloadRecord>),
    /// Where the control planes are reached now.
    ControlPlanes(ControlPlaneAddresses),
    /// A secret for one instance of a workload, or for all.
    Secret {
        /// Whom it is for, and which instance of it; all without one.
        holder: Option<(WorkloadId, String)>,
        resource: Arc<Resource>,
    },
    /// A layer of the runtime of one workload's Envoy, or of all that have none of their own; one workload's may go.
    Runtime {
        workload: Option<WorkloadId>,
        resource: Option<Arc<Resource>>,
    },
    /// A discovery stream opened.
    Opened(Connected),
    /// A sidecar of this workload has its listener for other workloads: the stream's [`super::StreamProgress`] says so.
    Arrived(WorkloadId),
    Closed(StreamId),
    /// A sidecar reports about its application.
    Health {
        workload: WorkloadId,
        /// By service and port.
        health: PortHealth,
    },
    /// A sidecar's stream of reports ended.
    HealthEnded(WorkloadId),
    /// A sidecar wants to know what to check, now and whenever it changes.
    Check {
        workload: WorkloadId,
        assign: watch::Sender<HealthCheckSpecifier>,
    },
    /// Another replica says which streams it has; nothing when it is gone.
    RemotePresence {
        /// Which part of which replica.
        partition: String,
        /// Workloads with streams there.
        workloads: Option<PresenceReport>,
    },
    /// All that the other replicas say.
    AllRemotePresence(BTreeMap<String, PresenceReport>),
}
