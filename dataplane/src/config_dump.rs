//! `/config_dump`: what is configured, in the shape of Envoy's admin messages, private keys redacted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use regex::Regex;
use serde_json::{Map, Value, json};
use weft_api::ResourceKind;

use crate::bootstrap::Bootstrap;
use crate::control::ControlState;
use crate::control::resource::{Accepted, ChildResource, ConfigOrigin, Refused, WarmingResource};
use crate::control::world::World;
use crate::decode::SecretPlan;
use crate::runtime::{RouteSource, Runtime, Terminal};

/// What a caller wants to see.
#[derive(Debug, Default)]
pub struct DumpFilter {
    /// `resource`: one list, such as `dynamic_active_clusters`.
    pub resource: Option<String>,
    /// `name_regex`.
    pub names: Option<Regex>,
    /// `include_eds`.
    pub endpoints: bool,
}

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";

/// The whole dump, or the part that was asked for.
#[must_use]
pub fn render(state: &ControlState<'_>, selection: &DumpFilter) -> Value {
    let ControlState { world, bootstrap, runtime, started, .. } = *state;
    // Held for the whole dump, given back after it.
    let _descriptors = weft_api::json::descriptors();
    let mut configs = vec![
        json!({
            "@type": format!("{ADMIN}BootstrapConfigDump"),
            "bootstrap": bootstrap.shown,
            "last_updated": timestamp(started),
        }),
        clusters(world, selection),
        listeners(world, selection),
        routes(world, selection),
        secrets(world, selection),
    ];
    if selection.endpoints || selection.resource.as_deref().is_some_and(|name| name.contains("endpoint")) {
        configs.push(endpoints(world, selection));
    }
    match &selection.resource {
        None => json!({ "configs": configs, "ignored_fields": ignored(world, bootstrap, runtime) }),
        Some(resource) => {
            let parts = configs.iter().filter_map(|config| config.get(resource));
            let parts: Vec<Value> = parts
                .flat_map(|part| part.as_array().cloned().unwrap_or_else(|| vec![part.clone()]))
                .collect();
            json!({ "configs": parts })
        }
    }
}

fn chosen(selection: &DumpFilter, name: &str) -> bool {
    selection.names.as_ref().is_none_or(|regex| regex.is_match(name))
}

fn clusters(world: &World, selection: &DumpFilter) -> Value {
    let (mut fixed, mut active, mut warming) = (Vec::new(), Vec::new(), Vec::new());
    for (name, entry) in world.clusters.iter().filter(|(name, _)| chosen(selection, name)) {
        let refused = entry.refused.as_ref().map(|refused| error_state(ResourceKind::Cluster, refused));
        match &entry.active {
            Some(accepted) if accepted.origin == ConfigOrigin::Static => {
                fixed.push(state(ResourceKind::Cluster, "cluster", accepted, "ACTIVE", refused));
            }
            Some(accepted) => active.push(state(ResourceKind::Cluster, "cluster", accepted, "ACTIVE", refused)),
            None if entry.warming.is_none() => warming.extend(refused.map(|error| {
                json!({ "cluster": {"name": &**name}, "client_status": "NACKED", "error_state": error })
            })),
            None => {}
        }
        if let Some((accepted, _)) = &entry.warming {
            warming.push(state(ResourceKind::Cluster, "cluster", accepted, "REQUESTED", None));
        }
    }
    json!({
        "@type": format!("{ADMIN}ClustersConfigDump"),
        "static_clusters": fixed,
        "dynamic_active_clusters": active,
        "dynamic_warming_clusters": warming,
    })
}

fn listeners(world: &World, selection: &DumpFilter) -> Value {
    let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
    for (name, entry) in world.listeners.iter().filter(|(name, _)| chosen(selection, name)) {
        if let Some(accepted) =
            entry.active.as_ref().filter(|accepted| accepted.origin == ConfigOrigin::Static)
        {
            fixed.push(state(ResourceKind::Listener, "listener", accepted, "ACTIVE", None));
            continue;
        }
        let mut shown = Map::from_iter([("name".to_owned(), json!(&**name))]);
        let mut status = "NACKED";
        if let Some((accepted, _)) = &entry.warming {
            status = "REQUESTED";
            shown.insert("warming_state".to_owned(), listener_state(accepted));
        }
        if let Some(accepted) = &entry.active {
            status = "ACTIVE";
            shown.insert("active_state".to_owned(), listener_state(accepted));
        }
        if let Some(refused) = &entry.refused {
            shown.insert("error_state".to_owned(), error_state(ResourceKind::Listener, refused));
        }
        shown.insert("client_status".to_owned(), json!(status));
        dynamic.push(Value::Object(shown));
    }
    json!({
        "@type": format!("{ADMIN}ListenersConfigDump"),
        "static_listeners": fixed,
        "dynamic_listeners": dynamic,
    })
}

fn listener_state<T>(accepted: &Accepted<Arc<T>>) -> Value {
    let mut shown = state(ResourceKind::Listener, "listener", accepted, "", None);
    if let Some(fields) = shown.as_object_mut() {
        fields.remove("client_status");
    }
    shown
}

/// Each with the virtual hosts that came by themselves, as Envoy shows them; of those only what was refused stands alone.
fn routes(world: &World, selection: &DumpFilter) -> Value {
    let configurations = world.routes.iter().filter(|((_, name), _)| chosen(selection, name));
    let configurations = configurations.filter_map(|(key, child)| {
        let mut shown = child_state(ResourceKind::Route, "route_config", child)?;
        if let (Some(accepted), Some(fields)) = (&child.accepted, shown.as_object_mut()) {
            if accepted.value.vhds.is_some() {
                let whole = with_virtual_hosts(world, &key.1, &accepted.body);
                fields.insert("route_config".to_owned(), body(ResourceKind::Route, &whole));
            }
            if world.virtual_hosts.keeps_waiting(key) {
                fields.insert("client_status".to_owned(), json!("REQUESTED"));
            }
        }
        Some(shown)
    });
    let hosts = world.virtual_hosts.iter().filter(|(name, _)| chosen(selection, name));
    let refused = hosts.filter_map(|(_, child)| {
        let error = error_state(ResourceKind::VirtualHost, child.refused.as_ref()?);
        Some(json!({ "client_status": "NACKED", "error_state": error }))
    });
    let dynamic: Vec<Value> = configurations.chain(refused).collect();
    json!({
        "@type": format!("{ADMIN}RoutesConfigDump"),
        "static_route_configs": [],
        "dynamic_route_configs": dynamic,
    })
}

/// A route configuration's bytes with its virtual hosts behind: repeated fields of concatenated messages add up.
fn with_virtual_hosts(world: &World, name: &str, configuration: &[u8]) -> Vec<u8> {
    const VIRTUAL_HOSTS: u32 = 2;
    let mut whole = configuration.to_vec();
    for host in world.virtual_hosts.of(name) {
        prost::encoding::bytes::encode(VIRTUAL_HOSTS, &host.body, &mut whole);
    }
    whole
}

fn endpoints(world: &World, selection: &DumpFilter) -> Value {
    let dynamic: Vec<Value> = world
        .endpoints
        .iter()
        .filter(|((_, name), _)| chosen(selection, name))
        .filter_map(|(_, child)| child_state(ResourceKind::Endpoint, "endpoint_config", child))
        .collect();
    json!({
        "@type": format!("{ADMIN}EndpointsConfigDump"),
        "static_endpoint_configs": [],
        "dynamic_endpoint_configs": dynamic,
    })
}

fn secrets(world: &World, selection: &DumpFilter) -> Value {
    let (mut fixed, mut dynamic) = (Vec::new(), Vec::new());
    for ((_, name), child) in world.secrets.iter().filter(|((_, name), _)| chosen(selection, name)) {
        let Some(accepted) = &child.accepted else { continue };
        // A secret that was made here has no bytes: what it is about is shown, never the key.
        let secret = if accepted.body.is_empty() {
            let kind = match &accepted.value {
                SecretPlan::Identity(_) => "tls_certificate",
                SecretPlan::Trust(_) => "validation_context",
            };
            json!({ "name": &**name, kind: {} })
        } else {
            body(ResourceKind::Secret, &accepted.body)
        };
        let shown = json!({
            "name": &**name,
            "version_info": &*accepted.version,
            "last_updated": timestamp(accepted.updated),
            "secret": secret,
        });
        if accepted.origin == ConfigOrigin::Static { fixed.push(shown) } else { dynamic.push(shown) }
    }
    json!({
        "@type": format!("{ADMIN}SecretsConfigDump"),
        "static_secrets": fixed,
        "dynamic_active_secrets": dynamic,
    })
}

fn state<T>(
    kind: ResourceKind,
    field: &str,
    accepted: &Accepted<T>,
    status: &str,
    error: Option<Value>,
) -> Value {
    let mut shown = Map::new();
    if accepted.origin == ConfigOrigin::Dynamic {
        shown.insert("version_info".to_owned(), json!(&*accepted.version));
    }
    shown.insert(field.to_owned(), body(kind, &accepted.body));
    shown.insert("last_updated".to_owned(), json!(timestamp(accepted.updated)));
    shown.insert("client_status".to_owned(), json!(status));
    if let Some(error) = error {
        shown.insert("error_state".to_owned(), error);
    }
    Value::Object(shown)
}

fn child_state<T>(kind: ResourceKind, field: &str, child: &ChildResource<T>) -> Option<Value> {
    let error = child.refused.as_ref().map(|refused| error_state(kind, refused));
    match (&child.accepted, error) {
        (Some(accepted), error) => Some(state(kind, field, accepted, "ACTIVE", error)),
        (None, Some(error)) => Some(json!({ "client_status": "NACKED", "error_state": error })),
        (None, None) => None,
    }
}

fn error_state(kind: ResourceKind, refused: &Refused) -> Value {
    json!({
        "failed_configuration": body(kind, &refused.body),
        "last_update_attempt": timestamp(refused.at),
        "details": refused.rejection.to_string(),
        "version_info": &*refused.version,
    })
}

fn body(kind: ResourceKind, bytes: &[u8]) -> Value {
    match weft_api::json::to_json_redacted(kind.type_url(), bytes) {
        Ok(mut shown) => {
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("@type".to_owned(), json!(kind.type_url()));
            }
            shown
        }
        Err(error) => json!({ "@type": kind.type_url(), "error": error.to_string() }),
    }
}

/// Fields that were accepted and have no effect, by resource.
fn ignored(world: &World, bootstrap: &Bootstrap, runtime: &Runtime) -> Value {
    fn warming<T>(kind: &str, name: &str, entry: &WarmingResource<T>) -> Option<(String, Value)> {
        let accepted = entry.active.as_ref().filter(|accepted| !accepted.ignored.is_empty())?;
        Some((format!("{kind}/{name}"), json!(accepted.ignored)))
    }
    fn children<T>(kind: &str, name: &str, child: &ChildResource<T>) -> Option<(String, Value)> {
        let accepted = child.accepted.as_ref().filter(|accepted| !accepted.ignored.is_empty())?;
        Some((format!("{kind}/{name}"), json!(accepted.ignored)))
    }
    let mut all = Map::new();
    if !bootstrap.ignored.is_empty() {
        all.insert("bootstrap".to_owned(), json!(bootstrap.ignored));
    }
    all.extend(world.clusters.iter().filter_map(|(name, entry)| warming("cluster", name, entry)));
    all.extend(world.listeners.iter().filter_map(|(name, entry)| warming("listener", name, entry)));
    all.extend(world.endpoints.iter().filter_map(|((_, name), child)| children("endpoint", name, child)));
    all.extend(world.routes.iter().filter_map(|((_, name), child)| children("route", name, child)));
    all.extend(world.virtual_hosts.iter().filter_map(|(name, child)| children("virtual_host", name, child)));
    all.extend(world.secrets.iter().filter_map(|((_, name), child)| children("secret", name, child)));
    for (listener, filter) in overrides_of_other_types(runtime) {
        let fields = all.entry(format!("listener/{listener}")).or_insert_with(|| json!([]));
        if let Some(fields) = fields.as_array_mut() {
            fields.push(json!(format!("typed_per_filter_config.{filter} (of another filter's type)")));
        }
    }
    Value::Object(all)
}

/// Filters of listeners in use, by the listener's name and their own, of which a route says something that is meant for
/// a filter of another type.
fn overrides_of_other_types(runtime: &Runtime) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    for (name, listener) in &runtime.listeners {
        for chain in listener.filter_chains.iter().chain(&listener.default_filter_chain) {
            let Terminal::Http(manager) = &chain.terminal else { continue };
            let routes = match &manager.routes {
                RouteSource::Inline(routes) => Some(routes),
                RouteSource::Rds(routes) => runtime.routes.get(routes).map(|routes| &**routes),
            };
            for (key, special) in routes.into_iter().flat_map(|routes| routes.all_filter_overrides()) {
                let filters = manager.filters.before_router().iter();
                if filters.filter(|one| *one.name == *key).any(|one| !one.filter.takes(special)) {
                    found.insert((&**name, key));
                }
            }
        }
    }
    found
}

/// RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
