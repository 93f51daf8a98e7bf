//! NACKs: rules S8 to S11.

use super::*;

fn subscribed(count: usize) -> (Stream, DeltaDiscoveryResponse) {
    let mut stream = Stream::delta();
    let all: Vec<_> = (0..count).map(|n| cluster(&format!("c{n:02}"), "1")).collect();
    stream.publish(&all);
    stream.subscribe(Cluster, &[]);
    let response = stream.next();
    assert_eq!(response.resources.len(), count);
    (stream, response)
}

/// A client that refuses every response with one of `bad` in it; returns how many responses it saw.
fn refuse_all(stream: &mut Stream, first: DeltaDiscoveryResponse, bad: &[&str], words: &str) -> usize {
    let mut responses = 1;
    let mut next = Some(first);
    while let Some(response) = next {
        if response.resources.iter().any(|resource| bad.contains(&&*resource.name)) {
            stream.nack(&response, words);
        } else {
            stream.ack(&response);
        }
        next = stream.poll();
        responses += 1;
        assert!(responses < 100, "loops");
    }
    responses - 1
}

/// S8: `error_detail` alone makes a NACK, also an empty one.
#[test]
fn s8_an_empty_error_detail_is_a_nack() {
    let (mut stream, response) = subscribed(1);
    stream.nack(&response, "");
    assert!(stream.events().iter().any(|event| matches!(event, SessionEvent::Nacked { .. })));
    assert_eq!(stream.session.accepted(Cluster).count(), 0);
}

/// S9: the same bytes never again, however often asked or shown; a changed resource clears it.
#[test]
fn s9_refused_bytes_are_never_sent_again() {
    let (mut stream, response) = subscribed(1);
    stream.nack(&response, "no");
    stream.expect_nothing();
    stream.publish(&[cluster("c00", "1")]);
    stream.show(Changes::All);
    stream.subscribe(Cluster, &["c00"]);
    stream.expect_nothing();
    assert_eq!(stream.session.status().types[0].rejected[0].message.as_ref(), "no");
    stream.publish(&[cluster("c00", "2")]);
    stream.expect_acked(Cluster, &["c00"], &[]);
    stream.expect_nothing();
    assert!(stream.session.status().types[0].rejected.is_empty());
}

/// S9: nor on the client's next stream, if its owner remembers.
#[test]
fn s9_refused_bytes_are_remembered_across_a_reconnect() {
    let (mut stream, response) = subscribed(1);
    stream.nack(&response, "no");
    let rejected = stream.session.status().types[0].rejected[0].clone();
    let mut again = Stream::delta();
    again.session.remember_rejection(Cluster, rejected);
    again.publish(&[cluster("c00", "1"), cluster("c01", "1")]);
    again.subscribe(Cluster, &[]);
    again.expect_acked(Cluster, &["c01"], &[]);
    again.expect_nothing();
}

/// S10: a refused response is sent again in smaller parts until the bad ones stand alone; the rest arrives.
#[test]
fn s10_bisects_until_the_bad_one_stands_alone() {
    let (mut stream, response) = subscribed(16);
    let responses = refuse_all(&mut stream, response, &["c05", "c11"], "something is wrong");
    assert_eq!(stream.session.accepted(Cluster).count(), 14);
    assert!(responses <= 1 + 2 * 8, "{responses} responses");
    let rejected: Vec<_> =
        stream.session.status().types[0].rejected.iter().map(|r| r.name.to_string()).collect();
    assert_eq!(rejected, ["c05", "c11"]);
}

/// S10: words that name the bad one save most of the search.
#[test]
fn s10_a_refusal_that_names_its_resource_takes_two_more_responses() {
    let (mut stream, response) = subscribed(16);
    let responses = refuse_all(&mut stream, response, &["c05"], "Error adding/updating cluster(s) c05: no");
    assert_eq!(responses, 3);
    assert_eq!(stream.session.accepted(Cluster).count(), 15);
}

/// S10: versions count as held only on ACK, so a change back to what the client may not have is sent.
#[test]
fn s10_a_version_in_a_refused_response_does_not_count_as_held() {
    let (mut stream, response) = subscribed(2);
    stream.ack(&response);
    stream.publish(&[cluster("c00", "2"), cluster("c01", "2")]);
    let refused = stream.expect(Cluster, &["c00", "c01"], &[]);
    stream.nack(&refused, "no");
    stream.publish(&[cluster("c00", "1"), cluster("c01", "1")]);
    stream.expect_acked(Cluster, &["c00"], &[]);
    stream.expect_acked(Cluster, &["c01"], &[]);
    stream.expect_nothing();
}

/// S11: the words arrive with the names and versions they are about, first shared, then certain.
#[test]
fn s11_reports_the_words_with_the_names() {
    let (mut stream, response) = subscribed(2);
    stream.events();
    refuse_all(&mut stream, response, &["c01"], "no such thing");
    let nacks: Vec<_> = stream
        .events()
        .into_iter()
        .filter_map(|event| match event {
            SessionEvent::Nacked { resources, message, blame, .. } => Some((resources.len(), message, blame)),
            _ => None,
        })
        .collect();
    let words = || Arc::<str>::from("no such thing");
    assert_eq!(nacks, [(2, words(), Blame::Shared), (1, words(), Blame::Certain)]);
    assert_eq!(stream.session.status().types[0].last_nack, Some(words()));
}

/// S9, S10 for SotW: complete lists carry the accepted version in place of the refused one.
#[test]
fn s9_s10_sotw_lists_keep_the_accepted_version_of_a_refused_cluster() {
    let mut stream = Stream::sotw();
    stream.publish(&[cluster("a", "a1"), cluster("b", "b1")]);
    stream.list(Cluster, &[], "");
    let first = stream.expect_sotw(Cluster, &["a1", "b1"]);
    stream.list(Cluster, &[], &first.nonce);
    stream.publish(&[cluster("a", "a2"), cluster("b", "b2")]);
    let both = stream.expect_sotw(Cluster, &["a2", "b2"]);
    stream.list_refusing(Cluster, &[], &both.nonce, "no");
    let part = stream.expect_sotw(Cluster, &["a2", "b1"]);
    stream.list_refusing(Cluster, &[], &part.nonce, "no");
    let part = stream.expect_sotw(Cluster, &["a1", "b2"]);
    stream.list(Cluster, &[], &part.nonce);
    assert_eq!(stream.poll_sotw(), None, "no loop");
    stream.publish(&[cluster("a", "a3")]);
    stream.expect_sotw(Cluster, &["a3", "b2"]);
}

/// S10: a removal that shares a response with a refused resource is said again, by itself.
#[test]
fn s10_a_removal_in_a_refused_response_is_said_again() {
    let (mut stream, response) = subscribed(2);
    stream.ack(&response);
    stream.layer.remove(Cluster, "c00");
    stream.layer.insert(cluster("c01", "2"));
    stream.show(Changes::All);
    let refused = stream.expect(Cluster, &["c01"], &["c00"]);
    stream.nack(&refused, "no");
    stream.expect_acked(Cluster, &[], &["c00"]);
    stream.expect_nothing();
}

/// U11, S9: a client that refuses the first complete list of a stream is sent one without the bad resource, since
/// it may run what exists no more.
#[test]
fn u11_s9_a_refused_first_sotw_list_is_followed_by_one_without_the_bad_resource() {
    let mut stream = Stream::sotw();
    stream.publish(&[cluster("bad", "bad")]);
    stream.list(Cluster, &[], "");
    let first = stream.expect_sotw(Cluster, &["bad"]);
    stream.list_refusing(Cluster, &[], &first.nonce, "no");
    let empty = stream.expect_sotw(Cluster, &[]);
    stream.list_refusing(Cluster, &[], &empty.nonce, "still no");
    assert_eq!(stream.poll_sotw(), None, "no loop");
}

/// S10, W8: a late NACK of an older response says nothing about the newer one.
#[test]
fn s10_w8_a_late_nack_leaves_a_newer_response_in_flight() {
    let (mut stream, older) = subscribed(1);
    stream.publish(&[cluster("c00", "2")]);
    stream.wait(ACK_TIMEOUT);
    let newer = stream.expect(Cluster, &["c00"], &[]);
    stream.withdraw(&[(Cluster, "c00")]);
    stream.nack(&older, "no");
    stream.ack(&newer);
    stream.expect_acked(Cluster, &[], &["c00"]);
    stream.expect_nothing();
}

#[test]
fn deliveries_tell_what_was_sent_and_what_the_client_runs() {
    let (mut stream, response) = subscribed(2);
    stream.ack(&response);
    let (before, after) = (cluster("c00", "1"), cluster("c00", "2"));
    stream.publish(std::slice::from_ref(&after));
    let refused = stream.next();
    let versions = |stream: &Stream| {
        let told = stream.session.deliveries();
        let told = told.iter().find(|told| &*told.name == "c00").unwrap();
        let version = |one: &Option<DeliveredVersion>| one.as_ref().map(|one| one.version);
        (version(&told.sent), version(&told.acked))
    };
    assert_eq!(versions(&stream), (Some(after.version), Some(before.version)), "under way");
    stream.nack(&refused, "no");
    assert_eq!(versions(&stream), (Some(after.version), Some(before.version)), "refused");
    let told = stream.session.deliveries();
    let runs = told.iter().find(|told| &*told.name == "c00").unwrap().acked.clone().unwrap();
    assert_eq!(runs.resource.unwrap().body, before.body);
    stream.publish(std::slice::from_ref(&before));
    assert_eq!(versions(&stream), (Some(before.version), Some(before.version)), "as it was");
    stream.withdraw(&[(Cluster, "c01")]);
    let removal = stream.next();
    stream.ack(&removal);
    assert_eq!(stream.session.deliveries().len(), 1, "what was removed is not told");
}
