//! Taking one workload out of balancing, and back: its mark stands in its record, so that every replica tells the same.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use weft_api::rest::{DrainMark, DrainRequest, DrainResult, DrainedService};
use weft_api::{ServiceId, WorkloadId};
use weft_policies::compile::{Health, WorkloadState};
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::access::ApiCaller;
use super::change::read_wait;
use super::delivery::{AwaitedChange, until_drain_is_seen};
use super::error::{ApiError, Refuses};
use super::extract::{InPath, JsonBody};
use super::problem_code::ProblemCode;
use super::proxies::{self, ProxyPath};
use super::replica::until_taken;
use super::rights::{AuditDetail, CallerRights};
use super::state::Api;
use crate::presence::workloads::DrainOutcome;
use crate::reconciler::MeshSnapshot;

/// How long this replica may take to see what it has written.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// `POST /v1/proxies/{id}/drain`
pub async fn drain(
    State(api): State<Api>,
    rights: CallerRights,
    Extension(caller): Extension<ApiCaller>,
    InPath(ProxyPath { id }): InPath<ProxyPath>,
    JsonBody(request): JsonBody<DrainRequest>,
) -> Result<DrainAnswer, Refuses<409>> {
    let limit = request.wait.as_deref().map(read_wait).transpose()?;
    let id: WorkloadId =
        id.parse().map_err(|error: weft_api::names::InvalidName| ApiError::bad_request(error.to_string()))?;
    rights.demand(RoleVerb::Write, ApiKind::Proxy, Some(&id.namespace))?;
    // One after the other: the second of two drains counts who is left after the first.
    let turn = api.writing.lock().await;
    let (id, snapshot) = proxies::find(&api, &rights, id.to_string().as_str()).await?;
    let memberships = memberships_of(&snapshot, &id);
    let record = snapshot.records.get(&id).ok_or_else(|| {
        ApiError::bad_request(format!(
            "nobody has joined as {id}: a file describes it; delete its Workload document, or leave the service out of it"
        ))
    })?;
    // One that this replica sees drained may have been taken back at another: whether it is, the write finds out.
    let takes_some = record.drained.is_some() || takes_requests(&snapshot.workloads[&id]);
    let is_guarded = !request.undo && !request.force && takes_some;
    let needing: Vec<&DrainedMembership> =
        memberships.iter().filter(|one| is_guarded && one.others_are_joined(&snapshot)).collect();
    let staying: Vec<Vec<WorkloadId>> = needing.iter().map(|one| one.others.clone()).collect();
    let by = caller.holder().to_string();
    let mark = (!request.undo).then(|| DrainMark { at: api.clock.unix_seconds(), by });
    let changed = match api.workloads.mark_drained(&id, mark, &staying).await? {
        DrainOutcome::Changed => true,
        DrainOutcome::Unchanged => false,
        DrainOutcome::Gone => return Err(gone(&id).into()),
        DrainOutcome::LastOf(group) => return Err(last_of(&id, &needing[group].service).into()),
    };
    let services = memberships.iter().map(DrainedMembership::told).collect();
    let seen = tokio::time::timeout(SEEN_WITHIN, until_drain_is_seen(&api, &id, !request.undo));
    match seen.await {
        Ok(true) => {}
        Ok(false) => return Err(gone(&id).into()),
        Err(_) => {
            let detail = format!("it is written that {id} is drained, or no longer, and not read back yet");
            return Err(ApiError::unavailable(detail).into());
        }
    }
    drop(turn);
    let wait = match limit {
        Some(limit) => {
            let awaited = AwaitedChange::Drain { workload: id.clone(), drained: !request.undo };
            Some(until_taken(&api, awaited, limit).await)
        }
        None => None,
    };
    let result = DrainResult { workload: id.to_string(), drained: !request.undo, changed, services, wait };
    let about = format!("{id} {}", if request.undo { "takes requests again" } else { "is drained" });
    Ok(DrainAnswer { result, detail: changed.then_some(AuditDetail { about, revision: None }) })
}

/// The answer to a drain, with what is recorded of it where it changed something.
#[derive(Debug)]
pub struct DrainAnswer {
    result: DrainResult,
    detail: Option<AuditDetail>,
}

impl IntoResponse for DrainAnswer {
    fn into_response(self) -> Response {
        let mut response = Json(self.result).into_response();
        if let Some(detail) = self.detail {
            response.extensions_mut().insert(detail);
        }
        response
    }
}

fn gone(id: &WorkloadId) -> ApiError {
    ApiError::missing(format!("{id} has left the mesh in between; `weft proxy list` shows who is there"))
}

/// Whether a workload gets requests of a service.
fn takes_requests(state: &WorkloadState) -> bool {
    let ports = state.port_health.values().copied().max().unwrap_or_default();
    state.health.max(ports) <= Health::Degraded
}

/// A service of a workload, and the others that take its requests.
struct DrainedMembership {
    service: ServiceId,
    others: Vec<WorkloadId>,
}

impl DrainedMembership {
    fn told(&self) -> DrainedService {
        DrainedService { service: self.service.to_string(), others: self.others.len() }
    }

    /// Whether all others have joined, so that each of them can be drained; one that a file describes stays.
    fn others_are_joined(&self, snapshot: &MeshSnapshot) -> bool {
        self.others.iter().all(|other| snapshot.records.contains_key(other))
    }
}

/// The services that a workload is a member of.
fn memberships_of(snapshot: &MeshSnapshot, id: &WorkloadId) -> Vec<DrainedMembership> {
    let (set, state) = (&snapshot.published.set, &snapshot.workloads[id]);
    let near = || snapshot.workloads.values().filter(|other| other.id.namespace == id.namespace);
    let of = set.services().filter(|service| state.belongs_to(&service.id(), &service.spec));
    of.map(|service| {
        let others = near().filter(|other| {
            other.id != *id && other.belongs_to(&service.id(), &service.spec) && takes_requests(other)
        });
        DrainedMembership { service: service.id(), others: others.map(|other| other.id.clone()).collect() }
    })
    .collect()
}

fn last_of(id: &WorkloadId, service: &ServiceId) -> ApiError {
    ApiError::new(
        ProblemCode::LastInstance,
        format!(
            "{id} is the last healthy instance of {service}: its callers would have nobody left; start another one first, or \
             say --force"
        ),
    )
}
