//! What a client can make a session remember has a bound.

use super::*;

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("c{n}")).collect()
}

fn delta(kind: ResourceKind, subscribe: Vec<String>, unsubscribe: Vec<String>) -> ClientMessage {
    ClientMessage::Delta(DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: subscribe,
        resource_names_unsubscribe: unsubscribe,
        ..Default::default()
    })
}

fn sotw(kind: ResourceKind, resource_names: Vec<String>) -> ClientMessage {
    ClientMessage::Sotw(DiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names,
        ..Default::default()
    })
}

/// D8, M4: over 10,000 names of a type the stream ends, with the bound in the text; each type has its own.
#[test]
fn d8_m4_names_of_a_type_are_bounded_in_both_variants() {
    let mut stream = Stream::delta();
    for kind in [Endpoint, Route] {
        stream.session.on_request(delta(kind, many(MAX_NAMES), vec![])).unwrap();
        stream.session.on_request(delta(kind, many(MAX_NAMES), vec![])).unwrap();
    }
    assert_eq!(stream.session.names(), 2 * MAX_NAMES);
    let over = stream.session.on_request(delta(Endpoint, vec!["more".into()], vec![])).unwrap_err();
    assert_eq!(over, RequestError::TooManyNames(Endpoint));
    assert!(over.to_string().contains("10000 names of type.googleapis.com/envoy.config.endpoint"), "{over}");
    let mut stream = Stream::sotw();
    stream.session.on_request(sotw(Endpoint, many(MAX_NAMES))).unwrap();
    stream.session.on_request(sotw(Endpoint, many(5))).unwrap();
    assert_eq!(stream.session.names(), 5);
    let over = stream.session.on_request(sotw(Endpoint, many(MAX_NAMES + 1))).unwrap_err();
    assert_eq!(over, RequestError::TooManyNames(Endpoint));
}

/// U4, M4: names given up beside a wildcard are remembered until they are answered for, and no more than so many.
#[test]
fn u4_m4_names_given_up_beside_a_wildcard_are_bounded() {
    let mut stream = Stream::delta();
    stream.subscribe(Cluster, &["*"]);
    stream.settle();
    for _ in 0..3 {
        stream.session.on_request(delta(Cluster, vec![], many(MAX_NAMES))).unwrap();
        stream.settle();
        assert_eq!(stream.session.names(), 0, "answered for and forgotten");
    }
    let storm = (0..9).map(|round| {
        let names = many(MAX_NAMES).into_iter().map(|name| format!("{name}-{round}")).collect();
        stream.session.on_request(delta(Cluster, vec![], names))
    });
    assert_eq!(storm.filter(Result::is_err).count(), 7);
}

/// R1, M4: so are the names that a client brings along from an earlier stream.
#[test]
fn r1_m4_names_brought_along_are_bounded() {
    let bring = |count| {
        ClientMessage::Delta(DeltaDiscoveryRequest {
            type_url: Cluster.type_url().into(),
            initial_resource_versions: many(count).into_iter().map(|name| (name, "1".into())).collect(),
            ..Default::default()
        })
    };
    let mut stream = Stream::delta();
    stream.session.on_request(bring(2 * MAX_NAMES)).unwrap();
    stream.settle();
    assert_eq!(stream.session.names(), 0, "they are gone, and the client knows");
    let over = Stream::delta().session.on_request(bring(2 * MAX_NAMES + 1)).unwrap_err();
    assert_eq!(over, RequestError::TooManyNames(Cluster));
}

/// D7: the words of a refusal are cut before anything keeps them, and keep nothing that a terminal acts on.
#[test]
fn d7_the_words_of_a_refusal_are_cut_on_arrival() {
    let mut stream = Stream::delta();
    stream.publish(&[cluster("c", "1")]);
    stream.subscribe(Cluster, &[]);
    let response = stream.next();
    stream.nack(&response, &format!("\u{1b}]0;c is bad{}", "ä".repeat(2 << 20)));
    let check = |words: &str| {
        assert!(words.len() <= 4096, "{}", words.len());
        assert!(words.starts_with("\u{fffd}]0;c is badää") && words.ends_with("bytes came)"), "{words}");
    };
    let status = stream.session.status();
    check(&status.types[0].rejected[0].message);
    check(status.types[0].last_nack.as_deref().unwrap());
    for event in stream.events() {
        if let SessionEvent::Nacked { message, .. } = event {
            check(&message);
        }
    }
}

/// D7: what a client asks for is cut too where it is repeated.
#[test]
fn d7_a_type_url_is_cut_where_it_is_repeated() {
    let long = "t".repeat(3 << 20);
    let request =
        || ClientMessage::Delta(DeltaDiscoveryRequest { type_url: long.clone(), ..Default::default() });
    let mut stream = Stream::new(Variant::Delta, ServedTypes::Only(Cluster));
    let refused = stream.session.on_request(request()).unwrap_err();
    assert!(refused.to_string().len() < 1024);
    let mut stream = Stream::delta();
    stream.session.on_request(request()).unwrap();
    let [SessionEvent::UnknownType { type_url }] = &stream.events()[..] else { panic!("an unknown type") };
    assert!(type_url.len() <= 256);
}
