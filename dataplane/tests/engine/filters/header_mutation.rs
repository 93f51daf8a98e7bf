//! Headers and trailers are changed.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as header_mutation;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf::UInt32Value;
use http::Method;
use weft_dataplane::runtime::UpstreamProtocol;

use super::{Overrides, any, appended, ask, at, filtered, one_route, overrides, route_config};
use crate::harness::{Setup, chunks, prefix};

pub fn append(name: &str, value: &str) -> rules::HeaderMutation {
    let action = core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    let append = appended(name, value, action);
    rules::HeaderMutation { action: Some(rules::header_mutation::Action::Append(append)) }
}

fn remove(name: &str) -> rules::HeaderMutation {
    rules::HeaderMutation { action: Some(rules::header_mutation::Action::Remove(name.into())) }
}

fn remove_prefix(prefix: &str) -> rules::HeaderMutation {
    let pattern = Some(matcher::string_matcher::MatchPattern::Prefix(prefix.into()));
    let key_matcher = Some(matcher::StringMatcher { match_pattern: pattern, ..Default::default() });
    let matching = rules::header_mutation::RemoveOnMatch { key_matcher };
    rules::HeaderMutation { action: Some(rules::header_mutation::Action::RemoveOnMatch(matching)) }
}

pub fn mutates(change: impl FnOnce(&mut header_mutation::Mutations)) -> header_mutation::HeaderMutation {
    let mut mutations = header_mutation::Mutations::default();
    change(&mut mutations);
    header_mutation::HeaderMutation { mutations: Some(mutations), ..Default::default() }
}

fn level(name: &str) -> Overrides {
    let mutations = header_mutation::Mutations {
        request_mutations: vec![append("x-level", name)],
        response_mutations: vec![append("x-level", name)],
        ..Default::default()
    };
    overrides("mutate", &header_mutation::HeaderMutationPerRoute { mutations: Some(mutations) })
}

#[tokio::test]
async fn headers_of_requests_and_responses_are_changed_in_order() {
    let config = mutates(|mutations| {
        mutations.request_mutations =
            vec![remove("x-secret"), append("x-path", "%REQ(:PATH)%"), remove_prefix("x-internal-")];
        mutations.response_mutations = vec![
            append("x-answered", "%RESPONSE_CODE%"),
            remove("x-number"),
            append("x-host", "%REQ(HOST)%"),
        ];
    });
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let filtered = filtered(&[("mutate", any(&config))], one_route, upstream).await;
        let sent = [("x-secret", "1"), ("x-internal-a", "2"), ("x-internal-b", "3"), ("x-kept", "4")];
        let answer = filtered.get("/head", &sent).await;
        let seen = answer.seen();
        assert_eq!((seen["x-path"], seen["x-kept"]), ("/head", "4"));
        assert!(!seen.keys().any(|name| name.starts_with("x-internal") || *name == "x-secret"), "{seen:?}");
        let answer = filtered.get("/hello", &[]).await;
        assert!(!answer.headers.contains_key("x-number"));
        assert_eq!(answer.headers["x-host"], "app.test");
    }
}

#[tokio::test]
async fn mutations_of_all_levels_apply_and_the_least_specific_comes_last() {
    let routes = |setup: &mut Setup| {
        route_config(
            setup,
            level("table"),
            level("host"),
            vec![at("/all/", level("route"), |_| {}), at("/", Overrides::new(), |_| {})],
        );
    };
    let mut config = mutates(|mutations| mutations.request_mutations = vec![append("x-level", "filter")]);
    let first = filtered(&[("mutate", any(&config))], routes, UpstreamProtocol::Http1).await;
    assert_eq!(first.get("/head", &[]).await.seen()["x-level"], "table");
    config.most_specific_header_mutations_wins = true;
    let last = filtered(&[("mutate", any(&config))], routes, UpstreamProtocol::Http1).await;
    assert_eq!(last.get("/head", &[]).await.seen()["x-level"], "host");
    assert_eq!(last.get("/all/", &[]).await.headers["x-level"], "route");
}

#[tokio::test]
async fn a_weighted_cluster_has_filters_of_its_own() {
    let weighted = |action: &mut wire::RouteAction| {
        let clusters = ["app", "other"].map(|name| wire::weighted_cluster::ClusterWeight {
            name: name.into(),
            weight: Some(UInt32Value { value: 50 }),
            typed_per_filter_config: level(name),
            ..Default::default()
        });
        action.cluster_specifier =
            Some(wire::route_action::ClusterSpecifier::WeightedClusters(wire::WeightedCluster {
                clusters: clusters.into(),
                ..Default::default()
            }));
    };
    let routes = |setup: &mut Setup| {
        route_config(setup, Overrides::new(), Overrides::new(), vec![at("/", Overrides::new(), weighted)]);
    };
    let config = mutates(|_| {});
    let mut filtered = filtered(&[("mutate", any(&config))], routes, UpstreamProtocol::Http1).await;
    let mut seen = HashMap::<String, i64>::new();
    let mut client = filtered.proxy.h1().await;
    for _ in 0..40 {
        let answer = ask(&mut client, Method::GET, "/head", &[]).await;
        let level = answer.seen()["x-level"].to_owned();
        assert_eq!(answer.headers["x-level"], level.as_str());
        *seen.entry(level).or_default() += 1;
    }
    for cluster in ["app", "other"] {
        let sent = filtered.value(&format!("cluster.{cluster}.upstream_rq_total")).await;
        assert_eq!(sent, seen[cluster], "what is said of a cluster holds for the requests that it gets");
    }
}

#[tokio::test]
async fn answers_of_the_proxy_pass_response_filters_too() {
    let config = mutates(|mutations| mutations.response_mutations = vec![append("x-marked", "yes")]);
    let direct = wire::Route {
        r#match: Some(prefix("/direct")),
        action: Some(wire::route::Action::DirectResponse(wire::DirectResponseAction {
            status: 418,
            ..Default::default()
        })),
        ..Default::default()
    };
    let missing = at("/missing", Overrides::new(), |action| {
        let name = "nowhere".into();
        action.cluster_specifier = Some(wire::route_action::ClusterSpecifier::Cluster(name));
    });
    let routes =
        |setup: &mut Setup| route_config(setup, Overrides::new(), Overrides::new(), vec![direct, missing]);
    let filtered = filtered(&[("mutate", any(&config))], routes, UpstreamProtocol::Http1).await;
    for (path, status) in [("/direct", 418), ("/missing", 503), ("/none", 404)] {
        let answer = filtered.get(path, &[]).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["x-marked"]), (status, &"yes".parse().unwrap()));
    }
}

#[tokio::test]
async fn trailers_of_a_response_are_changed() {
    let config = mutates(|mutations| {
        mutations.response_trailers_mutations = vec![remove("x-seen"), append("x-path", "%REQ(:PATH)%")];
    });
    let filtered = filtered(&[("mutate", any(&config))], one_route, UpstreamProtocol::Http2).await;
    let mut client = filtered.proxy.h2().await;
    let answer = client.post("/trailers", chunks(vec!["payload".into()], None)).await;
    let trailers = answer.trailers.unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-path"]),
        (&"0".parse().unwrap(), &"/trailers".parse().unwrap())
    );
    assert!(!trailers.contains_key("x-seen"));
}

#[tokio::test]
async fn responses_and_their_trailers_pass_the_filters_from_the_last_to_the_first() {
    let writing = |name: &'static str| {
        any(&mutates(|mutations| {
            mutations.request_mutations = vec![append("x-order", name)];
            mutations.response_mutations = vec![append("x-order", name)];
            mutations.response_trailers_mutations = vec![append("x-order", name)];
        }))
    };
    let filters = [("one", writing("one")), ("two", writing("two"))];
    let filtered = filtered(&filters, one_route, UpstreamProtocol::Http2).await;
    // Each overwrites what the one before it has written.
    let answer = filtered.get("/head", &[]).await;
    assert_eq!((answer.seen()["x-order"], &answer.headers["x-order"]), ("two", &"one".parse().unwrap()));
    let mut client = filtered.proxy.h2().await;
    let answer = client.post("/trailers", chunks(vec!["payload".into()], None)).await;
    assert_eq!(answer.trailers.unwrap()["x-order"], "one");
}
