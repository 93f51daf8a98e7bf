//! Responses, read and checked against the protocol.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use weft_api::resource::{ResourceKind, Version};

use super::subscription_state::SubscriptionState;
use super::update::Added;
use crate::wire;

const WRAPPED: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Why a response is refused before anyone looks into its resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ResponseError {
    #[error("resource {name:?} is a {found:?}, in a response of type {expected:?}")]
    WrongType { name: String, found: String, expected: &'static str },
    #[error("resource {0:?} appears twice in one response")]
    Twice(String),
    #[error("resource {0:?} has no body, and its version is not the one that is held")]
    NoBody(String),
    #[error("a resource does not decode: {0}")]
    Garbled(#[from] prost::DecodeError),
}

pub(super) struct ReadResponse {
    pub added: Vec<Added>,
    pub removed: Vec<Arc<str>>,
    pub version_info: String,
}

/// All types that Weft takes have their name in field 1.
#[derive(Clone, PartialEq, Message)]
struct NamedResource {
    #[prost(string, tag = "1")]
    name: String,
}

pub(super) fn delta(
    kind: ResourceKind,
    response: wire::DeltaDiscoveryResponse,
    state: &SubscriptionState,
) -> Result<ReadResponse, ResponseError> {
    let mut seen = BTreeSet::new();
    let mut added = Vec::with_capacity(response.resources.len());
    for resource in response.resources {
        let name: Arc<str> = resource.name.into();
        if !seen.insert(name.clone()) {
            return Err(ResponseError::Twice(name.to_string()));
        }
        let Some(any) = resource.resource else {
            // T2: a heartbeat repeats the version that is held and has no body.
            if state.held.get(&name).is_some_and(|held| **held == *resource.version) {
                continue;
            }
            return Err(ResponseError::NoBody(name.to_string()));
        };
        check_type(kind, &name, &any)?;
        added.push(Added { name, version: resource.version.into(), body: any.value });
    }
    let removed: Vec<Arc<str>> = response.removed_resources.into_iter().map(Into::into).collect();
    if let Some(name) = removed.iter().find(|name| !seen.insert((*name).clone())) {
        return Err(ResponseError::Twice(name.to_string()));
    }
    Ok(ReadResponse { added, removed, version_info: String::new() })
}

pub(super) fn sotw(
    kind: ResourceKind,
    response: wire::DiscoveryResponse,
    state: &SubscriptionState,
) -> Result<ReadResponse, ResponseError> {
    let mut seen = BTreeSet::new();
    let mut added = Vec::with_capacity(response.resources.len());
    let full = matches!(kind, ResourceKind::Listener | ResourceKind::Cluster);
    for any in response.resources {
        let any = if any.type_url == WRAPPED {
            match wire::DeltaResource::decode(any.value)?.resource {
                Some(inner) => inner,
                None => continue,
            }
        } else {
            any
        };
        let name: Arc<str> = NamedResource::decode(any.value.clone())?.name.into();
        check_type(kind, &name, &any)?;
        if !seen.insert(name.clone()) {
            return Err(ResponseError::Twice(name.to_string()));
        }
        let version: Arc<str> = Version::of(kind, &name, &any.value).to_string().into();
        // Complete lists repeat what is held; only the difference is news.
        if !(full && state.holds(&name, &version)) {
            added.push(Added { name, version, body: any.value });
        }
    }
    let absent = |name: &&Arc<str>| full && !seen.contains(*name);
    let unheld = state.names.iter().filter(|name| !state.held.contains_key(*name));
    let known: BTreeSet<&Arc<str>> = state.held.keys().chain(state.arriving()).chain(unheld).collect();
    let removed = known.into_iter().filter(absent).cloned().collect();
    Ok(ReadResponse { added, removed, version_info: response.version_info })
}

fn check_type(kind: ResourceKind, name: &str, any: &wire::Any) -> Result<(), ResponseError> {
    if any.type_url == kind.type_url() {
        return Ok(());
    }
    Err(ResponseError::WrongType {
        name: name.to_owned(),
        found: any.type_url.clone(),
        expected: kind.type_url(),
    })
}
