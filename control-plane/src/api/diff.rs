//! What an apply would change: documents, what proxies are given, and whose requests are refused.

mod edges;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::rest::{DiffResult, DocumentDiff, ProxyDiff, ResourceDiff};
use weft_api::{ResourceKind, WorkloadId};
use weft_policies::kinds::role::ApiKind;
use weft_policies::set::{ApplyAction, PolicyKey, Reach};
use weft_policies::{DocumentsRead, PolicySet};

use super::apply::{no_document, outcome};
use super::document_diff;
use super::error::{ApiError, Refuses, VIOLATIONS};
use super::extract::{OptionalDocuments, Parameters};
use super::objects::show;
use super::parameter::Count;
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::rollback;
use super::state::Api;
use crate::reconciler::{Rehearsed, ServedStream};
use edges::ProposedChange;

/// Resources that an answer lists, and proxies of each of them.
const RESOURCES: usize = 1000;
const PROXIES: usize = 100;
/// Proxies that are asked what they refuse.
const ASKED: usize = 100;
/// How long the newest policies may take to be compiled: what is compared with is what proxies have.
const SETTLES: Duration = Duration::from_secs(5);

/// Where the documents come from, or which revision's they are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct DiffQuery {
    /// Where the documents come from, for messages
    source: Option<String>,
    /// What going back to this revision would change; there is no body then
    #[schemars(with = "Option<Count>")]
    to: Option<u64>,
}

/// `POST /v1/diff`: what an apply of the documents would change, or going back to a revision.
pub async fn diff(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(query): Parameters<DiffQuery>,
    OptionalDocuments(body): OptionalDocuments,
) -> Result<Json<DiffResult>, Refuses<404, 409, 410, 422, 500>> {
    let head = api.policies.head().await?;
    let applied = match (query.to, body) {
        (Some(to), None) => {
            let earlier = rollback::earlier(&api, to).await?;
            head.set.restore(&earlier.set).map_err(ApiError::violations)?
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("a diff is of documents or to a revision, not of both").into());
        }
        (None, body) => {
            let source = query.source.as_deref().unwrap_or("request");
            let read = weft_policies::parse_among_others(source, &body.unwrap_or_default());
            let DocumentsRead { documents, left_out } = read.map_err(ApiError::violations)?;
            if documents.is_empty() {
                return Err(no_document(&left_out).into());
            }
            let mut applied = head.set.apply(&documents).map_err(ApiError::violations)?;
            applied.warnings.splice(0..0, left_out);
            applied
        }
    };
    rights.0.check_change(&head.set, &applied)?;
    let (before, after) = (Arc::clone(&head.set), Arc::new(applied.set));
    let changed = before.differences(&after);
    let mut result = DiffResult {
        revision: head.revision(),
        changes: !changed.is_empty(),
        documents: changed.iter().map(|key| document(key, &before, &after)).collect(),
        warnings: applied.warnings,
        ..DiffResult::default()
    };
    if result.warnings.len() > VIOLATIONS {
        result.warning_count = Some(result.warnings.len());
        result.warnings.truncate(VIOLATIONS);
    }
    let rehearsed = rehearse(&api, head.revision(), Arc::clone(&after)).await?;
    result.resource_count = rehearsed.resources.len();
    result.resources = rehearsed.resources.iter().take(RESOURCES).map(resource).collect();
    result.proxies = proxies(&rehearsed).await;
    let heard = api.traffic.flows().await;
    result.unheard = heard.unheard;
    let change = ProposedChange {
        before: &before,
        after: &after,
        reach: Reach::of(&before, &after, &changed),
        workloads: &rehearsed.workloads,
        trust_domain: api.authority.trust_domain(),
    };
    let wholes = heard.all.wholes.keys();
    let seen: BTreeSet<_> = wholes
        .map(|(source, target)| (source, &target.destination.service, &target.destination.port))
        .collect();
    result.edges = seen.into_iter().map(|(source, service, port)| change.of(source, service, port)).collect();
    result.edges.sort_by_key(|edge| edge.effect);
    leave_out(&mut result, &rights);
    Ok(Json(result))
}

/// Leaves out what the caller may not look at elsewhere; numbers stay.
fn leave_out(result: &mut DiffResult, rights: &CallerRights) {
    let is_seen = |id: &String| rights.may_read_of(ApiKind::Proxy, id);
    result.proxies.retain(|proxy| is_seen(&proxy.id));
    result.resources.iter_mut().for_each(|resource| resource.proxies.retain(is_seen));
    result.edges.retain(|edge| {
        [&edge.source, &edge.destination].iter().any(|end| rights.may_read_of(ApiKind::Traffic, end))
    });
}

fn document(key: &PolicyKey, before: &PolicySet, after: &PolicySet) -> DocumentDiff {
    let (before, after) = (before.get(key).map(show), after.get(key).map(show));
    let action = match (&before, &after) {
        (None, _) => ApplyAction::Created,
        (Some(_), Some(_)) => ApplyAction::Updated,
        (Some(_), None) => ApplyAction::Deleted,
    };
    let fields = match (&before, &after) {
        (Some(before), Some(after)) => document_diff::fields(before, after),
        (None, _) | (_, None) => Vec::new(),
    };
    DocumentDiff {
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        outcome: outcome(action),
        before,
        after,
        fields,
    }
}

/// Tries the set, one question after the other: each takes a copy of the mesh, and a processor.
async fn rehearse(api: &Api, revision: u64, set: Arc<PolicySet>) -> Result<Rehearsed, ApiError> {
    let not_now = |why: &str| ApiError::new(ProblemCode::NotReady, format!("{why}; try again"));
    let mut published = api.reconciler.published();
    let settled = published.wait_for(|published| published.ready && published.policy_revision >= revision);
    match tokio::time::timeout(SETTLES, settled).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Err(not_now("the newest policies are not compiled yet")),
    }
    let Ok(_turn) = api.rehearsals.acquire().await else {
        return Err(not_now("the control plane ends"));
    };
    let Some(rehearsal) = api.reconciler.rehearsal(set).await else {
        return Err(not_now("the control plane ends"));
    };
    let rehearsed = tokio::task::spawn_blocking(|| rehearsal.run()).await;
    rehearsed.map_err(|error| {
        tracing::error!(event = "diff_failed", %error, "a diff failed");
        ApiError::new(ProblemCode::Internal, "the change could not be tried")
    })
}

fn resource(
    ((kind, name, action), workloads): (&(ResourceKind, Arc<str>, ApplyAction), &BTreeSet<WorkloadId>),
) -> ResourceDiff {
    let url = kind.type_url();
    ResourceDiff {
        kind: url.rsplit('.').next().unwrap_or(url).to_owned(),
        name: name.to_string(),
        outcome: outcome(*action),
        proxies: workloads.iter().take(PROXIES).map(ToString::to_string).collect(),
        proxy_count: workloads.len(),
    }
}

/// Whom it concerns, with what those refuse already.
async fn proxies(rehearsed: &Rehearsed) -> Vec<ProxyDiff> {
    let mut counts: BTreeMap<&WorkloadId, usize> = BTreeMap::new();
    for workload in rehearsed.resources.values().flatten() {
        *counts.entry(workload).or_default() += 1;
    }
    let mut proxies = Vec::new();
    for (index, (id, resources)) in counts.into_iter().enumerate() {
        let streams = rehearsed.streams.get(id).map_or(&[][..], Vec::as_slice);
        let user_agent = streams.first().map(|stream| stream.user_agent.clone()).unwrap_or_default();
        let warnings = if index < ASKED { refusals(streams).await } else { Vec::new() };
        proxies.push(ProxyDiff { id: id.to_string(), user_agent, resources, warnings });
    }
    proxies
}

async fn refusals(streams: &[ServedStream]) -> Vec<String> {
    let mut words = Vec::new();
    for stream in streams {
        let Some(status) = stream.status().await else { continue };
        for entry in &status.types {
            let refused = entry.rejected.iter();
            words.extend(refused.map(|one| format!("it refuses {} at present: {}", one.name, one.message)));
            if !entry.held_back.is_empty() {
                let count = entry.held_back.len();
                words.push(format!("{count} {} are held back from it at present", entry.kind.short()));
            }
        }
    }
    words
}
