//! Streams, subscriptions, reconnects: rules S1 to S7, S12 to S14, U1 to U18, R1 to R3.

use super::*;

/// S14: nothing is answered before a view at a known revision is there; S2: whichever type is asked first.
#[test]
fn s14_s2_answers_nothing_before_the_first_view_and_then_any_type_first() {
    let mut stream = Stream::new(Variant::Delta, ServedTypes::Aggregated);
    stream.subscribe(Route, &["r"]);
    stream.subscribe(Listener, &[]);
    stream.expect_nothing();
    stream.publish(&[route("r", "1", &[]), resource(Listener, "l", "1")]);
    stream.expect(Listener, &["l"], &[]);
    stream.expect(Route, &["r"], &[]);
}

/// S3: ADS needs a type; a type unknown to us is answered by silence, not by an end.
#[test]
fn s3_unknown_types_leave_the_stream_open_and_missing_ones_end_it() {
    let mut stream = Stream::delta();
    let mut request =
        DeltaDiscoveryRequest { type_url: "type.googleapis.com/x.Y".into(), ..Default::default() };
    stream.session.on_request(ClientMessage::Delta(request.clone())).unwrap();
    stream.expect_nothing();
    assert!(
        matches!(&stream.events()[..], [SessionEvent::UnknownType { type_url }] if type_url.ends_with("x.Y"))
    );
    request.type_url.clear();
    let refused = stream.session.on_request(ClientMessage::Delta(request.clone()));
    assert_eq!(refused, Err(RequestError::NoTypeUrl));

    let mut single = Stream::new(Variant::Delta, ServedTypes::Only(Cluster));
    assert_eq!(single.session.on_request(ClientMessage::Delta(request.clone())), Ok(()), "implied");
    request.type_url = Listener.type_url().into();
    assert!(matches!(
        single.session.on_request(ClientMessage::Delta(request)),
        Err(RequestError::WrongType { .. })
    ));
}

/// S4: a nonce from an earlier stream is not stale, it is nothing; nonces are unique on a stream.
#[test]
fn s4_ignores_a_nonce_on_the_first_request_and_never_repeats_one() {
    let mut stream = Stream::sotw();
    stream.publish(&[resource(Listener, "l", "l1"), cluster("c", "c1")]);
    stream.list(Cluster, &[], "77");
    let clusters = stream.expect_sotw(Cluster, &["c1"]);
    stream.list(Listener, &[], "1");
    let listeners = stream.expect_sotw(Listener, &["l1"]);
    assert_ne!(clusters.nonce, listeners.nonce);
}

/// S5: a stale nonce replaces the subscription, acknowledges nothing, sends nothing until the answer.
#[test]
fn s5_sotw_stale_nonce_changes_the_subscription_and_waits_for_the_answer() {
    let mut stream = Stream::sotw();
    stream.publish(&[endpoints("a", "a1"), endpoints("b", "b1")]);
    stream.list(Endpoint, &["a"], "");
    let first = stream.expect_sotw(Endpoint, &["a1"]);
    stream.list(Endpoint, &["a", "b"], "stale");
    assert_eq!(stream.poll_sotw(), None, "one response is outstanding");
    assert!(!stream.events().iter().any(|event| matches!(event, SessionEvent::Acked { .. })));
    stream.list(Endpoint, &["a", "b"], &first.nonce);
    stream.expect_sotw(Endpoint, &["b1"]);
}

/// S6, S7: delta subscriptions change whatever the nonce, also in an ACK and in a NACK.
#[test]
fn s6_s7_delta_applies_subscriptions_in_stale_messages_acks_and_nacks() {
    let mut stream = Stream::delta();
    stream.publish(&[endpoints("a", "1"), endpoints("b", "1"), endpoints("c", "1"), endpoints("d", "1")]);
    stream.subscribe(Endpoint, &["a"]);
    let first = stream.expect(Endpoint, &["a"], &[]);
    let with = |nonce: &str, name: &str| DeltaDiscoveryRequest {
        response_nonce: nonce.into(),
        resource_names_subscribe: names(&[name]),
        ..Default::default()
    };
    stream.ask(Endpoint, with("999", "b"));
    stream.ask(Endpoint, with(&first.nonce, "c"));
    let second = stream.expect(Endpoint, &["b", "c"], &[]);
    let error_detail = Some(Status { code: 3, message: "bad".into(), details: vec![] });
    stream.ask(Endpoint, DeltaDiscoveryRequest { error_detail, ..with(&second.nonce, "d") });
    stream.settle();
    assert_eq!(stream.session.accepted(Endpoint).count(), 4);
}

/// S12: versions are hashes of contents, for single resources and for sets.
#[test]
fn s12_versions_are_equal_on_every_replica() {
    let version = |body: &str| {
        let mut stream = Stream::sotw();
        stream.publish(&[cluster("b", body)]);
        stream.publish(&[cluster("a", "1")]);
        stream.list(Cluster, &[], "");
        stream.poll_sotw().unwrap().version_info
    };
    assert_eq!(version("1"), version("1"));
    assert_ne!(version("1"), version("2"));
}

/// S13, U16: several requests and updates before an answer get one response, of the newest contents.
#[test]
fn s13_u16_a_storm_becomes_one_response_with_the_contents_of_that_moment() {
    let mut stream = Stream::delta();
    stream.publish(&[endpoints("a", "1")]);
    stream.subscribe(Endpoint, &["a"]);
    let first = stream.expect(Endpoint, &["a"], &[]);
    for body in ["2", "3", "4"] {
        stream.publish(&[endpoints("a", body)]);
        stream.expect_nothing();
    }
    stream.ack(&first);
    let newest = stream.expect(Endpoint, &["a"], &[]);
    assert_eq!(newest.resources[0].resource.as_ref().unwrap().value, "4");
    stream.unsubscribe(Endpoint, &["a"]);
    stream.publish(&[endpoints("a", "5")]);
    stream.ack(&newest);
    stream.expect_nothing();
}

/// U1: an empty first request means everything for listeners, clusters, virtual hosts, and nothing for the rest; U2:
/// never for gRPC; U13: it is answered even when there is nothing.
#[test]
fn u1_u2_u13_empty_first_requests() {
    for kind in [Listener, Cluster, VirtualHost] {
        let mut stream = Stream::delta();
        stream.subscribe(kind, &[]);
        stream.expect_acked(kind, &[], &[]);
        stream.expect_nothing();
        stream.publish(&[resource(kind, "x", "1")]);
        stream.expect(kind, &["x"], &[]);
    }
    for kind in [Endpoint, Route, Secret] {
        let mut stream = Stream::delta();
        stream.publish(&[resource(kind, "x", "1")]);
        stream.subscribe(kind, &[]);
        stream.expect_nothing();
    }
    let mut grpc = Stream::delta();
    grpc.session =
        Session::new(Variant::Delta, ServedTypes::Aggregated).with_empty_first(EmptyFirst::Nothing);
    grpc.publish(&[cluster("c", "1")]);
    grpc.subscribe(Cluster, &[]);
    grpc.expect_nothing();

    let mut sotw = Stream::sotw();
    sotw.list(Cluster, &[], "");
    sotw.expect_sotw(Cluster, &[]);
}

/// U3: names beside the wildcard survive its end.
#[test]
fn u3_names_beside_the_wildcard_stay_when_it_ends() {
    let mut stream = Stream::delta();
    stream.publish(&[cluster("a", "1"), cluster("b", "1")]);
    stream.subscribe(Cluster, &["*", "a"]);
    stream.expect_acked(Cluster, &["a", "b"], &[]);
    stream.unsubscribe(Cluster, &["*"]);
    stream.publish(&[cluster("a", "2"), cluster("b", "2")]);
    stream.expect_acked(Cluster, &["a"], &[]);
    stream.expect_nothing();
}

/// U4: a name given up under a wildcard is answered for; U5: without one it is not.
#[test]
fn u4_u5_unsubscribing_is_answered_under_a_wildcard_only() {
    let mut stream = Stream::delta();
    stream.publish(&[cluster("a", "1")]);
    stream.subscribe(Cluster, &["*", "a", "ghost"]);
    stream.expect_acked(Cluster, &["a"], &["ghost"]);
    stream.unsubscribe(Cluster, &["a", "ghost"]);
    stream.expect_acked(Cluster, &["a"], &["ghost"]);
    stream.subscribe(Endpoint, &["e"]);
    stream.settle();
    stream.unsubscribe(Endpoint, &["e", "never"]);
    stream.expect_nothing();
}

/// U6: a subscription to a held name sends it again; U7: so does naming it again in a SotW list.
#[test]
fn u6_u7_subscribing_again_sends_again() {
    let mut stream = Stream::delta();
    stream.publish(&[endpoints("a", "a1")]);
    stream.subscribe(Endpoint, &["a"]);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.subscribe(Endpoint, &["a"]);
    stream.expect_acked(Endpoint, &["a"], &[]);

    let mut stream = Stream::sotw();
    stream.publish(&[endpoints("a", "a1"), endpoints("b", "b1")]);
    stream.list(Endpoint, &["a", "b"], "");
    let first = stream.expect_sotw(Endpoint, &["a1", "b1"]);
    stream.list(Endpoint, &["b"], &first.nonce);
    assert_eq!(stream.poll_sotw(), None);
    stream.list(Endpoint, &["a", "b"], &first.nonce);
    stream.expect_sotw(Endpoint, &["a1"]);
}

/// U8: a name that does not exist is answered at once and sent when it appears (O1, O2: also on demand beside
/// a wildcard). U12: a secret never is in removed_resources.
#[test]
fn u8_o1_o2_unknown_names_are_answered_at_once_and_sent_when_they_appear() {
    for kind in [Listener, Cluster, Route, VirtualHost] {
        let mut stream = Stream::delta();
        stream.subscribe(kind, &["ghost"]);
        stream.expect_acked(kind, &[], &["ghost"]);
        stream.publish(&[resource(kind, "ghost", "1")]);
        stream.expect_acked(kind, &["ghost"], &[]);
        stream.expect_nothing();
    }
    let mut stream = Stream::delta();
    stream.subscribe(Secret, &["ghost"]);
    stream.expect_nothing();
    stream.publish(&[resource(Secret, "ghost", "1")]);
    stream.expect_acked(Secret, &["ghost"], &[]);
    stream.withdraw(&[(Secret, "ghost")]);
    stream.expect_nothing();
}

/// U9: endpoints of an unknown service are an empty assignment, in both variants.
#[test]
fn u9_unknown_endpoints_are_an_empty_assignment() {
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use prost::Message as _;
    let empty = ClusterLoadAssignment { cluster_name: "ghost".into(), ..Default::default() }.encode_to_vec();
    let mut stream = Stream::delta();
    stream.subscribe(Endpoint, &["ghost"]);
    let response = stream.expect(Endpoint, &["ghost"], &[]);
    assert_eq!(response.resources[0].resource.as_ref().unwrap().value, empty);
    stream.ack(&response);
    stream.publish(&[endpoints("ghost", "1")]);
    stream.expect_acked(Endpoint, &["ghost"], &[]);

    let mut stream = Stream::sotw();
    stream.list(Endpoint, &["ghost"], "");
    let response = stream.poll_sotw().unwrap();
    assert_eq!(response.resources[0].value, empty);
}

/// U11: clusters go by absence in SotW and by name in delta. U14: SotW carries everything for clusters and only what
/// changed for endpoints. U17: no name twice.
#[test]
fn u11_u14_u17_removal_and_contents_by_variant() {
    let mut stream = Stream::sotw();
    stream.publish(&[cluster("a", "a1"), cluster("b", "b1"), endpoints("a", "ea1"), endpoints("b", "eb1")]);
    stream.list(Cluster, &[], "");
    let clusters = stream.expect_sotw(Cluster, &["a1", "b1"]);
    stream.list(Cluster, &[], &clusters.nonce);
    stream.list(Endpoint, &["a", "b"], "");
    let assigned = stream.expect_sotw(Endpoint, &["ea1", "eb1"]);
    stream.list(Endpoint, &["a", "b"], &assigned.nonce);
    stream.publish(&[endpoints("b", "eb2")]);
    let assigned = stream.expect_sotw(Endpoint, &["eb2"]);
    stream.list(Endpoint, &["a", "b"], &assigned.nonce);
    stream.withdraw(&[(Cluster, "a")]);
    stream.expect_sotw(Cluster, &["b1"]);

    let mut stream = Stream::delta();
    stream.publish(&[cluster("a", "1"), cluster("b", "1")]);
    stream.subscribe(Cluster, &["*", "a"]);
    stream.expect_acked(Cluster, &["a", "b"], &[]);
    stream.withdraw(&[(Cluster, "a"), (Cluster, "a")]);
    stream.expect_acked(Cluster, &[], &["a"]);
    stream.expect_nothing();
}

/// R1: equal hashes send nothing; R2: what is gone comes back removed; R3: the versions are hashes. W1's exception:
/// secrets are sent on every stream.
#[test]
fn r1_r2_r3_a_reconnect_sends_only_the_difference() {
    let (a, b) = (cluster("a", "1"), cluster("b", "2"));
    let mut stream = Stream::delta();
    stream.publish(&[a.clone(), b, cluster("new", "1"), resource(Secret, "identity", "key")]);
    let versions = |pairs: &[(&str, String)]| {
        pairs.iter().map(|(name, version)| ((*name).to_owned(), version.clone())).collect()
    };
    let initial = versions(&[("a", a.version.to_string()), ("b", "old".into()), ("gone", "old".into())]);
    stream.ask(Cluster, DeltaDiscoveryRequest { initial_resource_versions: initial, ..Default::default() });
    stream.expect_acked(Cluster, &["b", "new"], &["gone"]);
    let version = resource(Secret, "identity", "key").version.to_string();
    stream.ask(
        Secret,
        DeltaDiscoveryRequest {
            initial_resource_versions: versions(&[("identity", version)]),
            resource_names_subscribe: names(&["identity"]),
            ..Default::default()
        },
    );
    stream.expect_acked(Secret, &["identity"], &[]);
    stream.expect_nothing();

    let mut again = Stream::delta();
    again.publish(std::slice::from_ref(&a));
    let initial = versions(&[("a", a.version.to_string())]);
    let subscribe = names(&["*", "a"]);
    again.ask(
        Cluster,
        DeltaDiscoveryRequest {
            initial_resource_versions: initial,
            resource_names_subscribe: subscribe,
            ..Default::default()
        },
    );
    again.expect_nothing();
    let events = again.events();
    assert!(events.contains(&SessionEvent::Resumed { kind: Cluster, names: vec!["a".into()] }));
    assert!(events.contains(&SessionEvent::Synced { revision: 2, rejected: 0 }));
}

/// R1 for SotW: the version of the whole, for a wildcard.
#[test]
fn r1_sotw_wildcard_with_an_equal_version_is_not_sent_again() {
    let version = |stream: &mut Stream, version: &str| {
        stream.publish(&[cluster("a", "a1"), cluster("b", "b1")]);
        let request = DiscoveryRequest {
            version_info: version.into(),
            type_url: Cluster.type_url().into(),
            ..Default::default()
        };
        stream.session.on_request(ClientMessage::Sotw(request)).unwrap();
        stream.poll_sotw()
    };
    let first = version(&mut Stream::sotw(), "").unwrap();
    let mut again = Stream::sotw();
    assert_eq!(version(&mut again, &first.version_info), None);
    assert!(
        again
            .events()
            .contains(&SessionEvent::Resumed { kind: Cluster, names: vec!["a".into(), "b".into()] })
    );
    again.publish(&[cluster("b", "b2")]);
    again.expect_sotw(Cluster, &["a1", "b2"]);
    let mut other = Stream::sotw();
    assert!(version(&mut other, "other").is_some());
    assert!(!other.events().iter().any(|event| matches!(event, SessionEvent::Resumed { .. })));
}

/// A stream sees the secrets of its view and no list of them.
#[test]
fn secrets_are_given_by_name_only() {
    let mut stream = Stream::delta();
    let request = |names: Vec<String>| {
        ClientMessage::Delta(DeltaDiscoveryRequest {
            type_url: Secret.type_url().into(),
            resource_names_subscribe: names,
            ..Default::default()
        })
    };
    let refused = stream.session.on_request(request(names(&["*"])));
    assert_eq!(refused, Err(RequestError::WildcardSecrets));
    let mut stream = Stream::sotw();
    let list = DiscoveryRequest {
        type_url: Secret.type_url().into(),
        resource_names: names(&["*"]),
        ..Default::default()
    };
    assert_eq!(stream.session.on_request(ClientMessage::Sotw(list)), Err(RequestError::WildcardSecrets));
}

/// M1: responses stay below 2 MiB; W4: endpoints do not wait behind the rest of the clusters.
#[test]
fn m1_w4_large_changes_are_split_and_endpoints_come_between() {
    let body = "x".repeat(700 << 10);
    let mut stream = Stream::delta();
    let all: Vec<_> = (0..5).map(|n| cluster(&format!("c{n}"), &body)).collect();
    stream.publish(&all);
    stream.publish(&[endpoints("c0", "1")]);
    stream.subscribe(Cluster, &[]);
    stream.subscribe(Endpoint, &["c0"]);
    let first = stream.expect(Cluster, &["c0", "c1"], &[]);
    use prost::Message as _;
    assert!(first.encoded_len() < MAX_RESPONSE);
    stream.expect_acked(Endpoint, &["c0"], &[]);
    stream.expect_nothing();
    stream.ack(&first);
    stream.expect_acked(Cluster, &["c2", "c3"], &[]);
    stream.expect_acked(Cluster, &["c4"], &[]);
    stream.expect_nothing();
}

/// An update of one name looks at that name only, and at nobody who did not ask for it.
#[test]
fn an_update_by_keys_touches_only_those_keys() {
    let mut stream = Stream::delta();
    stream.publish(&[endpoints("a", "1"), endpoints("b", "1")]);
    stream.subscribe(Endpoint, &["a", "b"]);
    stream.settle();
    stream.layer.insert(endpoints("a", "2"));
    stream.layer.insert(endpoints("b", "2"));
    stream
        .show(Changes::Keys(vec![ResourceKey::new(Endpoint, "b"), ResourceKey::new(Endpoint, "elsewhere")]));
    stream.expect_acked(Endpoint, &["b"], &[]);
    stream.expect_nothing();
    stream.show(Changes::All);
    stream.expect_acked(Endpoint, &["a"], &[]);
    stream.expect_nothing();
}
