//! How what is outside fits with services, routes and policies.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use weft_api::ServiceId;
use weft_api::rest::Violation;
use weft_policies::{Kind, PolicyKey, PolicySet, parse};

const SERVICES: &str = "
apiVersion: weft.dev/v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: weft.dev/v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80, protocol: HTTP}]}
";

fn list(found: &[Violation]) -> String {
    found.iter().map(|one| format!("{} {one}\n", one.code)).collect()
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    object_in("shop", kind, name, spec)
}

fn object_in(namespace: &str, kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "---\napiVersion: weft.dev/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n"
    )
}

fn apply(to: &PolicySet, text: &str) -> Result<PolicySet, Vec<Violation>> {
    Ok(to.apply(&parse("set.yaml", text)?)?.set)
}

#[test]
fn what_is_outside_shares_names_and_hosts_with_services_and_each_conflict_is_named() {
    let external = |hosts: &str| {
        format!("hosts: [{hosts}]\nports: [{{name: http, port: 80, protocol: HTTP}}]\nresolution: DNS")
    };
    let objects = [
        object("ExternalService", "web", &external("one.example.com")),
        object("ExternalService", "a", &external("two.example.com, catalog.shop, three.example.com")),
        object_in("other", "ExternalService", "b", &external("two.example.com")),
        object(
            "TrafficPolicy",
            "t",
            "targetRefs: [{kind: ExternalService, name: a, sectionName: grpc}]\ntimeouts: {request: 1s}",
        ),
        object(
            "HTTPRoute",
            "r",
            "parentRefs: [{name: web}]\nrules: [{backendRefs: [{kind: ExternalService, name: a, port: 80}]}]",
        ),
        object(
            "Workload",
            "w",
            "address: 10.0.0.1\nupstreams: [{service: a, port: http, bind: '127.0.0.1:1'}, {service: b, port: 9, bind: '127.0.0.1:2'}]",
        ),
        object_in(
            "other",
            "Workload",
            "w",
            "address: 10.0.0.2\nupstreams: [{service: b, port: 9, bind: '127.0.0.1:2'}]",
        ),
    ];
    let found = apply(&PolicySet::default(), &format!("{SERVICES}{}", objects.concat())).unwrap_err();
    let mut found: Vec<(&str, &str, &str)> =
        found.iter().map(|one| (one.object.as_str(), one.code.as_str(), one.path.as_str())).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("ExternalService other/b", "conflict", "spec.hosts[0]"),
            ("ExternalService shop/a", "conflict", "spec.hosts[0]"),
            ("ExternalService shop/a", "conflict", "spec.hosts[1]"),
            ("ExternalService shop/web", "conflict", "metadata.name"),
            ("HTTPRoute shop/r", "inconsistent", "spec.rules[0].backendRefs[0].name"),
            ("Service shop/web", "conflict", "metadata.name"),
            ("TrafficPolicy shop/t", "unknown_port", "spec.targetRefs[0].sectionName"),
            ("Workload other/w", "unknown_port", "spec.upstreams[0].port"),
            ("Workload shop/w", "inconsistent", "spec.upstreams[0].service"),
        ]
    );
}

#[test]
fn a_name_that_is_free_again_is_in_no_conflict() {
    let external = "hosts: [web.example.com]\nports: [{name: http, port: 80, protocol: HTTP}]";
    let set = apply(
        &PolicySet::default(),
        &format!("{SERVICES}{}", object("ExternalService", "outside", external)),
    );
    let set = set.unwrap_or_else(|found| panic!("{}", list(&found)));
    let id: ServiceId = "shop/web".parse().unwrap();
    let web = PolicyKey::of_service(&id);
    let later = object("ExternalService", "web", external).replace("web.example", "other.example");
    assert!(apply(&set, &later).unwrap_err().iter().all(|one| one.code == "conflict"));
    let set = set.delete(std::slice::from_ref(&web)).unwrap().set;
    let set = apply(&set, &later).unwrap();
    assert_eq!(set.backend_key(&id).kind, Kind::ExternalService);
}

#[test]
fn server_side_policies_do_not_target_what_is_outside() {
    let policy = "targetRefs: [{kind: ExternalService, name: a}]\naction: Deny\nrules: [{}]";
    let found = parse("set.yaml", &object("AuthorizationPolicy", "p", policy)).unwrap_err();
    assert!(found.iter().any(|one| one.message.contains("outside of the mesh here")), "{}", list(&found));
}
