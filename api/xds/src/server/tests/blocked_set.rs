//! D1, U11, S9: a state-of-the-world client that comes back with a version and refuses the new set keeps what it has.

use super::*;

/// A client that came back: it says the version of a set from an earlier stream.
fn back(list: &[&str]) -> Stream {
    let mut stream = Stream::sotw();
    stream.publish(&[cluster("a", "a1"), cluster("b", "b1"), cluster("bad", "bad2")]);
    come_back(&mut stream, Cluster, list);
    stream
}

fn come_back(stream: &mut Stream, kind: ResourceKind, list: &[&str]) {
    let request = DiscoveryRequest {
        resource_names: names(list),
        version_info: "of an earlier stream".into(),
        type_url: kind.type_url().into(),
        ..Default::default()
    };
    stream.session.on_request(ClientMessage::Sotw(request)).unwrap();
}

fn expect_silence(stream: &mut Stream) {
    assert_eq!(stream.poll_sotw(), None);
}

fn state(stream: &Stream, kind: ResourceKind) -> StreamTypeStatus {
    stream.session.status().types.into_iter().find(|state| state.kind == kind).unwrap()
}

/// Named and wildcard: no set without the refused cluster, and none with the same bytes of it.
#[test]
fn d1_u11_s9_a_refused_set_is_blocked_until_the_refused_resource_changes() {
    for list in [&[][..], &["a", "b", "bad"]] {
        let mut stream = back(list);
        let first = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
        stream.list_refusing(Cluster, list, &first.nonce, "cluster bad: no such socket");
        expect_silence(&mut stream);
        let status = state(&stream, Cluster);
        assert_eq!(status.held_back.len(), 3);
        assert_eq!(status.rejected.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["bad"]);
        assert!(stream.session.status().synced, "all that can be said was said");
        // Others wait.
        stream.publish(&[cluster("a", "a2")]);
        stream.show(Changes::All);
        expect_silence(&mut stream);
        stream.list(Cluster, list, &first.nonce);
        expect_silence(&mut stream);
        stream.publish(&[cluster("bad", "bad3")]);
        let whole = stream.expect_sotw(Cluster, &["a2", "b1", "bad3"]);
        stream.list(Cluster, list, &whole.nonce);
        expect_silence(&mut stream);
        assert!(state(&stream, Cluster).held_back.is_empty() && state(&stream, Cluster).rejected.is_empty());
        // From now on its set is known, and the good go on without the bad one.
        stream.publish(&[cluster("a", "a3"), cluster("bad", "bad4")]);
        let both = stream.expect_sotw(Cluster, &["a3", "b1", "bad4"]);
        stream.list_refusing(Cluster, list, &both.nonce, "cluster bad: no such socket");
        stream.expect_sotw(Cluster, &["a3", "b1", "bad3"]);
    }
}

#[test]
fn d1_u11_a_refused_resource_that_goes_ends_the_blocking() {
    let mut stream = back(&[]);
    let first = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
    stream.list_refusing(Cluster, &[], &first.nonce, "bad: no");
    stream.publish(&[cluster("a", "a2")]);
    expect_silence(&mut stream);
    stream.withdraw(&[(Cluster, "bad")]);
    stream.expect_sotw(Cluster, &["a2", "b1"]);
}

/// The only one there is: before, the client was sent an empty set and lost the version that works.
#[test]
fn d1_u11_a_single_refused_name_is_not_deleted_by_an_empty_set() {
    let mut stream = back(&["bad"]);
    let first = stream.expect_sotw(Cluster, &["bad2"]);
    stream.list_refusing(Cluster, &["bad"], &first.nonce, "no");
    expect_silence(&mut stream);
    stream.publish(&[cluster("a", "a2")]);
    expect_silence(&mut stream);
    assert_eq!(state(&stream, Cluster).rejected[0].version, cluster("bad", "bad2").version);
}

#[test]
fn d1_s10_several_refused_must_all_have_changed() {
    let mut stream = back(&[]);
    let first = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
    stream.list_refusing(Cluster, &[], &first.nonce, "Error updating cluster(s) b: no, bad: no");
    stream.publish(&[cluster("bad", "bad3")]);
    expect_silence(&mut stream);
    stream.publish(&[cluster("b", "b2")]);
    let whole = stream.expect_sotw(Cluster, &["a1", "b2", "bad3"]);
    // Refused again, for one of them.
    stream.list_refusing(Cluster, &[], &whole.nonce, "bad: still no");
    stream.publish(&[cluster("a", "a2")]);
    expect_silence(&mut stream);
    stream.withdraw(&[(Cluster, "bad")]);
    stream.expect_sotw(Cluster, &["a2", "b2"]);
}

/// A client that names nobody: the same set never again, another set once.
#[test]
fn d1_s9_a_set_refused_without_names_is_tried_again_when_it_is_another() {
    let mut stream = back(&[]);
    let first = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
    stream.list_refusing(Cluster, &[], &first.nonce, "something is wrong");
    stream.show(Changes::All);
    expect_silence(&mut stream);
    assert_eq!(&*state(&stream, Cluster).rejected[0].name, "*");
    stream.publish(&[cluster("bad", "bad3")]);
    let whole = stream.expect_sotw(Cluster, &["a1", "b1", "bad3"]);
    stream.list(Cluster, &[], &whole.nonce);
    assert!(state(&stream, Cluster).rejected.is_empty());
}

/// A client that gives up the name is told about the others again.
#[test]
fn d1_u5_giving_up_the_refused_name_ends_the_blocking() {
    let mut stream = back(&["a", "bad"]);
    let first = stream.expect_sotw(Cluster, &["a1", "bad2"]);
    stream.list_refusing(Cluster, &["a", "bad"], &first.nonce, "bad: no");
    stream.list(Cluster, &["a"], &first.nonce);
    stream.expect_sotw(Cluster, &["a1"]);
}

/// S9 across streams: what was refused before is not sent to a client that has a set, nor left out of one.
#[test]
fn d1_d2_s9_a_remembered_refusal_blocks_the_set_from_the_start() {
    for name in ["bad", "*"] {
        let all = [cluster("a", "a1"), cluster("b", "b1"), cluster("bad", "bad2")];
        let version = match name {
            "bad" => all[2].version,
            _ => respond::version_of(Cluster, &all),
        };
        let mut stream = Stream::sotw();
        stream
            .session
            .remember_rejection(Cluster, Rejected { name: name.into(), version, message: "no".into() });
        stream.publish(&all);
        come_back(&mut stream, Cluster, &[]);
        expect_silence(&mut stream);
        assert_eq!(state(&stream, Cluster).held_back.len(), 3);
        assert_eq!(state(&stream, Cluster).rejected.len(), 1);
        stream.publish(&[cluster("bad", "bad3")]);
        stream.expect_sotw(Cluster, &["a1", "b1", "bad3"]);
    }
}

/// R1: a client that went on without what it refused comes back with the version of that, and misses nothing from then on.
#[test]
fn d1_d2_r1_a_set_without_what_was_refused_is_known_again() {
    let (a, bad) = (cluster("a", "a1"), cluster("bad", "bad2"));
    let mut stream = Stream::sotw();
    let rejected = Rejected { name: bad.name.clone(), version: bad.version, message: "no".into() };
    stream.session.remember_rejection(Cluster, rejected);
    stream.publish(&[a.clone(), bad]);
    let request = DiscoveryRequest {
        version_info: respond::version_of(Cluster, &[a]).to_string(),
        type_url: Cluster.type_url().into(),
        ..Default::default()
    };
    stream.session.on_request(ClientMessage::Sotw(request)).unwrap();
    expect_silence(&mut stream);
    assert!(state(&stream, Cluster).held_back.is_empty());
    assert_eq!(state(&stream, Cluster).rejected.len(), 1);
    stream.publish(&[cluster("b", "b1")]);
    let both = stream.expect_sotw(Cluster, &["a1", "b1"]);
    stream.list(Cluster, &[], &both.nonce);
    stream.publish(&[cluster("bad", "bad3")]);
    stream.expect_sotw(Cluster, &["a1", "b1", "bad3"]);
}

/// A client that has nothing is given the rest at once.
#[test]
fn d1_d2_s9_a_remembered_refusal_is_left_out_for_a_client_that_has_nothing() {
    let mut stream = Stream::sotw();
    let bad = cluster("bad", "bad2");
    let rejected = Rejected { name: bad.name.clone(), version: bad.version, message: "no".into() };
    stream.session.remember_rejection(Cluster, rejected);
    stream.publish(&[cluster("a", "a1"), bad]);
    stream.list(Cluster, &[], "");
    stream.expect_sotw(Cluster, &["a1"]);
}

/// W5 behind it: what waited for a cluster of a blocked set goes on, since the client may have it.
#[test]
fn d1_w5_routes_and_endpoints_do_not_wait_for_a_blocked_set() {
    let mut stream = back(&[]);
    stream.publish(&[route("r", "1", &["a", "bad"]), endpoints("a", "ea"), endpoints("bad", "ebad")]);
    let first = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
    stream.list(Endpoint, &["a", "bad"], "");
    stream.expect_sotw(Endpoint, &["ea", "ebad"]);
    stream.list(Route, &["r"], "");
    expect_silence(&mut stream);
    stream.list_refusing(Cluster, &[], &first.nonce, "bad: no");
    let routes = stream.poll_sotw().expect("the routes");
    assert_eq!(routes.type_url, Route.type_url());
    assert_eq!(stream.session.next_deadline(), None, "no gate is left");
    stream.publish(&[endpoints("bad", "ebad2")]);
    expect_silence(&mut stream);
}

/// U11: until a set was accepted, none leaves without what waits for a cluster: it would delete it.
#[test]
fn d1_u11_w5_no_set_of_listeners_leaves_while_one_of_them_waits() {
    let listener = |name: &str, body: &str, clusters: &[&str]| {
        Resource::new(Listener, name, body.to_owned(), refs(Cluster, clusters))
    };
    let mut stream = back(&[]);
    stream.publish(&[listener("plain", "plain1", &[]), listener("tcp", "tcp1", &["a"])]);
    come_back(&mut stream, Listener, &[]);
    let clusters = stream.expect_sotw(Cluster, &["a1", "b1", "bad2"]);
    expect_silence(&mut stream);
    stream.list(Cluster, &[], &clusters.nonce);
    let listeners = stream.expect_sotw(Listener, &["plain1", "tcp1"]);
    stream.list_refusing(Listener, &[], &listeners.nonce, "tcp: no");
    expect_silence(&mut stream);
    // W7: a listener that was not replaced may still use what goes.
    stream.withdraw(&[(Cluster, "a")]);
    expect_silence(&mut stream);
    stream.publish(&[listener("tcp", "tcp2", &["b"])]);
    let listeners = stream.expect_sotw(Listener, &["plain1", "tcp2"]);
    stream.list(Listener, &[], &listeners.nonce);
    stream.expect_sotw(Cluster, &["b1", "bad2"]);
}

/// R1: a set that is the same is not refused, and not sent; it is known then.
#[test]
fn d1_r1_a_set_that_is_the_same_is_known_from_the_start() {
    let all = [cluster("a", "a1"), cluster("bad", "bad1")];
    let mut stream = Stream::sotw();
    stream.publish(&all);
    let request = DiscoveryRequest {
        version_info: respond::version_of(Cluster, &all).to_string(),
        type_url: Cluster.type_url().into(),
        ..Default::default()
    };
    stream.session.on_request(ClientMessage::Sotw(request)).unwrap();
    expect_silence(&mut stream);
    stream.publish(&[cluster("a", "a2"), cluster("bad", "bad2")]);
    let both = stream.expect_sotw(Cluster, &["a2", "bad2"]);
    stream.list_refusing(Cluster, &[], &both.nonce, "bad: no");
    stream.expect_sotw(Cluster, &["a2", "bad1"]);
}
