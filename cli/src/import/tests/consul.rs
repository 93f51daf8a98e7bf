//! Consul's config entries.

use serde_json::json;

use super::super::{DefaultIntention, ImportSource, Imported, import};
use super::{imported, options};

/// Routing and calling, as the API prints it, and one entry of Kubernetes.
pub(super) const ROUTING: &str = r#"
[
 {"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http", "envoy_tracing_json": "{}"},
  "AccessLogs": {"Enabled": true, "Type": "file", "Path": "/var/log/envoy.log", "TextFormat": "%RESPONSE_CODE% %DURATION%"},
  "CreateIndex": 3, "ModifyIndex": 4},
 {"Kind": "service-defaults", "Name": "web", "Protocol": "http2", "LocalRequestTimeoutMs": 2500, "MaxInboundConnections": 9,
  "UpstreamConfig": {"Defaults": {"ConnectTimeoutMs": 100}}},
 {"Kind": "service-resolver", "Name": "web", "DefaultSubset": "v1", "ConnectTimeout": "3s", "RequestTimeout": "1m30s",
  "Subsets": {"v1": {"Filter": "Service.Meta.version == v1"}, "v2": {"Filter": "Service.Meta.version == v2", "OnlyPassing": true},
              "tagged": {"Filter": "v3 in Service.Tags"}},
  "LoadBalancer": {"Policy": "least_request", "LeastRequestConfig": {"ChoiceCount": 3}},
  "Failover": {"*": {"Datacenters": ["dc2"]}}},
 {"Kind": "service-splitter", "Name": "web", "Splits": [
   {"Weight": 90, "ServiceSubset": "v1"}, {"Weight": 10, "Service": "next", "RequestHeaders": {"Set": {"x-a": "b"}}}]},
 {"Kind": "service-splitter", "Name": "next", "Splits": [{"Weight": 50, "ServiceSubset": ""}, {"Weight": 50, "Service": "old"}]},
 {"Kind": "service-resolver", "Name": "old", "Redirect": {"Service": "archive"}},
 {"Kind": "service-router", "Name": "web", "Routes": [
   {"Match": {"HTTP": {"PathPrefix": "/admin", "Methods": ["GET", "POST"],
      "Header": [{"Name": "x-team", "Exact": "blue"}, {"Name": "x-any", "Present": true}],
      "QueryParam": [{"Name": "debug", "Exact": "1"}]}},
    "Destination": {"Service": "admin", "PrefixRewrite": "/", "RequestTimeout": "10s", "IdleTimeout": "20s", "NumRetries": 3,
      "RetryOnConnectFailure": true, "RetryOn": ["reset", "cancelled"], "RetryOnStatusCodes": [503],
      "RequestHeaders": {"Add": {"x-from": "web"}, "Remove": ["x-old"]}, "ResponseHeaders": {"Set": {"x-seen": "yes"}}}},
   {"Match": {"HTTP": {"Header": [{"Name": "x-bot", "Regex": "a.*", "Invert": true}]}}, "Destination": {"Service": "bots"}},
   {"Match": {"HTTP": {"PathExact": "/admin/login"}}, "Destination": {"ServiceSubset": "v2", "NumRetries": 4}},
   {"Match": {"HTTP": {"PathPrefix": "/t"}}, "Destination": {"ServiceSubset": "tagged"}}]},
 {"apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceDefaults", "metadata": {"name": "db", "namespace": "data", "uid": "1"},
  "spec": {"protocol": "tcp"}, "status": {"conditions": []}},
 {"Kind": "mesh", "TransparentProxy": {"MeshDestinationsOnly": true}, "TLS": {"Incoming": {"TLSMinVersion": "TLSv1_2"}}}
]"#;

pub(super) const INTENTIONS: &str = r#"
Kind: service-intentions
Name: "*"
Sources: [{Name: "*", Action: deny, Precedence: 5}]
---
Kind: service-intentions
Name: orders
Sources:
- {Name: web, Action: allow, Precedence: 9}
- {Name: bad, Action: deny}
- Name: mobile
  Permissions:
  - {Action: deny, HTTP: {PathPrefix: /orders/internal}}
  - {Action: allow, HTTP: {PathPrefix: /orders, Methods: [GET], Header: [{Name: x-app, Exact: shop}]}}
---
Kind: service-intentions
Name: open
Sources:
- {Name: bad, Action: deny}
- {Name: "*", Action: allow}
"#;

#[test]
fn routers_splitters_and_resolvers_are_one_route() {
    let found = imported(ImportSource::Consul, ROUTING);
    found.is_valid();
    let web = found.spec("HTTPRoute", "web");
    let rule = &web["rules"][0];
    assert_eq!(rule["matches"].as_array().unwrap().len(), 2, "one a method");
    assert_eq!(
        rule["matches"][1],
        json!({
            "path": {"type": "PathPrefix", "value": "/admin"},
            "method": "POST",
            "headers": [{"name": "x-team", "value": "blue"}, {"name": "x-any", "type": "RegularExpression", "value": ".*"}],
            "queryParams": [{"name": "debug", "value": "1"}],
        })
    );
    assert_eq!(rule["backendRefs"], json!([{"name": "admin", "port": 80}]));
    assert_eq!(rule["timeouts"], json!({"request": "10s"}));
    assert_eq!(rule["filters"].as_array().unwrap().len(), 3);
    // The route with a condition that cannot be said is left out whole, not widened.
    assert_eq!(web["rules"][1]["matches"][0]["path"]["value"], "/admin/login");
    assert_eq!(web["rules"][1]["backendRefs"], json!([{"name": "web", "port": 80, "subset": "v2"}]));
    assert!(found.note("Routes[1]").contains("left out"));
    assert!(found.note("Routes[3]").contains("subset tagged"), "{}", found.note("Routes[3]"));
    // What no route takes goes the way of the splitters: through the second, and through a redirect.
    let rest = web["rules"].as_array().unwrap().last().unwrap();
    assert_eq!(
        rest["backendRefs"],
        json!([
            {"name": "web", "port": 80, "subset": "v1", "weight": 90},
            {"name": "next", "port": 80, "weight": 5},
            {"name": "archive", "port": 80, "weight": 5},
        ])
    );
    let policy = found.spec("TrafficPolicy", "web-route-1");
    assert_eq!(policy["retry"], json!({"attempts": 3, "on": ["ConnectFailure", "Reset"], "codes": [503]}));
    assert_eq!(policy["timeouts"], json!({"streamIdle": "20s"}));
    let order = |note: &&weft_api::rest::Violation| {
        note.path == "Routes[0]" && note.message.contains("rule 2 is taken before")
    };
    assert!(found.notes.iter().any(|note| order(&note)), "an exact path goes first here");
    assert!(found.note("Routes[2].Destination.NumRetries").contains("tries nothing again"));
}

#[test]
fn what_is_said_of_services_is_carried_and_the_rest_told_by_line_and_field() {
    let found = imported(ImportSource::Consul, ROUTING);
    let web = found.spec("Service", "web");
    assert_eq!(web["ports"], json!([{"name": "http2", "port": 80, "protocol": "HTTP2"}]));
    assert_eq!(web["subsets"][1], json!({"name": "v2", "matchLabels": {"version": "v2"}}));
    assert_eq!(found.spec("Service", "db")["ports"][0]["protocol"], "TCP");
    assert_eq!(found.spec("Service", "archive")["ports"][0]["protocol"], "HTTP", "of all services");
    let policy = found.spec("TrafficPolicy", "web");
    assert_eq!(policy["connection"]["connectTimeout"], "3s");
    assert_eq!(policy["loadBalancer"], json!({"type": "LeastRequest"}));
    assert_eq!(policy["timeouts"]["request"], "2500ms", "the first that says it");
    let log = &found.spec("TelemetryPolicy", "access-logs")["accessLogs"][0];
    assert_eq!((&log["sink"], &log["file"]), (&json!("File"), &json!("envoy.log")));
    assert_eq!(found.spec("Mesh", "mesh")["defaults"], json!({"outbound": "RegistryOnly"}));
    for path in [
        "Config.envoy_tracing_json",
        "MaxInboundConnections",
        "UpstreamConfig",
        "Subsets.tagged",
        "Failover",
        "LoadBalancer.LeastRequestConfig.ChoiceCount",
        "Splits[1].RequestHeaders",
        "Routes[0].Destination.RetryOn[1]",
        "TLS",
    ] {
        assert!(!found.note(path).is_empty());
    }
    let note = found.notes.iter().find(|note| note.path == "UpstreamConfig").unwrap();
    assert_eq!((note.line, note.source.as_str(), note.object.as_str()), (7, "file", "service-defaults web"));
}

fn intentions(text: &str, default: Option<DefaultIntention>) -> Imported {
    let texts = [("file".to_owned(), text.to_owned())];
    let found = import(ImportSource::Consul, &texts, &options(default)).unwrap();
    found.is_valid();
    found
}

#[test]
fn intentions_decide_as_in_consul() {
    let found = intentions(INTENTIONS, None);
    assert_eq!(found.spec("Mesh", "mesh")["defaults"]["authorization"], "Deny");
    let orders = found.spec("AuthorizationPolicy", "orders-intentions");
    assert_eq!(orders["action"], "Allow");
    assert_eq!(
        orders["rules"],
        json!([
            {"name": "from-web", "from": [{"services": ["web"]}]},
            {
                "name": "from-mobile-allow-1",
                "from": [{"services": ["mobile"]}],
                "to": [{"methods": ["GET"], "paths": [{"type": "RegularExpression", "value": "/orders.*"}]}],
                "when": [{"header": "x-app", "values": ["shop"]}],
            },
        ]),
        "who is refused is not among those allowed"
    );
    let denied = &found.spec("AuthorizationPolicy", "orders-intentions-deny")["rules"];
    assert_eq!(denied[0], json!({"name": "from-bad", "from": [{"services": ["bad"]}]}));
    assert_eq!(denied[1]["to"][0]["paths"][0]["value"], "/orders/internal.*");
    // Everybody but one: with a Mesh that refuses, an Allow of everybody and a Deny of the one.
    assert_eq!(found.spec("AuthorizationPolicy", "open-intentions")["rules"], json!([{"name": "everybody"}]));
    let but = &found.spec("AuthorizationPolicy", "open-intentions-deny")["rules"];
    assert_eq!(*but, json!([{"name": "from-bad", "from": [{"services": ["bad"]}]}]));
}

#[test]
fn default_that_stands_in_no_entry_must_be_told() {
    let entry = "{Kind: service-intentions, Name: orders, Sources: [{Name: web, Action: allow}, {Name: bad, Action: deny}]}";
    let unknown = intentions(entry, None);
    assert!(unknown.documents.is_empty());
    assert!(unknown.note("Sources[0]").contains("--default-intention"));
    let closed = intentions(entry, Some(DefaultIntention::Deny));
    assert_eq!(
        closed.spec("AuthorizationPolicy", "orders-intentions")["rules"][0]["from"][0]["services"][0],
        "web"
    );
    let open = intentions(entry, Some(DefaultIntention::Allow));
    let refused = open.spec("AuthorizationPolicy", "orders-intentions-deny");
    assert_eq!(refused["rules"][0]["from"][0]["services"], json!(["bad"]));
    assert!(
        !open.documents.iter().any(|one| one.value["spec"]["action"] == "Allow"),
        "nobody else is refused"
    );
}

#[test]
fn permissions_that_cannot_be_said_let_nobody_pass() {
    for (permissions, why) in [
        (
            "{Action: allow, HTTP: {PathPrefix: /a}}, {Action: deny, HTTP: {PathExact: /a/b}}, {Action: allow}",
            "takes back",
        ),
        ("{Action: allow, HTTP: {Header: [{Name: x, Prefix: a}]}}", "cannot be carried"),
        ("{Action: allow, JWT: {Providers: [{Name: a}]}}", "cannot be carried"),
    ] {
        let entry = format!(
            "{{Kind: service-intentions, Name: orders, Sources: [{{Name: web, Permissions: [{permissions}]}}]}}"
        );
        for default in [DefaultIntention::Deny, DefaultIntention::Allow] {
            if why == "takes back" && default == DefaultIntention::Allow {
                continue;
            }
            let found = intentions(&entry, Some(default));
            assert!(found.note("Sources[0]").contains(why), "{permissions}: {}", super::shown(&found));
            let allows = |one: &super::super::ImportedDocument| one.value["spec"]["action"] == "Allow";
            assert!(!found.documents.iter().any(allows), "{permissions}");
            let refuses = found.documents.iter().any(|one| {
                one.value["spec"]["action"] == "Deny"
                    || one.value["spec"]["defaults"]["authorization"] == "Deny"
            });
            assert!(refuses, "{permissions}");
        }
    }
}

#[test]
fn intention_of_all_services_holds_for_those_without_an_own_one() {
    let text = "
Kind: service-intentions
Name: '*'
Sources: [{Name: probe, Action: allow}, {Name: '*', Action: deny}]
---
{Kind: service-defaults, Name: a, Protocol: http}
---
{Kind: service-intentions, Name: b, Sources: [{Name: web, Action: allow}]}
---
{Kind: service-intentions, Name: c, Sources: [{Name: '*', Action: deny}]}
";
    let found = intentions(text, None);
    let callers = |name: &str| {
        let rules = found.spec("AuthorizationPolicy", name)["rules"].as_array().unwrap().clone();
        rules.iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(callers("a-intentions"), ["from-probe"]);
    assert_eq!(callers("b-intentions"), ["from-web", "from-probe"]);
    assert_eq!(callers("c-intentions-deny"), ["everybody"], "its own word for all callers goes first");
}

#[test]
fn service_that_a_route_leads_to_speaks_http_where_nothing_else_is_said() {
    let text = "
{Kind: service-resolver, Name: admin, ConnectTimeout: 2s}
---
{Kind: service-router, Name: web, Routes: [{Match: {HTTP: {PathExact: /a}}, Destination: {Service: admin}}]}
";
    let found = imported(ImportSource::Consul, text);
    found.is_valid();
    assert_eq!(found.spec("Service", "admin")["ports"][0]["protocol"], "HTTP");
    assert_eq!(found.spec("HTTPRoute", "web")["rules"][0]["backendRefs"][0]["name"], "admin");
}
