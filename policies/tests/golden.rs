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
    Change, Compiled, HostCache, Model, Unit, affected, all_units, compile, compile_with, health_checks,
};
use weft_policies::{Policy, PolicySet};

type Units = BTreeMap<Unit, Vec<Compiled>>;

fn compile_all(model: &Model<'_>) -> Units {
    let mut cache = HostCache::default();
    all_units(model).into_iter().map(|unit| (unit.clone(), compile_with(&unit, model, &mut cache))).collect()
}

/// All that a case compiles to, for people to read.
fn shown(input: &Input) -> String {
    let model = input.model();
    let mut documents = Vec::new();
    for (unit, compiled) in compile_all(&model) {
        for Compiled { resource, origins } in compiled {
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
fn check_change(before: &Units, old: &Model<'_>, new: &Model<'_>, change: &Change, cache: &mut HostCache) {
    let changes = std::slice::from_ref(change);
    cache.forget(changes, old, new);
    let mut units = before.clone();
    for unit in affected(changes, old, new) {
        let compiled = compile_with(&unit, new, cache);
        units.insert(unit, compiled);
    }
    let flat = |units: &Units| -> BTreeMap<String, Vec<Compiled>> {
        let filled = units.iter().filter(|(_, compiled)| !compiled.is_empty());
        filled.map(|(unit, compiled)| (unit.to_string(), compiled.clone())).collect()
    };
    let (incremental, whole) = (flat(&units), flat(&compile_all(new)));
    let names = |map: &BTreeMap<String, Vec<Compiled>>| map.keys().cloned().collect::<BTreeSet<_>>();
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
            let mut cache = HostCache::default();
            for unit in all_units(&full.model()) {
                let _ = compile_with(&unit, &full.model(), &mut cache);
            }
            check_change(&everything, &full.model(), &less.model(), &change, &mut cache);
            let before = compile_all(&less.model());
            check_change(&before, &less.model(), &full.model(), &change, &mut cache);
        }
        for gone in full.workloads.keys() {
            let change = Change::Workload(gone.clone());
            let mut less = full.clone();
            less.workloads.remove(gone);
            let mut cache = HostCache::default();
            check_change(&everything, &full.model(), &less.model(), &change, &mut cache);
            let before = compile_all(&less.model());
            check_change(&before, &less.model(), &full.model(), &change, &mut cache);
        }
    }
}

#[test]
fn one_service_changed_leaves_the_virtual_hosts_of_others_encoded() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/httproute/split");
    let full = Input::read(&case);
    let route = full.set.iter().find(|policy| matches!(policy, Policy::HttpRoute(_))).expect("a route");
    let rest: Vec<Policy> = full.set.iter().filter(|one| one.key() != route.key()).cloned().collect();
    let less = Input { set: PolicySet::from_policies(rest), ..full.clone() };
    let mut cache = HostCache::default();
    for unit in all_units(&full.model()) {
        let _ = compile_with(&unit, &full.model(), &mut cache);
    }
    let services = cache.len();
    cache.forget(&[Change::Policy(route.key())], &full.model(), &less.model());
    assert_eq!(cache.len(), services - 1);
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
            Unit::ServicePort(of, _) => Some(of) == service.as_ref(),
            Unit::Routes(_) => false,
            Unit::Workload(of) => *of == id,
        })
        .collect();
    assert_eq!(touched, expected);
}

#[test]
fn no_two_virtual_hosts_of_a_route_configuration_share_a_domain() {
    for case in input::all() {
        let input = Input::read(&case);
        for compiled in compile_all(&input.model()).into_values().flatten() {
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
    let empty = Input { set: PolicySet::default(), workloads: BTreeMap::new(), ..full.clone() };
    for unit in all_units(&full.model()) {
        assert_eq!(compile(&unit, &empty.model()), Vec::new(), "{unit}");
    }
}

#[test]
fn stock_envoy_takes_every_golden_case() {
    let envoy = bootstrap::envoy();
    for case in input::all() {
        let input = Input::read(&case);
        let units = compile_all(&input.model());
        for workload in input.workloads.values().filter(|workload| workload.has_sidecar()) {
            let checks = health_checks(&workload.id, &input.model());
            let config = bootstrap::of_sidecar(workload, &units, checks.as_ref());
            bootstrap::validate(&envoy, &config).unwrap_or_else(|error| {
                panic!("{}: Envoy refuses the configuration of {}:\n{error}", case.display(), workload.id)
            });
        }
    }
}
