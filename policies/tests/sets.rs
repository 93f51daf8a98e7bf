//! How policies fit together: references, conflicts, outcomes, levels, precedence, protection.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use weft_api::rest::Violation;
use weft_api::{Name, ServiceId};
use weft_policies::kinds::Level;
use weft_policies::set::{Applied, ApplyAction, EffectiveTraffic};
use weft_policies::{Document, Kind, Policy, PolicyKey, PolicySet, parse};

const SERVICES: &str = "
apiVersion: weft.dev/v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: weft.dev/v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  ports:
    - {name: http, port: 80, protocol: HTTP}
    - {name: db, port: 5432, protocol: TCP}
  subsets: [{name: v1, matchLabels: {version: v1}}]
";

fn name(text: &str) -> Name {
    Name::try_new(text).unwrap()
}

fn id(text: &str) -> ServiceId {
    text.parse().unwrap()
}

fn documents(text: &str) -> Vec<Document> {
    parse("set.yaml", text).unwrap_or_else(|found| panic!("{}", list(&found)))
}

fn list(found: &[Violation]) -> String {
    found.iter().map(|one| format!("{} {one}\n", one.code)).collect()
}

/// One object of `shop` with this kind, name and spec.
fn object(kind: &str, name: &str, spec: &str) -> String {
    object_in("shop", kind, name, spec)
}

fn object_in(namespace: &str, kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.trim().replace('\n', "\n  ");
    format!(
        "---\napiVersion: weft.dev/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {spec}\n"
    )
}

fn shop(more: &str) -> Applied {
    PolicySet::default()
        .apply(&documents(&format!("{SERVICES}{more}")))
        .unwrap_or_else(|found| panic!("{}", list(&found)))
}

fn refused(more: &str) -> Vec<Violation> {
    PolicySet::default().apply(&documents(&format!("{SERVICES}{more}"))).unwrap_err()
}

#[test]
fn an_apply_tells_created_updated_and_unchanged() {
    let set = shop("").set;
    let changed = SERVICES.replace("port: 5432", "port: 5433");
    let applied = set.apply(&documents(&format!("{changed}{}", object("TCPRoute", "db", "parentRefs: [{name: catalog, port: 5433}]\nrules: [{backendRefs: [{name: catalog, port: 5433}]}]")))).unwrap();
    let outcomes: Vec<_> =
        applied.outcomes.iter().map(|one| (one.key.to_string(), one.action, one.generation)).collect();
    assert_eq!(
        outcomes,
        [
            ("Service shop/web".to_owned(), ApplyAction::Unchanged, 1),
            ("Service shop/catalog".to_owned(), ApplyAction::Updated, 2),
            ("TCPRoute shop/db".to_owned(), ApplyAction::Created, 1),
        ]
    );
    let again = applied.set.apply(&documents(&changed)).unwrap();
    assert!(again.outcomes.iter().all(|one| one.action == ApplyAction::Unchanged));
    let key = PolicyKey::new(Kind::Service, name("shop"), name("catalog"));
    assert_eq!(again.set.get(&key).unwrap().metadata().generation, 2);
}

#[test]
fn an_update_keeps_what_the_server_wrote() {
    let mut set = shop("").set;
    let key = PolicyKey::new(Kind::Service, name("shop"), name("catalog"));
    set.keep(&key, |metadata| metadata.uid = Some("u-1".to_owned()));
    let applied = set.apply(&documents(&SERVICES.replace("5432", "5433"))).unwrap();
    let metadata = applied.set.get(&key).unwrap().metadata();
    assert_eq!((metadata.uid.as_deref(), metadata.generation), (Some("u-1"), 2));
}

#[test]
fn one_object_written_twice_is_refused_with_both_places() {
    let found = refused(SERVICES.strip_prefix('\n').map(|text| format!("---\n{text}")).unwrap().as_str());
    assert_eq!(found.len(), 2, "{}", list(&found));
    assert_eq!(found[0].code, "duplicate");
    assert!(
        found[0].message.contains("Service shop/web is written twice, first at set.yaml:4:18"),
        "{}",
        found[0]
    );
    assert_eq!(found[0].document, 2);
}

#[test]
fn names_that_do_not_exist_yet_are_warnings_and_order_does_not_matter() {
    let route =
        object("HTTPRoute", "r", "parentRefs: [{name: later}]\nrules: [{backendRefs: [{name: gone}]}]");
    let applied = shop(&route);
    let codes: Vec<_> =
        applied.warnings.iter().map(|one| (one.code.as_str(), one.path.as_str(), one.line)).collect();
    assert_eq!(
        codes,
        [
            ("missing_reference", "spec.parentRefs[0].name", 21),
            ("missing_reference", "spec.rules[0].backendRefs[0].name", 22)
        ],
        "{}",
        list(&applied.warnings)
    );
    let before = PolicySet::default().apply(&documents(&format!("{route}---{SERVICES}"))).unwrap();
    assert_eq!(before.warnings.len(), 2);
}

#[test]
fn ports_subsets_and_protocols_that_do_not_fit_are_refused_with_their_places() {
    let route = object(
        "HTTPRoute",
        "r",
        "parentRefs: [{name: catalog, port: 81}, {name: catalog, sectionName: db}]\nrules:\n- backendRefs: [{name: catalog}, {name: catalog, port: 5432}, {name: catalog, port: 80, subset: v9}]",
    );
    let found = refused(&route);
    let places: Vec<_> =
        found.iter().map(|one| (one.code.as_str(), one.path.as_str(), one.line, one.column)).collect();
    assert_eq!(
        places,
        [
            ("unknown_port", "spec.parentRefs[0].port", 21, 38),
            ("protocol_mismatch", "spec.parentRefs[1].sectionName", 21, 72),
            ("required", "spec.rules[0].backendRefs[0].port", 23, 19),
            ("protocol_mismatch", "spec.rules[0].backendRefs[1].port", 23, 58),
            ("unknown_subset", "spec.rules[0].backendRefs[2].subset", 23, 99),
        ],
        "{}",
        list(&found)
    );
    assert!(found[4].to_string().contains("its subsets are v1"), "{}", found[4]);
}

#[test]
fn a_policy_that_protects_connections_cannot_speak_of_requests() {
    let policy = object(
        "AuthorizationPolicy",
        "p",
        "targetRefs: [{kind: Service, name: catalog, sectionName: db}]\naction: Deny\nrules:\n- to: [{methods: [GET]}, {ports: [http]}]\n  when: [{header: a, values: [b]}]",
    );
    let found = refused(&policy);
    let codes: Vec<_> = found.iter().map(|one| (one.code.as_str(), one.path.as_str())).collect();
    assert_eq!(
        codes,
        [
            ("protocol_mismatch", "spec.rules[0].to[0]"),
            ("unknown_port", "spec.rules[0].to[1].ports[0]"),
            ("protocol_mismatch", "spec.rules[0].when"),
        ],
        "{}",
        list(&found)
    );
}

#[test]
fn a_match_that_an_earlier_one_takes_is_a_warning() {
    let route = object(
        "HTTPRoute",
        "r",
        "parentRefs: [{name: web}]\nrules:\n- matches: [{path: {value: /}}]\n  backendRefs: [{name: web}]\n- backendRefs: [{name: web}]",
    );
    let warnings = shop(&route).warnings;
    assert_eq!(warnings.len(), 1, "{}", list(&warnings));
    assert_eq!((warnings[0].code.as_str(), warnings[0].path.as_str()), ("unreachable_rule", "spec.rules[1]"));
}

#[test]
fn one_field_set_twice_at_one_level_is_a_conflict_that_names_both() {
    let target = "targetRefs: [{kind: Service, name: web}]\n";
    let first =
        object("TrafficPolicy", "one", &format!("{target}timeouts: {{request: 1s}}\nretry: {{attempts: 1}}"));
    let second =
        object("TrafficPolicy", "two", &format!("{target}timeouts: {{request: 1s, streamIdle: 1m}}"));
    let found = refused(&format!("{first}{second}"));
    assert_eq!(found.len(), 2, "{}", list(&found));
    assert!(
        found.iter().all(|one| one.code == "conflict" && one.path == "spec.timeouts.request" && one.line > 0)
    );
    assert!(found[0].message.contains("TrafficPolicy shop/one and TrafficPolicy shop/two"), "{}", found[0]);

    let set = shop(&first).set;
    let later = set.apply(&documents(&second)).unwrap_err();
    let lines: Vec<_> = later.iter().map(|one| (one.object.as_str(), one.line > 0)).collect();
    assert_eq!(lines, [("TrafficPolicy shop/one", false), ("TrafficPolicy shop/two", true)]);

    let apart = object("TrafficPolicy", "two", &format!("{target}timeouts: {{streamIdle: 1m}}"));
    assert!(set.apply(&documents(&apart)).is_ok());
}

#[test]
fn access_logs_of_one_target_are_written_by_one_policy_and_taken_whole() {
    let policy = |name: &str, target: &str, spec: &str| {
        object("TelemetryPolicy", name, &format!("targetRefs: [{{{target}}}]\n{spec}"))
    };
    let everywhere = policy(
        "everywhere",
        "kind: Namespace, name: shop",
        "accessLogs: [{sink: Stdout, filter: All}]\ntracing: {sampling: 50}",
    );
    let web = policy("web", "kind: Service, name: web", "accessLogs: []");
    let applied = shop(&format!("{everywhere}{web}"));
    let telemetry = applied.set.telemetry_for(&id("shop/web"), &name("http"));
    assert_eq!(level(&telemetry.access_logs), Some(("web".to_owned(), Level::Service)));
    assert_eq!(telemetry.access_logs.unwrap().value, []);
    assert_eq!(level(&telemetry.sampling), Some(("everywhere".to_owned(), Level::Namespace)));
    let warned: Vec<_> = applied.warnings.iter().map(|one| (one.code.as_str(), one.path.as_str())).collect();
    assert_eq!(warned, [("missing_reference", "spec.tracing")], "{}", list(&applied.warnings));

    let more = policy("more", "kind: Service, name: web", "accessLogs: [{sink: Stdout}]");
    let found = refused(&format!("{web}{more}"));
    assert!(
        found.iter().all(|one| one.code == "conflict" && one.path == "spec.accessLogs"),
        "{}",
        list(&found)
    );
    let tcp = policy("tcp", "kind: Service, name: catalog, sectionName: db", "accessLogs: []");
    let found = refused(&tcp);
    assert_eq!(found[0].code, "protocol_mismatch", "{}", list(&found));
}

#[test]
fn routes_of_two_kinds_on_one_port_are_a_conflict_that_names_both() {
    let chat = object(
        "Service",
        "chat",
        "ports: [{name: grpc, port: 9000, protocol: GRPC}, {name: http, port: 80, protocol: HTTP}]",
    );
    let route = |namespace: &str, kind: &str, name: &str, parent: &str| {
        object_in(
            namespace,
            kind,
            name,
            &format!(
                "parentRefs: [{{name: chat, namespace: shop{parent}}}]\nrules: [{{backendRefs: [{{name: chat, namespace: shop, port: 9000}}]}}]"
            ),
        )
    };
    let grpc = route("shop", "GRPCRoute", "calls", "");
    let found = refused(&format!("{chat}{grpc}{}", route("shop", "HTTPRoute", "requests", "")));
    let told: Vec<_> =
        found.iter().map(|one| (one.code.as_str(), one.path.as_str(), one.object.as_str())).collect();
    assert_eq!(
        told,
        [
            ("conflict", "spec.parentRefs[0]", "HTTPRoute shop/requests"),
            ("conflict", "spec.parentRefs[0]", "GRPCRoute shop/calls"),
        ],
        "{}",
        list(&found)
    );
    assert!(
        found[0].message.contains("HTTPRoute shop/requests and GRPCRoute shop/calls both route requests to Service shop/chat port grpc"),
        "{}",
        found[0]
    );

    // On ports of their own they stand beside each other, and so they do for callers of their own.
    let set = shop(&format!("{chat}{grpc}{}", route("shop", "HTTPRoute", "requests", ", port: 80"))).set;
    let later =
        set.apply(&documents(&route("shop", "HTTPRoute", "requests", ", sectionName: grpc"))).unwrap_err();
    assert_eq!(later.len(), 2, "{}", list(&later));
    let apart = format!(
        "{}{}",
        route("buyers", "GRPCRoute", "calls", ""),
        route("audit", "HTTPRoute", "requests", "")
    );
    shop(&format!("{chat}{apart}"));
    // A change of the service alone can bring them together.
    let http2 = chat.replace("port: 80, protocol: HTTP", "port: 80, protocol: HTTP2");
    let found = set.apply(&documents(&http2)).unwrap_err();
    assert!(
        found.iter().all(|one| one.code == "conflict" && one.message.contains("port http")),
        "{}",
        list(&found)
    );
}

#[test]
fn calls_of_grpc_compete_by_service_then_method() {
    let chat = object("Service", "chat", "ports: [{name: grpc, port: 9000, protocol: GRPC}]");
    let rules = "
- {name: all, backendRefs: [{name: chat}]}
- {name: method, matches: [{method: {method: List}}], backendRefs: [{name: chat}]}
- {name: expression, matches: [{method: {type: RegularExpression, service: .*, method: .*}}], backendRefs: [{name: chat}]}
- {name: service, matches: [{method: {service: a.B}}], backendRefs: [{name: chat}]}
- {name: exact, matches: [{method: {service: a.B, method: List}}], backendRefs: [{name: chat}]}
- {name: header, matches: [{method: {service: a.B}, headers: [{name: x, value: y}]}], backendRefs: [{name: chat}]}
";
    let route = object("GRPCRoute", "r", &format!("parentRefs: [{{name: chat}}]\nrules:{rules}"));
    let set = shop(&format!("{chat}{route}")).set;
    let chat = id("shop/chat");
    let port = set.service(&chat).unwrap().spec.ports[0].clone();
    let order: Vec<String> =
        set.http_rules_for(&chat, &port, &name("shop")).iter().map(|one| one.rule_name()).collect();
    assert_eq!(order, ["exact", "header", "service", "method", "expression", "all"]);
}

#[test]
fn two_services_cannot_claim_one_host_name() {
    let service = "ports: [{name: http, port: 80, protocol: HTTP}]\nhostnames: [shop.example]";
    let found = refused(&format!(
        "{}{}",
        object("Service", "a", service),
        object_in("other", "Service", "b", service)
    ));
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|one| one.code == "conflict" && one.path == "spec.hostnames[0]"),
        "{}",
        list(&found)
    );
}

#[test]
fn a_delete_that_leaves_names_behind_warns_and_one_that_breaks_a_subset_is_refused() {
    let route = object(
        "HTTPRoute",
        "r",
        "parentRefs: [{name: web}]\nrules: [{backendRefs: [{name: catalog, port: 80, subset: v1}]}]",
    );
    let set = shop(&route).set;
    let catalog = PolicyKey::new(Kind::Service, name("shop"), name("catalog"));
    let deleted = set.delete(std::slice::from_ref(&catalog)).unwrap();
    assert_eq!(deleted.outcomes[0].action, ApplyAction::Deleted);
    assert_eq!(deleted.warnings.len(), 1);
    assert!(deleted.set.get(&catalog).is_none());
    assert_eq!(deleted.set.delete(&[catalog]).unwrap().outcomes, []);

    let without = SERVICES.replace("  subsets: [{name: v1, matchLabels: {version: v1}}]\n", "");
    let found = set.apply(&documents(&without)).unwrap_err();
    assert_eq!(found[0].object, "HTTPRoute shop/r");
    assert_eq!(found[0].code, "unknown_subset");
}

fn level<T>(set: &Option<weft_policies::set::Effective<T>>) -> Option<(String, Level)> {
    set.as_ref().map(|set| (set.origin.name.to_string(), set.level))
}

#[test]
fn the_most_specific_level_wins_field_by_field_and_is_remembered() {
    let policy = |name: &str, target: &str, spec: &str| {
        object("TrafficPolicy", name, &format!("targetRefs: [{{{target}}}]\n{spec}"))
    };
    let texts = [
        policy(
            "mesh",
            "kind: Mesh, name: mesh",
            "timeouts: {request: 1s, backendRequest: 1s, streamIdle: 1m}\nretry: {attempts: 9, backoff: 9ms}",
        ),
        policy(
            "space",
            "kind: Namespace, name: shop",
            "timeouts: {backendRequest: 2s}\nconnection: {maxRequests: 2}",
        ),
        policy("service", "kind: Service, name: web", "connection: {maxRequests: 3, maxConnections: 3}"),
        policy("port", "kind: Service, name: web, sectionName: http", "connection: {maxConnections: 4}"),
        policy("route", "kind: HTTPRoute, name: r", "timeouts: {request: 5s}"),
        policy("rule", "kind: HTTPRoute, name: r, sectionName: first", "timeouts: {request: 6s}"),
        object(
            "HTTPRoute",
            "r",
            "parentRefs: [{name: web}]\nrules:\n- name: first\n  matches: [{path: {value: /a}}]\n  backendRefs: [{name: web}]\n  retry: {attempts: 7}\n- backendRefs: [{name: web}]",
        ),
    ];
    let set = shop(&texts.concat()).set;
    let web = id("shop/web");
    let named = |name: &str, level| Some((name.to_owned(), level));

    let cluster = set.traffic_for(&web, &name("http"), None);
    assert_eq!(level(&cluster.request_timeout), named("mesh", Level::Mesh));
    assert_eq!(level(&cluster.backend_request_timeout), named("space", Level::Namespace));
    assert_eq!(level(&cluster.max_requests), named("service", Level::Service));
    assert_eq!(level(&cluster.max_connections), named("port", Level::ServicePort));
    assert_eq!(
        cluster.max_connections.as_ref().map(|set| (set.value, set.path.as_str())),
        Some((4, "spec.connection.maxConnections"))
    );
    assert_eq!(cluster.load_balancer, None);

    let port = set.service(&web).unwrap().spec.ports[0].clone();
    let rules = set.http_rules_for(&web, &port, &name("shop"));
    assert_eq!(rules.iter().map(|one| one.rule_name()).collect::<Vec<_>>(), ["first", "1"]);
    let first = set.traffic_for(&web, &port.name, Some(&rules[0]));
    assert_eq!(level(&first.request_timeout), named("rule", Level::RouteRule));
    assert_eq!(
        first.retry_attempts.as_ref().map(|set| (set.value, set.path.as_str())),
        Some((7, "spec.rules[0].retry.attempts"))
    );
    assert_eq!(level(&first.retry_backoff), named("mesh", Level::Mesh));
    let second = set.traffic_for(&web, &port.name, Some(&rules[1]));
    assert_eq!(level(&second.request_timeout), named("route", Level::Route));
    assert_eq!(set.traffic_for(&id("other/none"), &port.name, None).origins().len(), 1);
    assert_eq!(set.traffic_for(&id("shop/catalog"), &name("db"), None).max_connections, None);
    assert_eq!(EffectiveTraffic::default().origins(), []);
}

#[test]
fn routes_of_a_service_compete_in_the_order_of_gateway_api() {
    let rules = "
- {name: root, backendRefs: [{name: web}]}
- {name: short, matches: [{path: {value: /a}}], backendRefs: [{name: web}]}
- {name: long, matches: [{path: {value: /a/b/c}}], backendRefs: [{name: web}]}
- {name: expression, matches: [{path: {type: RegularExpression, value: /a.*}}], backendRefs: [{name: web}]}
- {name: exact, matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: web}]}
- {name: header, matches: [{path: {value: /a}, headers: [{name: X, value: x}]}], backendRefs: [{name: web}]}
- {name: query, matches: [{path: {value: /a}, queryParams: [{name: q, value: x}]}], backendRefs: [{name: web}]}
- {name: method, matches: [{path: {value: /a}, method: GET}], backendRefs: [{name: web}]}
";
    let route = object("HTTPRoute", "b", &format!("parentRefs: [{{name: web}}]\nrules:{rules}"));
    let older = object(
        "HTTPRoute",
        "a",
        "parentRefs: [{name: web}]\nrules: [{name: by-name, matches: [{path: {value: /a}}], backendRefs: [{name: web}]}]",
    );
    let mut set = shop(&format!("{route}{older}")).set;
    let web = id("shop/web");
    let port = set.service(&web).unwrap().spec.ports[0].clone();
    let order = |set: &PolicySet, caller: &str| -> Vec<String> {
        set.http_rules_for(&web, &port, &name(caller)).iter().map(|one| one.rule_name()).collect()
    };
    let expected = ["exact", "expression", "long", "method", "header", "query", "by-name", "short", "root"];
    assert_eq!(order(&set, "shop"), expected);
    assert_eq!(order(&set, "elsewhere"), expected);

    let created =
        |route: &str| (PolicyKey::new(Kind::HttpRoute, name("shop"), name(route)), route.to_owned());
    for (key, at) in [created("a"), created("b")] {
        let at = if at == "b" { "2026-01-01T00:00:00Z" } else { "2026-01-02T00:00:00Z" };
        set.keep(&key, |metadata| metadata.created_at = Some(at.to_owned()));
    }
    assert_eq!(order(&set, "shop")[6..8], ["short", "by-name"]);
}

#[test]
fn a_route_of_another_namespace_speaks_to_its_own_callers_only() {
    let route = |clients: &str| {
        format!(
            "parentRefs: [{{name: web, namespace: shop}}]\n{clients}rules: [{{name: theirs, backendRefs: [{{name: web, namespace: shop}}]}}]"
        )
    };
    let text = format!(
        "{}{}",
        object_in("buyers", "HTTPRoute", "r", &route("")),
        object(
            "HTTPRoute",
            "for-audit",
            &route("clients: [{kind: Namespace, name: audit}]\n").replace("theirs", "audit")
        )
    );
    let set = shop(&text).set;
    let web = id("shop/web");
    let port = set.service(&web).unwrap().spec.ports[0].clone();
    let order = |caller: &str| -> Vec<String> {
        set.http_rules_for(&web, &port, &name(caller)).iter().map(|one| one.rule_name()).collect()
    };
    assert_eq!(order("buyers"), ["theirs"]);
    assert_eq!(order("audit"), ["audit"]);
    assert_eq!(order("shop"), Vec::<String>::new());
}

#[test]
fn connections_follow_the_route_of_their_port() {
    let route = |name: &str| {
        object(
            "TCPRoute",
            name,
            "parentRefs: [{name: catalog, port: 5432}]\nrules: [{backendRefs: [{name: catalog, port: 5432}]}]",
        )
    };
    let set = shop(&format!("{}{}", route("b"), route("a"))).set;
    let catalog = id("shop/catalog");
    let ports = set.service(&catalog).unwrap().spec.ports.clone();
    let route_of =
        |port| set.tcp_route_for(&catalog, port, &name("shop")).map(|route| route.metadata.name.to_string());
    assert_eq!(route_of(&ports[0]), None);
    assert_eq!(route_of(&ports[1]), Some("a".to_owned()));
}

#[test]
fn policies_of_all_levels_protect_a_port_and_are_not_merged() {
    let policy = |name: &str, action: &str, target: &str| {
        object(
            "AuthorizationPolicy",
            name,
            &format!("targetRefs: [{target}]\naction: {action}\nrules: [{{from: [{{services: [web]}}]}}]"),
        )
    };
    let texts = [
        policy("a-mesh", "Deny", "{kind: Mesh, name: mesh}"),
        policy("b-space", "Allow", "{kind: Namespace, name: shop}"),
        policy("c-both", "Allow", "{kind: Service, name: catalog}, {kind: Service, name: catalog, sectionName: http}"),
        policy("d-db", "Deny", "{kind: Service, name: catalog, sectionName: db}"),
        "---\napiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec: {defaults: {authorization: Deny}}\n".to_owned(),
    ];
    let set = shop(&texts.concat()).set;
    let names = |list: &[std::sync::Arc<
        weft_policies::Object<weft_policies::kinds::AuthorizationPolicy>,
    >]|
     -> Vec<String> { list.iter().map(|policy| policy.metadata.name.to_string()).collect() };
    let http = set.authorization_for(&id("shop/catalog"), &name("http"));
    assert_eq!(
        (names(&http.deny), names(&http.allow)),
        (vec!["a-mesh".to_owned()], vec!["b-space".to_owned(), "c-both".to_owned()])
    );
    let db = set.authorization_for(&id("shop/catalog"), &name("db"));
    assert_eq!(names(&db.deny), ["a-mesh", "d-db"]);
    let elsewhere = set.authorization_for(&id("other/x"), &name("http"));
    assert_eq!((names(&elsewhere.deny).len(), names(&elsewhere.allow).len()), (1, 0));
    assert_eq!(elsewhere.default, weft_policies::kinds::mesh::DefaultAction::Deny);
    assert_eq!(elsewhere.default_origin.unwrap().to_string(), "Mesh default/mesh");
}

#[test]
fn two_thousand_documents_are_one_apply() {
    let padding = "x".repeat(4000);
    let one = |index: usize| {
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: s{index}, annotations: {{note: {padding}}}}}\nspec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\napiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: r{index}}}\nspec: {{parentRefs: [{{name: s{index}}}], rules: [{{backendRefs: [{{name: s{index}}}]}}]}}\n"
        )
    };
    let text: String = (0..1000).map(one).collect();
    let applied = PolicySet::default().apply(&documents(&text)).unwrap();
    assert_eq!((applied.outcomes.len(), applied.warnings.len()), (2000, 0));
    assert_eq!(applied.set.of_kind(Kind::HttpRoute).count(), 1000);
}

const TOKENS: &str = "jwt: {providers: [{name: a, issuer: a, jwks: {uri: 'http://a.test/keys', backendRef: {name: catalog, port: 9000}}}]}";

/// Two versions of each object: what one of them names, has or claims, the other does not.
fn versions() -> Vec<[Policy; 2]> {
    let port = |port: &str| format!("ports: [{{name: http, port: 80, protocol: HTTP}}, {port}]");
    let on = |kind: &str, fields: &str| format!("targetRefs: [{{kind: {kind}}}]\n{fields}");
    let route = |parent: &str, backend: &str| {
        format!(
            "parentRefs: [{{name: {parent}}}]\nrules: [{{name: first, backendRefs: [{{name: {backend}}}]}}]"
        )
    };
    let grpc = "{name: grpc, port: 9000, protocol: GRPC}";
    let pairs = [
        (
            "Service",
            "web",
            port(grpc) + "\nhostnames: [a.example]",
            port("{name: db, port: 5432, protocol: TCP}")
                + "\nsubsets: [{name: v1, matchLabels: {version: v1}}]",
        ),
        (
            "Service",
            "catalog",
            port(grpc) + "\nhostnames: [a.example, b.example]",
            port(grpc) + "\nhostnames: [b.example, b.example]",
        ),
        ("HTTPRoute", "r", route("web", "web, port: 80, subset: v1"), route("catalog", "web, port: 5432")),
        ("GRPCRoute", "r", route("web", "catalog, port: 9000"), route("catalog, port: 9000", "gone")),
        (
            "TCPRoute",
            "r",
            route("web, sectionName: db", "web, port: 5432"),
            route("web, port: 80", "catalog"),
        ),
        (
            "TrafficPolicy",
            "a",
            on("Service, name: web", "timeouts: {request: 1s}"),
            on("HTTPRoute, name: r, sectionName: first", "timeouts: {request: 1s}"),
        ),
        (
            "TrafficPolicy",
            "b",
            on("Service, name: web", "timeouts: {request: 1s}\nretry: {attempts: 1}"),
            on("GRPCRoute, name: r, sectionName: other", "retry: {attempts: 1}"),
        ),
        (
            "AuthorizationPolicy",
            "p",
            on(
                "Service, name: web, sectionName: grpc",
                "action: Deny\nrules: [{from: [{services: [catalog]}]}]",
            ),
            on(
                "Namespace, name: shop",
                "action: Deny\nrules: [{from: [{services: [web], claims: [{sub: a}]}]}]",
            ),
        ),
        (
            "AuthenticationPolicy",
            "t",
            on("Service, name: web, sectionName: grpc", TOKENS),
            on("Service, name: web, sectionName: db", TOKENS),
        ),
        (
            "Workload",
            "w",
            "address: 10.0.0.1\nservices: [web]".to_owned(),
            "address: 10.0.0.1\nupstreams: [{service: web, port: db, bind: '127.0.0.1:1'}]".to_owned(),
        ),
    ];
    let read = |kind: &str, name: &str, spec: &str| documents(&object(kind, name, spec)).remove(0).policy;
    pairs.iter().map(|(kind, name, one, two)| [read(kind, name, one), read(kind, name, two)]).collect()
}

#[test]
fn what_is_kept_of_checks_is_what_checking_all_would_find() {
    let versions = versions();
    let (mut set, mut random, mut seen) = (PolicySet::default(), 7_u32, std::collections::BTreeSet::new());
    for _ in 0..600 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pair = &versions[random as usize / 4 % versions.len()];
        let policy = pair.get(random as usize >> 28 & 3).cloned();
        set = set.with([(pair[0].key(), policy)]);
        let anew = PolicySet::from_policies(set.iter().cloned());
        assert_eq!(set.validate(), anew.validate());
        assert!(set.differences(&anew).is_empty());
        seen.extend(set.validate().into_iter().map(|one| one.code));
    }
    let codes = [
        "conflict",
        "duplicate",
        "missing_reference",
        "protocol_mismatch",
        "unknown_port",
        "unknown_section",
        "unknown_subset",
    ];
    assert!(codes.iter().all(|code| seen.contains(*code)), "the changes bring too little about: {seen:?}");
}
