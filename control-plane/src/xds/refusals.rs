//! What clients refused, remembered beyond the stream on which they said so: the same bytes are not tried again after each
//! reconnect (rule S9), on whichever kind of stream the client comes back.
//!
//! A client is an instance of a workload under what it calls itself. A new instance begins with a clean slate, and so does
//! a proxy of another version: it may well take what the old one refused. What a client accepts later is struck out, what
//! it refuses anew replaces what it refused before. A cause may pass, as that of a port that was taken: after a while a stream
//! that opens is asked once more. Nothing is written to the store: so it is after a restart, and on another replica.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weft_api::{ResourceKind, WorkloadId};
use weft_xds::server::Rejected;

/// Bytes remembered of one client: some thousand refusals.
const OF_ONE: usize = 2 << 20;
/// Bytes remembered of all together.
const OF_ALL: usize = 32 << 20;
/// Clients of one workload that are told apart: an upgrade passes through two.
const CLIENTS: usize = 2;
/// A refusal this old is tried again by the next stream.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// What a refusal costs beside its words.
const OVERHEAD: usize = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKey {
    pub workload: WorkloadId,
    /// Which joining of it.
    pub instance: Arc<str>,
    /// What it calls itself, with its version.
    pub agent: Arc<str>,
}

/// The memory. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    // A lock because streams tell from their own tasks; held for look-ups, and never while something is awaited.
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    workloads: HashMap<WorkloadId, Vec<KnownClient>>,
    bytes: usize,
    count: usize,
    next: u64,
}

/// One client of a workload, the one that was heard of last at the end.
#[derive(Debug)]
struct KnownClient {
    instance: Arc<str>,
    agent: Arc<str>,
    places: HashMap<(ResourceKind, Arc<str>), u64>,
    by_age: BTreeMap<u64, (ResourceKind, Rejected, Instant)>,
    bytes: usize,
}

impl Refusals {
    /// What this client refused of late and has not accepted in another version since.
    #[must_use]
    pub fn recall(&self, client: &ClientKey) -> Vec<(ResourceKind, Rejected)> {
        let mut memory = self.memory();
        match memory.known(client) {
            Some(known) => {
                let fresh = known.by_age.values().filter(|(.., at)| at.elapsed() < KEPT);
                fresh.map(|(kind, rejected, _)| (*kind, rejected.clone())).collect()
            }
            None => Vec::new(),
        }
    }

    /// Remembers a refusal; says how many others had to be forgotten for lack of room.
    pub fn remember(&self, client: &ClientKey, kind: ResourceKind, rejected: &Rejected) -> usize {
        self.memory().remember(client, kind, rejected)
    }

    /// The client accepted these names of a type in some version.
    pub fn accepted<'a>(
        &self,
        client: &ClientKey,
        kind: ResourceKind,
        names: impl IntoIterator<Item = &'a Arc<str>>,
    ) {
        let mut memory = self.memory();
        if memory.count == 0 {
            return;
        }
        let Some(known) = memory.known(client) else { return };
        let before = (known.bytes, known.by_age.len());
        for name in names {
            known.strike(kind, name);
        }
        // A set was accepted, so the one that was refused as a whole is another one.
        known.strike(kind, &Arc::from(WHOLE_SET));
        let after = (known.bytes, known.by_age.len());
        memory.bytes -= before.0 - after.0;
        memory.count -= before.1 - after.1;
    }

    /// The workload is gone, but for this instance.
    pub fn forget(&self, workload: &WorkloadId, keep: Option<&str>) {
        let mut memory = self.memory();
        let Some(clients) = memory.workloads.get_mut(workload) else { return };
        let gone: Vec<KnownClient> = clients.extract_if(.., |known| keep != Some(&*known.instance)).collect();
        let is_gone = clients.is_empty();
        if is_gone {
            memory.workloads.remove(workload);
        }
        for known in gone {
            memory.let_go(&known);
        }
    }

    /// How many refusals are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory().count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name under which a session reports a whole set.
const WHOLE_SET: &str = "*";

impl Memory {
    fn known(&mut self, client: &ClientKey) -> Option<&mut KnownClient> {
        self.workloads.get_mut(&client.workload)?.iter_mut().find(|known| known.is(client))
    }

    fn remember(&mut self, client: &ClientKey, kind: ResourceKind, rejected: &Rejected) -> usize {
        let age = self.next;
        self.next += 1;
        let clients = self.workloads.entry(client.workload.clone()).or_default();
        let mut known = match clients.iter().position(|known| known.is(client)) {
            Some(place) => clients.remove(place),
            None => KnownClient::new(client),
        };
        let oldest = (clients.len() >= CLIENTS).then(|| clients.remove(0));
        let before = (known.bytes, known.by_age.len());
        let mut forgotten = known.add(age, kind, rejected);
        self.bytes = self.bytes - before.0 + known.bytes;
        self.count = self.count - before.1 + known.by_age.len();
        clients.push(known);
        if let Some(oldest) = oldest {
            forgotten += oldest.by_age.len();
            self.let_go(&oldest);
        }
        while self.bytes > OF_ALL {
            forgotten += self.take_from_the_richest();
        }
        forgotten
    }

    /// Whoever has the most gives the room, so that one who refuses without end forgets its own.
    fn take_from_the_richest(&mut self) -> usize {
        let clients = self.workloads.values_mut().flatten();
        let Some(richest) = clients.max_by_key(|known| known.bytes) else {
            self.bytes = 0;
            return 0;
        };
        let before = richest.bytes;
        richest.strike_oldest();
        self.bytes -= before - richest.bytes;
        self.count -= 1;
        1
    }

    fn let_go(&mut self, known: &KnownClient) {
        self.bytes -= known.bytes;
        self.count -= known.by_age.len();
    }
}

impl KnownClient {
    fn new(client: &ClientKey) -> Self {
        Self {
            instance: Arc::clone(&client.instance),
            agent: Arc::clone(&client.agent),
            places: HashMap::new(),
            by_age: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn is(&self, client: &ClientKey) -> bool {
        self.instance == client.instance && self.agent == client.agent
    }

    fn add(&mut self, age: u64, kind: ResourceKind, rejected: &Rejected) -> usize {
        self.strike(kind, &rejected.name);
        self.places.insert((kind, rejected.name.clone()), age);
        self.bytes += cost(rejected);
        self.by_age.insert(age, (kind, rejected.clone(), Instant::now()));
        let mut forgotten = 0;
        while self.bytes > OF_ONE && self.by_age.len() > 1 {
            self.strike_oldest();
            forgotten += 1;
        }
        forgotten
    }

    fn strike(&mut self, kind: ResourceKind, name: &Arc<str>) {
        if let Some(age) = self.places.remove(&(kind, name.clone()))
            && let Some((_, rejected, _)) = self.by_age.remove(&age)
        {
            self.bytes -= cost(&rejected);
        }
    }

    fn strike_oldest(&mut self) {
        if let Some((_, (kind, rejected, _))) = self.by_age.pop_first() {
            self.bytes -= cost(&rejected);
            self.places.remove(&(kind, rejected.name));
        }
    }
}

fn cost(rejected: &Rejected) -> usize {
    rejected.name.len() + rejected.message.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use weft_api::Version;

    use super::*;

    fn client(workload: &str, instance: &str, agent: &str) -> ClientKey {
        ClientKey { workload: workload.parse().unwrap(), instance: instance.into(), agent: agent.into() }
    }

    fn refused(name: &str, body: &str, words: &str) -> Rejected {
        let version = Version::of(ResourceKind::Cluster, name, body.as_bytes());
        Rejected { name: name.into(), version, message: words.into() }
    }

    fn names(refusals: &Refusals, client: &ClientKey) -> Vec<String> {
        refusals.recall(client).iter().map(|(_, rejected)| rejected.name.to_string()).collect()
    }

    #[test]
    fn s9_a_client_is_remembered_until_it_accepts_another_version() {
        let (refusals, web) = (Refusals::default(), client("shop/web-1", "1", "envoy 1.40.0"));
        refusals.remember(&web, ResourceKind::Cluster, &refused("a", "1", "no"));
        refusals.remember(&web, ResourceKind::Cluster, &refused("b", "1", "no"));
        refusals.remember(&web, ResourceKind::Cluster, &refused("a", "2", "no, still"));
        assert_eq!(names(&refusals, &web), ["b", "a"]);
        assert_eq!(refusals.recall(&web)[1].1, refused("a", "2", "no, still"));
        refusals.accepted(&web, ResourceKind::Listener, [&"a".into()]);
        refusals.accepted(&web, ResourceKind::Cluster, [&"a".into()]);
        assert_eq!(names(&refusals, &web), ["b"]);
        refusals.remember(&web, ResourceKind::Cluster, &refused("*", "", "no"));
        refusals.accepted(&web, ResourceKind::Cluster, []);
        assert_eq!(names(&refusals, &web), ["b"]);
        assert_eq!(refusals.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_a_while_ago_is_tried_again() {
        let (refusals, web) = (Refusals::default(), client("shop/web-1", "1", "envoy 1.40.0"));
        refusals.remember(&web, ResourceKind::Listener, &refused("inbound", "1", "cannot bind"));
        tokio::time::advance(KEPT / 2).await;
        assert_eq!(names(&refusals, &web), ["inbound"]);
        tokio::time::advance(KEPT / 2).await;
        assert!(refusals.recall(&web).is_empty());
    }

    #[test]
    fn another_version_of_the_proxy_and_another_instance_begin_anew() {
        let refusals = Refusals::default();
        let [old, new, newer] =
            ["envoy 1.39.0", "envoy 1.40.0", "envoy 1.41.0"].map(|a| client("shop/web-1", "1", a));
        refusals.remember(&old, ResourceKind::Cluster, &refused("a", "1", "no"));
        assert!(refusals.recall(&new).is_empty());
        assert!(refusals.recall(&client("shop/web-1", "2", "envoy 1.39.0")).is_empty());
        refusals.remember(&new, ResourceKind::Cluster, &refused("b", "1", "no"));
        assert_eq!((names(&refusals, &old), names(&refusals, &new)), (vec!["a".into()], vec!["b".into()]));
        // No room for a third: the one heard of longest ago goes.
        assert_eq!(refusals.remember(&newer, ResourceKind::Cluster, &refused("c", "1", "no")), 1);
        assert!(refusals.recall(&old).is_empty());
        assert_eq!(refusals.len(), 2);
    }

    #[test]
    fn what_is_remembered_goes_with_the_workload_or_its_instance() {
        let refusals = Refusals::default();
        let [first, second] = ["1", "2"].map(|instance| client("shop/web-1", instance, "envoy"));
        refusals.remember(&first, ResourceKind::Cluster, &refused("a", "1", "no"));
        refusals.remember(&second, ResourceKind::Cluster, &refused("b", "1", "no"));
        refusals.forget(&first.workload, Some("2"));
        assert!(refusals.recall(&first).is_empty());
        assert_eq!(names(&refusals, &second), ["b"]);
        refusals.forget(&first.workload, None);
        assert!(
            refusals.is_empty() && refusals.memory().bytes == 0 && refusals.memory().workloads.is_empty()
        );
    }

    #[test]
    fn one_that_refuses_without_end_forgets_its_own_and_no_others() {
        let refusals = Refusals::default();
        let quiet = client("shop/quiet", "1", "envoy");
        refusals.remember(&quiet, ResourceKind::Cluster, &refused("a", "1", "no"));
        let words = "x".repeat(4096);
        let mut forgotten = 0;
        for n in 0..20 {
            let loud = client(&format!("shop/loud-{n}"), "1", "envoy");
            for name in 0..1000 {
                let rejected = refused(&format!("c{name}"), "1", &words);
                forgotten += refusals.remember(&loud, ResourceKind::Cluster, &rejected);
            }
            assert!(names(&refusals, &loud).last().unwrap() == "c999");
        }
        assert!(refusals.memory().bytes <= OF_ALL, "{}", refusals.memory().bytes);
        assert_eq!(forgotten + refusals.len(), 20_001);
        assert_eq!(names(&refusals, &quiet), ["a"]);
    }
}
