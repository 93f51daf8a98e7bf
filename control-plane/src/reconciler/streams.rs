//! The open discovery streams, and who of them is given what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use weft_api::{Version, WorkloadId};
use weft_policies::compile::RouteForm;
use weft_xds::Changes;
use weft_xds::mailbox::Delivery;

use super::delta::LayerChanges;
use super::mesh_state::{Concerned, MeshState};
use super::stream::{Connected, ServedStream, StreamId};

/// All open streams. One workload may have several: one for each type, or an old one that is about to end.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<StreamId, ServedStream>,
    by_workload: BTreeMap<WorkloadId, BTreeSet<StreamId>>,
    /// Those that wait for their first view.
    waiting: BTreeSet<StreamId>,
}

impl Streams {
    pub fn insert(&mut self, connected: Connected) {
        let id = connected.id;
        let open = ServedStream::from(connected);
        self.by_workload.entry(open.workload.clone()).or_default().insert(id);
        self.open.insert(id, open);
        self.waiting.insert(id);
    }

    pub fn remove(&mut self, id: StreamId) -> Option<ServedStream> {
        let open = self.open.remove(&id)?;
        self.waiting.remove(&id);
        if let Some(streams) = self.by_workload.get_mut(&open.workload) {
            streams.remove(&id);
            if streams.is_empty() {
                self.by_workload.remove(&open.workload);
            }
        }
        Some(open)
    }

    pub fn all(&self) -> impl Iterator<Item = &ServedStream> {
        self.open.values()
    }

    pub fn of(&self, workload: &WorkloadId) -> impl Iterator<Item = StreamId> {
        self.by_workload.get(workload).into_iter().flatten().copied()
    }

    /// The streams of a workload that are not of this instance; all of them without one.
    pub fn of_others(&self, workload: &WorkloadId, instance: Option<&str>) -> Vec<StreamId> {
        let is_other =
            |id: &StreamId| self.open.get(id).is_some_and(|open| instance != Some(&*open.instance));
        self.of(workload).filter(is_other).collect()
    }

    /// Whether this instance has a stream.
    pub fn has(&self, workload: &WorkloadId, instance: &str) -> bool {
        self.of(workload).any(|id| self.open.get(&id).is_some_and(|open| *open.instance == *instance))
    }

    /// Whether a stream of this instance has its listener for other workloads.
    pub fn listens(&self, workload: &WorkloadId, instance: &str) -> bool {
        let listens = |open: &ServedStream| *open.instance == *instance && open.listens();
        self.of(workload).any(|id| self.open.get(&id).is_some_and(listens))
    }

    /// How the proxy of a workload is told virtual hosts: as its newest stream is, or as the newest proxies are.
    pub fn form(&self, workload: &WorkloadId) -> RouteForm {
        let newest = self.of(workload).max().and_then(|id| self.open.get(&id));
        newest.map_or(RouteForm::VirtualHosts, |open| open.form)
    }

    /// The bundles that the streams of a workload took, of those that asked for one.
    pub fn bundles(&self, workload: &WorkloadId) -> impl Iterator<Item = Version> {
        self.of(workload).filter_map(|id| self.open.get(&id)?.bundle())
    }

    pub fn workloads(&self) -> impl Iterator<Item = &WorkloadId> {
        self.by_workload.keys()
    }

    /// Gives new streams their first view. One whose instance is not known yet goes on waiting: its record may be on
    /// its way from the store, and a view without its own listeners would take away those that it has.
    pub fn serve_waiting(
        &mut self,
        revision: u64,
        mesh: &MeshState,
        is_current: impl Fn(&ServedStream) -> bool,
    ) {
        let open = &mut self.open;
        self.waiting.retain(|id| {
            let Some(stream) = open.get_mut(id) else { return false };
            if !mesh.workloads().contains_key(&stream.workload) || !is_current(stream) {
                return true;
            }
            stream.publish(mesh.view(revision, &stream.workload, stream.form), Changes::All);
            false
        });
    }

    /// Takes out the streams whose workload did not become known.
    pub fn give_up(&mut self, now: Instant, timeout: Duration) -> Vec<ServedStream> {
        let waiting = self.waiting.iter().copied();
        let strangers: Vec<_> =
            waiting.filter(|id| self.open.get(id).is_some_and(|open| open.waited(now, timeout))).collect();
        strangers.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Gives streams what changed for them, and says whose those are that asked for something of it.
    pub fn publish(&mut self, revision: u64, mesh: &MeshState, delta: &LayerChanges) -> BTreeSet<WorkloadId> {
        let concerned = match mesh.concerned(delta) {
            Concerned::All => self.by_workload.keys().cloned().collect(),
            Concerned::These(workloads) => workloads,
        };
        let mut touched = BTreeSet::new();
        for workload in concerned {
            let mut is_touched = false;
            for id in self.by_workload.get(&workload).into_iter().flatten() {
                if let Some(open) = self.open.get_mut(id) {
                    is_touched |= give(open, revision, mesh, delta);
                }
            }
            if is_touched {
                touched.insert(workload);
            }
        }
        touched
    }
}

/// Gives a stream what changed for it. Whether there is anything that it asked for.
fn give(open: &mut ServedStream, revision: u64, mesh: &MeshState, delta: &LayerChanges) -> bool {
    if open.published == 0 {
        return false;
    }
    let changes = match mesh.changes(delta, &open.workload, open.form) {
        Changes::Keys(mut keys) => {
            keys.retain(|key| open.carries(key));
            if keys.is_empty() {
                return false;
            }
            Changes::Keys(keys)
        }
        Changes::All => Changes::All,
    };
    // One that was given this revision as its first view has it all.
    if open.published == revision {
        return true;
    }
    match open.publish(mesh.view(revision, &open.workload, open.form), changes) {
        Delivery::Woken => true,
        Delivery::Kept => false,
    }
}
