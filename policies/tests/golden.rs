//! The compiler against golden files, against itself, and against the real Envoy.
//!
//! A case is `tests/golden/KIND/CASE/{input.yaml,expected.yaml}`. `UPDATE_GOLDEN=1` rewrites what is expected; the
//! diff is reviewed.

#[path = "case/bootstrap.rs"]
mod bootstrap;
#[path = "case/input.rs"]
mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use input::Input;
use serde_json::{Value, json};
use weft_api::json::{message_to_json, to_json};
use weft_policies::compile::{
    Change, Compiled, Model, RouteForm, Scope, Unit, affected, all_units, compile, health_checks, route_table,
};
use weft_policies::{Policy, PolicySet};

type Units = BTreeMap<Unit, Vec<Compiled>>;

fn compile_all(model: &Model<'_>) -> Units {
    all_units(model).into_iter().map(|unit| (unit.clone(), compile(&unit, model))).collect()
}

/// Everything as proxies are told that take virtual hosts in one route configuration.
fn in_tables(model: &Model<'_>) -> Units {
    let (hosts, mut units): (Units, Units) =
        compile_all(model).into_iter().partition(|(unit, _)| matches!(unit, Unit::Hosts(..)));
    for (unit, compiled) in &mut units {
        match unit {
            Unit::Routes(scope) => *compiled = vec![table(scope, &hosts, model)],
            Unit::Cluster(..) | Unit::Endpoints(..) | Unit::Hosts(..) | Unit::Workload(_) => {
                compiled.retain(|one| one.form != Some(RouteForm::VirtualHosts));
            }
        }
    }
    units
}

fn table(scope: &Scope, hosts: &Units, model: &Model<'_>) -> Compiled {
    let seen = hosts.iter().filter(|(unit, _)| match unit {
        Unit::Hosts(service, namespace) => {
            let service = model.set.backend(service).expect("something that was compiled");
            *namespace == scope.namespace && scope.sees(service, model)
        }
        Unit::Cluster(..) | Unit::Endpoints(..) | Unit::Routes(_) | Unit::Workload(_) => false,
    });
    let seen = seen.flat_map(|(_, compiled)| compiled);
    route_table(scope, seen.map(|one| (one.resource.as_ref(), &one.origins[..])), model)
}

/// All that a case compiles to, for people to read.
fn shown(input: &Input) -> String {
    let model = input.model();
    let mut documents = Vec::new();
    for (unit, compiled) in in_tables(&model) {
        for Compiled { resource, origins, .. } in compiled {
            documents.push(json!({
                "from": unit.to_string(),
                "kind": resource.kind.short(),
                "refs": resource.refs.iter().map(|key| format!("{} {}", key.kind, key.name)).collect::<Vec<_>>(),
                "origins": origins.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "resource": to_json(resource.kind.type_url(), &resource.body).expect("a message of Envoy's"),
            }));
        }
    }
    for id in input.workloads.keys() {
        if let Some(checks) = health_checks(id, &model) {
            let body: Value = message_to_json(&checks).expect("a message of Envoy's");
            documents.push(json!({"from": format!("workload {id}"), "kind": "HDS", "resource": body}));
        }
    }
    let documents = documents.iter().map(|document| serde_yaml::to_string(document).expect("YAML"));
    documents.collect::<Vec<_>>().join("---\n")
}

#[test]
fn every_case_compiles_to_its_golden_file() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in input::all() {
        let path = case.join("expected.yaml");
        let actual = shown(&Input::read(&case));
        if update {
            std::fs::write(&path, &actual).expect("the golden file can be written");
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if expected != actual {
            wrong.push(format!("{}\n{}", path.display(), first_difference(&expected, &actual)));
        }
    }
    assert!(wrong.is_empty(), "run with UPDATE_GOLDEN=1 and review the diff:\n{}", wrong.join("\n"));
}

fn first_difference(expected: &str, actual: &str) -> String {
    let pair = expected.lines().zip(actual.lines()).enumerate().find(|(_, (a, b))| a != b);
    match pair {
        Some((line, (a, b))) => format!("  line {}\n  - {a}\n  + {b}", line + 1),
        None => format!("  {} lines, not {}", actual.lines().count(), expected.lines().count()),
    }
}

/// `CASE KIND NAME VERSION` of everything.
fn versions() -> Vec<String> {
    let mut lines = Vec::new();
    for case in input::all() {
        let input = Input::read(&case);
        for (unit, compiled) in compile_all(&input.model()) {
            for Compiled { resource, .. } in compiled {
                lines
                    .push(format!("version {unit} {} {} {}", resource.kind, resource.name, resource.version));
            }
        }
    }
    lines
}

#[test]
#[ignore = "a part of versions_are_equal_in_two_processes, which runs it in another process"]
fn print_versions() {
    for line in versions() {
        println!("{line}");
    }
}

#[test]
fn versions_are_equal_in_two_processes() {
    let own = versions();
    for _ in 0..3 {
        let output = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--exact", "print_versions", "--ignored", "--nocapture", "--test-threads=1"])
            .output()
            .expect("this test can be started again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        // The harness may write its own words before the first line.
        let other: Vec<&str> =
            text.lines().filter_map(|line| line.find("version ").map(|at| &line[at..])).collect();
        assert_eq!(own, other);
    }
}

/// Compiles only what the changes touch and compares with compiling everything.
fn check_change(before: &Units, old: &Model<'_>, new: &Model<'_>, change: &Change) {
    let mut units = before.clone();
    for unit in affected(std::slice::from_ref(change), old, new) {
        let compiled = compile(&unit, new);
        units.insert(unit, compiled);
    }
    let filled =
        |units: Units| -> Units { units.into_iter().filter(|(_, compiled)| !compiled.is_empty()).collect() };
    let (incremental, whole) = (filled(units), filled(compile_all(new)));
    let names = |units: &Units| units.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&incremental), names(&whole), "after {change:?}");
    for (unit, compiled) in &whole {
        assert_eq!(&incremental[unit], compiled, "{unit} after {change:?}");
    }
}

#[test]
fn compiling_what_a_change_touches_equals_compiling_everything() {
    for case in input::all() {
        let full = Input::read(&case);
        let everything = compile_all(&full.model());
        for gone in full.set.iter() {
            let change = Change::Policy(gone.key());
            let rest: Vec<Policy> = full.set.iter().filter(|one| one.key() != gone.key()).cloned().collect();
            let less = Input { set: PolicySet::from_policies(rest), ..full.clone() };
            check_change(&everything, &full.model(), &less.model(), &change);
            check_change(&compile_all(&less.model()), &less.model(), &full.model(), &change);
        }
        for gone in full.workloads.keys() {
            let change = Change::Workload(gone.clone());
            let mut less = full.clone();
            less.workloads.remove(gone);
            check_change(&everything, &full.model(), &less.model(), &change);
            check_change(&compile_all(&less.model()), &less.model(), &full.model(), &change);
        }
    }
}

#[test]
fn one_service_changed_leaves_the_virtual_hosts_of_others_alone() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/httproute/split");
    let full = Input::read(&case);
    let route = full.set.iter().find(|policy| matches!(policy, Policy::HttpRoute(_))).expect("a route");
    let rest: Vec<Policy> = full.set.iter().filter(|one| one.key() != route.key()).cloned().collect();
    let less = Input { set: PolicySet::from_policies(rest), ..full.clone() };
    let touched = affected(&[Change::Policy(route.key())], &full.model(), &less.model());
    let services: BTreeSet<&weft_api::ServiceId> = touched
        .iter()
        .filter_map(|unit| match unit {
            Unit::Hosts(service, _) => Some(service),
            Unit::Cluster(..) | Unit::Endpoints(..) | Unit::Routes(_) | Unit::Workload(_) => None,
        })
        .collect();
    assert_eq!(services.len(), 1, "{touched:?}");
    assert!(!touched.iter().any(|unit| matches!(unit, Unit::Routes(_) | Unit::Cluster(..))), "{touched:?}");
}

/// What comes by VHDS is what stands in the table, and nothing of it grows with the mesh.
#[test]
fn virtual_hosts_by_vhds_are_those_of_the_table() {
    for case in input::all() {
        let input = Input::read(&case);
        let model = input.model();
        let units = compile_all(&model);
        for (unit, compiled) in &units {
            let Unit::Routes(scope) = unit else { continue };
            let [routes] = &compiled[..] else { panic!("{unit} gives one route configuration") };
            let name = RouteForm::VirtualHosts.route_configuration(&scope.namespace);
            assert_eq!(*routes.resource.name, *name);
            let mut by_vhds = Vec::new();
            let hosts = units.iter().filter(|(unit, _)| match unit {
                Unit::Hosts(service, namespace) => {
                    let service = model.set.backend(service).expect("something that was compiled");
                    *namespace == scope.namespace && scope.sees(service, &model)
                }
                Unit::Cluster(..) | Unit::Endpoints(..) | Unit::Routes(_) | Unit::Workload(_) => false,
            });
            for host in hosts.flat_map(|(_, compiled)| compiled).map(|one| &one.resource) {
                let (configuration, domain) = host.name.rsplit_once('/').expect("a slash");
                assert_eq!(configuration, name);
                let mut body = to_json(host.kind.type_url(), &host.body).expect("a virtual host");
                assert_eq!(body["name"], *host.name, "Envoy takes it away by this name");
                body["name"] = Value::from(domain);
                let domains = body["domains"].as_array().expect("domains");
                // What is outside is not called by its name in the mesh.
                let is_its =
                    |id: weft_api::ServiceId| domain.starts_with(&format!("{}.{}:", id.name, id.namespace));
                let is_outside =
                    model.set.backends().any(|backend| backend.external().is_some() && is_its(backend.id()));
                assert!(is_outside || domains.contains(&Value::from(domain)), "{domain}: {domains:?}");
                by_vhds.push(body);
            }
            let own = to_json(routes.resource.kind.type_url(), &routes.resource.body).expect("routes");
            by_vhds.extend(own["virtual_hosts"].as_array().expect("the host for all others").clone());
            let table = &in_tables(&model)[unit][0].resource;
            let table = to_json(table.kind.type_url(), &table.body).expect("routes");
            assert_eq!(Value::from(by_vhds), table["virtual_hosts"], "{}", case.display());
        }
    }
}

#[test]
fn an_endpoint_change_touches_the_service_and_the_workload_only() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/httproute/split");
    let full = Input::read(&case);
    let id = full.workloads.keys().next().expect("a workload").clone();
    let mut changed = full.clone();
    let state = changed.workloads.get_mut(&id).expect("it is there");
    state.health = weft_policies::compile::Health::Degraded;
    let service = state.identity.clone();
    let touched = affected(&[Change::Workload(id.clone())], &full.model(), &changed.model());
    let expected: BTreeSet<Unit> = all_units(&full.model())
        .into_iter()
        .filter(|unit| match unit {
            Unit::Endpoints(of, _) => Some(of) == service.as_ref(),
            Unit::Cluster(..) | Unit::Hosts(..) | Unit::Routes(_) => false,
            Unit::Workload(of) => *of == id,
        })
        .collect();
    assert_eq!(touched, expected);
}

#[test]
fn no_two_virtual_hosts_of_a_route_configuration_share_a_domain() {
    for case in input::all() {
        let input = Input::read(&case);
        for compiled in in_tables(&input.model()).into_values().flatten() {
            if compiled.resource.kind != weft_api::resource::ResourceKind::Route {
                continue;
            }
            let routes = to_json(compiled.resource.kind.type_url(), &compiled.resource.body).expect("routes");
            let mut seen = BTreeSet::new();
            for host in routes["virtual_hosts"].as_array().expect("virtual hosts") {
                for domain in host["domains"].as_array().expect("domains") {
                    assert!(seen.insert(domain.to_string()), "{}: {domain} twice", case.display());
                }
            }
        }
    }
}

#[test]
fn a_unit_that_is_gone_compiles_to_nothing() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/httproute/split");
    let full = Input::read(&case);
    let empty = Input {
        set: PolicySet::default(),
        workloads: weft_policies::compile::Workloads::new(),
        ..full.clone()
    };
    for unit in all_units(&full.model()) {
        assert_eq!(compile(&unit, &empty.model()), Vec::new(), "{unit}");
    }
}

#[test]
fn stock_envoy_takes_every_golden_case() {
    let envoy = bootstrap::envoy();
    for case in input::all() {
        let input = Input::read(&case);
        let units = in_tables(&input.model());
        for workload in input.workloads.values().filter(|workload| workload.has_sidecar()) {
            let checks = health_checks(&workload.id, &input.model());
            let config = bootstrap::of_sidecar(workload, &units, checks.as_ref());
            bootstrap::validate(&envoy, &config).unwrap_or_else(|error| {
                panic!("{}: Envoy refuses the configuration of {}:\n{error}", case.display(), workload.id)
            });
        }
    }
}
