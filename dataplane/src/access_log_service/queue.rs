//! Between workers and the task that streams: bounded by number and bytes.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::entry::LogEntry;
use crate::runtime::LogService;

/// Entries that wait for the task.
const WAITING: usize = 1024;
/// Their bytes.
const WAITING_BYTES: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct EntryQueue {
    sender: Sender<Queued>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
pub struct EntryReceiver(Receiver<Queued>);

/// An entry, which has its place until it is taken.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) service: Arc<LogService>,
    pub(super) entry: LogEntry,
    _room: OwnedSemaphorePermit,
}

pub(crate) fn queue() -> (EntryQueue, EntryReceiver) {
    let (sender, receiver) = channel(WAITING);
    (EntryQueue { sender, room: Arc::new(Semaphore::new(WAITING_BYTES)) }, EntryReceiver(receiver))
}

impl EntryQueue {
    /// Hands an entry over; false where there is no room for it.
    pub(crate) fn offer(&self, service: &Arc<LogService>, entry: LogEntry) -> bool {
        let Ok(bytes) = u32::try_from(entry.encoded_len()) else { return false };
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return false };
        self.sender.try_send(Queued { service: Arc::clone(service), entry, _room: room }).is_ok()
    }
}

impl EntryReceiver {
    /// The next entry; none when all workers are gone.
    pub(super) async fn next(&mut self) -> Option<Queued> {
        self.0.recv().await
    }
}
