//! Who is woken by a change: counted, with real sessions behind real mailboxes.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKey, ResourceKind};
use weft_xds::mailbox::{self, Delivery, Receiver, Sender};
use weft_xds::server::{ClientMessage, ServedTypes, ServerMessage, Session, Variant};
use weft_xds::{Changes, Interest, Layer, View, wire};

use ResourceKind::{Cluster, Endpoint};

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream's two ends, without a connection in between.
struct Stream {
    session: Session,
    sender: Sender,
    receiver: Receiver,
    alarm: Arc<Alarm>,
}

impl Stream {
    fn new(view: View) -> Self {
        let (sender, receiver) = mailbox::mailbox();
        let session = Session::new(Variant::Delta, ServedTypes::Aggregated);
        let mut stream = Self { session, sender, receiver, alarm: Arc::default() };
        assert_eq!(stream.sender.send(view, Changes::All), Delivery::Woken);
        stream.turn();
        stream
    }

    /// What the task does when it was woken, up to where it waits again; says what it sends.
    fn turn(&mut self) -> Vec<String> {
        if let Some((view, changes)) = self.receiver.set_interest(self.session.interest()) {
            self.session.on_update(view, changes);
            // The first view changed what it is to be woken for.
            assert!(self.receiver.set_interest(self.session.interest()).is_none());
        }
        let mut sent = Vec::new();
        while let Some(ServerMessage::Delta(response)) = self.session.poll(Instant::now()) {
            sent.extend(response.resources.into_iter().map(|resource| resource.name));
            self.ask(
                &response.type_url,
                wire::DeltaDiscoveryRequest { response_nonce: response.nonce, ..Default::default() },
            );
        }
        let waker = Waker::from(self.alarm.clone());
        let mut waiting = pin!(self.receiver.recv());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        sent
    }

    fn ask(&mut self, type_url: &str, request: wire::DeltaDiscoveryRequest) {
        let request = wire::DeltaDiscoveryRequest { type_url: type_url.to_owned(), ..request };
        self.session.on_request(ClientMessage::Delta(request)).unwrap();
    }

    fn subscribe(&mut self, kind: ResourceKind, names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = wire::DeltaDiscoveryRequest { resource_names_subscribe: names, ..Default::default() };
        self.ask(kind.type_url(), request);
        self.turn()
    }

    fn wakes(&self) -> usize {
        self.alarm.0.swap(0, Ordering::Relaxed)
    }
}

fn endpoints(name: &str, body: &'static str) -> Arc<Resource> {
    Resource::new(Endpoint, name, body, vec![])
}

fn view(revision: u64, resources: &[Arc<Resource>]) -> View {
    View::new(revision, vec![Arc::new(resources.iter().cloned().collect::<Layer>())])
}

fn changed(name: &str) -> Changes {
    Changes::Keys(vec![ResourceKey::new(Endpoint, name)])
}

#[test]
fn a_change_wakes_those_that_subscribe_to_it_and_nobody_else() {
    const ALL: usize = 1_000;
    const OF_X: usize = 17;
    let start = view(1, &[endpoints("x", "1"), endpoints("y", "1")]);
    let mut streams: Vec<Stream> = (0..ALL)
        .map(|number| {
            let mut stream = Stream::new(start.clone());
            // A wildcard of another type, as every proxy has.
            stream.subscribe(Cluster, &["*"]);
            let name = if number % (ALL / OF_X) == 0 && number < ALL / OF_X * OF_X { "x" } else { "y" };
            assert_eq!(stream.subscribe(Endpoint, &[name]), [name]);
            stream
        })
        .collect();
    assert_eq!(streams.iter().map(Stream::wakes).sum::<usize>(), 0);

    let next = view(2, &[endpoints("x", "2"), endpoints("y", "1")]);
    let deliveries = streams.iter().map(|stream| stream.sender.send(next.clone(), changed("x")));
    assert_eq!(deliveries.filter(|delivery| *delivery == Delivery::Woken).count(), OF_X);
    let woken: Vec<usize> = (0..ALL).filter(|number| streams[*number].wakes() > 0).collect();
    assert_eq!(woken.len(), OF_X);
    for number in woken {
        assert_eq!(streams[number].turn(), ["x"]);
    }

    let all = streams.iter().map(|stream| stream.sender.send(next.clone(), Changes::All));
    assert_eq!(all.filter(|delivery| *delivery == Delivery::Woken).count(), ALL);
    assert_eq!(streams.iter().map(Stream::wakes).sum::<usize>(), ALL);
}

#[test]
fn who_subscribes_later_is_answered_from_the_newest_view() {
    let mut stream = Stream::new(view(1, &[endpoints("x", "1"), endpoints("y", "1")]));
    stream.subscribe(Endpoint, &["y"]);
    assert_eq!(stream.sender.send(view(2, &[endpoints("x", "2")]), changed("x")), Delivery::Kept);
    assert_eq!(stream.subscribe(Endpoint, &["x"]), ["x"]);
    assert_eq!(stream.session.status().revision, Some(2));
    assert_eq!(stream.sender.send(view(3, &[endpoints("x", "3")]), changed("x")), Delivery::Woken);
}

/// The change comes when the request was read and the publisher does not know it yet.
#[test]
fn a_change_between_a_request_and_its_answer_is_in_the_answer() {
    let mut stream = Stream::new(view(1, &[endpoints("x", "1")]));
    stream.ask(
        Endpoint.type_url(),
        wire::DeltaDiscoveryRequest { resource_names_subscribe: vec!["x".into()], ..Default::default() },
    );
    assert_eq!(stream.sender.send(view(2, &[endpoints("x", "2")]), changed("x")), Delivery::Kept);
    let (newest, changes) = stream.receiver.set_interest(stream.session.interest()).unwrap();
    stream.session.on_update(newest, changes);
    let Some(ServerMessage::Delta(response)) = stream.session.poll(Instant::now()) else {
        panic!("it was asked")
    };
    assert_eq!(&response.resources[0].resource.as_ref().unwrap().value[..], b"2");
}

#[test]
fn the_first_view_wakes_whatever_the_client_asked_for() {
    let (sender, mut receiver) = mailbox::mailbox();
    let session = Session::new(Variant::Sotw, ServedTypes::Aggregated);
    assert!(receiver.set_interest(session.interest()).is_none());
    assert_eq!(sender.send(view(1, &[]), Changes::Keys(vec![])), Delivery::Woken);
    assert!(matches!(session.interest(), Interest::Everything));
}
