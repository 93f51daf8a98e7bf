//! A tap of the whole mesh: what the sidecars of this replica tell, and what other replicas hear of theirs.
//!
//! ```text
//! Taps of this replica ───────────────────┐
//! POST /replica/taps at each other, for   ├─▶ ViewerTap: pairs, bounds, counts ─▶ TapEvents ─▶ GET /v1/taps
//! as long as the viewer is there ─────────┘
//! ```
//!
//! The viewer's replica does everything that needs both sides of a request; the others pass on what they are told.

mod hearing;
mod others;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;
use weft_api::rest::{Hop, SHOWN_PER_SECOND, TapLine, TapListening, TapNotShown};
use weft_xds::transport::buckets::{Bucket, Rate};

pub use others::router;

use hearing::{MeshHearing, SidecarHearing, hearing};
use others::{FromReplica, PASSED_ON, follow};

use super::traffic::OtherReplicas;
use crate::reconciler::ReconcilerHandle;
use crate::taps::{OpenTap, Pairing, TapFilter, TapLease, Taps, TooManyTaps, ViewerNews};

/// Events that wait for a viewer; what finds no room is counted.
const EVENTS: usize = 256;
/// How often a viewer is told what was not shown, and whom he hears where that changed.
const TICK: Duration = Duration::from_millis(500);
/// Ticks between two looks at who is heard.
const LOOK: u32 = 4;
/// A whole second's requests may come at once.
#[allow(clippy::cast_precision_loss, reason = "it is 200")]
const RATE: Rate = Rate { per_second: SHOWN_PER_SECOND as f64, burst: SHOWN_PER_SECOND as f64 };

/// Taps of all replicas. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MeshTaps {
    taps: Taps,
    reconciler: ReconcilerHandle,
    others: Option<OtherReplicas>,
}

/// What a viewer is told.
#[derive(Debug)]
pub enum TapEvent {
    Listening(TapListening),
    Line(Box<TapLine>),
    NotShown(TapNotShown),
}

/// How much a viewer was shown, for the log.
#[derive(Debug, Default)]
pub struct TapCounts {
    pub shown: AtomicU64,
    pub not_shown: AtomicU64,
}

/// What comes for one viewer. The tap ends when this is dropped, or is not read any more.
#[derive(Debug)]
pub struct TapEvents {
    events: mpsc::Receiver<TapEvent>,
    lease: TapLease,
    pub counts: Arc<TapCounts>,
}

impl TapEvents {
    /// What comes next; none when the tap has ended. Whoever waits here is there.
    pub async fn next(&mut self) -> Option<TapEvent> {
        loop {
            self.lease.renew();
            if let Ok(event) = tokio::time::timeout(TICK, self.events.recv()).await {
                return event;
            }
        }
    }
}

impl MeshTaps {
    /// Of this replica, and of the others where there may be any.
    #[must_use]
    pub fn new(taps: Taps, reconciler: ReconcilerHandle, others: Option<OtherReplicas>) -> Self {
        Self { taps, reconciler, others }
    }

    /// Those of this replica.
    #[must_use]
    pub fn here(&self) -> &Taps {
        &self.taps
    }

    /// Begins a tap.
    ///
    /// # Errors
    /// When there are too many.
    pub fn open(&self, filter: TapFilter) -> Result<TapEvents, TooManyTaps> {
        let tap = self.taps.open(filter.clone())?;
        let lease = tap.lease();
        let (events, receiver) = mpsc::channel(EVENTS);
        let counts = Arc::<TapCounts>::default();
        let watching = ViewerTap {
            mesh: self.clone(),
            filter,
            events,
            counts: Arc::clone(&counts),
            pairing: Pairing::default(),
            bucket: Bucket::full(RATE, Instant::now()),
            replicas: HashMap::new(),
            here: Vec::new(),
            lacks_callers: false,
            told: None,
            not_shown: 0.0,
        };
        tokio::spawn(watching.run(tap));
        Ok(TapEvents { events: receiver, lease, counts })
    }
}

/// Another replica that is asked, and what it said last of whom it hears; nothing while it does not answer.
struct AskedReplica {
    hears: Option<Vec<SidecarHearing>>,
    _task: AbortOnDropHandle<()>,
}

struct ViewerTap {
    mesh: MeshTaps,
    filter: TapFilter,
    events: mpsc::Sender<TapEvent>,
    counts: Arc<TapCounts>,
    pairing: Pairing,
    bucket: Bucket,
    replicas: HashMap<String, AskedReplica>,
    /// Whom this replica hears.
    here: Vec<SidecarHearing>,
    /// There are callers whose sidecars do not tell: then the called side does.
    lacks_callers: bool,
    /// What the viewer knows of who is heard.
    told: Option<TapListening>,
    /// Since the beginning; parts, where an Envoy tells a part.
    not_shown: f64,
}

impl ViewerTap {
    async fn run(mut self, mut tap: OpenTap) {
        let (news, mut from_others) = mpsc::channel::<(String, FromReplica)>(PASSED_ON);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        loop {
            let due = self.pairing.due().map(tokio::time::Instant::from_std);
            tokio::select! {
                told = tap.next() => match told {
                    Some(told) => self.take(told),
                    None => return,
                },
                Some((replica, told)) = from_others.recv() => self.take_from(&replica, told),
                () = until(due) => self.show_due(),
                _ = ticks.tick() => {
                    if turn % LOOK == 0 {
                        self.ask_others(&news);
                        self.here = hearing(&self.mesh.reconciler, &self.mesh.taps, &self.filter).await;
                    }
                    turn += 1;
                    self.tell_listening();
                    self.tell_not_shown();
                }
                () = self.events.closed() => return,
            }
        }
    }

    /// Asks those that have come, and forgets those that have gone.
    fn ask_others(&mut self, news: &mpsc::Sender<(String, FromReplica)>) {
        let Some(others) = &self.mesh.others else { return };
        let known = others.known();
        self.replicas.retain(|id, _| known.contains_key(id));
        for (id, address) in known {
            self.replicas.entry(id.clone()).or_insert_with(|| {
                let following = follow(others.clone(), id, address, self.filter.clone(), news.clone());
                AskedReplica { hears: None, _task: AbortOnDropHandle::new(tokio::spawn(following)) }
            });
        }
    }

    fn take_from(&mut self, replica: &str, told: FromReplica) {
        match told {
            FromReplica::News(news) => self.take(news),
            FromReplica::Hearing(hears) => {
                if let Some(replica) = self.replicas.get_mut(replica) {
                    replica.hears = Some(hears);
                }
            }
            FromReplica::Lost => {
                if let Some(replica) = self.replicas.get_mut(replica) {
                    replica.hears = None;
                }
            }
        }
    }

    fn take(&mut self, news: ViewerNews) {
        match news {
            ViewerNews::Seen(seen) => {
                if let Some(line) = self.pairing.add(Instant::now(), *seen) {
                    self.show(line);
                }
            }
            ViewerNews::NotShown { hop: Hop::Outbound, requests } => self.not_shown += requests,
            ViewerNews::NotShown { hop: Hop::Inbound, requests } => {
                if self.lacks_callers {
                    self.not_shown += requests;
                }
            }
        }
    }

    fn show_due(&mut self) {
        let now = Instant::now();
        while let Some(line) = self.pairing.next_due(now) {
            // Its caller's sidecar has told of it, or counted it.
            if line.request.hop == Hop::Outbound || self.lacks_callers {
                self.show(line);
            }
        }
    }

    fn show(&mut self, line: TapLine) {
        let may = self.bucket.take(RATE, Instant::now()).is_ok();
        if may && self.events.try_send(TapEvent::Line(Box::new(line))).is_ok() {
            self.counts.shown.fetch_add(1, Ordering::Relaxed);
        } else {
            self.not_shown += 1.0;
        }
    }

    fn tell_listening(&mut self) {
        let others = self.replicas.values().flat_map(|other| other.hears.iter().flatten());
        let hearing = MeshHearing::of(self.here.iter().chain(others));
        let unheard_replicas = self.replicas.values().filter(|other| other.hears.is_none()).count();
        self.lacks_callers = unheard_replicas > 0 || hearing.lacks_callers();
        let now = hearing.listening(&self.mesh.reconciler, &self.filter, unheard_replicas);
        if self.told.as_ref() != Some(&now) && self.events.try_send(TapEvent::Listening(now.clone())).is_ok()
        {
            self.told = Some(now);
        }
    }

    fn tell_not_shown(&mut self) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let requests = self.not_shown.round() as u64;
        if self.counts.not_shown.load(Ordering::Relaxed) != requests
            && self.events.try_send(TapEvent::NotShown(TapNotShown { requests })).is_ok()
        {
            self.counts.not_shown.store(requests, Ordering::Relaxed);
        }
    }
}

async fn until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
