//! Whoever changes the mesh step by step has what they would have who made it at once, and is told of each difference.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_api::{ServiceId, Version};
use weft_policies::compile::{Health, UpstreamListener};
use weft_policies::kinds::workload::ProxyType;
use weft_policies::parse;
use weft_policies::value::{PeerAddress, PortRef};

use super::super::scopes::DeclaredView;
use super::*;

const FORMS: [RouteForm; 2] = [RouteForm::Table, RouteForm::VirtualHosts];

fn id(name: &str) -> WorkloadId {
    WorkloadId::new(namespace_of(name), name.parse().unwrap())
}

/// Workloads and services whose names end in `x` are of another namespace.
fn namespace_of(name: &str) -> Name {
    if name.ends_with('x') { "other" } else { "shop" }.parse().unwrap()
}

fn service_id(name: &str) -> ServiceId {
    ServiceId::new(namespace_of(name), name.parse().unwrap())
}

/// An instance of the service that is called as it is.
fn workload(service: &str, upstreams: &[&str], health: Health) -> WorkloadState {
    let identity = service_id(service);
    let upstream = |(index, name): (usize, &&str)| UpstreamListener {
        service: service_id(name),
        port: PortRef::Name("http".parse().unwrap()),
        bind: ([127, 0, 0, 1], 20_000 + u16::try_from(index).unwrap()).into(),
    };
    WorkloadState {
        id: id(service),
        address: PeerAddress::try_new([10, 0, 0, 1].into()).unwrap(),
        inbound: ([10, 0, 0, 1], 15006).into(),
        outbound: ([127, 0, 0, 1], 15001).into(),
        app_ports: BTreeMap::new(),
        labels: BTreeMap::new(),
        declared_labels: BTreeMap::new(),
        locality: weft_policies::compile::Locality::default(),
        weight: 1,
        services: Vec::new(),
        identity: Some(identity),
        client: false,
        upstreams: upstreams.iter().enumerate().map(upstream).collect(),
        proxy: ProxyType::Weft,
        access_log_dir: None,
        health,
        port_health: BTreeMap::new(),
    }
}

fn service(name: &str, protocol: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: {}}}\n\
         spec: {{ports: [{{name: http, port: 80, protocol: {protocol}}}]}}\n",
        namespace_of(name)
    )
}

fn mesh(view: &str, authorization: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: mesh}}\n\
         spec: {{defaults: {{view: {view}, authorization: {authorization}}}}}\n"
    )
}

fn allow(target: &str, from: &str) -> String {
    let from = if from.is_empty() { "{}".to_owned() } else { format!("{{from: [{from}]}}") };
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: allow-{target}, namespace: {namespace}}}\n\
         spec: {{targetRefs: [{{kind: Service, name: {target}}}], action: Allow, rules: [{from}]}}\n",
        namespace = namespace_of(target)
    )
}

fn route(parent: &str, backend: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: to-{parent}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{{kind: Service, name: {parent}}}], rules: [{{backendRefs: [{{name: {backend}}}]}}]}}\n",
        namespace = namespace_of(parent)
    )
}

/// The mesh, and what is put into it.
struct Bench {
    mesh: MeshState,
}

impl Bench {
    fn new(documents: &[String], workloads: Vec<WorkloadState>) -> Self {
        let mut bench = Self { mesh: MeshState::new(TrustDomain::try_new("mesh.local").unwrap()) };
        bench.apply(documents);
        for state in workloads {
            bench.mesh.apply_workload(&state.id.clone(), Some(state));
        }
        bench.mesh.settle();
        bench
    }

    fn apply(&mut self, documents: &[String]) {
        let documents = parse("test", &documents.join("---\n")).unwrap();
        let set = self.mesh.set().apply(&documents).map(|applied| applied.set);
        let set = set.unwrap_or_else(|violations| panic!("{violations:?}"));
        self.take(set);
    }

    fn take(&mut self, set: PolicySet) {
        let changed = self.mesh.set().differences(&set);
        self.mesh.apply_policies(Arc::new(set), &changed);
    }

    fn names(&self, workload: &str, kind: ResourceKind) -> Vec<String> {
        let view = self.mesh.view(1, &id(workload), RouteForm::VirtualHosts);
        let mut names: Vec<String> = view.of_kind(kind).map(|one| one.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    fn clusters(&self, workload: &str) -> Vec<String> {
        let mut names = self.names(workload, ResourceKind::Cluster);
        names.retain(|name| !name.starts_with("inbound/"));
        assert_eq!(names, self.names(workload, ResourceKind::Endpoint), "each has its endpoints");
        names
    }
}

fn held(mesh: &MeshState, workload: &WorkloadId, form: RouteForm) -> BTreeMap<ResourceKey, Version> {
    let view = mesh.view(1, workload, form);
    let all = ResourceKind::ALL.into_iter().flat_map(|kind| view.of_kind(kind).cloned().collect::<Vec<_>>());
    all.map(|one| (one.key(), one.version)).collect()
}

#[test]
fn an_endpoint_change_compiles_one_assignment_and_concerns_those_who_see_it() {
    let services: Vec<String> = ["a", "b", "c", "d"].map(|name| service(name, "HTTP")).into();
    let callers = |health| {
        vec![
            workload("a", &[], health),
            workload("b", &["a"], Health::Healthy),
            workload("c", &["a"], Health::Healthy),
            workload("d", &["b"], Health::Healthy),
        ]
    };
    let documents: Vec<String> = services.into_iter().chain([mesh("Declared", "Allow")]).collect();
    let mut bench = Bench::new(&documents, callers(Health::Healthy));
    bench.mesh.apply_workload(&id("a"), Some(workload("a", &[], Health::Degraded)));
    let endpoints = Unit::Endpoints(service_id("a"), "http".parse().unwrap());
    let units: Vec<&Unit> = bench.mesh.stale().iter().collect();
    assert_eq!(units, [&endpoints, &Unit::Workload(id("a"))]);
    let delta = bench.mesh.settle();
    let seeing = BTreeSet::from([id("b"), id("c")]);
    assert_eq!(bench.mesh.concerned(&delta), Concerned::These(seeing), "{delta:?}");
    let key = ResourceKey::new(ResourceKind::Endpoint, "shop/a/http");
    let changes = bench.mesh.changes(&delta, &id("b"), RouteForm::VirtualHosts);
    assert_eq!(changes, Changes::Keys(vec![key]));
    let looked_at = bench.mesh.scopes_by_cluster.of("shop/a/http").count();
    assert_eq!((looked_at, bench.mesh.scopes.len()), (2, 4), "those of b and c; the others are left alone");
}

#[test]
fn a_new_service_concerns_nobody_who_is_not_told_of_it() {
    let documents = [service("a", "HTTP"), service("b", "HTTP"), mesh("Declared", "Allow")];
    let callers = vec![workload("a", &["b"], Health::Healthy), workload("b", &[], Health::Healthy)];
    let mut bench = Bench::new(&documents, callers);
    assert_eq!(bench.clusters("a"), ["shop/b/http"]);
    assert!(bench.clusters("b").is_empty());
    bench.apply(&[service("c", "HTTP")]);
    let delta = bench.mesh.settle();
    assert_eq!(bench.mesh.concerned(&delta), Concerned::These(BTreeSet::new()));

    // Named by an Allow, it is seen, and what its routes lead to comes with it.
    bench.apply(&[service("d", "HTTP"), route("c", "d"), allow("c", "{services: [b]}")]);
    let delta = bench.mesh.settle();
    assert_eq!(bench.mesh.concerned(&delta), Concerned::These([id("b")].into()));
    assert_eq!(bench.clusters("b"), ["shop/d/http"]);
    assert_eq!(bench.names("b", ResourceKind::VirtualHost), ["outbound/shop/vhds/c.shop:80"]);
    assert_eq!(bench.clusters("a"), ["shop/b/http"]);
}

#[test]
fn where_the_default_is_deny_only_what_an_allow_permits_is_seen() {
    let documents = [
        service("a", "HTTP"),
        service("b", "HTTP"),
        service("c", "HTTP"),
        service("d", "TCP"),
        mesh("Declared", "Deny"),
        allow("b", ""),
        allow("c", "{namespaces: [other]}"),
    ];
    let caller = workload("a", &["c", "d"], Health::Healthy);
    let mut bench = Bench::new(&documents, vec![caller, workload("ax", &[], Health::Healthy)]);
    assert_eq!(bench.clusters("a"), ["shop/b/http"]);
    assert_eq!(bench.clusters("ax"), ["shop/b/http", "shop/c/http"]);
    let view = bench.mesh.view(1, &id("a"), RouteForm::VirtualHosts);
    let text = |name: &str| {
        let routes = view.lookup(ResourceKind::Route, name).unwrap();
        String::from_utf8_lossy(&routes.body).into_owned()
    };
    assert!(text("upstream/shop/c/http").contains("no AuthorizationPolicy allows shop/a to call shop/c"));
    let others = text("outbound/shop/vhds");
    assert!(others.contains("no AuthorizationPolicy allows shop/a to call a service with this host name"));

    bench.apply(&[allow("c", "{services: [a]}")]);
    bench.mesh.settle();
    assert_eq!(bench.clusters("a"), ["shop/b/http", "shop/c/http"]);
    assert_eq!(bench.clusters("ax"), ["shop/b/http"]);
}

#[test]
fn nothing_that_a_caller_by_vhds_has_grows_with_the_mesh() {
    let services: Vec<String> = (0..300).map(|n| service(&format!("s{n}"), "HTTP")).collect();
    let mut bench = Bench::new(&services, vec![workload("s0", &[], Health::Healthy)]);
    bench.apply(&[service("new", "HTTP")]);
    let delta = bench.mesh.settle();
    let Changes::Keys(keys) = bench.mesh.changes(&delta, &id("s0"), RouteForm::VirtualHosts) else {
        panic!("a few names changed");
    };
    let view = bench.mesh.view(1, &id("s0"), RouteForm::VirtualHosts);
    let bytes: usize = keys
        .iter()
        .filter_map(|key| view.lookup(key.kind, &key.name))
        .map(|one| weft_xds::wire::cost(one))
        .sum();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(bytes < 6 * 1024, "{bytes} bytes");
    let largest = view.of_kind(ResourceKind::Route).map(|one| one.body.len()).max().unwrap();
    assert!(largest < 2048, "{largest} bytes");
}

/// What happens to the mesh.
#[derive(Debug, Clone)]
enum Step {
    Put(String),
    Remove(usize),
    Join(&'static str, Vec<&'static str>, bool),
    Leave(&'static str),
    Settle,
}

const NAMES: [&str; 5] = ["a", "b", "c", "ax", "bx"];

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(&NAMES[..]);
    let from = prop::sample::select(
        &["", "{services: [shop/a]}", "{namespaces: [other]}", "{services: [other/ax], namespaces: [other]}"]
            [..],
    );
    let own = |names: (&'static str, &'static str)| namespace_of(names.0) == namespace_of(names.1);
    prop_oneof![
        3 => (name(), prop::sample::select(&["HTTP", "HTTP", "TCP"][..]))
            .prop_map(|(name, protocol)| Step::Put(service(name, protocol))),
        2 => (name(), from).prop_map(|(name, from)| Step::Put(allow(name, from))),
        2 => (name(), name()).prop_filter("of one namespace", move |names| own(*names))
            .prop_map(|(parent, backend)| Step::Put(route(parent, backend))),
        1 => (prop::sample::select(&["All", "Declared", "Declared"][..]), prop::sample::select(&["Allow", "Deny"][..]))
            .prop_map(|(view, authorization)| Step::Put(mesh(view, authorization))),
        2 => any::<usize>().prop_map(Step::Remove),
        3 => (name(), prop::collection::vec(name(), 0..3), any::<bool>())
            .prop_map(|(name, upstreams, healthy)| Step::Join(name, upstreams, healthy)),
        1 => name().prop_map(Step::Leave),
        3 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mesh_made_step_by_step_is_the_mesh_made_at_once(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new(&[], Vec::new());
        let mut known: BTreeMap<(WorkloadId, RouteForm), BTreeMap<ResourceKey, Version>> = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Settle]) {
            match step {
                Step::Put(document) => {
                    let documents = parse("test", &document).unwrap();
                    if let Ok(applied) = bench.mesh.set().apply(&documents) {
                        bench.take(applied.set);
                    }
                }
                Step::Remove(index) => {
                    let keys: Vec<PolicyKey> = bench.mesh.set().iter().map(|one| one.key()).collect();
                    if let Some(key) = keys.get(index.checked_rem(keys.len()).unwrap_or(0))
                        && let Ok(applied) = bench.mesh.set().delete(std::slice::from_ref(key))
                    {
                        bench.take(applied.set);
                    }
                }
                Step::Join(name, upstreams, healthy) => {
                    let health = if healthy { Health::Healthy } else { Health::Degraded };
                    bench.mesh.apply_workload(&id(name), Some(workload(name, &upstreams, health)));
                }
                Step::Leave(name) => bench.mesh.apply_workload(&id(name), None),
                Step::Settle => {
                    let delta = bench.mesh.settle();
                    let concerned = bench.mesh.concerned(&delta);
                    for workload in bench.mesh.workloads().keys() {
                        for form in FORMS {
                            let before = known.remove(&(workload.clone(), form));
                            let now = held(&bench.mesh, workload, form);
                            if let Some(before) = before && before != now {
                                let told = match &concerned {
                                    Concerned::All => true,
                                    Concerned::These(these) => these.contains(workload),
                                };
                                prop_assert!(told, "{workload} is not told of a change");
                                if let Changes::Keys(keys) = bench.mesh.changes(&delta, workload, form) {
                                    let names = before.keys().chain(now.keys());
                                    let differ = names.filter(|key| before.get(key) != now.get(key));
                                    for key in differ {
                                        prop_assert!(keys.contains(key), "{workload} is not told of {key:?}");
                                    }
                                }
                            }
                            known.insert((workload.clone(), form), now);
                        }
                    }
                    known.retain(|(workload, _), _| bench.mesh.workloads().contains_key(workload));
                    let mut used = ScopesByCluster::default();
                    for (scope, state) in &bench.mesh.scopes {
                        for cluster in state.declared.iter().flat_map(DeclaredView::used) {
                            used.insert(Arc::clone(cluster), scope);
                        }
                    }
                    prop_assert_eq!(&bench.mesh.scopes_by_cluster, &used);
                }
            }
        }
        let mut whole = MeshState::new(bench.mesh.trust_domain.clone());
        whole.apply_policies(Arc::clone(bench.mesh.set()), &[]);
        for (id, state) in bench.mesh.workloads() {
            whole.apply_workload(id, Some(state.clone()));
        }
        whole.outdate_all();
        whole.settle();
        for workload in bench.mesh.workloads().keys() {
            for form in FORMS {
                prop_assert_eq!(held(&bench.mesh, workload, form), held(&whole, workload, form));
            }
        }
    }
}
