//! Server session against client session, in memory: whatever is published, subscribed, refused, delayed, cut and
//! replayed, in the end the client runs what the server shows, nothing is lost, and nothing loops.
//!
//! gRPC keeps the order of messages in each direction of a stream; all else is shuffled: both directions against each other,
//! answers of different types, and what is lost when a stream is cut.
//!
//! Views come through a mailbox, and the server's side looks into it only where its task is woken: by a change that the
//! client asked for, by a request, or by its clock.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use weft_api::resource::{Resource, ResourceKey, ResourceKind};
use weft_xds::client::{self, Update, Verdict};
use weft_xds::mailbox::{self, Delivery};
use weft_xds::server::{self, ClientMessage, Rejected, ServedTypes, ServerMessage, SessionEvent, Variant};
use weft_xds::{Changes, Layer, View, wire};

use ResourceKind::{Cluster, Endpoint, Listener, Route, Secret};

const KINDS: [ResourceKind; 5] = [Cluster, Endpoint, Listener, Route, Secret];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const POISON: u8 = 0;

#[derive(Clone, Debug)]
enum Step {
    /// Kind, name, contents ([`POISON`] is refused), and a bit set of the names that it refers to.
    Put(usize, usize, u8, u8),
    Delete(usize, usize),
    /// Several changes in one update that says only "look at everything".
    Replace(Vec<(usize, usize, u8, u8)>),
    Subscribe(usize, usize),
    SubscribeAll(usize),
    Unsubscribe(usize, usize),
    Server,
    Client,
    ToClient,
    ToServer,
    Answer(usize),
    Cut,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (kind, name, body, refs) = (0..KINDS.len(), 0..NAMES.len(), 0..5_u8, 0..16_u8);
    let put = (kind.clone(), name.clone(), body, refs);
    let step = prop_oneof![
        4 => put.clone().prop_map(|(kind, name, body, refs)| Step::Put(kind, name, body, refs)),
        2 => (kind.clone(), name.clone()).prop_map(|(kind, name)| Step::Delete(kind, name)),
        1 => prop::collection::vec(put, 1..8).prop_map(Step::Replace),
        3 => (kind.clone(), name.clone()).prop_map(|(kind, name)| Step::Subscribe(kind, name)),
        1 => prop_oneof![Just(0_usize), Just(2_usize)].prop_map(Step::SubscribeAll),
        2 => (kind, name).prop_map(|(kind, name)| Step::Unsubscribe(kind, name)),
        5 => Just(Step::Server),
        5 => Just(Step::Client),
        5 => Just(Step::ToClient),
        5 => Just(Step::ToServer),
        5 => (0..3_usize).prop_map(Step::Answer),
        1 => Just(Step::Cut),
        1 => (1..30_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// A body that is valid for every type as far as its name, so that state of the world can read it.
fn resource(kind: ResourceKind, name: &str, contents: u8, refs: u8) -> Arc<Resource> {
    let mut body = vec![10, 1];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[0x7a, 2, contents, refs]);
    let named = NAMES.iter().enumerate().filter(|(bit, _)| refs & (1 << bit) != 0);
    let refs = match kind {
        Cluster => vec![ResourceKey::new(Endpoint, name)],
        Route => named.map(|(_, name)| ResourceKey::new(Cluster, *name)).collect(),
        Listener => named
            .flat_map(|(_, name)| [ResourceKey::new(Route, *name), ResourceKey::new(Secret, *name)])
            .collect(),
        _ => vec![],
    };
    Resource::new(kind, name, body, refs)
}

fn is_poison(body: &[u8]) -> bool {
    body.get(5) == Some(&POISON)
}

/// Both ends, the two directions between them, and what the client has put to use.
struct World {
    variant: Variant,
    layer: Layer,
    revision: u64,
    now: Instant,
    server: server::Session,
    publisher: mailbox::Sender,
    views: mailbox::Receiver,
    /// The server's task has something to look at.
    awake: bool,
    client: client::Session,
    wanted: BTreeMap<ResourceKind, (bool, Vec<&'static str>)>,
    upward: VecDeque<ClientMessage>,
    downward: VecDeque<ServerMessage>,
    unanswered: Vec<Update>,
    running: HashMap<(ResourceKind, Arc<str>), Bytes>,
    known: HashMap<(ResourceKind, Bytes), Arc<Resource>>,
    events: Vec<SessionEvent>,
    /// Clusters and listeners that the client put to use and that have existed and been asked for since: a refusal must
    /// not take them away.
    kept: BTreeSet<(ResourceKind, Arc<str>)>,
    /// What the client gave up and wants again on this stream: it is kept no more than what is new to it.
    given_up: BTreeSet<(ResourceKind, Arc<str>)>,
    /// What the control plane remembers beyond a stream.
    remembered: Vec<(ResourceKind, Rejected)>,
}

impl World {
    fn new(variant: Variant) -> Self {
        let node = wire::Node { id: "shop/web".into(), ..Default::default() };
        let (publisher, views) = mailbox::mailbox();
        let mut world = Self {
            variant,
            layer: Layer::new(),
            revision: 0,
            now: Instant::now(),
            server: server::Session::new(variant, ServedTypes::Aggregated),
            publisher,
            views,
            awake: false,
            client: client::Session::new(variant, node),
            wanted: BTreeMap::new(),
            upward: VecDeque::new(),
            downward: VecDeque::new(),
            unanswered: Vec::new(),
            running: HashMap::new(),
            known: HashMap::new(),
            events: Vec::new(),
            kept: BTreeSet::new(),
            given_up: BTreeSet::new(),
            remembered: Vec::new(),
        };
        world.client.on_connect();
        world.show(Changes::All);
        world
    }

    fn show(&mut self, changes: Changes) {
        self.revision += 1;
        let view = View::new(self.revision, vec![Arc::new(self.layer.clone())]);
        match self.publisher.send(view, changes) {
            Delivery::Woken => self.awake = true,
            Delivery::Kept => {}
        }
    }

    fn put(&mut self, (kind, name, contents, refs): (usize, usize, u8, u8)) -> ResourceKey {
        let resource = resource(KINDS[kind], NAMES[name], contents, refs);
        self.known.insert((resource.kind, resource.body.clone()), resource.clone());
        self.layer.insert(resource.clone());
        resource.key()
    }

    fn covers(&self, kind: ResourceKind, name: &str) -> bool {
        self.wanted.get(&kind).is_some_and(|(all, names)| *all || names.contains(&name))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Put(kind, name, contents, refs) => {
                let key = self.put((kind, name, contents, refs));
                self.show(Changes::Keys(vec![key]));
            }
            Step::Delete(kind, name) => {
                self.layer.remove(KINDS[kind], NAMES[name]);
                self.kept.remove(&(KINDS[kind], NAMES[name].into()));
                self.show(Changes::Keys(vec![ResourceKey::new(KINDS[kind], NAMES[name])]));
            }
            Step::Replace(puts) => {
                for put in puts {
                    self.put(put);
                }
                self.show(Changes::All);
            }
            Step::Subscribe(kind, name) => {
                let names = &mut self.wanted.entry(KINDS[kind]).or_default().1;
                if names.contains(&NAMES[name]) {
                    // State of the world says it again by giving it up in between, which may be said later than now.
                    self.kept.remove(&(KINDS[kind], NAMES[name].into()));
                    self.given_up.insert((KINDS[kind], NAMES[name].into()));
                } else {
                    names.push(NAMES[name]);
                }
                self.client.subscribe(KINDS[kind], NAMES[name]);
            }
            Step::SubscribeAll(kind) => {
                self.wanted.entry(KINDS[kind]).or_default().0 = true;
                self.client.subscribe_all(KINDS[kind]);
            }
            Step::Unsubscribe(kind, name) => self.unsubscribe(KINDS[kind], NAMES[name]),
            Step::Server => self.serve(),
            Step::Client => self.upward.extend(self.client.next_request()),
            Step::ToClient => self.deliver(),
            Step::ToServer => {
                if let Some(request) = self.upward.pop_front() {
                    self.awake = true;
                    self.server.on_request(request).expect("the client keeps to the protocol");
                }
            }
            Step::Answer(pick) => self.answer(pick),
            Step::Cut => self.cut(),
            Step::Wait(seconds) => self.now += Duration::from_secs(seconds),
        }
        self.note_events();
    }

    fn note_events(&mut self) {
        while let Some(event) = self.server.next_event() {
            if let SessionEvent::Quarantined { kind, rejected } = &event {
                self.remembered.retain(|(of, one)| (of, &one.name) != (kind, &rejected.name));
                self.remembered.push((*kind, rejected.clone()));
            }
            self.events.push(event);
        }
    }

    fn unsubscribe(&mut self, kind: ResourceKind, name: &'static str) {
        if let Some((all, names)) = self.wanted.get_mut(&kind) {
            names.retain(|wanted| *wanted != name);
            if !*all {
                self.running.remove(&(kind, name.into()));
                self.kept.remove(&(kind, name.into()));
            }
        }
        self.client.unsubscribe(kind, name);
    }

    fn serve(&mut self) {
        let is_due = self.server.next_deadline().is_some_and(|at| at <= self.now);
        if (std::mem::take(&mut self.awake) || is_due)
            && let Some((view, changes)) = self.views.set_interest(self.server.interest())
        {
            self.server.on_update(view, changes);
            // As the first view changes what it is woken for.
            self.awake = true;
        }
        let Some(response) = self.server.poll(self.now) else { return };
        if let ServerMessage::Delta(response) = &response {
            let mut names: Vec<_> = response.resources.iter().map(|resource| &resource.name).collect();
            names.extend(&response.removed_resources);
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "U17: a name appears twice");
            assert!(response.type_url != Secret.type_url() || response.removed_resources.is_empty(), "U12");
        }
        self.downward.push_back(response);
    }

    fn deliver(&mut self) {
        let Some(response) = self.downward.pop_front() else { return };
        let update = self.client.on_response(response);
        self.unanswered.push(update.expect("the server keeps to the protocol"));
    }

    /// Answers the oldest update of some type: types are independent of each other.
    fn answer(&mut self, pick: usize) {
        let mut kinds: Vec<_> = self.unanswered.iter().map(|update| update.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() {
            return;
        }
        let kind = kinds[pick % kinds.len()];
        let oldest = self.unanswered.iter().position(|update| update.kind == kind).unwrap();
        let update = self.unanswered.remove(oldest);
        let bad: Vec<_> =
            update.added.iter().filter(|added| is_poison(&added.body)).map(|added| &*added.name).collect();
        let verdict = if bad.is_empty() {
            for name in &update.removed {
                self.running.remove(&(kind, name.clone()));
            }
            for added in &update.added {
                if self.covers(kind, &added.name) {
                    self.running.insert((kind, added.name.clone()), added.body.clone());
                    if self.layer.lookup(kind, &added.name).is_some_and(|shown| shown.body == added.body)
                        && !self.given_up.contains(&(kind, added.name.clone()))
                    {
                        self.kept.insert((kind, added.name.clone()));
                    }
                }
            }
            Verdict::Ack
        } else {
            // Some clients name what they refuse, and some do not.
            let named = self.revision.is_multiple_of(2);
            Verdict::Nack(if named {
                format!("{}: no", bad.join(": no, "))
            } else {
                "something is wrong".into()
            })
        };
        self.client.answer(kind, &update.response_id, verdict);
    }

    /// The stream breaks: what is on the wire is lost, what was delivered is not.
    fn cut(&mut self) {
        self.upward.clear();
        self.downward.clear();
        self.given_up.clear();
        self.client.on_connect();
        self.server = server::Session::new(self.variant, ServedTypes::Aggregated);
        (self.publisher, self.views) = mailbox::mailbox();
        // Half of the streams come to a control plane that remembers, half to another replica.
        if self.revision.is_multiple_of(2) {
            for (kind, rejected) in self.remembered.clone() {
                self.server.remember_rejection(kind, rejected);
            }
        }
        self.show(Changes::All);
    }

    /// Lets everything arrive and be answered; fails if that never ends.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            let before = self.upward.len() + self.downward.len() + self.unanswered.len();
            for step in [Step::Server, Step::Client] {
                self.take(step);
            }
            let moved = self.upward.len() + self.downward.len() + self.unanswered.len();
            for step in [Step::ToClient, Step::Answer(0), Step::ToServer] {
                self.take(step);
            }
            if before == 0 && moved == 0 {
                match self.server.next_deadline() {
                    Some(deadline) => self.now = self.now.max(deadline),
                    None => return,
                }
            }
        }
        panic!("the sessions never come to rest");
    }

    fn refers_running(&self, child: &ResourceKey) -> bool {
        self.running.iter().any(|((kind, _), body)| {
            self.known.get(&(*kind, body.clone())).is_some_and(|resource| resource.refs.contains(child))
        })
    }

    fn shows_poison(&self, kind: ResourceKind) -> bool {
        self.layer.of_kind(kind).any(|resource| is_poison(&resource.body))
    }

    /// U11: what the client ran, and what exists and is wanted, it still runs in some version.
    fn check_kept(&self) {
        for (kind, name) in &self.kept {
            if matches!(kind, Cluster | Listener) {
                assert!(self.running.contains_key(&(*kind, name.clone())), "{kind} {name} was lost");
            }
        }
    }

    /// The client runs what the server shows, where it asked for it and can take it.
    fn check(&self) {
        self.check_kept();
        let status = self.server.status();
        for kind in KINDS {
            let state = status.types.iter().find(|state| state.kind == kind);
            for name in NAMES {
                if !self.covers(kind, name) {
                    continue;
                }
                let running = self.running.get(&(kind, name.into()));
                if state.is_some_and(|state| state.held_back.iter().any(|held| **held == *name)) {
                    assert!(running.is_none_or(|body| !is_poison(body)), "{kind} {name} is refused");
                    assert!(
                        self.shows_poison(kind) || self.shows_poison(Cluster),
                        "{kind} {name} is held back"
                    );
                    continue;
                }
                match self.layer.lookup(kind, name) {
                    Some(shown) if !is_poison(&shown.body) => {
                        assert_eq!(running, Some(&shown.body), "{kind} {name} did not arrive");
                    }
                    Some(_) => {
                        assert!(running.is_none_or(|body| !is_poison(body)), "{kind} {name} is refused");
                    }
                    None => self.check_gone(kind, name, running),
                }
            }
        }
    }

    fn is_set_blocked(&self, kind: ResourceKind) -> bool {
        let types = self.server.status().types;
        self.variant == Variant::Sotw
            && types.iter().any(|state| state.kind == kind && !state.held_back.is_empty())
    }

    fn check_gone(&self, kind: ResourceKind, name: &str, running: Option<&Bytes>) {
        let Some(running) = running else { return };
        let is_kept = self.refers_running(&ResourceKey::new(kind, name));
        let sotw = self.variant == Variant::Sotw;
        let excused = match kind {
            Secret => true,
            // A refused listener or route may refer to it on the client's side.
            // A blocked set deletes nothing either.
            Cluster | Listener if self.is_set_blocked(kind) => true,
            Cluster => is_kept || self.shows_poison(Listener) || self.shows_poison(Route),
            Route => sotw || is_kept || self.shows_poison(Listener),
            // A cluster from before whose newer version is refused may use it: what it refers to is not known.
            Endpoint => running.len() == 3 || is_kept || self.shows_poison(Cluster),
            _ => false,
        };
        assert!(excused, "{kind} {name} did not go");
    }
}

fn run(variant: Variant, steps: Vec<Step>) {
    let mut world = World::new(variant);
    for step in steps {
        world.take(step);
    }
    world.settle();
    world.check();
    let status = world.server.status();
    // A kept cluster waits for ever, by W7; everything else has been answered.
    let asked = !status.types.is_empty();
    assert!(
        !asked || status.synced || status.types.iter().any(|state| !state.waiting.is_empty()),
        "{status:?}"
    );
}

// PROPTEST_CASES=20000 for a long run.
proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_sessions_converge_whatever_happens(steps in steps()) {
        run(Variant::Delta, steps);
    }

    #[test]
    fn sotw_sessions_converge_whatever_happens(steps in steps()) {
        run(Variant::Sotw, steps);
    }
}

/// A reconnect with an unchanged world transfers nothing but secrets (R1).
#[test]
fn r1_a_reconnect_to_an_unchanged_world_is_silent() {
    let mut world = World::new(Variant::Delta);
    for kind in 0..4 {
        for name in 0..NAMES.len() {
            world.take(Step::Put(kind, name, 1, 0b1111));
            world.take(Step::Subscribe(kind, name));
        }
    }
    world.take(Step::SubscribeAll(0));
    world.settle();
    world.check();
    world.cut();
    world.events.clear();
    world.settle();
    let sent = world.events.iter().filter(|event| matches!(event, SessionEvent::Sent { .. })).count();
    assert_eq!(sent, 0);
    assert!(world.server.status().synced);
}
