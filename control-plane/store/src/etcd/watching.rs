//! One watch stream: events gathered into batches, silence taken for an outage.

use std::collections::VecDeque;
use std::time::Duration;

use etcd_client::{Client, EventType, WatchOptions, WatchResponse, WatchStream};
use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, sleep_until};

use crate::error::ReadError;
use crate::record::{Batch, Event, Revision};
use crate::store::Watch;

use super::fault::{EtcdError, describe, fault_of};
use super::{EtcdStore, revision, signed};

/// How often the server is asked for a sign of life.
const ASK: Duration = Duration::from_secs(10);

/// Silence after which the watch counts as lost.
const SILENCE: Duration = Duration::from_secs(30);

struct Watching {
    store: EtcdStore,
    stream: WatchStream,
    from: Revision,
    ready: VecDeque<Batch>,
    heard: Instant,
    asked: Instant,
    failed: bool,
}

/// Opens a watch and waits until the server has it.
pub(super) async fn watch(store: &EtcdStore, prefix: &str, from: Revision) -> Result<Watch, ReadError> {
    let (first, end) = store.stored_range(prefix);
    let options =
        WatchOptions::new().with_range(end).with_start_revision(signed(from).max(1)).with_progress_notify();
    // Once: a member that comes back with less than before would keep a watch ahead of it silent, so whoever lost the
    // store lists again first.
    let stream = store
        .call_once(store.config.request_timeout, &|client: Client| {
            let (first, options) = (first.clone(), options.clone());
            // A batch may be larger than the 4 MiB that gRPC takes unless told.
            async move {
                client.watch_client().max_decoding_message_size(usize::MAX).watch(first, Some(options)).await
            }
        })
        .await
        .map_err(|fault| fault.reading(Some(from)))?;
    let now = Instant::now();
    let watching = Watching {
        store: store.clone(),
        stream,
        from,
        ready: VecDeque::new(),
        heard: now,
        asked: now,
        failed: false,
    };
    Ok(stream::unfold(watching, |mut watching| async {
        if watching.failed {
            return None;
        }
        let item = watching.advance().await;
        watching.failed = item.is_err();
        Some((item, watching))
    })
    .boxed())
}

impl Watching {
    async fn advance(&mut self) -> Result<Batch, ReadError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            // What has arrived counts before any clock: the consumer may have been away.
            tokio::select! {
                biased;
                message = self.stream.message() => {
                    let message = message.map_err(|error| match fault_of(&error) {
                        EtcdError::Compacted => ReadError::Compacted { oldest: self.from },
                        _ => unavailable(&describe(&error)),
                    })?;
                    self.heard = Instant::now();
                    self.take(&message.ok_or_else(|| unavailable("the server ended the watch"))?)?;
                }
                () = sleep_until(self.asked.max(self.heard) + ASK) => self.ask().await?,
            }
        }
    }

    async fn ask(&mut self) -> Result<(), ReadError> {
        if self.heard.elapsed() >= SILENCE {
            return Err(unavailable("the watch has been silent for too long"));
        }
        self.asked = Instant::now();
        self.stream.request_progress().await.map_err(|error| unavailable(&describe(&error)))
    }

    /// Sorts a message's events into batches. Without fragments, a message never splits a revision.
    fn take(&mut self, message: &WatchResponse) -> Result<(), ReadError> {
        if message.compact_revision() != 0 {
            return Err(ReadError::Compacted { oldest: revision(message.compact_revision()) });
        }
        if message.canceled() {
            return Err(unavailable(&format!("the server cancelled the watch: {}", message.cancel_reason())));
        }
        for event in message.events() {
            let Some(stored) = event.kv() else { continue };
            let at = revision(stored.mod_revision());
            // Some servers give older events to a watch that was opened ahead of them.
            if at < self.from {
                continue;
            }
            let event = match event.event_type() {
                EventType::Put => Event::Put(self.store.entry(stored)?),
                EventType::Delete => Event::Delete(self.store.shown_key(stored.key())?),
            };
            match self.ready.back_mut() {
                Some(batch) if batch.revision == at => batch.events.push(event),
                _ => self.ready.push_back(Batch { revision: at, events: vec![event] }),
            }
        }
        Ok(())
    }
}

fn unavailable(reason: &str) -> ReadError {
    ReadError::Unavailable { reason: reason.into() }
}
