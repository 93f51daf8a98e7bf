//! Who is connected, what each was sent, took and refused.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::rest::{
    CertificateStatus, DrainMark, ProxyStatus, Refusal as Refused, RevokedProxy, Sync, TypeStatus,
};
use weft_api::{ResourceKey, SpiffeId, WorkloadId};
use weft_policies::compile::{Health, ProxyType, WorkloadState, application_ip};
use weft_policies::kinds::role::{ApiKind, RoleVerb};
use weft_policies::set::PolicySet;
use weft_xds::server::{StreamStatus, StreamTypeStatus};

use super::error::ApiError;
use super::extract::InPath;
use super::rights::CallerRights;
use super::state::Api;
use crate::ca::LedgerEntry;
use crate::identity::revocation::Revoked;
use crate::reconciler::{MeshSnapshot, ServedStream};

/// The workload that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ProxyPath {
    #[schemars(with = "WorkloadId")]
    pub id: String,
}

/// All proxies, as this replica knows them.
pub async fn all(api: &Api) -> Result<Vec<ProxyStatus>, ApiError> {
    Ok(describe_each(api, &snapshot(api).await?, |_| true).await)
}

pub async fn describe_each(
    api: &Api,
    snapshot: &MeshSnapshot,
    is_seen: impl Fn(&WorkloadId) -> bool,
) -> Vec<ProxyStatus> {
    let ids = snapshot.workloads.iter().filter(|(_, state)| state.proxy != ProxyType::None).map(|(id, _)| id);
    let ids = ids.filter(|id| is_seen(id));
    let mut streams: HashMap<&WorkloadId, Vec<&ServedStream>> = HashMap::new();
    for open in &snapshot.streams {
        streams.entry(&open.workload).or_default().push(open);
    }
    let streams_of = |id: &WorkloadId| streams.get(id).map_or(&[][..], Vec::as_slice);
    let described = ids.map(|id| describe(api, snapshot, streams_of(id), id));
    futures::future::join_all(described).await
}

/// One proxy, as this replica knows it; none where it knows no such workload.
pub async fn known(api: &Api, id: &WorkloadId) -> Option<ProxyStatus> {
    let snapshot = snapshot(api).await.ok()?;
    if snapshot.workloads.contains_key(id) { Some(describe_one(api, &snapshot, id).await) } else { None }
}

pub async fn describe_one(api: &Api, snapshot: &MeshSnapshot, id: &WorkloadId) -> ProxyStatus {
    let streams: Vec<&ServedStream> = snapshot.streams.iter().filter(|open| open.workload == *id).collect();
    describe(api, snapshot, &streams, id).await
}

pub async fn snapshot(api: &Api) -> Result<MeshSnapshot, ApiError> {
    api.reconciler.snapshot().await.ok_or_else(|| ApiError::unavailable("the control plane is ending"))
}

pub async fn find(
    api: &Api,
    rights: &CallerRights,
    id: &str,
) -> Result<(WorkloadId, MeshSnapshot), ApiError> {
    let id: WorkloadId =
        id.parse().map_err(|error: weft_api::names::InvalidName| ApiError::bad_request(error.to_string()))?;
    rights.demand(RoleVerb::Read, ApiKind::Proxy, Some(&id.namespace))?;
    let snapshot = snapshot(api).await?;
    if snapshot.workloads.contains_key(&id) {
        Ok((id, snapshot))
    } else {
        let named = snapshot.workloads.keys().filter(|other| other.name == id.name).take(5);
        let elsewhere: Vec<String> = named.map(|other| other.namespace.to_string()).collect();
        Err(ApiError::missing(if elsewhere.is_empty() {
            format!("there is no workload {id}; `weft proxy list` shows them")
        } else {
            format!("there is no workload {id}; {} is in namespace {}", id.name, elsewhere.join(", "))
        }))
    }
}

async fn describe(
    api: &Api,
    snapshot: &MeshSnapshot,
    streams: &[&ServedStream],
    id: &WorkloadId,
) -> ProxyStatus {
    let state = &snapshot.workloads[id];
    let statuses = futures::future::join_all(streams.iter().map(|open| open.status())).await;
    let mut types: BTreeMap<String, TypeStatus> = BTreeMap::new();
    let mut sync = if streams.is_empty() { Sync::Disconnected } else { Sync::Synced };
    for (open, status) in streams.iter().zip(statuses) {
        // One that does not answer, or has not looked at the newest view that concerns it, does not have it.
        let is_current = |status: &StreamStatus| status.synced && status.revision >= Some(open.published);
        if !status.as_ref().is_some_and(is_current) {
            sync = worse(sync, Sync::Pending);
        }
        for entry in status.iter().flat_map(|status| &status.types) {
            let shown = type_status(api, id, entry).await;
            sync = worse(sync, shown.sync);
            match types.get_mut(entry.kind.short()) {
                Some(other) => join(other, shown),
                None => drop(types.insert(entry.kind.short().to_owned(), shown)),
            }
        }
    }
    let since = streams.iter().map(|open| open.since).min();
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let drained = snapshot.records.get(id).and_then(|record| record.drained.clone());
    ProxyStatus {
        id: id.to_string(),
        service: state.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        proxy: proxy_word(state.proxy).to_owned(),
        client: state.client,
        user_agent: streams.first().map(|open| open.user_agent.clone()).unwrap_or_default(),
        sync,
        streams: streams.len(),
        connected_at: since.map_or(0, |since| since.as_secs().cast_signed()),
        types,
        health: health_word(state).to_owned(),
        health_reason: drained
            .as_ref()
            .map(|mark| drained_by(id, mark))
            .or_else(|| health_reason(state, &snapshot.published.set)),
        drained,
        clock_offset_ms: api.clock_offsets.of(Instant::now(), id),
        certificate: newest_leaf(api, snapshot, id).map(|entry| certificate(api, &entry)),
        version: state.labels.get("version").or_else(|| state.declared_labels.get("version")).cloned(),
        zone: Some(state.locality.zone.clone()).filter(|zone| !zone.is_empty()),
        address: state.address.to_string(),
        joined_from: snapshot
            .records
            .get(id)
            .and_then(|record| record.joined_from)
            .map(|from| from.to_string()),
    }
}

/// The newest certificate of the instance on record; of a name that nobody joined, there is none.
fn newest_leaf(api: &Api, snapshot: &MeshSnapshot, id: &WorkloadId) -> Option<Arc<LedgerEntry>> {
    let record = snapshot.records.get(id)?;
    let leaves = api.ledger.issued().of(id).into_iter().filter(|leaf| leaf.instance == record.instance);
    leaves.max_by_key(|leaf| leaf.issued_at)
}

/// A type on two streams of one workload: each may hold something else.
fn join(one: &mut TypeStatus, other: TypeStatus) {
    one.sent += other.sent;
    one.acked += other.acked;
    one.held_back += other.held_back;
    one.sync = worse(one.sync, other.sync);
    one.refused.extend(other.refused);
}

async fn type_status(api: &Api, id: &WorkloadId, entry: &StreamTypeStatus) -> TypeStatus {
    let keys = entry.rejected.iter().map(|r| ResourceKey::new(entry.kind, r.name.clone())).collect();
    let origins = if entry.rejected.is_empty() { Vec::new() } else { api.reconciler.origins(id, keys).await };
    let refused: Vec<Refused> = entry
        .rejected
        .iter()
        .zip(origins)
        .map(|(rejected, origins)| Refused {
            resources: vec![rejected.name.to_string()],
            message: rejected.message.to_string(),
            policies: origins.iter().map(ToString::to_string).collect(),
        })
        .collect();
    let held_back = entry.held_back.len();
    let sync = if held_back > 0 {
        Sync::HeldBack
    } else if !refused.is_empty() {
        Sync::Refused
    } else if entry.acked == entry.sent && entry.waiting.is_empty() {
        Sync::Synced
    } else {
        Sync::Pending
    };
    TypeStatus { sent: entry.sent, acked: entry.acked, sync, held_back, refused }
}

fn worse(a: Sync, b: Sync) -> Sync {
    let rank = |sync: Sync| match sync {
        Sync::Synced => 0,
        Sync::Pending => 1,
        Sync::Disconnected => 2,
        Sync::Refused => 3,
        Sync::HeldBack => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn certificate(api: &Api, entry: &LedgerEntry) -> CertificateStatus {
    CertificateStatus {
        serial: entry.serial.to_string(),
        identity: SpiffeId::service(api.authority.trust_domain(), &entry.service).to_string(),
        issued_at: entry.issued_at,
        expires_at: entry.expires_at,
        key_made_by: format!("{:?}", entry.key_origin),
    }
}

pub fn proxy_word(proxy: ProxyType) -> &'static str {
    match proxy {
        ProxyType::Weft => "Weft",
        ProxyType::Envoy => "Envoy",
        ProxyType::Grpc => "GRPC",
        ProxyType::None => "None",
    }
}

/// The worse of the workload's own health and what its sidecar reports of its ports.
pub fn health_word(state: &WorkloadState) -> &'static str {
    let ports = state.port_health.values().copied().max().unwrap_or_default();
    match state.health.max(ports) {
        Health::Healthy => "Healthy",
        Health::Degraded => "Degraded",
        Health::Unhealthy => "Unhealthy",
        Health::Draining => "Draining",
        Health::Starting => "Starting",
    }
}

fn drained_by(id: &WorkloadId, mark: &DrainMark) -> String {
    format!("drained by {}; `weft drain {id} --undo` takes it back", mark.by)
}

/// Why a workload is not healthy, where there is more to say.
fn health_reason(state: &WorkloadState, set: &PolicySet) -> Option<String> {
    match state.health {
        // Nothing is compiled for a Service that does not exist: it stays what it was when it joined.
        Health::Starting => {
            let service = state.identity.as_ref()?;
            let missing = set.service(service).is_none();
            return missing.then(|| format!("its Service {service} does not exist; apply one"));
        }
        Health::Degraded => return Some("its sidecar has lost its stream a while ago".to_owned()),
        Health::Draining => return Some("it says goodbye, or has been away for long".to_owned()),
        Health::Healthy | Health::Unhealthy => {}
    }
    let ((service, name), health) = state.port_health.iter().max_by_key(|(_, health)| **health)?;
    let port = &set.service(service)?.spec.port(&name.parse().ok()?)?;
    let address = SocketAddr::new(application_ip(state), state.app_port(port));
    let fails = match health {
        Health::Healthy => return None,
        Health::Starting => "has not answered yet",
        Health::Unhealthy | Health::Degraded | Health::Draining => {
            "does not answer, or not as its healthCheck asks"
        }
    };
    Some(format!("the application of port {name} {fails} on {address}"))
}

/// `POST /v1/proxies/{id}/revoke`: out of the mesh at once, and its certificates on a revocation list.
pub async fn revoke(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(ProxyPath { id }): InPath<ProxyPath>,
) -> Result<Json<RevokedProxy>, ApiError> {
    let id: WorkloadId =
        id.parse().map_err(|error: weft_api::names::InvalidName| ApiError::bad_request(error.to_string()))?;
    rights.demand(RoleVerb::Delete, ApiKind::Proxy, Some(&id.namespace))?;
    match api.revocations.revoke(&id).await? {
        Some(Revoked { instances, leaves }) => {
            Ok(Json(RevokedProxy { workload: id.to_string(), instances, leaves }))
        }
        None => Err(ApiError::missing(format!(
            "there is no joined workload {id}, and no certificate of that name that lives; `weft proxy list` shows them"
        ))),
    }
}
