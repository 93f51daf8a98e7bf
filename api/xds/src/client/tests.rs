//! The session against a scripted server.

use bytes::Bytes;
use weft_api::resource::ResourceKind;

use super::*;
use crate::server::{self, ClientMessage, ServedTypes, ServerMessage, Variant};
use crate::wire::{
    self, Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DeltaResource, DiscoveryResponse, Node,
};
use ResourceKind::{Cluster, Endpoint};

fn client(variant: Variant) -> Session {
    let mut session = Session::new(variant, Node { id: "shop/web-1".into(), ..Default::default() });
    session.on_connect();
    session
}

fn delta(session: &mut Session) -> DeltaDiscoveryRequest {
    match session.next_request().expect("a request is due") {
        ClientMessage::Delta(request) => request,
        ClientMessage::Sotw(_) => panic!("wrong variant"),
    }
}

fn sotw(session: &mut Session) -> wire::DiscoveryRequest {
    match session.next_request().expect("a request is due") {
        ClientMessage::Sotw(request) => request,
        ClientMessage::Delta(_) => panic!("wrong variant"),
    }
}

fn carrying(kind: ResourceKind, nonce: &str, added: &[(&str, &str)], removed: &[&str]) -> ServerMessage {
    let resource = |(name, version): &(&str, &str)| DeltaResource {
        name: (*name).into(),
        version: (*version).into(),
        resource: Some(Any { type_url: kind.type_url().into(), value: Bytes::from_static(b"") }),
        ..Default::default()
    };
    ServerMessage::Delta(DeltaDiscoveryResponse {
        type_url: kind.type_url().into(),
        nonce: nonce.into(),
        resources: added.iter().map(resource).collect(),
        removed_resources: removed.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    })
}

/// A cluster as it is on the wire, as far as its name.
fn named(name: &str, rest: &[u8]) -> Any {
    let mut value = vec![10, u8::try_from(name.len()).unwrap()];
    value.extend_from_slice(name.as_bytes());
    value.extend_from_slice(rest);
    Any { type_url: Cluster.type_url().into(), value: value.into() }
}

fn list(nonce: &str, version: &str, resources: Vec<Any>) -> ServerMessage {
    let type_url = Cluster.type_url().into();
    ServerMessage::Sotw(DiscoveryResponse {
        version_info: version.into(),
        resources,
        type_url,
        nonce: nonce.into(),
    })
}

fn names(update: &Update) -> Vec<&str> {
    update.added.iter().map(|added| &*added.name).collect()
}

#[test]
fn s1_only_the_first_message_of_a_stream_carries_the_node() {
    let mut session = client(Variant::Delta);
    assert!(session.next_request().is_none() && !session.wants_anything());
    session.subscribe_all(Cluster);
    session.subscribe(Endpoint, "e");
    assert_eq!(delta(&mut session).node.unwrap().id, "shop/web-1");
    assert!(delta(&mut session).node.is_none());
    session.on_connect();
    assert!(delta(&mut session).node.is_some());
}

#[test]
fn r1_a_reconnect_states_subscriptions_and_what_was_acknowledged() {
    let mut session = client(Variant::Delta);
    session.subscribe(Endpoint, "a");
    session.subscribe(Endpoint, "b");
    assert!(delta(&mut session).initial_resource_versions.is_empty());
    let accepted = session.on_response(carrying(Endpoint, "1", &[("a", "v1")], &[])).unwrap();
    session.answer(Endpoint, &accepted.response_id, Verdict::Ack);
    let refused = session.on_response(carrying(Endpoint, "2", &[("b", "v1")], &[])).unwrap();
    session.answer(Endpoint, &refused.response_id, Verdict::Nack("b: no".into()));
    assert_eq!(delta(&mut session).response_nonce, "1");
    let nack = delta(&mut session);
    assert_eq!((&*nack.response_nonce, &*nack.error_detail.unwrap().message), ("2", "b: no"));
    session.on_connect();
    let first = delta(&mut session);
    assert_eq!(first.resource_names_subscribe, ["a", "b"]);
    assert_eq!(first.initial_resource_versions, [("a".to_owned(), "v1".to_owned())].into());
    assert!(first.response_nonce.is_empty());
    assert!(session.next_request().is_none());
}

#[test]
fn an_update_of_an_earlier_stream_counts_as_held_and_is_not_answered() {
    let mut session = client(Variant::Delta);
    session.subscribe(Endpoint, "a");
    delta(&mut session);
    let update = session.on_response(carrying(Endpoint, "1", &[("a", "v1")], &[])).unwrap();
    session.on_connect();
    delta(&mut session);
    session.answer(Endpoint, &update.response_id, Verdict::Ack);
    assert!(session.next_request().is_none());
    assert_eq!(session.held(Endpoint).count(), 1);
}

#[test]
fn s7_an_answer_and_subscription_changes_share_a_message() {
    let mut session = client(Variant::Delta);
    session.subscribe(Endpoint, "a");
    delta(&mut session);
    let update = session.on_response(carrying(Endpoint, "1", &[("a", "v1")], &["gone"])).unwrap();
    assert_eq!(update.removed, ["gone".into()]);
    session.subscribe(Endpoint, "b");
    session.unsubscribe(Endpoint, "a");
    session.answer(Endpoint, &update.response_id, Verdict::Ack);
    let request = delta(&mut session);
    assert_eq!(request.resource_names_subscribe, ["b"]);
    assert_eq!(request.resource_names_unsubscribe, ["a"]);
    assert_eq!(request.response_nonce, "1");
    assert_eq!(session.held(Endpoint).count(), 0, "given up while it was applied");
}

#[test]
fn u17_t2_breaches_of_the_protocol_are_refused_at_once() {
    let mut session = client(Variant::Delta);
    session.subscribe(Endpoint, "a");
    delta(&mut session);
    let update = session.on_response(carrying(Endpoint, "1", &[("a", "v1")], &[])).unwrap();
    session.answer(Endpoint, &update.response_id, Verdict::Ack);
    delta(&mut session);
    let bodyless = |nonce: &str, version: &str| {
        let ServerMessage::Delta(mut response) = carrying(Endpoint, nonce, &[("a", version)], &[]) else {
            unreachable!()
        };
        response.resources[0].resource = None;
        ServerMessage::Delta(response)
    };
    let wrong_type = |nonce: &str| {
        let ServerMessage::Delta(mut response) = carrying(Endpoint, nonce, &[("a", "v2")], &[]) else {
            unreachable!()
        };
        response.resources[0].resource.as_mut().unwrap().type_url = Cluster.type_url().into();
        ServerMessage::Delta(response)
    };
    let breaches = [
        carrying(Endpoint, "2", &[("a", "v2"), ("a", "v3")], &[]),
        carrying(Endpoint, "3", &[("a", "v2")], &["a"]),
        wrong_type("4"),
        bodyless("5", "other"),
    ];
    for breach in breaches {
        assert!(session.on_response(breach).is_none());
        assert!(delta(&mut session).error_detail.is_some());
    }
    let heartbeat = session.on_response(bodyless("6", "v1")).unwrap();
    assert!(heartbeat.added.is_empty());
}

#[test]
fn sotw_lists_are_turned_into_differences() {
    let mut session = client(Variant::Sotw);
    session.subscribe_all(Cluster);
    assert!(sotw(&mut session).resource_names.is_empty());
    let update = session.on_response(list("1", "v1", vec![named("a", b""), named("b", b"")])).unwrap();
    assert_eq!(names(&update), ["a", "b"]);
    assert!(session.next_request().is_none());
    session.answer(Cluster, &update.response_id, Verdict::Ack);
    let ack = sotw(&mut session);
    assert_eq!((&*ack.version_info, &*ack.response_nonce), ("v1", "1"));
    let update = session.on_response(list("2", "v2", vec![named("b", &[0x12, 0])])).unwrap();
    assert_eq!((names(&update), &update.removed[..]), (vec!["b"], &["a".into()][..]));
    session.answer(Cluster, &update.response_id, Verdict::Nack("b: no".into()));
    let nack = sotw(&mut session);
    assert_eq!((&*nack.version_info, &*nack.response_nonce), ("v1", "2"));
    assert!(nack.error_detail.is_some());
    assert_eq!(session.held(Cluster).count(), 2);
}

#[test]
fn s5_sotw_lists_change_with_the_answer_while_a_response_is_applied() {
    let mut session = client(Variant::Sotw);
    session.subscribe(Cluster, "a");
    assert_eq!(sotw(&mut session).resource_names, ["a"]);
    let update = session.on_response(list("1", "v1", vec![named("a", b"")])).unwrap();
    session.subscribe(Cluster, "b");
    assert!(session.next_request().is_none());
    session.answer(Cluster, &update.response_id, Verdict::Ack);
    assert_eq!(sotw(&mut session).resource_names, ["a", "b"]);
    assert!(session.next_request().is_none());
    session.unsubscribe(Cluster, "a");
    let request = sotw(&mut session);
    assert_eq!((&request.resource_names[..], &*request.response_nonce), (&["b".to_owned()][..], "1"));
}

#[test]
fn r1_what_is_being_applied_at_a_reconnect_is_stated_without_a_version() {
    let mut session = client(Variant::Delta);
    session.subscribe(Endpoint, "a");
    delta(&mut session);
    let first = session.on_response(carrying(Endpoint, "1", &[("a", "v1")], &[])).unwrap();
    session.answer(Endpoint, &first.response_id, Verdict::Ack);
    session.on_response(carrying(Endpoint, "2", &[("a", "v2")], &[])).unwrap();
    session.on_connect();
    assert_eq!(delta(&mut session).initial_resource_versions["a"], "");
}

#[test]
fn u1_everything_is_asked_for_by_a_star_once_names_were_given() {
    let mut session = client(Variant::Sotw);
    session.subscribe_all(Cluster);
    session.subscribe(Cluster, "a");
    assert_eq!(sotw(&mut session).resource_names, ["*", "a"]);
    session.unsubscribe(Cluster, "a");
    assert_eq!(sotw(&mut session).resource_names, ["*"]);
    session.on_connect();
    assert!(sotw(&mut session).resource_names.is_empty());
    session.subscribe_all(Endpoint);
    assert_eq!(sotw(&mut session).resource_names, ["*"]);
}

#[test]
fn u1_a_first_message_that_would_name_nothing_is_not_sent() {
    let mut session = client(Variant::Delta);
    session.subscribe(Cluster, "a");
    session.unsubscribe(Cluster, "a");
    assert!(session.next_request().is_none());
}

#[test]
fn u3_everything_given_up_and_wanted_again_is_sent_again() {
    let mut session = client(Variant::Delta);
    session.subscribe_all(ResourceKind::VirtualHost);
    assert!(delta(&mut session).resource_names_subscribe.is_empty(), "naming nothing means everything");
    let all = carrying(ResourceKind::VirtualHost, "1", &[("r/a", "v1")], &[]);
    let update = session.on_response(all).unwrap();
    session.answer(ResourceKind::VirtualHost, &update.response_id, Verdict::Ack);
    delta(&mut session);
    session.unsubscribe_all(ResourceKind::VirtualHost);
    session.subscribe_all(ResourceKind::VirtualHost);
    assert_eq!(delta(&mut session).resource_names_unsubscribe, ["*"]);
    let again = delta(&mut session);
    assert_eq!(
        (again.resource_names_subscribe, again.resource_names_unsubscribe.len()),
        (vec!["*".into()], 0)
    );
    session.unsubscribe_all(ResourceKind::VirtualHost);
    assert_eq!(delta(&mut session).resource_names_unsubscribe, ["*"]);
    session.on_connect();
    assert!(session.next_request().is_none(), "nothing is wanted, and nothing held");
}

/// U1: an empty list still means everything to a server that was never named anything.
#[test]
fn u1_sotw_gives_up_everything_by_naming_it_first() {
    let mut session = client(Variant::Sotw);
    let mut server = server::Session::new(Variant::Sotw, ServedTypes::Aggregated);
    let lists = |session: &mut Session, server: &mut server::Session| {
        let mut lists = Vec::new();
        while let Some(request) = session.next_request() {
            let ClientMessage::Sotw(sotw) = &request else { panic!("of the other variant") };
            lists.push(sotw.resource_names.join(","));
            server.on_request(request).unwrap();
        }
        (lists, server.status().types.iter().any(|status| status.kind == Cluster && status.wildcard))
    };
    session.subscribe_all(Cluster);
    assert_eq!(lists(&mut session, &mut server), (vec![String::new()], true));
    session.unsubscribe_all(Cluster);
    assert_eq!(lists(&mut session, &mut server), (vec!["*".into(), String::new()], false));
    session.subscribe_all(Cluster);
    assert_eq!(lists(&mut session, &mut server), (vec!["*".into()], true));
    session.unsubscribe_all(Cluster);
    session.subscribe_all(Cluster);
    assert_eq!(lists(&mut session, &mut server), (vec![String::new(), "*".into()], true));
    session.unsubscribe_all(Cluster);
    session.subscribe(Cluster, "a");
    assert_eq!(lists(&mut session, &mut server), (vec!["a".into()], false));
}

#[test]
fn r1_a_snapshot_of_what_is_not_wanted_any_more_is_not_brought_along() {
    let mut session = Session::new(Variant::Delta, Node::default());
    session.restore(ResourceKind::VirtualHost, [("r/a".into(), "v1".into())]);
    session.unsubscribe_all(ResourceKind::VirtualHost);
    session.on_connect();
    session.subscribe_all(ResourceKind::VirtualHost);
    assert!(delta(&mut session).initial_resource_versions.is_empty());
}

#[test]
fn u7_a_name_wanted_again_leaves_a_sotw_list_and_returns() {
    let mut session = client(Variant::Sotw);
    session.subscribe(Endpoint, "a");
    session.subscribe(Endpoint, "b");
    assert_eq!(sotw(&mut session).resource_names, ["a", "b"]);
    session.unsubscribe(Endpoint, "a");
    session.subscribe(Endpoint, "a");
    assert_eq!(sotw(&mut session).resource_names, ["b"]);
    assert_eq!(sotw(&mut session).resource_names, ["a", "b"]);
    assert!(session.next_request().is_none());
}

#[test]
fn r1_a_sotw_version_is_not_brought_along_when_less_is_held() {
    let mut session = client(Variant::Sotw);
    session.subscribe(Cluster, "a");
    sotw(&mut session);
    let update = session.on_response(list("1", "v1", vec![named("a", b"")])).unwrap();
    session.unsubscribe(Cluster, "a");
    session.answer(Cluster, &update.response_id, Verdict::Ack);
    session.on_connect();
    session.subscribe_all(Cluster);
    assert_eq!(sotw(&mut session).version_info, "");
}
