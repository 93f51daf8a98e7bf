//! How many connections a listener holds, and which one goes when another comes.
//!
//! ```text
//! accept ─▶ Greeting ── handshake ─┬─▶ Member     it has shown a certificate
//!                                  └─▶ Stranger   it has not
//! ```
//!
//! Each pool has a bound of its own, so that strangers take no place of members. A pool that is full makes room: by what
//! costs its client least, and within that at the expense of the source that holds most, the oldest first. So one source
//! that opens many connections turns out its own. The bound is hard: a newcomer waits until the other one is gone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::calls::Activity;
use crate::source::SourceAddress;

// A handshake that takes longer than this does not stand in the way of others.
const SLOW_GREETING: Duration = Duration::from_secs(1);
// A stranger's call on which nothing moved for so long may be given up for another.
const QUIET_CALL: Duration = Duration::from_secs(10);
// How often one that waits for a place looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How many connections of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In the TLS handshake, or before it.
    pub greeting: usize,
    /// For callers without a certificate.
    pub strangers: usize,
    /// For callers with a certificate.
    pub members: usize,
}

/// What a connection is, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ConnectionClass {
    Greeting,
    Stranger,
    Member,
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct ConnectionPools {
    size: ConnectionLimits,
    // A lock because connections come and go in their own tasks; held for a look at the table, never while waiting.
    table: Mutex<PoolTable>,
    left: Notify,
}

#[derive(Debug, Default)]
struct PoolTable {
    last: u64,
    rows: BTreeMap<u64, PoolEntry>,
    of_pool: HashMap<ConnectionClass, usize>,
    of_source: HashMap<(ConnectionClass, SourceAddress), usize>,
    leaving: HashMap<ConnectionClass, usize>,
}

#[derive(Debug)]
struct PoolEntry {
    pool: ConnectionClass,
    source: SourceAddress,
    activity: Arc<Activity>,
    out: CancellationToken,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    pools: Arc<ConnectionPools>,
    id: u64,
    pub(super) source: SourceAddress,
    pub(super) activity: Arc<Activity>,
    /// Cancelled when another one needs the place.
    pub(super) out: CancellationToken,
}

/// Whether there is a place.
#[derive(Debug, PartialEq, Eq)]
enum Vacancy {
    Free,
    Soon,
    None,
}

impl ConnectionPools {
    pub(super) fn new(size: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { size, table: Mutex::default(), left: Notify::new() })
    }

    /// Takes a place, once there is one; none when nobody can be turned out for it.
    pub(super) async fn enter(
        self: &Arc<Self>,
        pool: ConnectionClass,
        source: SourceAddress,
    ) -> Option<ConnectionPermit> {
        let (activity, out) = (Activity::new(), CancellationToken::new());
        let row = || PoolEntry { pool, source, activity: Arc::clone(&activity), out: out.clone() };
        let id = self.place(pool, source, |table| table.insert(row())).await?;
        Some(ConnectionPermit { pools: Arc::clone(self), id, source, activity, out })
    }

    async fn place<T>(
        &self,
        pool: ConnectionClass,
        source: SourceAddress,
        take: impl Fn(&mut PoolTable) -> T,
    ) -> Option<T> {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            {
                let mut table = self.lock();
                match table.look(pool, source, self.size) {
                    Vacancy::Free => return Some(take(&mut table)),
                    Vacancy::None => return None,
                    Vacancy::Soon => {}
                }
            }
            drop(tokio::time::timeout(LOOK_AGAIN, left).await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Moves to another pool, once there is a place; false when nobody can be turned out for it.
    pub(super) async fn becomes(&self, pool: ConnectionClass) -> bool {
        self.pools.place(pool, self.source, |table| table.change(self.id, pool)).await.is_some()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.pools.lock().remove(self.id);
        self.pools.left.notify_waiters();
    }
}

impl PoolTable {
    fn insert(&mut self, row: PoolEntry) -> u64 {
        self.last += 1;
        self.count(row.pool, row.source);
        self.rows.insert(self.last, row);
        self.last
    }

    fn change(&mut self, id: u64, pool: ConnectionClass) {
        if let Some(row) = self.remove(id) {
            self.count(pool, row.source);
            if row.out.is_cancelled() {
                *self.leaving.entry(pool).or_default() += 1;
            }
            self.rows.insert(id, PoolEntry { pool, ..row });
        }
    }

    fn remove(&mut self, id: u64) -> Option<PoolEntry> {
        let row = self.rows.remove(&id)?;
        subtract(&mut self.of_pool, &row.pool);
        subtract(&mut self.of_source, &(row.pool, row.source));
        if row.out.is_cancelled() {
            subtract(&mut self.leaving, &row.pool);
        }
        Some(row)
    }

    fn count(&mut self, pool: ConnectionClass, source: SourceAddress) {
        *self.of_pool.entry(pool).or_default() += 1;
        *self.of_source.entry((pool, source)).or_default() += 1;
    }

    /// Looks for a place for a newcomer, and turns one out where that makes it.
    fn look(&mut self, pool: ConnectionClass, newcomer: SourceAddress, size: ConnectionLimits) -> Vacancy {
        let most = match pool {
            ConnectionClass::Greeting => size.greeting,
            ConnectionClass::Stranger => size.strangers,
            ConnectionClass::Member => size.members,
        };
        if self.of_pool.get(&pool).copied().unwrap_or_default() < most {
            return Vacancy::Free;
        }
        if self.leaving.contains_key(&pool) {
            return Vacancy::Soon;
        }
        let in_pool = self.rows.iter().filter(|(_, row)| row.pool == pool);
        let held = |row: &PoolEntry| self.of_source.get(&(pool, row.source)).copied().unwrap_or_default();
        let ranked = in_pool.filter_map(|(id, row)| {
            let is_hog = held(row) > most / 2 && row.source != newcomer;
            Some((row.rank(is_hog)?, Reverse(held(row)), *id))
        });
        if let Some((_, _, victim)) = ranked.min() {
            self.rows[&victim].out.cancel();
            *self.leaving.entry(pool).or_default() += 1;
            return Vacancy::Soon;
        }
        let own = self.of_source.get(&(pool, newcomer)).copied().unwrap_or_default();
        // Handshakes end soon by themselves; one source alone must not make all others wait for that.
        if pool == ConnectionClass::Greeting && own <= most / 2 { Vacancy::Soon } else { Vacancy::None }
    }
}

impl PoolEntry {
    /// How little is lost with it; nothing when it stays. A hog is a source with more than half of all places.
    fn rank(&self, is_hog: bool) -> Option<u8> {
        let activity = &self.activity;
        match self.pool {
            ConnectionClass::Greeting if !activity.is_heard() => Some(0),
            ConnectionClass::Greeting if activity.age() >= SLOW_GREETING => Some(1),
            ConnectionClass::Stranger if activity.is_idle() => Some(0),
            ConnectionClass::Stranger if activity.quiet() >= QUIET_CALL => Some(1),
            ConnectionClass::Greeting | ConnectionClass::Stranger => is_hog.then_some(2),
            ConnectionClass::Member => None,
        }
    }
}

fn subtract<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
