//! What is known of every workload, from all sources: the record of its join, the file that describes it, its stream,
//! and what its sidecar reports about the application.
//!
//! Where a file and a joiner write one Workload, the file wins in every field that it gives, and a joiner whose service
//! the file does not grant is no part of it: then the file alone counts. [`Registry::overruled`] says what was put aside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use imbl::OrdMap;
use weft_api::{Name, ServiceId, Version, WorkloadId};
use weft_policies::Object;
use weft_policies::compile::{Health, Locality, ProxyType, UpstreamListener, WorkloadState};
use weft_policies::kinds::{Kind, Workload};
use weft_policies::set::PolicySet;
use weft_policies::value::{PeerAddress, PortRef};

use super::grants;
use super::liveness::{Liveness, LivenessState, LivenessTimeouts, Sweep};
use super::workloads::{Declared, DeclaredProxy, WorkloadRecord};

/// Where a sidecar listens when nobody says otherwise.
const INBOUND_PORT: u16 = 15_006;
const OUTBOUND_PORT: u16 = 15_001;

/// Reported health of one port of a service on one workload.
pub type PortHealth = BTreeMap<(ServiceId, String), Health>;

/// What a sidecar last said about its application.
#[derive(Debug)]
struct HealthReport {
    health: PortHealth,
    /// Ports that were healthy at some time: what fails there now has not just begun to start.
    answered: BTreeSet<(ServiceId, String)>,
    /// Since when nobody reports here any more; another replica may take over.
    ended: Option<Instant>,
}

/// What another replica says of a workload that has a stream there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemotePresence {
    /// What its sidecar reports there; none while it reports nothing.
    pub health: Option<PortHealth>,
    /// The bundle that it took there; none where it has not asked for one.
    pub bundle: Option<Version>,
}

/// One part of what another replica says: workloads with streams there.
pub type PresenceReport = BTreeMap<WorkloadId, RemotePresence>;

/// The records of the joined workloads. Cheap to clone; clones share what is equal.
pub type Records = OrdMap<WorkloadId, Arc<WorkloadRecord>>;

/// All workloads, joined or described by a file.
#[derive(Debug)]
pub struct Registry {
    timeouts: LivenessTimeouts,
    records: Records,
    /// Those that said goodbye, and since when that is known here. They are not missed.
    left: BTreeMap<WorkloadId, Instant>,
    liveness: Liveness,
    reported: BTreeMap<WorkloadId, HealthReport>,
    elsewhere: BTreeMap<String, PresenceReport>,
}

impl Registry {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(timeouts: LivenessTimeouts) -> Self {
        Self {
            timeouts,
            records: Records::new(),
            left: BTreeMap::new(),
            liveness: Liveness::new(timeouts),
            reported: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// The record of a joined workload.
    #[must_use]
    pub fn record(&self, id: &WorkloadId) -> Option<&WorkloadRecord> {
        self.records.get(id).map(AsRef::as_ref)
    }

    /// The records of the joined workloads, as they may be handed to others.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    pub fn joined(&self) -> impl Iterator<Item = &WorkloadRecord> {
        self.records.values().map(AsRef::as_ref)
    }

    /// Joined workloads whose streams have been lost, or that said goodbye, hours ago.
    pub fn expired(&self, now: Instant) -> impl Iterator<Item = &WorkloadRecord> {
        self.joined().filter(move |record| match self.left.get(&record.id) {
            Some(since) => {
                now.saturating_duration_since(*since) >= self.timeouts.remove
                    && !self.liveness.is_connected(&record.id)
            }
            None => self.liveness.life(&record.id) == Some(LivenessState::Expired),
        })
    }

    /// This replica became ready: nobody was missed before now.
    pub fn start_clocks(&mut self, now: Instant) {
        self.liveness.start_clocks(now);
    }

    /// Takes a record as it is stored now.
    pub fn record_changed(&mut self, now: Instant, id: &WorkloadId, record: Option<WorkloadRecord>) {
        let Some(record) = record else {
            self.records.remove(id);
            self.left.remove(id);
            self.reported.remove(id);
            self.liveness.removed(id);
            return;
        };
        let record = Arc::new(record);
        let predecessor = self.records.insert(id.clone(), Arc::clone(&record));
        if record.left_at.is_some() {
            self.left.entry(id.clone()).or_insert(now);
            self.liveness.removed(id);
            return;
        }
        self.left.remove(id);
        if predecessor.is_some_and(|old| old.instance != record.instance) {
            // What was reported about it, and what it lost, says nothing about its successor.
            self.reported.remove(id);
            self.liveness.reborn(now, id);
        } else {
            self.liveness.joined(now, id);
        }
    }

    /// A stream of the workload opened here.
    pub fn connected(&mut self, id: &WorkloadId) {
        self.liveness.connected(id);
    }

    /// Those whose sidecars have not taken their listeners yet, as far as the store knows.
    pub fn awaited(&self) -> impl Iterator<Item = &WorkloadRecord> {
        self.joined().filter(|record| record.awaited)
    }

    /// A stream of the workload closed here.
    pub fn disconnected(&mut self, now: Instant, id: &WorkloadId) {
        self.liveness.disconnected(now, id);
    }

    /// The sidecar's report about its application. Of workloads that nobody knows nothing is kept.
    pub fn reported(&mut self, id: &WorkloadId, health: PortHealth, is_known: bool) {
        if !is_known {
            return;
        }
        let mut answered = self.reported.remove(id).map(|before| before.answered).unwrap_or_default();
        let good = health.iter().filter(|(_, health)| **health == Health::Healthy);
        answered.extend(good.map(|(port, _)| port.clone()));
        let seen = |(port, health): ((ServiceId, String), Health)| {
            let starts = health == Health::Unhealthy && !answered.contains(&port);
            (port, if starts { Health::Starting } else { health })
        };
        let health = health.into_iter().map(seen).collect();
        self.reported.insert(id.clone(), HealthReport { health, answered, ended: None });
    }

    /// The sidecar's stream of reports ended here. What it said holds until it is silent for too long.
    pub fn report_ended(&mut self, now: Instant, id: &WorkloadId) {
        if let Some(report) = self.reported.get_mut(id) {
            report.ended = Some(now);
        }
    }

    /// What other replicas are told of a workload with a stream here.
    #[must_use]
    pub fn here(&self, id: &WorkloadId) -> RemotePresence {
        let report = self.reported.get(id).filter(|report| report.ended.is_none());
        RemotePresence { health: report.map(|report| report.health.clone()), bundle: None }
    }

    /// Whether another replica has a stream of it.
    #[must_use]
    pub fn is_on_another_replica(&self, id: &WorkloadId) -> bool {
        self.elsewhere.values().any(|partition| partition.contains_key(id))
    }

    /// Another replica says which streams it has; nothing when it is gone. Gives the workloads that may look different.
    pub fn take_report(
        &mut self,
        now: Instant,
        partition: &str,
        workloads: Option<PresenceReport>,
    ) -> Vec<WorkloadId> {
        let new = workloads.unwrap_or_default();
        for id in new.keys() {
            self.liveness.connected(id);
        }
        let old = self.elsewhere.insert(partition.to_owned(), new.clone()).unwrap_or_default();
        for id in old.keys() {
            self.liveness.disconnected(now, id);
        }
        if new.is_empty() {
            self.elsewhere.remove(partition);
        }
        let changed = |id: &&WorkloadId| old.get(*id) != new.get(*id);
        old.keys().chain(new.keys()).filter(changed).cloned().collect()
    }

    /// The parts that were heard of.
    #[must_use]
    pub fn partitions(&self) -> Vec<String> {
        self.elsewhere.keys().cloned().collect()
    }

    /// Lets time pass. Reports of those who fell silent are void; their workloads are given beside the sweep.
    pub fn sweep(&mut self, now: Instant) -> (Sweep, Vec<WorkloadId>) {
        let silent = |report: &HealthReport| {
            report.ended.is_some_and(|ended| now.saturating_duration_since(ended) >= self.timeouts.degrade)
        };
        let void: Vec<_> =
            self.reported.iter().filter(|(_, report)| silent(report)).map(|(id, _)| id.clone()).collect();
        for id in &void {
            self.reported.remove(id);
        }
        (self.liveness.sweep(now), void)
    }

    /// Workloads with a report about this service, from wherever.
    #[must_use]
    pub fn reporters(&self, service: &ServiceId) -> Vec<WorkloadId> {
        let speaks = |health: &PortHealth| health.keys().any(|(reported, _)| reported == service);
        let here = self.reported.iter().filter(|(_, report)| speaks(&report.health)).map(|(id, _)| id);
        let there = self.elsewhere.values().flatten();
        let there = there.filter(|(_, said)| said.health.as_ref().is_some_and(speaks)).map(|(id, _)| id);
        here.chain(there).cloned().collect()
    }

    /// Joined workloads beside which a sidecar runs, and has not said goodbye.
    pub fn sidecars(&self) -> impl Iterator<Item = &WorkloadRecord> {
        self.joined().filter(|record| record.declared.proxy.is_sidecar() && record.left_at.is_none())
    }

    /// The bundles that a workload took at other replicas.
    pub fn bundles(&self, id: &WorkloadId) -> impl Iterator<Item = Version> {
        self.elsewhere.values().filter_map(|partition| partition.get(id)?.bundle)
    }

    /// Joined workloads of a namespace that a file describes too.
    #[must_use]
    pub fn described_in(&self, namespace: &Name, set: &PolicySet) -> Vec<WorkloadId> {
        let here = self.records.keys().filter(|id| id.namespace == *namespace);
        here.filter(|id| set.workload(id).is_some()).cloned().collect()
    }

    /// All ids, from records and files.
    #[must_use]
    pub fn ids(&self, set: &PolicySet) -> BTreeSet<WorkloadId> {
        let files = set.of_kind(Kind::Workload).map(|policy| {
            let key = policy.key();
            WorkloadId::new(key.namespace, key.name)
        });
        self.records.keys().cloned().chain(files).collect()
    }

    /// A workload as the compiler sees it; none when neither record nor file knows it.
    #[must_use]
    pub fn state(&self, id: &WorkloadId, set: &PolicySet) -> Option<WorkloadState> {
        let file = set.workload(id);
        let record = self.record(id).filter(|record| grants::check(id, &record.service, set).is_ok());
        let mut state = match (record, file) {
            (Some(record), _) => of_record(record)?,
            (None, Some(file)) => of_file(id, file)?,
            (None, None) => return None,
        };
        if let Some(file) = file {
            overlay(&mut state, file);
        }
        if state.has_sidecar() && record.is_none_or(|record| record.awaited) {
            // A sidecar is to stand there, and none has joined, or it has not taken its listener: nobody listens.
            state.health = Health::Starting;
            return Some(state);
        }
        state.health = self.health(id);
        state.port_health = self.port_health(id);
        // A service that is not checked any more has no reports to go by.
        let is_checked = |service: &ServiceId| set.service(service).is_some_and(|s| s.spec.is_checked());
        state.port_health.retain(|(service, _), health| *health != Health::Healthy && is_checked(service));
        Some(state)
    }

    /// What of a joiner's declaration the file of its name puts aside.
    #[must_use]
    pub fn overruled(&self, id: &WorkloadId, set: &PolicySet) -> Vec<OverruledField> {
        match (self.record(id), set.workload(id)) {
            (Some(record), Some(file)) => overruled(record, file),
            _ => Vec::new(),
        }
    }

    /// A report that goes on is worth more than one that ended.
    fn port_health(&self, id: &WorkloadId) -> PortHealth {
        let here = self.reported.get(id);
        if let Some(report) = here.filter(|report| report.ended.is_none()) {
            return report.health.clone();
        }
        let there = self.elsewhere.values().filter_map(|partition| partition.get(id)?.health.as_ref()).next();
        there.or(here.map(|report| &report.health)).cloned().unwrap_or_default()
    }

    fn health(&self, id: &WorkloadId) -> Health {
        let is_drained = self.record(id).is_some_and(|record| record.drained.is_some());
        if is_drained || self.left.contains_key(id) {
            return Health::Draining;
        }
        match self.liveness.life(id) {
            None | Some(LivenessState::Alive) => Health::Healthy,
            Some(LivenessState::Degraded) => Health::Degraded,
            Some(LivenessState::Drained | LivenessState::Expired) => Health::Draining,
        }
    }
}

/// Something that a joiner declared and a file says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OverruledField {
    pub field: &'static str,
    /// What the joiner declared.
    pub declared: String,
    pub file: String,
}

/// A workload that only its own sidecar described; none where its address is no machine's.
fn of_record(record: &WorkloadRecord) -> Option<WorkloadState> {
    let declared = record.declared.clone();
    let Declared { address, app_ports, labels, region, zone, upstreams, .. } = declared;
    let Declared { proxy, inbound, outbound, client, access_log_dir, .. } = declared;
    let locality = Locality { region, zone, sub_zone: String::new() };
    let upstream = |declared: super::workloads::DeclaredUpstream| {
        let port = match declared.port.parse::<u16>() {
            Ok(number) => PortRef::Number(number),
            Err(_) => PortRef::Name(declared.port.parse().ok()?),
        };
        Some(UpstreamListener { service: declared.service, port, bind: declared.bind })
    };
    Some(WorkloadState {
        id: record.id.clone(),
        address: PeerAddress::try_new(address).ok()?,
        inbound: inbound.unwrap_or_else(|| (address, INBOUND_PORT).into()),
        outbound: outbound.unwrap_or_else(|| ([127, 0, 0, 1], OUTBOUND_PORT).into()),
        app_ports,
        labels: BTreeMap::new(),
        declared_labels: labels,
        locality,
        weight: 1,
        services: Vec::new(),
        identity: Some(record.service.clone()),
        client,
        upstreams: upstreams.into_iter().filter_map(upstream).collect(),
        proxy: match proxy {
            DeclaredProxy::Weft => ProxyType::Weft,
            DeclaredProxy::Envoy => ProxyType::Envoy,
            DeclaredProxy::Grpc => ProxyType::Grpc,
            DeclaredProxy::None => ProxyType::None,
        },
        access_log_dir,
        health: Health::Healthy,
        port_health: BTreeMap::new(),
    })
}

/// A workload that only a file knows: it has no certificate.
fn of_file(id: &WorkloadId, file: &Object<Workload>) -> Option<WorkloadState> {
    let spec = &file.spec;
    Some(WorkloadState {
        id: id.clone(),
        address: PeerAddress::try_new(spec.address).ok()?,
        inbound: (spec.address, INBOUND_PORT).into(),
        outbound: ([127, 0, 0, 1], OUTBOUND_PORT).into(),
        app_ports: BTreeMap::new(),
        labels: BTreeMap::new(),
        declared_labels: BTreeMap::new(),
        locality: Locality::default(),
        weight: 1,
        services: Vec::new(),
        identity: None,
        client: false,
        upstreams: Vec::new(),
        proxy: ProxyType::default(),
        access_log_dir: None,
        health: Health::Healthy,
        port_health: BTreeMap::new(),
    })
}

/// The file wins in every field that it gives; what it leaves out stays as the joiner said.
fn overlay(state: &mut WorkloadState, file: &Object<Workload>) {
    let spec = &file.spec;
    if let Ok(address) = PeerAddress::try_new(spec.address) {
        state.address = address;
    }
    if !spec.ports.is_empty() {
        state.app_ports = spec.ports.iter().map(|(name, port)| (name.to_string(), *port)).collect();
    }
    state.labels.clone_from(&file.metadata.labels);
    state.declared_labels.retain(|key, _| !file.metadata.labels.contains_key(key));
    state.services = spec.services.iter().map(|service| service.resolve(&state.id.namespace)).collect();
    if !spec.locality.is_empty() {
        state.locality = spec.locality.clone();
    }
    if let Some(weight) = spec.weight {
        state.weight = weight;
    }
    if !spec.upstreams.is_empty() {
        state.upstreams = upstreams(file);
    }
    if let Some(proxy) = spec.proxy {
        state.proxy = proxy.proxy_type;
    }
}

fn upstreams(file: &Object<Workload>) -> Vec<UpstreamListener> {
    let upstream = |upstream: &weft_policies::kinds::workload::Upstream| UpstreamListener {
        service: upstream.service.resolve(&file.metadata.namespace),
        port: upstream.port.clone(),
        bind: upstream.bind,
    };
    file.spec.upstreams.iter().map(upstream).collect()
}

/// What of a joiner's declaration a file puts aside, by the file's field and in words for the workload's status.
fn overruled(record: &WorkloadRecord, file: &Object<Workload>) -> Vec<OverruledField> {
    let Some(joined) = of_record(record) else { return Vec::new() };
    let mut merged = joined.clone();
    overlay(&mut merged, file);
    let mut found = Vec::new();
    let mut note = |field: &'static str, declared: String, file: String| {
        if declared != file {
            found.push(OverruledField { field, declared, file });
        }
    };
    note("spec.address", joined.address.to_string(), merged.address.to_string());
    note("spec.ports", format!("{:?}", joined.app_ports), format!("{:?}", merged.app_ports));
    note("spec.proxy.type", format!("{:?}", joined.proxy), format!("{:?}", merged.proxy));
    note("spec.locality", format!("{:?}", joined.locality), format!("{:?}", merged.locality));
    note("spec.upstreams", format!("{:?}", joined.upstreams), format!("{:?}", merged.upstreams));
    for (key, declared) in &joined.declared_labels {
        if let Some(file) = file.metadata.labels.get(key) {
            note("metadata.labels", format!("{key}={declared}"), format!("{key}={file}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::workloads::tests::record as stored;

    fn record(id: &str, instance: &str, proxy: DeclaredProxy) -> WorkloadRecord {
        let mut record = stored(id, instance);
        record.declared.proxy = proxy;
        record
    }

    fn takes(registry: &mut Registry, now: Instant, record: &WorkloadRecord) -> Health {
        registry.record_changed(now, &record.id, Some(record.clone()));
        health(registry, record)
    }

    fn health(registry: &Registry, record: &WorkloadRecord) -> Health {
        registry.state(&record.id, &PolicySet::default()).unwrap().health
    }

    fn awaited(record: &WorkloadRecord) -> WorkloadRecord {
        WorkloadRecord { awaited: true, ..record.clone() }
    }

    #[test]
    fn joiner_is_starting_until_its_sidecar_has_taken_its_listener() {
        let (mut registry, now) = (Registry::new(LivenessTimeouts::default()), Instant::now());
        let (before, after) =
            (record("shop/old", "i-1", DeclaredProxy::Weft), record("shop/new", "i-2", DeclaredProxy::Weft));
        assert_eq!(takes(&mut registry, now, &before), Health::Healthy);
        registry.start_clocks(now);
        assert_eq!(takes(&mut registry, now, &awaited(&after)), Health::Starting);
        registry.connected(&after.id);
        assert_eq!(health(&registry, &after), Health::Starting, "a stream is no listener yet");
        let partition = PresenceReport::from([(after.id.clone(), RemotePresence::default())]);
        registry.take_report(now, "replica-2", Some(partition));
        assert_eq!(health(&registry, &after), Health::Starting, "elsewhere neither");
        assert_eq!(health(&registry, &before), Health::Healthy);
        let hours = now + LivenessTimeouts::default().remove;
        registry.sweep(hours);
        assert_eq!(health(&registry, &after), Health::Starting, "one with listeners of its own stays so");
        assert_eq!(registry.awaited().map(|record| &record.id).collect::<Vec<_>>(), [&after.id]);
        assert_eq!(takes(&mut registry, hours, &after), Health::Healthy);
        assert_eq!(registry.awaited().count(), 0);
    }

    #[test]
    fn joiner_whose_sidecar_never_listened_is_not_listed_while_it_leaves() {
        let (mut registry, now) = (Registry::new(LivenessTimeouts::default()), Instant::now());
        let joined = awaited(&record("shop/own", "i-1", DeclaredProxy::Envoy));
        takes(&mut registry, now, &joined);
        assert_eq!(
            takes(&mut registry, now, &WorkloadRecord { left_at: Some(1), ..joined }),
            Health::Starting
        );
    }

    #[test]
    fn goodbye_is_no_loss_and_ends_when_the_same_instance_is_back() {
        let (mut registry, now) = (Registry::new(LivenessTimeouts::default()), Instant::now());
        let records: Vec<_> =
            (0..6).map(|n| record(&format!("shop/w-{n}"), "i-1", DeclaredProxy::Weft)).collect();
        for record in &records {
            takes(&mut registry, now, record);
            registry.connected(&record.id);
        }
        registry.start_clocks(now);
        for record in &records[..3] {
            let left = WorkloadRecord { left_at: Some(1), ..record.clone() };
            assert_eq!(takes(&mut registry, now, &left), Health::Draining);
            registry.disconnected(now, &record.id);
        }
        let hours = now + LivenessTimeouts::default().remove;
        let (sweep, _) = registry.sweep(hours);
        assert_eq!((sweep.changed, sweep.held_back), (Vec::new(), 0), "nobody is missed");
        assert_eq!(registry.expired(now).count(), 0);
        assert_eq!(registry.expired(hours).count(), 3);

        registry.connected(&records[0].id);
        assert_eq!(takes(&mut registry, hours, &awaited(&records[0])), Health::Starting);
        assert_eq!(takes(&mut registry, hours, &records[0]), Health::Healthy);
        assert_eq!(registry.expired(hours).count(), 2);
        registry.disconnected(now, &records[5].id);
        let (sweep, _) = registry.sweep(now + LivenessTimeouts::default().drain);
        assert_eq!(sweep.held_back, 0, "one of four is not too many: {sweep:?}");
    }
}
