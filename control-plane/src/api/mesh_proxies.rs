//! Who is connected to any replica, and what each took: whichever replica is asked asks the others.

use axum::Json;
use axum::extract::State;
use weft_api::WorkloadId;
use weft_api::rest::{ProxyList, ProxyStatus, Sync};
use weft_policies::kinds::role::ApiKind;

use super::error::ApiError;
use super::extract::InPath;
use super::proxies::{ProxyPath, describe_each, describe_one, find, snapshot};
use super::replica::{ReplicaQuestion, ask_others, with_those_of_others};
use super::rights::CallerRights;
use super::state::Api;

/// `GET /v1/proxies`
pub async fn list(State(api): State<Api>, rights: CallerRights) -> Result<Json<ProxyList>, ApiError> {
    let snapshot = snapshot(&api).await?;
    let is_seen = |id: &WorkloadId| rights.may_read(ApiKind::Proxy, id.namespace.as_str());
    let others = ask_others(&api, ReplicaQuestion::Version);
    let (own, others) = tokio::join!(describe_each(&api, &snapshot, is_seen), others);
    let mut items = with_those_of_others(own, &others);
    items.retain(|proxy| rights.may_read_of(ApiKind::Proxy, &proxy.id));
    let unheard = others.iter().filter(|other| other.report.is_err()).count();
    Ok(Json(ProxyList { items, revision: snapshot.published.revision, unheard }))
}

/// `GET /v1/proxies/{id}`
pub async fn one(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(ProxyPath { id }): InPath<ProxyPath>,
) -> Result<Json<ProxyStatus>, ApiError> {
    let (id, snapshot) = find(&api, &rights, &id).await?;
    let own = describe_one(&api, &snapshot, &id).await;
    if own.sync != Sync::Disconnected {
        return Ok(Json(own));
    }
    let others = ask_others(&api, ReplicaQuestion::Proxy(id)).await;
    let mut known = with_those_of_others(vec![own], &others);
    Ok(Json(known.swap_remove(0)))
}
