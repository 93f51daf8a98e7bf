//! The configuration of one proxy: what it should have, and beside it what it was sent and took.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use weft_api::rest::{DeliveryState, ProxyConfig, ProxyResource, ToldVersion};
use weft_api::{Resource, ResourceKind, WorkloadId};
use weft_xds::View;
use weft_xds::server::{DeliveredVersion, ResourceDelivery, StreamStatus};

use super::error::ApiError;
use super::extract::InPath;
use super::proxies::{ProxyPath, find};
use super::replica;
use super::rights::CallerRights;
use super::state::Api;
use crate::reconciler::MeshSnapshot;

/// `GET /v1/proxies/{id}/config`: secrets are redacted. What was sent or acknowledged stands there where it is another
/// version than the one that the proxy should have.
pub async fn of_proxy(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(ProxyPath { id }): InPath<ProxyPath>,
) -> Result<Json<ProxyConfig>, ApiError> {
    let (id, snapshot) = find(&api, &rights, &id).await?;
    let deliveries = Deliveries::of(&snapshot, &id).await;
    if !deliveries.is_connected
        && let Some(theirs) = replica::configuration_at_others(&api, &id).await
    {
        return Ok(Json(theirs));
    }
    let own = configuration(&api, &id, &deliveries).await;
    own.map(Json).ok_or_else(|| ApiError::unavailable("the control plane has not read its store yet"))
}

/// The same of a proxy that is connected here; none of any other.
pub async fn of_connected(api: &Api, id: &WorkloadId) -> Option<ProxyConfig> {
    let deliveries = Deliveries::of(&api.reconciler.snapshot().await?, id).await;
    if deliveries.is_connected { configuration(api, id, &deliveries).await } else { None }
}

async fn configuration(api: &Api, id: &WorkloadId, deliveries: &Deliveries) -> Option<ProxyConfig> {
    let view = api.reconciler.view(id).await?;
    let _descriptors = weft_api::json::descriptors();
    let types = ResourceKind::ALL.into_iter();
    let types = types.map(|kind| (kind.short().to_owned(), resources(kind, &view, deliveries)));
    Some(ProxyConfig { revision: view.revision, types: types.collect() })
}

/// A resource of a type, by name.
type Named = (ResourceKind, Arc<str>);

/// What the streams of a proxy say of it; it may take some types on one and some on another.
#[derive(Debug, Default)]
struct Deliveries {
    is_connected: bool,
    by_name: BTreeMap<Named, ResourceDelivery>,
    waiting: BTreeSet<Named>,
    held_back: BTreeSet<Named>,
    refused: BTreeSet<Named>,
}

impl Deliveries {
    async fn of(snapshot: &MeshSnapshot, id: &WorkloadId) -> Self {
        let mut all = Self::default();
        for stream in snapshot.streams.iter().filter(|open| open.workload == *id) {
            let (Some(status), Some(deliveries)) = (stream.status().await, stream.deliveries().await) else {
                continue;
            };
            all.is_connected = true;
            all.note(&status);
            all.by_name.extend(deliveries.into_iter().map(|one| ((one.kind, one.name.clone()), one)));
        }
        all
    }

    fn note(&mut self, status: &StreamStatus) {
        for entry in &status.types {
            let named = |name: &Arc<str>| (entry.kind, name.clone());
            self.waiting.extend(entry.waiting.iter().map(named));
            self.held_back.extend(entry.held_back.iter().map(named));
            self.refused.extend(entry.rejected.iter().map(|one| named(&one.name)));
        }
    }

    /// Where a resource that the proxy should have stands.
    fn state(&self, wanted: &Resource) -> DeliveryState {
        let named = (wanted.kind, wanted.name.clone());
        let is_it = |one: Option<&DeliveredVersion>| one.is_some_and(|one| one.version == wanted.version);
        match self.by_name.get(&named) {
            _ if !self.is_connected => DeliveryState::Unknown,
            Some(told) if is_it(told.acked.as_ref()) => DeliveryState::Acknowledged,
            _ if self.refused.contains(&named) => DeliveryState::Refused,
            _ if self.held_back.contains(&named) => DeliveryState::HeldBack,
            Some(told) if is_it(told.sent.as_ref()) => DeliveryState::Sent,
            Some(_) => DeliveryState::Waiting,
            None if self.waiting.contains(&named) => DeliveryState::Waiting,
            None => DeliveryState::NotAskedFor,
        }
    }
}

fn resources(kind: ResourceKind, view: &View, deliveries: &Deliveries) -> Vec<ProxyResource> {
    let wanted = view.of_kind(kind).map(|resource| {
        let told = deliveries.by_name.get(&(kind, resource.name.clone()));
        let other = |one: &&DeliveredVersion| one.version != resource.version;
        ProxyResource {
            name: resource.name.to_string(),
            version: Some(resource.version.to_string()),
            resource: Some(body(resource)),
            state: deliveries.state(resource),
            sent: told.and_then(|told| told.sent.as_ref()).filter(other).map(version),
            acknowledged: told.and_then(|told| told.acked.as_ref()).filter(other).map(version),
        }
    });
    let of_kind = deliveries.by_name.values().filter(|told| told.kind == kind && told.acked.is_some());
    let unwanted = of_kind.filter(|told| view.lookup(kind, &told.name).is_none());
    let unwanted = unwanted.map(|told| ProxyResource {
        name: told.name.to_string(),
        state: DeliveryState::Unwanted,
        sent: told.sent.as_ref().map(version),
        acknowledged: told.acked.as_ref().map(version),
        ..ProxyResource::default()
    });
    wanted.chain(unwanted).collect()
}

fn version(delivered: &DeliveredVersion) -> ToldVersion {
    ToldVersion { version: delivered.version.to_string(), resource: delivered.resource.as_deref().map(body) }
}

fn body(resource: &Resource) -> Value {
    weft_api::json::to_json_redacted(resource.kind.type_url(), &resource.body).unwrap_or_default()
}
