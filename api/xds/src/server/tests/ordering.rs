//! Make before break: rules W1 to W9, U12.

use super::*;

/// A stream that asked for everything, with one listener, route, cluster and its endpoints, all accepted.
fn running() -> Stream {
    let mut stream = Stream::delta();
    let listener =
        Resource::new(Listener, "l", "1", [refs(Route, &["r"]), refs(Secret, &["identity"])].concat());
    stream.publish(&[listener, route("r", "1", &["a"]), cluster("a", "1"), endpoints("a", "1")]);
    stream.publish(&[resource(Secret, "identity", "key")]);
    stream.subscribe(Cluster, &[]);
    stream.subscribe(Endpoint, &["a"]);
    stream.subscribe(Listener, &[]);
    stream.subscribe(Route, &["r"]);
    stream.subscribe(Secret, &["identity"]);
    stream.settle();
    stream.expect_nothing();
    stream.events();
    stream
}

/// W1: a cluster that is sent again takes its unchanged endpoints along; W3: unasked.
#[test]
fn w1_w3_a_cluster_update_sends_its_endpoints_again() {
    let mut stream = running();
    stream.publish(&[cluster("a", "2")]);
    stream.expect_acked(Cluster, &["a"], &[]);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.expect_nothing();
}

/// W1: also when the endpoints are in flight: their ACK then counts for the old cluster.
#[test]
fn w1_endpoints_in_flight_when_their_cluster_is_sent_are_sent_again() {
    let mut stream = running();
    stream.publish(&[endpoints("a", "2")]);
    let in_flight = stream.expect(Endpoint, &["a"], &[]);
    stream.publish(&[cluster("a", "2")]);
    stream.expect_acked(Cluster, &["a"], &[]);
    stream.expect_nothing();
    stream.ack(&in_flight);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.expect_nothing();
}

/// W1: a listener takes its routes and secrets along, a route configuration its virtual hosts.
#[test]
fn w1_a_listener_update_sends_its_routes_and_secrets_again() {
    let mut stream = running();
    stream.publish(&[resource(VirtualHost, "r/host", "1"), resource(VirtualHost, "other/host", "1")]);
    stream.subscribe(VirtualHost, &["r/host", "other/host"]);
    stream.settle();
    let listener =
        Resource::new(Listener, "l", "2", [refs(Route, &["r"]), refs(Secret, &["identity"])].concat());
    stream.publish(&[listener]);
    stream.expect_acked(Listener, &["l"], &[]);
    stream.expect_acked(Secret, &["identity"], &[]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_acked(VirtualHost, &["r/host"], &[]);
    stream.expect_nothing();
}

/// A listener that still drains serves by a route configuration that its successor does not know any more.
#[test]
fn virtual_hosts_are_not_taken_from_a_route_configuration_that_has_left() {
    let listener = |version: &str, routes: &str| {
        Resource::new(Listener, "l", version.to_owned(), refs(Route, &[routes]))
    };
    let host = |name: &str| resource(VirtualHost, name, "1");
    let mut stream = running();
    stream.publish(&[host("r/a"), host("r/b")]);
    stream.subscribe(VirtualHost, &[]);
    stream.settle();
    stream.withdraw(&[(VirtualHost, "r/b")]);
    stream.expect_acked(VirtualHost, &[], &["r/b"]);

    stream.layer.remove(Route, "r");
    stream.layer.remove(VirtualHost, "r/a");
    stream.publish(&[listener("2", "table"), route("table", "1", &["a"])]);
    stream.show(Changes::All);
    stream.expect_acked(Listener, &["l"], &[]);
    stream.subscribe(Route, &["table"]);
    stream.expect_acked(Route, &["table"], &["r"]);
    stream.expect_nothing();

    stream.publish(&[listener("3", "r"), route("r", "1", &["a"]), host("r/a")]);
    stream.expect_acked(Listener, &["l"], &[]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_acked(VirtualHost, &["r/a"], &[]);
    stream.expect_nothing();

    let mut elsewhere = Stream::delta();
    elsewhere.publish(&[listener("2", "table"), route("table", "1", &["a"])]);
    let initial_resource_versions = [("r/a".to_owned(), host("r/a").version.to_string())].into();
    elsewhere.ask(VirtualHost, DeltaDiscoveryRequest { initial_resource_versions, ..Default::default() });
    elsewhere.expect_nothing();
}

/// W2: after a reconnect a child may be asked before its parent; it goes again with the parent.
#[test]
fn w2_a_child_asked_before_its_parent_is_sent_again_with_it() {
    let mut stream = Stream::delta();
    stream.publish(&[cluster("a", "1"), endpoints("a", "1")]);
    stream.subscribe(Endpoint, &["a"]);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.subscribe(Cluster, &[]);
    stream.expect_acked(Cluster, &["a"], &[]);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.expect_nothing();
}

/// W5: clusters and endpoints together, without waiting for the cluster's ACK (Envoy withholds it until it is warm);
/// the route that refers to the new cluster waits for that ACK.
#[test]
fn w5_endpoints_do_not_wait_for_the_cluster_and_the_route_does() {
    let mut stream = running();
    stream.publish(&[cluster("b", "1"), endpoints("b", "1"), route("r", "2", &["a", "b"])]);
    let clusters = stream.expect(Cluster, &["b"], &[]);
    stream.expect_nothing();
    stream.subscribe(Endpoint, &["b"]);
    stream.expect_acked(Endpoint, &["b"], &[]);
    stream.expect_nothing();
    assert_eq!(&*stream.session.status().types[4].waiting[0], "r");
    stream.ack(&clusters);
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_nothing();
}

/// W5: the gate is per reference. What uses only accepted clusters goes on after a NACK of another.
#[test]
fn w5_a_refused_cluster_holds_back_only_what_refers_to_it() {
    let mut stream = running();
    stream.subscribe(Route, &["r2"]);
    stream.settle();
    stream.publish(&[
        cluster("bad", "1"),
        cluster("b", "1"),
        route("r", "2", &["bad"]),
        route("r2", "1", &["b"]),
    ]);
    let clusters = stream.expect(Cluster, &["b", "bad"], &[]);
    stream.expect_nothing();
    stream.nack(&clusters, "no");
    stream.expect_acked(Cluster, &["b"], &[]);
    let bad = stream.expect(Cluster, &["bad"], &[]);
    stream.expect_acked(Route, &["r2"], &[]);
    stream.nack(&bad, "no");
    stream.expect_nothing();
    // For as long as it is refused: an answer was given, so no clock runs (W8).
    assert_eq!(stream.session.next_deadline(), None);
    let state = stream.session.status().types.into_iter().find(|state| state.kind == Route).unwrap();
    assert_eq!((&*state.held_back[0], state.waiting.len()), ("r", 0));
    assert!(stream.session.status().synced, "a refusal is an answer");
    stream.publish(&[cluster("bad", "2")]);
    stream.expect_acked(Cluster, &["bad"], &[]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_nothing();
}

/// D3, W5: what also leads to others goes out as soon as a cluster is refused, however the refusal was found.
#[test]
fn d3_w5_a_refused_cluster_does_not_hold_back_a_namespaces_routes() {
    let mut stream = running();
    stream.publish(&[cluster("bad", "1"), cluster("b", "1"), route("r", "2", &["a", "b", "bad"])]);
    let clusters = stream.expect(Cluster, &["b", "bad"], &[]);
    stream.nack(&clusters, "bad: no");
    stream.expect_acked(Cluster, &["b"], &[]);
    let bad = stream.expect(Cluster, &["bad"], &[]);
    stream.expect_nothing();
    stream.nack(&bad, "bad: no");
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_nothing();
    assert_eq!(stream.session.next_deadline(), None);
    // And so do later changes.
    stream.publish(&[route("r", "3", &["a", "b", "bad"])]);
    stream.expect_acked(Route, &["r"], &[]);
    assert!(!stream.events().iter().any(|event| matches!(event, SessionEvent::GateTimedOut { .. })));
}

/// D3, W5, S9: a new stream of a client whose refusal is remembered has its routes at once.
#[test]
fn d3_w5_s9_a_remembered_refusal_shuts_no_gate() {
    let mut stream = Stream::delta();
    let bad = cluster("bad", "1");
    let rejected = Rejected { name: bad.name.clone(), version: bad.version, message: "no".into() };
    stream.session.remember_rejection(Cluster, rejected);
    stream.publish(&[cluster("a", "1"), bad, route("r", "1", &["a", "bad"]), route("only", "1", &["bad"])]);
    stream.subscribe(Cluster, &[]);
    stream.subscribe(Route, &["r", "only"]);
    stream.expect_acked(Cluster, &["a"], &[]);
    // What it has no version of leaves too: a listener may be waiting for it.
    stream.expect_acked(Route, &["only", "r"], &[]);
    stream.expect_nothing();
}

/// D3, W5: a version that leads nowhere either is no reason to hold back a newer one, which may carry a denial.
#[test]
fn d3_w5_nothing_is_held_back_for_a_version_that_leads_nowhere() {
    let mut stream = running();
    stream.publish(&[cluster("bad", "1")]);
    let bad = stream.expect(Cluster, &["bad"], &[]);
    stream.nack(&bad, "no");
    stream.publish(&[route("r2", "1", &["bad"])]);
    stream.subscribe(Route, &["r2"]);
    stream.expect_acked(Route, &["r2"], &[]);
    stream.publish(&[route("r2", "2", &["bad"])]);
    stream.expect_acked(Route, &["r2"], &[]);
}

/// D3, W5: an older version of the cluster that the client runs serves those who refer to it.
#[test]
fn d3_w5_a_refused_version_of_a_cluster_that_is_held_shuts_no_gate() {
    let mut stream = running();
    stream.publish(&[cluster("a", "2"), route("r", "2", &["a"])]);
    let refused = stream.expect(Cluster, &["a"], &[]);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.nack(&refused, "no");
    stream.expect_nothing();
    stream.publish(&[route("r", "3", &["a"])]);
    stream.expect_acked(Route, &["r"], &[]);
}

/// W8: 20 s without an ACK open the gate, and that is counted.
#[test]
fn w8_the_gate_opens_after_twenty_seconds_and_is_counted() {
    let mut stream = running();
    stream.publish(&[cluster("b", "1"), route("r", "2", &["b"])]);
    stream.expect(Cluster, &["b"], &[]);
    stream.expect_nothing();
    let deadline = stream.session.next_deadline().expect("the gate has a deadline");
    assert_eq!(deadline, stream.now + ACK_TIMEOUT);
    stream.wait(ACK_TIMEOUT - Duration::from_millis(1));
    stream.expect_nothing();
    stream.wait(Duration::from_millis(1));
    stream.expect_acked(Route, &["r"], &[]);
    assert!(stream.events().contains(&SessionEvent::GateTimedOut { cluster: "b".into() }));
    assert_eq!(stream.session.next_deadline(), None);
}

/// W8: a type of a delta stream whose ACK is overdue sends what is new; SotW never has two responses outstanding (S5).
#[test]
fn w8_s5_an_overdue_ack_does_not_hold_back_a_delta_lane() {
    let mut stream = running();
    stream.publish(&[cluster("b", "1")]);
    stream.expect(Cluster, &["b"], &[]);
    stream.publish(&[cluster("b", "2")]);
    stream.expect_nothing();
    stream.wait(ACK_TIMEOUT);
    stream.expect_acked(Cluster, &["b"], &[]);
    assert!(stream.events().contains(&SessionEvent::AckOverdue { kind: Cluster }));

    let mut stream = Stream::sotw();
    stream.publish(&[cluster("a", "a1")]);
    stream.list(Cluster, &[], "");
    stream.expect_sotw(Cluster, &["a1"]);
    stream.publish(&[cluster("a", "a2")]);
    stream.wait(ACK_TIMEOUT * 3);
    assert_eq!(stream.poll_sotw(), None);
    assert_eq!(stream.session.next_deadline(), None);
}

/// W5 for a client that asks for clusters by name as its routes mention them (gRPC): nothing to wait for.
#[test]
fn w5_clusters_that_nobody_asked_for_hold_nothing_back() {
    let mut stream = Stream::delta();
    stream.publish(&[route("r", "1", &["a"]), cluster("a", "1")]);
    stream.subscribe(Route, &["r"]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.subscribe(Cluster, &["a"]);
    stream.expect_acked(Cluster, &["a"], &[]);
    stream.publish(&[route("r", "2", &["a", "b"]), cluster("b", "1")]);
    stream.expect_acked(Route, &["r"], &[]);
}

/// W6: a cluster goes only after the route that stopped using it was accepted; U12: its endpoints stay meanwhile.
#[test]
fn w6_u12_a_cluster_stays_until_the_route_left_it() {
    let mut stream = running();
    stream.layer.insert(route("r", "2", &["b"]));
    stream.layer.insert(cluster("b", "1"));
    stream.layer.remove(Cluster, "a");
    stream.layer.remove(Endpoint, "a");
    stream.show(Changes::All);
    stream.expect_acked(Cluster, &["b"], &[]);
    let route = stream.expect(Route, &["r"], &[]);
    stream.expect_nothing();
    stream.ack(&route);
    stream.expect_acked(Cluster, &[], &["a"]);
    stream.expect(Endpoint, &["a"], &[]);
}

/// W7: if the route is refused, the old one lives on, and so does its cluster.
#[test]
fn w7_a_refused_route_keeps_its_cluster() {
    let mut stream = running();
    stream.layer.insert(route("r", "2", &[]));
    stream.layer.remove(Cluster, "a");
    stream.show(Changes::All);
    let refused = stream.expect(Route, &["r"], &[]);
    stream.nack(&refused, "no");
    stream.wait(ACK_TIMEOUT * 2);
    stream.expect_nothing();
    stream.publish(&[route("r", "3", &[])]);
    stream.expect_acked(Route, &["r"], &[]);
    stream.expect_acked(Cluster, &[], &["a"]);
}

/// W9: also in the complete lists of SotW.
#[test]
fn w9_sotw_lists_keep_a_cluster_until_the_route_left_it() {
    let mut stream = Stream::sotw();
    stream.publish(&[cluster("a", "a1"), route("r", "1", &["a"])]);
    stream.list(Cluster, &[], "");
    let clusters = stream.expect_sotw(Cluster, &["a1"]);
    stream.list(Cluster, &[], &clusters.nonce);
    stream.list(Route, &["r"], "");
    let routes = stream.poll_sotw().unwrap();
    stream.list(Route, &["r"], &routes.nonce);
    stream.layer.insert(route("r", "2", &["b"]));
    stream.layer.insert(cluster("b", "b1"));
    stream.layer.remove(Cluster, "a");
    stream.show(Changes::All);
    let clusters = stream.expect_sotw(Cluster, &["a1", "b1"]);
    assert_eq!(stream.poll_sotw(), None);
    stream.list(Cluster, &[], &clusters.nonce);
    let routes = stream.poll_sotw().unwrap();
    assert_eq!(routes.type_url, Route.type_url());
    stream.list(Route, &["r"], &routes.nonce);
    stream.expect_sotw(Cluster, &["b1"]);
}

/// Everything answered is one event with the revision, for those who wait for a change to arrive.
#[test]
fn reports_when_the_client_answered_for_a_revision() {
    let mut stream = running();
    assert!(stream.session.status().synced);
    stream.publish(&[endpoints("a", "2")]);
    let response = stream.expect(Endpoint, &["a"], &[]);
    stream.expect_nothing();
    assert!(!stream.session.status().synced);
    stream.ack(&response);
    stream.expect_nothing();
    let revision = stream.revision;
    assert!(stream.events().contains(&SessionEvent::Synced { revision, rejected: 0 }));
}
