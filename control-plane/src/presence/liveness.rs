//! Who is alive: what a lost stream means, and when.
//!
//! A joined workload is a stored record; its stream only says whether it is there. A lost stream degrades the
//! workload, then drains it, then removes it. Clocks start when this replica is ready, and when too much of the mesh
//! would go at once nothing goes: a control plane's own outage never empties a mesh.
//!
//! Pure: time is passed in, so that hours pass in a test in no time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_api::WorkloadId;

/// How long a lost stream takes to have which effect.
#[derive(Clone, Copy, Debug)]
pub struct LivenessTimeouts {
    /// Marked degraded in EDS.
    pub degrade: Duration,
    /// Drained: no new requests.
    pub drain: Duration,
    /// The record is removed.
    pub remove: Duration,
}

impl Default for LivenessTimeouts {
    fn default() -> Self {
        Self {
            degrade: Duration::from_secs(10),
            drain: Duration::from_secs(5 * 60),
            remove: Duration::from_secs(6 * 60 * 60),
        }
    }
}

/// How alive a workload is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LivenessState {
    /// It has a stream, or lost it a moment ago.
    Alive,
    /// Its stream is lost for some seconds.
    Degraded,
    /// Its stream is lost for minutes.
    Drained,
    /// Its stream is lost for hours.
    Expired,
}

/// What a sweep found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// Workloads whose life changed.
    pub changed: Vec<(WorkloadId, LivenessState)>,
    /// How many would have been drained or removed but were held back, because too many would go at once.
    pub held_back: usize,
}

#[derive(Debug)]
struct LivenessEntry {
    lost_at: Instant,
    life: LivenessState,
    /// When it was last drained or given up.
    went_at: Option<Instant>,
}

/// The presence of every joined workload.
///
/// Streams are counted whether or not the record is known yet, and by whichever replica they end at: a stream may
/// open before the record arrives, and outlive it.
#[derive(Debug)]
pub struct Liveness {
    timeouts: LivenessTimeouts,
    joined: BTreeMap<WorkloadId, LivenessEntry>,
    streams: BTreeMap<WorkloadId, usize>,
}

/// Below this many workloads at once, losing them is an event of the mesh and not of the control plane; unless they are
/// all there are.
const HOLD_AT_LEAST: usize = 3;

impl Liveness {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(timeouts: LivenessTimeouts) -> Self {
        Self { timeouts, joined: BTreeMap::new(), streams: BTreeMap::new() }
    }

    /// A record exists. Its clock starts now unless it was known before.
    pub fn joined(&mut self, now: Instant, id: &WorkloadId) {
        self.joined.entry(id.clone()).or_insert_with(|| LivenessEntry::new(now));
    }

    /// Another instance took the name: what its predecessor lost says nothing about it.
    pub fn reborn(&mut self, now: Instant, id: &WorkloadId) {
        self.joined.insert(id.clone(), LivenessEntry::new(now));
    }

    /// The record is gone.
    pub fn removed(&mut self, id: &WorkloadId) {
        self.joined.remove(id);
    }

    /// This replica became ready: nobody was missed before now.
    pub fn start_clocks(&mut self, now: Instant) {
        for entry in self.joined.values_mut() {
            entry.lost_at = now;
        }
    }

    /// A stream opened. True when that brings the workload back to life.
    pub fn connected(&mut self, id: &WorkloadId) -> bool {
        *self.streams.entry(id.clone()).or_default() += 1;
        let Some(entry) = self.joined.get_mut(id) else { return false };
        entry.went_at = None;
        std::mem::replace(&mut entry.life, LivenessState::Alive) != LivenessState::Alive
    }

    pub fn disconnected(&mut self, now: Instant, id: &WorkloadId) {
        let Some(streams) = self.streams.get_mut(id) else { return };
        *streams -= 1;
        if *streams == 0 {
            self.streams.remove(id);
            if let Some(entry) = self.joined.get_mut(id) {
                entry.lost_at = now;
            }
        }
    }

    /// Whether it has a stream, here or elsewhere.
    #[must_use]
    pub fn is_connected(&self, id: &WorkloadId) -> bool {
        self.streams.contains_key(id)
    }

    /// How alive a workload is.
    #[must_use]
    pub fn life(&self, id: &WorkloadId) -> Option<LivenessState> {
        self.joined.get(id).map(|entry| entry.life)
    }

    /// Lets time have its effect.
    pub fn sweep(&mut self, now: Instant) -> Sweep {
        let lost = self.joined.iter().filter(|(id, _)| !self.streams.contains_key(*id));
        let due: Vec<(WorkloadId, LivenessState)> = lost
            .clone()
            .map(|(id, entry)| (id, entry, self.timeouts.life(now.saturating_duration_since(entry.lost_at))))
            // What was drained before stays so, whatever is held back.
            .filter(|(_, entry, life)| *life > entry.life)
            .map(|(id, _, life)| (id.clone(), life))
            .collect();
        let going = due.iter().filter(|(_, life)| *life >= LivenessState::Drained).count();
        // An outage is noticed over some time, not in one sweep: those that are lost count before they are due, and
        // those that went lately after. One long ago is none of today's.
        let lately = |at: Instant| now.saturating_duration_since(at) < self.timeouts.drain;
        let lost = lost.filter(|(_, entry)| entry.went_at.is_none()).count();
        let gone = self.joined.values().filter(|entry| entry.went_at.is_some_and(lately)).count();
        let hold = going > 0 && self.is_too_many(going.max(lost) + gone);
        let mut sweep = Sweep { held_back: if hold { going } else { 0 }, ..Sweep::default() };
        for (id, life) in due {
            let life = if hold { life.min(LivenessState::Degraded) } else { life };
            let Some(entry) = self.joined.get_mut(&id) else { continue };
            if life > entry.life {
                entry.life = life;
                entry.went_at = (life >= LivenessState::Drained).then_some(now);
                sweep.changed.push((id, life));
            }
        }
        sweep
    }

    fn is_too_many(&self, going: usize) -> bool {
        let all = self.joined.len();
        going == all || (going >= HOLD_AT_LEAST && going * 3 > all)
    }
}

impl LivenessEntry {
    fn new(now: Instant) -> Self {
        Self { lost_at: now, life: LivenessState::Alive, went_at: None }
    }
}

impl LivenessTimeouts {
    fn life(&self, away: Duration) -> LivenessState {
        if away >= self.remove {
            LivenessState::Expired
        } else if away >= self.drain {
            LivenessState::Drained
        } else if away >= self.degrade {
            LivenessState::Degraded
        } else {
            LivenessState::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> WorkloadId {
        format!("shop/w-{n}").parse().unwrap()
    }

    fn mesh(size: usize, now: Instant) -> Liveness {
        let mut liveness = Liveness::new(LivenessTimeouts::default());
        for n in 0..size {
            liveness.joined(now, &id(n));
            liveness.connected(&id(n));
        }
        liveness
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn lost_stream_degrades_then_drains_then_removes() {
        let start = Instant::now();
        let mut liveness = mesh(10, start);
        liveness.disconnected(start, &id(0));
        assert_eq!(liveness.sweep(start + 9 * SECOND), Sweep::default());
        for (after, life) in
            [(10, LivenessState::Degraded), (300, LivenessState::Drained), (21_600, LivenessState::Expired)]
        {
            let sweep = liveness.sweep(start + after * SECOND);
            assert_eq!(sweep.changed, [(id(0), life)]);
            assert_eq!(liveness.sweep(start + after * SECOND).changed, []);
        }
    }

    #[test]
    fn stream_that_comes_back_revives() {
        let start = Instant::now();
        let mut liveness = mesh(10, start);
        liveness.disconnected(start, &id(0));
        liveness.sweep(start + 20 * SECOND);
        assert!(liveness.connected(&id(0)));
        assert_eq!(liveness.life(&id(0)), Some(LivenessState::Alive));
        assert_eq!(liveness.sweep(start + 1000 * SECOND).changed, []);
    }

    #[test]
    fn second_stream_keeps_a_workload_alive() {
        let start = Instant::now();
        let mut liveness = mesh(1, start);
        liveness.connected(&id(0));
        liveness.disconnected(start, &id(0));
        assert_eq!(liveness.sweep(start + 1000 * SECOND).changed, []);
    }

    #[test]
    fn stream_that_opened_before_the_record_arrived_counts() {
        let start = Instant::now();
        let mut liveness = mesh(1, start);
        liveness.connected(&id(7));
        liveness.joined(start, &id(7));
        assert_eq!(liveness.sweep(start + 1000 * SECOND).changed, []);
        // The record is deleted and written again while the stream stays.
        liveness.removed(&id(7));
        liveness.joined(start, &id(7));
        assert_eq!(liveness.sweep(start + 1000 * SECOND).changed, []);
        liveness.disconnected(start, &id(7));
        assert_eq!(liveness.sweep(start + 10 * SECOND).changed, [(id(7), LivenessState::Degraded)]);
    }

    #[test]
    fn more_than_a_third_at_once_is_held_back() {
        let start = Instant::now();
        let mut liveness = mesh(9, start);
        for n in 0..4 {
            liveness.disconnected(start, &id(n));
        }
        let sweep = liveness.sweep(start + 100_000 * SECOND);
        assert_eq!(sweep.held_back, 4);
        assert!(sweep.changed.iter().all(|(_, life)| *life == LivenessState::Degraded));
        liveness.connected(&id(0));
        let sweep = liveness.sweep(start + 100_002 * SECOND);
        assert_eq!((sweep.held_back, sweep.changed.len()), (0, 3));
    }

    #[test]
    fn outage_that_is_noticed_little_by_little_is_held_back_too() {
        let start = Instant::now();
        let mut liveness = mesh(30, start);
        for n in 0..30 {
            liveness.disconnected(start + u32::try_from(n).unwrap() * SECOND, &id(n));
        }
        for second in 0..2000 {
            liveness.sweep(start + second * SECOND);
        }
        assert!((0..30).all(|n| liveness.life(&id(n)) == Some(LivenessState::Degraded)));
    }

    #[test]
    fn those_lost_long_ago_do_not_hold_back_the_next() {
        let start = Instant::now();
        let mut liveness = mesh(6, start);
        for n in 0..4 {
            let lost = start + u32::try_from(n).unwrap() * 1000 * SECOND;
            liveness.disconnected(lost, &id(n));
            liveness.sweep(lost + 400 * SECOND);
            assert_eq!(liveness.life(&id(n)), Some(LivenessState::Drained), "{n}");
        }
    }

    #[test]
    fn the_last_workload_of_a_mesh_is_never_drained() {
        let start = Instant::now();
        let mut liveness = mesh(1, start);
        liveness.disconnected(start, &id(0));
        assert_eq!(liveness.sweep(start + 1000 * SECOND).held_back, 1);
        assert_eq!(liveness.life(&id(0)), Some(LivenessState::Degraded));
    }

    #[test]
    fn clock_of_a_known_record_starts_when_the_replica_is_ready() {
        let read = Instant::now();
        let ready = read + 60 * SECOND;
        let mut liveness = Liveness::new(LivenessTimeouts::default());
        liveness.joined(read, &id(0));
        liveness.start_clocks(ready);
        assert_eq!(liveness.sweep(ready + 5 * SECOND).changed, []);
        assert_eq!(liveness.sweep(ready + 10 * SECOND).changed, [(id(0), LivenessState::Degraded)]);
    }

    #[test]
    fn successor_of_a_lost_instance_begins_alive() {
        let start = Instant::now();
        let mut liveness = mesh(10, start);
        liveness.disconnected(start, &id(0));
        liveness.sweep(start + 30_000 * SECOND);
        assert_eq!(liveness.life(&id(0)), Some(LivenessState::Expired));
        liveness.reborn(start + 30_001 * SECOND, &id(0));
        assert_eq!(liveness.life(&id(0)), Some(LivenessState::Alive));
        assert_eq!(liveness.sweep(start + 30_002 * SECOND).changed, []);
    }
}
