//! Objects: listed, read, replaced, patched and deleted.

mod writing;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::rest::{Object, ObjectList};
use weft_api::text::shorten;
use weft_api::{Name, ServiceId, WorkloadId};
use weft_policies::compile::WorkloadState;
use weft_policies::kinds::role::ApiKind;
use weft_policies::kinds::{Kind, Registration};
use weft_policies::set::PolicyKey;
use weft_policies::{Policy, PolicySet};

use super::answer::Tagged;
use super::apply;
use super::effective::{self, Shown};
use super::error::ApiError;
use super::extract::{InPath, Parameters};
use super::parameter::{KindWord, Selector, kind_of, read_limit, read_name};
use super::rights::CallerRights;
use super::state::Api;
use super::status;
use crate::ca::KeyOrigin;
use crate::reconciler::{MeshSnapshot, is_given_its_key};
use crate::replicas::acknowledgements::NamedProxies;

pub use writing::{delete, patch, replace};

const PAGE: usize = 500;

/// Which objects of a kind.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ListQuery {
    /// Only objects in this namespace
    #[schemars(with = "Option<Name>")]
    namespace: Option<String>,
    /// Only objects with these labels: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY, !KEY, with commas between
    #[schemars(with = "Option<Selector>")]
    label_selector: Option<String>,
    /// How many at most; 500 where it is not said
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// Where the page before ended
    #[serde(rename = "continue")]
    #[schemars(with = "Option<ServiceId>")]
    after: Option<String>,
}

/// The kind that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct KindPath {
    #[schemars(with = "KindWord")]
    pub kinds: String,
}

/// `GET /v1/{kinds}`
pub async fn list(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(path): InPath<KindPath>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, ApiError> {
    let kind = kind_of(&path.kinds)?;
    let namespace = query.namespace.as_deref().map(|text| read_name("namespace", text)).transpose()?;
    let limit = read_limit(query.limit, PAGE, PAGE)?;
    let selector = query.label_selector.as_deref();
    let selector = selector.map(|text| apply::read_selector("labelSelector", text)).transpose()?;
    let after = query.after.as_deref().map(read_place).transpose()?;
    let (revision, set) = api.newest().await?;
    let snapshot = picture_for(&api, kind).await;
    let mut objects = objects_of(kind, &set, snapshot.as_ref());
    objects.retain(|name, object| {
        rights.may_read(ApiKind::Document(kind), &name.0)
            && namespace.as_ref().is_none_or(|namespace| name.0 == namespace.as_str())
            && selector.as_ref().is_none_or(|selector| selector.matches(&labels_of(object)))
    });
    if let Some((namespace, name)) = after {
        objects = objects.split_off(&(namespace, format!("{name}\0")));
    }
    let next = (objects.len() > limit)
        .then(|| objects.keys().nth(limit - 1).map(|(ns, name)| format!("{ns}/{name}")));
    let mut page: Vec<((String, String), Object)> = objects.into_iter().take(limit).collect();
    let keyed = page.iter_mut().filter_map(|((namespace, name), object)| {
        Some((PolicyKey::new(kind, namespace.parse().ok()?, name.parse().ok()?), object))
    });
    status::add(&api, &rights, &set, keyed, NamedProxies::Laggards(status::NAMED_IN_LISTS)).await;
    let items = page.into_iter().map(|(_, object)| object).collect();
    Ok(Json(ObjectList { items, revision, next: next.flatten() }))
}

/// The state of the mesh, for the kinds whose status says something of it.
async fn picture_for(api: &Api, kind: Kind) -> Option<MeshSnapshot> {
    match kind.registration() {
        Registration::Nobody => None,
        Registration::Itself | Registration::Members => api.reconciler.snapshot().await,
    }
}

/// Objects by namespace and name. Workloads that joined are there though no document describes them.
pub fn objects_of(
    kind: Kind,
    set: &PolicySet,
    snapshot: Option<&MeshSnapshot>,
) -> BTreeMap<(String, String), Object> {
    let mut objects: BTreeMap<(String, String), Object> = BTreeMap::new();
    for policy in set.of_kind(kind) {
        let key = policy.key();
        objects.insert((key.namespace.to_string(), key.name.to_string()), show(policy));
    }
    if let (Kind::Service, Some(snapshot)) = (kind, snapshot) {
        for object in set.services() {
            let id = object.id();
            if let Some(shown) = objects.get_mut(&(id.namespace.to_string(), id.name.to_string())) {
                shown.status = service_status(&id, set, snapshot);
            }
        }
    }
    if let (Kind::Workload, Some(snapshot)) = (kind, snapshot) {
        for id in snapshot.workloads.keys() {
            let entry = objects.entry((id.namespace.to_string(), id.name.to_string()));
            let object = entry.or_insert_with(|| joined(id, snapshot));
            object.status = workload_status(id, snapshot);
        }
    }
    objects
}

pub fn show(policy: &Policy) -> Object {
    let mut value = policy.to_value();
    let mut take = |key: &str| value.get_mut(key).map(Value::take).unwrap_or_default();
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    Object {
        api_version: text(take("apiVersion")),
        kind: text(take("kind")),
        metadata: take("metadata"),
        spec: take("spec"),
        status: None,
    }
}

/// A workload that nobody but its own proxy described.
fn joined(id: &WorkloadId, snapshot: &MeshSnapshot) -> Object {
    let state = &snapshot.workloads[id];
    let mut metadata = json!({"namespace": id.namespace, "name": id.name});
    let labels = state.all_labels();
    if !labels.is_empty() {
        metadata["labels"] = json!(labels);
    }
    let mut spec = json!({
        "address": state.address.ip(),
        "services": state.identity.iter().collect::<Vec<_>>(),
        "proxy": {"type": state.proxy},
    });
    if !state.app_ports.is_empty() {
        spec["ports"] = json!(state.app_ports);
    }
    if !state.locality.is_empty() {
        spec["locality"] = json!(state.locality);
    }
    Object {
        api_version: weft_policies::kinds::API_VERSION.to_owned(),
        kind: Kind::Workload.to_string(),
        metadata,
        spec,
        status: None,
    }
}

fn workload_status(id: &WorkloadId, snapshot: &MeshSnapshot) -> Option<Value> {
    let state = snapshot.workloads.get(id)?;
    let mut status = json!({"health": super::proxies::health_word(state), "identity": state.identity});
    if let Some(overruled) = snapshot.overruled.get(id) {
        status["overruled"] = json!(overruled);
    }
    if let Some(refused) = snapshot.not_granted.get(id) {
        status["notGranted"] = json!(refused.to_string());
    }
    if let Some(record) = snapshot.records.get(id) {
        status["joinedAt"] = json!(record.joined_at);
        if let Some(mark) = &record.drained {
            status["drained"] = json!(mark);
        }
        let origin = if is_given_its_key(record) { KeyOrigin::ControlPlane } else { KeyOrigin::Workload };
        status["keyMadeBy"] = json!(origin);
    }
    Some(status)
}

/// Workloads that the service's selector would take by labels that they declared of themselves, and what makes one a member.
fn service_status(id: &ServiceId, set: &PolicySet, snapshot: &MeshSnapshot) -> Option<Value> {
    let spec = &set.service(id)?.spec;
    let looks_like = |state: &&WorkloadState| state.looks_like(id, spec);
    let shown = |state: &WorkloadState| {
        let hint =
            format!("to make it a member, apply a Workload {} with {} in spec.services", state.id, id.name);
        json!({"workload": state.id, "identity": state.identity, "hint": hint})
    };
    let found: Vec<Value> = snapshot.workloads.values().filter(looks_like).map(shown).collect();
    (!found.is_empty()).then(|| json!({"notMembers": found}))
}

/// Where a page ended: the name of its last object.
fn read_place(text: &str) -> Result<(String, String), ApiError> {
    let ids = text.split_once('/').map(|(namespace, name)| (Name::try_new(namespace), Name::try_new(name)));
    match ids {
        Some((Ok(namespace), Ok(name))) => Ok((namespace.to_string(), name.to_string())),
        Some(_) | None => Err(ApiError::bad_request(format!(
            "continue={:?} is not what a page ended with: begin again without it",
            shorten(text)
        ))),
    }
}

fn labels_of(object: &Object) -> BTreeMap<String, String> {
    let labels = object.metadata["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The object that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ObjectPath {
    #[schemars(with = "Name")]
    namespace: String,
    #[schemars(with = "KindWord")]
    kinds: String,
    #[schemars(with = "Name")]
    name: String,
}

/// How to read one object.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ReadQuery {
    /// Name every proxy that the status counts, those that have the object too
    #[serde(default)]
    proxies: bool,
    /// Say what holds for each port of a Service and each rule of a route, and who set it
    #[serde(default)]
    effective: bool,
}

fn key_of(path: &ObjectPath) -> Result<PolicyKey, ApiError> {
    let kind = kind_of(&path.kinds)?;
    let (namespace, name) = (read_name("namespace", &path.namespace)?, read_name("name", &path.name)?);
    Ok(PolicyKey::new(kind, namespace, name))
}

/// Says where else the name exists.
fn missing(
    key: &PolicyKey,
    rights: &CallerRights,
    set: &PolicySet,
    snapshot: Option<&MeshSnapshot>,
) -> ApiError {
    let objects = objects_of(key.kind, set, snapshot).into_keys();
    let elsewhere: Vec<String> = objects
        .filter(|(namespace, name)| {
            *name == key.name.as_str() && rights.may_read(ApiKind::Document(key.kind), namespace)
        })
        .map(|(namespace, _)| namespace)
        .take(5)
        .collect();
    ApiError::missing(if elsewhere.is_empty() {
        format!("there is no {key}")
    } else {
        format!("there is no {key}; {} is in namespace {}", key.name, elsewhere.join(", "))
    })
}

fn id_of(key: &PolicyKey) -> (String, String) {
    (key.namespace.to_string(), key.name.to_string())
}

/// `GET /v1/namespaces/{ns}/{kinds}/{name}`
pub async fn read(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(path): InPath<ObjectPath>,
    Parameters(query): Parameters<ReadQuery>,
) -> Result<Tagged<Object>, ApiError> {
    let key = key_of(&path)?;
    let (_, set) = api.newest().await?;
    let snapshot = picture_for(&api, key.kind).await;
    let mut object = match (set.get(&key), &snapshot) {
        (Some(policy), Some(snapshot)) => {
            let mut object = show(policy);
            let (namespace, name) = (key.namespace.clone(), key.name.clone());
            object.status = match key.kind.registration() {
                Registration::Nobody => None,
                Registration::Members => service_status(&ServiceId::new(namespace, name), &set, snapshot),
                Registration::Itself => workload_status(&WorkloadId::new(namespace, name), snapshot),
            };
            object
        }
        (Some(policy), None) => show(policy),
        (None, _) => objects_of(key.kind, &PolicySet::default(), snapshot.as_ref())
            .remove(&id_of(&key))
            .ok_or_else(|| missing(&key, &rights, &set, snapshot.as_ref()))?,
    };
    let named =
        if query.proxies { NamedProxies::Everyone } else { NamedProxies::Laggards(status::NAMED_OF_ONE) };
    let effective =
        if query.effective { effective::of_object(&key, &set, &Shown(&rights)) } else { Vec::new() };
    status::add(&api, &rights, &set, [(key, &mut object)], named).await;
    if let (Some(status), false) = (&mut object.status, effective.is_empty()) {
        status["effective"] = json!(effective);
    }
    Ok(Tagged { tag: tag_of(&object), document: object })
}

/// Changes whenever the object does, and is not used again by one of the same name.
fn tag_of(object: &Object) -> String {
    let uid = object.metadata["uid"].as_str().unwrap_or_default();
    format!("\"{uid}.{}\"", object.metadata["generation"])
}
