//! What is kept, and who loses a record where there is no room.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use weft_api::WorkloadId;
use weft_api::rest::RequestRecord;

/// What a record takes beside its texts.
const OVERHEAD: usize = 512;
/// Drops are counted by spans of this length.
const SPAN: Duration = Duration::from_secs(60);

/// Records by when they came, of each workload. It reads no clock.
#[derive(Debug)]
pub(super) struct Kept {
    life: Duration,
    most: usize,
    most_bytes: usize,
    /// By the number of their arrival.
    records: BTreeMap<u64, KeptRecord>,
    holders: HashMap<WorkloadId, Holder>,
    /// The same by what they hold.
    by_bytes: BTreeSet<(usize, WorkloadId)>,
    bytes: usize,
    next: u64,
    dropped: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct KeptRecord {
    at: Instant,
    workload: WorkloadId,
    bytes: usize,
    record: RequestRecord,
}

/// The records of one workload, oldest first, and what they take.
#[derive(Debug, Default)]
struct Holder {
    numbers: VecDeque<u64>,
    bytes: usize,
}

impl Kept {
    pub(super) fn new(life: Duration, most: usize, most_bytes: usize) -> Self {
        Self {
            life,
            most,
            most_bytes,
            records: BTreeMap::new(),
            holders: HashMap::new(),
            by_bytes: BTreeSet::new(),
            bytes: 0,
            next: 0,
            dropped: VecDeque::new(),
        }
    }

    /// Keeps a record; says how many others had to go for it.
    pub(super) fn insert(&mut self, now: Instant, workload: &WorkloadId, record: RequestRecord) -> u64 {
        self.expire(now);
        let bytes = size(&record);
        let number = self.next;
        self.next += 1;
        self.records.insert(number, KeptRecord { at: now, workload: workload.clone(), bytes, record });
        self.change(workload, |holder| {
            holder.numbers.push_back(number);
            holder.bytes += bytes;
        });
        self.bytes += bytes;
        let mut gone = 0;
        while self.records.len() > self.most || self.bytes > self.most_bytes {
            let Some((_, largest)) = self.by_bytes.last().cloned() else { break };
            let Some(oldest) = self.holders.get(&largest).and_then(|holder| holder.numbers.front()).copied()
            else {
                break;
            };
            self.remove(oldest);
            gone += 1;
        }
        self.note_dropped(now, gone);
        gone
    }

    /// Counts what is not kept.
    pub(super) fn note_dropped(&mut self, now: Instant, count: u64) {
        if count == 0 {
            return;
        }
        match self.dropped.back_mut() {
            Some((since, dropped)) if now.saturating_duration_since(*since) < SPAN => *dropped += count,
            Some(_) | None => self.dropped.push_back((now, count)),
        }
        while self.dropped.front().is_some_and(|(since, _)| self.is_over(now, *since)) {
            self.dropped.pop_front();
        }
    }

    /// How many of the time that is kept were dropped.
    pub(super) fn dropped(&self, now: Instant) -> u64 {
        self.dropped.iter().filter(|(since, _)| !self.is_over(now, *since)).map(|(_, count)| count).sum()
    }

    pub(super) fn newest_first(&self, now: Instant) -> impl Iterator<Item = &RequestRecord> {
        let newest = self.records.values().rev();
        newest.take_while(move |record| !self.is_over(now, record.at)).map(|record| &record.record)
    }

    fn is_over(&self, now: Instant, at: Instant) -> bool {
        now.saturating_duration_since(at) > self.life
    }

    fn expire(&mut self, now: Instant) {
        while let Some((&number, record)) = self.records.first_key_value()
            && self.is_over(now, record.at)
        {
            self.remove(number);
        }
    }

    /// Takes out a record, which is the oldest of its workload.
    fn remove(&mut self, number: u64) {
        let Some(record) = self.records.remove(&number) else { return };
        self.bytes -= record.bytes;
        self.change(&record.workload, |holder| {
            holder.numbers.pop_front();
            holder.bytes -= record.bytes;
        });
    }

    fn change(&mut self, workload: &WorkloadId, change: impl FnOnce(&mut Holder)) {
        let mut holder = self.holders.remove(workload).unwrap_or_default();
        self.by_bytes.remove(&(holder.bytes, workload.clone()));
        change(&mut holder);
        if !holder.numbers.is_empty() {
            self.by_bytes.insert((holder.bytes, workload.clone()));
            self.holders.insert(workload.clone(), holder);
        }
    }
}

fn size(record: &RequestRecord) -> usize {
    let RequestRecord {
        id,
        workload,
        service,
        protocol,
        reason,
        flags,
        source,
        destination,
        method,
        authority,
        path,
        ..
    } = record;
    let RequestRecord { details, remedy, policy, route, upstream, peer, .. } = record;
    let texts = [id, workload, service, protocol, reason].into_iter().chain(flags);
    let others =
        [source, destination, method, authority, path, details, remedy, policy, route, upstream, peer];
    OVERHEAD + texts.chain(others.into_iter().flatten()).map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn record(id: &str) -> RequestRecord {
        RequestRecord { id: id.to_owned(), ..RequestRecord::default() }
    }

    fn workload(name: &str) -> WorkloadId {
        WorkloadId::try_new("shop", name).unwrap()
    }

    fn ids(kept: &Kept, now: Instant) -> Vec<&str> {
        kept.newest_first(now).map(|record| record.id.as_str()).collect()
    }

    #[test]
    fn who_holds_most_loses_its_oldest_and_others_keep_theirs() {
        let (mut kept, now) = (Kept::new(10 * MINUTE, 4, 1 << 20), Instant::now());
        assert_eq!(kept.insert(now, &workload("quiet"), record("q")), 0);
        let gone: u64 = (0..10).map(|n| kept.insert(now, &workload("loud"), record(&format!("l{n}")))).sum();
        assert_eq!((gone, kept.dropped(now)), (7, 7));
        assert_eq!(ids(&kept, now), ["l9", "l8", "l7", "q"]);
    }

    #[test]
    fn bytes_are_bounded_whatever_their_number() {
        let (mut kept, now) = (Kept::new(10 * MINUTE, 1000, 8 * OVERHEAD), Instant::now());
        for n in 0..20 {
            kept.insert(now, &workload("a"), record(&"x".repeat(OVERHEAD * (n % 2))));
            assert!(kept.bytes <= 8 * OVERHEAD);
        }
        assert!(kept.records.len() < 9 && !kept.records.is_empty());
    }

    #[test]
    fn records_and_counts_are_forgotten_after_their_time() {
        let (mut kept, now) = (Kept::new(10 * MINUTE, 10, 1 << 20), Instant::now());
        kept.insert(now, &workload("a"), record("old"));
        kept.note_dropped(now, 3);
        kept.insert(now + 9 * MINUTE, &workload("b"), record("new"));
        kept.note_dropped(now + 9 * MINUTE, 2);
        assert_eq!((ids(&kept, now + 10 * MINUTE).len(), kept.dropped(now + 10 * MINUTE)), (2, 5));
        let later = now + 11 * MINUTE;
        assert_eq!((ids(&kept, later), kept.dropped(later)), (vec!["new"], 2));
        kept.insert(later, &workload("b"), record("newer"));
        assert_eq!((kept.records.len(), kept.holders.len(), kept.by_bytes.len()), (2, 1, 1));
    }
}
