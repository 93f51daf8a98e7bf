//! An owner's Envoy bootstrap with what Weft adds to it. Values in, values out.
//!
//! What the owner wrote stays as it is. Weft adds fields that are not there and entries to four lists, the clusters, the
//! secrets, the sinks of statistics and the layers of the runtime. Where both would have to say something else in one place, that is a conflict, named by its path.

use std::fmt;
use std::net::SocketAddr;

use serde_yaml::{Mapping, Value};
use weft_api::WorkloadId;
use weft_api::names::{CONTROL_PLANE_CLUSTER, RUNTIME_LAYER};

/// What an Envoy takes from the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyTakes {
    /// Listeners, routes, clusters, endpoints.
    Everything,
    /// Clusters and endpoints; its listeners are its owner's.
    Clusters,
}

/// What is going to be added, as far as it can be in the way.
#[derive(Debug)]
pub struct Plan {
    /// What is taken from the control plane.
    pub takes: EnvoyTakes,
    /// Whether health checks are ordered over HDS.
    pub checks_health: bool,
    /// Who it will be; none where the join has yet to say that.
    pub id: Option<WorkloadId>,
    /// Where the mesh's listeners will bind, with the flag that says so.
    pub listeners: Vec<(&'static str, SocketAddr)>,
}

/// Something that the owner's file says and that has to be otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict {
    path: String,
    reason: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// The owner's bootstrap with everything that `added` has and it has not. There must be no conflicts.
pub fn merge(mut own: Value, added: Value) -> Value {
    add(&mut own, added);
    own
}

fn add(own: &mut Value, added: Value) {
    match (own, added) {
        (Value::Mapping(own), Value::Mapping(added)) => {
            for (field, value) in added {
                match own.iter_mut().find(|(key, _)| is_field(key, field.as_str().unwrap_or_default())) {
                    Some((_, there)) => add(there, value),
                    None => drop(own.insert(field, value)),
                }
            }
        }
        (Value::Sequence(own), Value::Sequence(added)) => own.extend(added),
        (own, added) if own.is_null() => *own = added,
        // The owner's word stands.
        _ => {}
    }
}

/// Everything that keeps a bootstrap from being merged.
pub fn conflicts(own: &Value, plan: &Plan) -> Vec<Conflict> {
    let Value::Mapping(bootstrap) = own else {
        return vec![Conflict {
            path: "the file".to_owned(),
            reason: "is no mapping of a bootstrap's fields".to_owned(),
        }];
    };
    let mut found = Conflicts(Vec::new());
    found.shapes(bootstrap);
    found.octal_modes(own, "");
    found.node(bootstrap, plan);
    found.sources(bootstrap, plan);
    found.reports(bootstrap, plan);
    found.clusters(bootstrap);
    found.runtime(bootstrap);
    match plan.takes {
        EnvoyTakes::Everything => found.listeners(bootstrap, plan),
        EnvoyTakes::Clusters => {}
    }
    found.0
}

struct Conflicts(Vec<Conflict>);

impl Conflicts {
    fn add(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Conflict { path: path.into(), reason: reason.into() });
    }

    /// What is added to must be what Envoy takes there.
    fn shapes(&mut self, own: &Mapping) {
        for path in ["node", "dynamic_resources", "static_resources", "layered_runtime"] {
            if at(own, &[path]).is_some_and(|value| !value.is_mapping()) {
                self.add(path, "is no mapping, as Envoy wants it to be");
            }
        }
        let lists = [
            &["stats_sinks"][..],
            &["static_resources", "clusters"],
            &["static_resources", "secrets"],
            &["layered_runtime", "layers"],
        ];
        for path in lists {
            if at(own, path).is_some_and(|value| !value.is_sequence()) {
                self.add(path.join("."), "is no list, as Envoy wants it to be");
            }
        }
    }

    /// Envoy reads `mode: 0644` as octal, as YAML 1.1 has it. To YAML 1.2 it is a text, and as a text Envoy reads it as decimal.
    fn octal_modes(&mut self, value: &Value, path: &str) {
        match value {
            Value::Mapping(fields) => {
                for (key, value) in fields {
                    let field = key.as_str().unwrap_or_default();
                    let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
                    let octal = value.as_str().filter(|text| field == "mode" && text.starts_with('0'));
                    match octal.and_then(|text| Some((text, u32::from_str_radix(text, 8).ok()?))) {
                        Some((text, mode)) => {
                            self.add(
                                path,
                                format!("{text} is read in two ways by YAML of two versions: write {mode}"),
                            );
                        }
                        None => self.octal_modes(value, &path),
                    }
                }
            }
            Value::Sequence(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    self.octal_modes(entry, &format!("{path}[{index}]"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Tagged(_) => {}
        }
    }

    fn node(&mut self, own: &Mapping, plan: &Plan) {
        let Some(id) = at(own, &["node", "id"]) else { return };
        let shown = id.as_str().unwrap_or("no text");
        match &plan.id {
            Some(expected) if shown == expected.to_string() => {}
            Some(expected) => self.add(
                "node.id",
                format!("is {shown}, and the certificate is for {expected}: take it out, or change --name"),
            ),
            None => self.add(
                "node.id",
                format!(
                    "is {shown}, and must be the NAMESPACE/WORKLOAD that joins: take it out, or say by --name that it is \
                     the same"
                ),
            ),
        }
    }

    fn sources(&mut self, own: &Mapping, plan: &Plan) {
        let mut wanted = vec![
            (
                "ads_config",
                "an Envoy has one ADS stream, and it has to be the control plane's: take this one out",
            ),
            (
                "cds_config",
                "an Envoy takes clusters from one source, and it has to be the control plane: take this one out",
            ),
        ];
        if plan.takes == EnvoyTakes::Everything {
            wanted.push((
                "lds_config",
                "an Envoy takes listeners from one source: take this one out, or give --clusters-only, which leaves it",
            ));
        }
        for (field, reason) in wanted {
            if at(own, &["dynamic_resources", field]).is_some() {
                self.add(format!("dynamic_resources.{field}"), reason);
            }
        }
    }

    fn reports(&mut self, own: &Mapping, plan: &Plan) {
        if plan.checks_health && at(own, &["hds_config"]).is_some() {
            let reason = "health checks are ordered by one server, and it has to be the control plane: take this one out, or \
                          join with --client, which needs none";
            self.add("hds_config", reason);
        }
        if at(own, &["stats_flush_on_admin"]).and_then(Value::as_bool) == Some(true) {
            let reason = "no statistics would reach the control plane, and `weft get edges` would show nothing of this Envoy: \
                          take it out";
            self.add("stats_flush_on_admin", reason);
        }
    }

    fn clusters(&mut self, own: &Mapping) {
        for (index, cluster) in entries(own, &["static_resources", "clusters"]).enumerate() {
            if name(cluster) == Some(CONTROL_PLANE_CLUSTER) {
                let path = format!("static_resources.clusters[{index}].name");
                self.add(
                    path,
                    format!(
                        "{CONTROL_PLANE_CLUSTER} is the name of the cluster that is added: give this one another"
                    ),
                );
            }
        }
    }

    fn runtime(&mut self, own: &Mapping) {
        for (index, layer) in entries(own, &["layered_runtime", "layers"]).enumerate() {
            if name(layer) == Some(RUNTIME_LAYER) {
                let path = format!("layered_runtime.layers[{index}].name");
                self.add(
                    path,
                    format!("{RUNTIME_LAYER} is the name of the layer that is added: give this one another"),
                );
            }
        }
    }

    fn listeners(&mut self, own: &Mapping, plan: &Plan) {
        let admin = at(own, &["admin"]).and_then(Value::as_mapping).and_then(address);
        let mut bound = vec![("admin.address".to_owned(), admin)];
        for (index, listener) in entries(own, &["static_resources", "listeners"]).enumerate() {
            let path = format!("static_resources.listeners[{index}]");
            if let Some(name) = name(listener).filter(|name| is_of_the_mesh(name)) {
                let reason = "is the name of a listener that the control plane gives: give this one another, or give \
                              --clusters-only";
                self.add(format!("{path}.name"), format!("{name} {reason}"));
            }
            bound.push((format!("{path}.address"), address(listener)));
        }
        for (path, address) in bound {
            let Some(address) = address else { continue };
            if let Some((flag, taken)) = plan.listeners.iter().find(|(_, taken)| overlap(*taken, address)) {
                self.add(
                    path,
                    format!("{address} is where {flag} {taken} is to listen: give {flag} another address"),
                );
            }
        }
    }
}

/// The names of the listeners that a sidecar is given.
fn is_of_the_mesh(name: &str) -> bool {
    name == "inbound" || name == "outbound" || name.starts_with("upstream/")
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// What stands at a path; nothing where it is left empty.
fn at<'a>(own: &'a Mapping, path: &[&str]) -> Option<&'a Value> {
    let (field, rest) = path.split_first()?;
    let (_, value) = own.iter().find(|(key, value)| is_field(key, field) && !value.is_null())?;
    if rest.is_empty() { Some(value) } else { at(value.as_mapping()?, rest) }
}

fn entries<'a>(own: &'a Mapping, path: &[&str]) -> impl Iterator<Item = &'a Mapping> {
    at(own, path).and_then(Value::as_sequence).into_iter().flatten().filter_map(Value::as_mapping)
}

fn name(entry: &Mapping) -> Option<&str> {
    at(entry, &["name"])?.as_str()
}

/// `address.socket_address` of a listener or of the admin endpoint, where it is an IP address.
fn address(of: &Mapping) -> Option<SocketAddr> {
    let socket = at(of, &["address", "socket_address"])?.as_mapping()?;
    let ip = at(socket, &["address"])?.as_str()?.parse().ok()?;
    let port = at(socket, &["port_value"])?.as_u64()?;
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

/// Envoy takes a field by its name in snake case, and in camel case as well.
fn is_field(key: &Value, field: &str) -> bool {
    let Some(key) = key.as_str() else { return false };
    let mut in_snake_case = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            in_snake_case.push('_');
        }
        in_snake_case.push(letter.to_ascii_lowercase());
    }
    in_snake_case == field
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "
node: {cluster: edge, metadata: {team: web}, locality: {region: eu}}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
stats_flush_interval: 2s
stats_sinks: [{name: own}]
static_resources:
  listeners:
  - name: own
    address: {socket_address: {address: 0.0.0.0, port_value: 10000}}
  clusters:
  - {name: legacy}
";
    const ADDED: &str = "
node: {id: shop/web-1, cluster: shop/web}
dynamic_resources: {ads_config: {api_type: DELTA_GRPC}, cds_config: {ads: {}}}
hds_config: {api_type: GRPC}
stats_flush_interval: 5s
stats_sinks: [{name: metrics}]
static_resources: {clusters: [{name: weft_control_plane}]}
";

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    fn plan(takes: EnvoyTakes) -> Plan {
        Plan {
            takes,
            checks_health: takes == EnvoyTakes::Everything,
            id: Some("shop/web-1".parse().unwrap()),
            listeners: vec![
                ("--inbound", "0.0.0.0:15006".parse().unwrap()),
                ("--outbound", "127.0.0.1:15001".parse().unwrap()),
            ],
        }
    }

    fn paths(text: &str, takes: EnvoyTakes) -> Vec<String> {
        conflicts(&yaml(text), &plan(takes)).into_iter().map(|conflict| conflict.path).collect()
    }

    #[test]
    fn what_the_owner_wrote_stays_and_the_rest_is_added() {
        assert_eq!(paths(OWN, EnvoyTakes::Everything), [] as [&str; 0]);
        let merged = merge(yaml(OWN), yaml(ADDED));
        let expected = "
node: {cluster: edge, metadata: {team: web}, locality: {region: eu}, id: shop/web-1}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
stats_flush_interval: 2s
stats_sinks: [{name: own}, {name: metrics}]
static_resources:
  listeners:
  - name: own
    address: {socket_address: {address: 0.0.0.0, port_value: 10000}}
  clusters: [{name: legacy}, {name: weft_control_plane}]
dynamic_resources: {ads_config: {api_type: DELTA_GRPC}, cds_config: {ads: {}}}
hds_config: {api_type: GRPC}
";
        // As text, which keeps the order.
        let text = |value: &Value| serde_yaml::to_string(value).unwrap();
        assert_eq!(text(&merged), text(&yaml(expected)));
    }

    #[test]
    fn json_in_camel_case_is_added_to_in_its_own_fields() {
        let own = yaml(r#"{"staticResources": {"clusters": [{"name": "legacy"}]}, "statsSinks": null}"#);
        let merged = merge(own, yaml(ADDED));
        assert_eq!(merged["staticResources"]["clusters"].as_sequence().unwrap().len(), 2);
        assert_eq!(merged["statsSinks"].as_sequence().unwrap().len(), 1);
        assert!(merged.get("static_resources").is_none() && merged.get("stats_sinks").is_none());
        assert_eq!(
            paths(r#"{"dynamicResources": {"adsConfig": {}}, "hdsConfig": {}}"#, EnvoyTakes::Everything),
            ["dynamic_resources.ads_config", "hds_config"]
        );
    }

    #[test]
    fn each_conflict_is_named_by_its_path() {
        for (own, path) in [
            ("node: {id: web-7}", "node.id"),
            ("dynamic_resources: {ads_config: {}}", "dynamic_resources.ads_config"),
            (
                "dynamic_resources: {cds_config: {path_config_source: {path: /x}}}",
                "dynamic_resources.cds_config",
            ),
            (
                "dynamic_resources: {lds_config: {path_config_source: {path: /x}}}",
                "dynamic_resources.lds_config",
            ),
            ("hds_config: {api_type: GRPC}", "hds_config"),
            ("layered_runtime: {layers: [{name: weft}]}", "layered_runtime.layers[0].name"),
            ("stats_flush_on_admin: true", "stats_flush_on_admin"),
            (
                "static_resources: {clusters: [{name: a}, {name: weft_control_plane}]}",
                "static_resources.clusters[1].name",
            ),
            ("static_resources: {listeners: [{name: inbound}]}", "static_resources.listeners[0].name"),
            (
                "static_resources: {listeners: [{address: {socket_address: {address: 10.0.0.7, port_value: 15006}}}]}",
                "static_resources.listeners[0].address",
            ),
            ("admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15001}}}", "admin.address"),
            ("admin: {address: {pipe: {path: /x, mode: 0644}}}", "admin.address.pipe.mode"),
            ("static_resources: []", "static_resources"),
            ("stats_sinks: {}", "stats_sinks"),
            ("static_resources: {clusters: 7}", "static_resources.clusters"),
            ("[]", "the file"),
            ("", "the file"),
        ] {
            assert_eq!(paths(own, EnvoyTakes::Everything), [path], "{own}");
        }
    }

    #[test]
    fn who_takes_clusters_only_keeps_listeners_of_any_source() {
        for own in [
            "dynamic_resources: {lds_config: {path_config_source: {path: /x}}}",
            "hds_config: {api_type: GRPC}",
            "static_resources: {listeners: [{name: inbound}]}",
            "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15001}}}",
        ] {
            assert_eq!(paths(own, EnvoyTakes::Clusters), [] as [&str; 0], "{own}");
        }
        let own = "dynamic_resources: {lds_config: {path_config_source: {path: /x}}}";
        let merged = merge(yaml(own), yaml(ADDED));
        assert_eq!(merged["dynamic_resources"]["lds_config"]["path_config_source"]["path"], "/x");
        assert!(merged["dynamic_resources"].get("cds_config").is_some());
    }

    #[test]
    fn own_id_is_kept_where_it_is_that_of_the_certificate() {
        assert_eq!(paths("node: {id: shop/web-1}", EnvoyTakes::Clusters), [] as [&str; 0]);
        let unknown = Plan { id: None, ..plan(EnvoyTakes::Clusters) };
        let found = conflicts(&yaml("node: {id: shop/web-1}"), &unknown);
        assert!(found[0].to_string().contains("--name"), "{found:?}");
    }
}
