//! Which versions there are, and what control planes look like from inside.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use weft_api::rest::{DebugInfo, ProxyVersion, ReplicaVersion, Sync, VersionInfo};
use weft_policies::kinds::role::ApiKind;

use super::error::ApiError;
use super::own::OwnReplica;
use super::proxies;
use super::replica::{ReplicaQuestion, ask_others, debug, with_those_of_others};
use super::rights::CallerRights;
use super::state::Api;

/// `GET /v1/version`
pub async fn version(State(api): State<Api>, rights: CallerRights) -> Result<Json<VersionInfo>, ApiError> {
    let others = ask_others(&api, ReplicaQuestion::Version).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for proxy in with_those_of_others(proxies::all(&api).await?, &others) {
        if proxy.sync != Sync::Disconnected && rights.may_read_of(ApiKind::Proxy, &proxy.id) {
            *counts.entry(proxy.user_agent).or_default() += 1;
        }
    }
    let own = ReplicaVersion {
        address: api.own.address.to_string(),
        version: Some(OwnReplica::VERSION.to_owned()),
        error: None,
    };
    let theirs = others.into_iter().map(|other| {
        let (version, error) = match other.report {
            Ok(report) => (Some(report.version), None),
            Err(error) => (None, Some(error.to_string())),
        };
        ReplicaVersion { address: other.address.to_string(), version, error }
    });
    Ok(Json(VersionInfo {
        version: OwnReplica::VERSION.to_owned(),
        replicas: std::iter::once(own).chain(theirs).collect(),
        proxies: counts.into_iter().map(|(agent, count)| ProxyVersion { agent, count }).collect(),
    }))
}

/// `GET /v1/debug`
pub async fn of_control_planes(State(api): State<Api>) -> Json<DebugInfo> {
    let (own, others) = tokio::join!(debug(&api), ask_others(&api, ReplicaQuestion::Debug));
    let mut info = DebugInfo { replicas: vec![own], ..DebugInfo::default() };
    for other in others {
        match other.report.map(|report| report.debug) {
            Ok(Some(debug)) => info.replicas.push(debug),
            Ok(None) => drop(info.unheard.insert(other.address.to_string(), "it tells nothing".to_owned())),
            Err(error) => drop(info.unheard.insert(other.address.to_string(), error.to_string())),
        }
    }
    Json(info)
}
