//! What the reconciler answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use weft_api::{Version, WorkloadId};
use weft_policies::PolicySet;
use weft_policies::compile::{ProxyType, WorkloadState};
use weft_policies::kinds::Registration;
use weft_policies::set::PolicyKey;

use super::Reconciler;
use super::query::{MeshSnapshot, MissingBundle, Perspective, ReconcilerQuery, ShapedPolicies};
use super::rehearsal::{ConnectedSidecar, Rehearsal};
use crate::presence::grants;
use crate::presence::registry::{PresenceReport, RemotePresence};

impl Reconciler {
    /// Answers. Whoever asked may have gone.
    pub(super) fn answer(&self, query: ReconcilerQuery) {
        match query {
            ReconcilerQuery::LocalPresence(reply) => drop(reply.send(self.local_presence())),
            ReconcilerQuery::View(workload, reply) => {
                if self.now.ready {
                    let form = self.streams.form(&workload);
                    drop(reply.send(self.mesh.view(self.now.revision, &workload, form)));
                }
            }
            ReconcilerQuery::Perspective(workloads, reply) => {
                if self.now.ready && self.mesh.stale().is_empty() {
                    drop(reply.send(self.perspective(&workloads)));
                }
            }
            ReconcilerQuery::MeshSnapshot(reply) => drop(reply.send(self.snapshot())),
            ReconcilerQuery::Streams(reply) => drop(reply.send(self.streams.all().cloned().collect())),
            ReconcilerQuery::Expired(reply) => {
                drop(reply.send(self.registry.expired(Instant::now()).cloned().collect()));
            }
            ReconcilerQuery::WithoutBundle(version, reply) => drop(reply.send(self.without_bundle(version))),
            ReconcilerQuery::Rehearsal(set, reply) => {
                if self.now.ready {
                    drop(reply.send(self.rehearsal(set)));
                }
            }
            ReconcilerQuery::IsOnAnotherReplica(workload, reply) => {
                let _ = reply.send(self.registry.is_on_another_replica(&workload));
            }
            ReconcilerQuery::IsAlive(reply) => drop(reply.send(())),
            ReconcilerQuery::Shaped(policies, reply) => {
                if self.now.ready {
                    drop(reply.send(self.shaped(policies)));
                }
            }
            ReconcilerQuery::Origins(workload, keys, reply) => {
                let origins = keys.iter().map(|key| self.mesh.origins(&workload, key).to_vec());
                drop(reply.send(origins.collect()));
            }
        }
    }

    fn perspective(&self, workloads: &[WorkloadId]) -> Perspective {
        let view = |id: &WorkloadId| self.mesh.view(self.now.revision, id, self.streams.form(id));
        Perspective {
            publication: self.now.revision,
            revision: self.now.policy_revision,
            set: Arc::clone(self.mesh.set()),
            workloads: self.mesh.workloads().clone(),
            views: workloads.iter().map(view).collect(),
        }
    }

    /// Prepares to try a set of policies.
    fn rehearsal(&self, set: Arc<PolicySet>) -> Rehearsal {
        let mut ids = BTreeSet::new();
        for key in self.mesh.set().differences(&set) {
            match key.kind.registration() {
                Registration::Nobody => {}
                Registration::Itself => drop(ids.insert(WorkloadId::new(key.namespace, key.name))),
                Registration::Members => {
                    ids.extend(self.registry.reporters(&key.id()));
                    ids.extend(self.registry.described_in(&key.namespace, &set));
                }
            }
        }
        let registered = ids.into_iter().map(|id| {
            let state = self.registry.state(&id, &set);
            (id, state)
        });
        let registered = registered.collect();
        let mut connected: BTreeMap<WorkloadId, ConnectedSidecar> = BTreeMap::new();
        for id in self.mesh.workloads().keys().filter(|id| self.registry.is_on_another_replica(id)) {
            let form = self.streams.form(id);
            connected.insert(id.clone(), ConnectedSidecar::new(form));
        }
        for stream in self.streams.all() {
            let form = self.streams.form(&stream.workload);
            let sidecar =
                connected.entry(stream.workload.clone()).or_insert_with(|| ConnectedSidecar::new(form));
            sidecar.add(stream.clone());
        }
        Rehearsal::new(self.mesh.clone(), set, registered, connected)
    }

    fn shaped(&self, policies: Vec<PolicyKey>) -> ShapedPolicies {
        let is_away = |id: &WorkloadId, state: &WorkloadState| {
            state.proxy != ProxyType::None
                && self.streams.of(id).next().is_none()
                && !self.registry.is_on_another_replica(id)
        };
        let away = self.mesh.workloads().iter().filter(|(id, state)| is_away(id, state));
        ShapedPolicies {
            resources: self.mesh.shaped_by(&policies.into_iter().collect()),
            streams: self.streams.all().cloned().collect(),
            away: away.map(|(id, _)| id.clone()).collect(),
            published: self.now.clone(),
        }
    }

    fn local_presence(&self) -> PresenceReport {
        let bundle = |id| self.streams.bundles(id).next();
        let here = |id| RemotePresence { bundle: bundle(id), ..self.registry.here(id) };
        self.streams.workloads().map(|id| (id.clone(), here(id))).collect()
    }

    fn without_bundle(&self, version: Version) -> MissingBundle {
        let mut lacking = MissingBundle::default();
        for record in self.registry.sidecars() {
            let mut bundles = self.streams.bundles(&record.id).chain(self.registry.bundles(&record.id));
            if bundles.any(|bundle| bundle != version) {
                lacking.behind.push(record.id.clone());
            } else if self.streams.of(&record.id).next().is_none()
                && !self.registry.is_on_another_replica(&record.id)
            {
                lacking.away.push(record.id.clone());
            }
        }
        for record in self.registry.joined().filter(|record| record.left_at.is_none()) {
            let id = &record.id;
            if let Some(roots) = &record.trusts {
                lacking.told.insert(id.clone(), roots.clone());
            } else if self.streams.of(id).next().is_none() && !self.registry.is_on_another_replica(id) {
                lacking.silent.push(id.clone());
            }
        }
        lacking
    }

    fn snapshot(&self) -> MeshSnapshot {
        let (mut overruled, mut not_granted) = (BTreeMap::new(), BTreeMap::new());
        let set = self.mesh.set();
        for record in self.registry.joined().filter(|record| set.workload(&record.id).is_some()) {
            let id = record.id.clone();
            match grants::check(&id, &record.service, set) {
                Ok(()) => {
                    let found = self.registry.overruled(&id, set);
                    if !found.is_empty() {
                        overruled.insert(id, found);
                    }
                }
                Err(refused) => drop(not_granted.insert(id, refused)),
            }
        }
        MeshSnapshot {
            published: self.now.clone(),
            workloads: self.mesh.workloads().clone(),
            records: self.registry.records().clone(),
            streams: self.streams.all().cloned().collect(),
            overruled,
            not_granted,
        }
    }
}
