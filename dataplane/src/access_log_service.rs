//! Envoy's access log service: what workers log of requests and connections goes to a cluster of the bootstrap.
//!
//! ```text
//! worker: Context -> entry -> EntryQueue (bounded by number and bytes) -> one task -> a stream for each log
//! ```
//!
//! What finds no room, in the queue or before a stream that is not there, is dropped and counted: requests matter more.

pub(crate) mod entry;
pub(crate) mod queue;
mod stream;

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::time::Instant;

use crate::bootstrap::link::Links;
use crate::control::ControlHandle;
use crate::runtime::EntryKind;
use queue::{EntryReceiver, Queued};
use stream::LogStream;

/// What tells one stream from another.
type LogKey = (Arc<str>, Arc<str>, EntryKind);

/// Streams entries until the workers are gone.
pub async fn serve(links: Links, node: Node, mut entries: EntryReceiver, handle: ControlHandle) {
    let mut streams: HashMap<LogKey, LogStream> = HashMap::new();
    loop {
        let next = streams.values().filter_map(LogStream::due).min();
        let flush = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            queued = entries.next() => {
                let Some(Queued { service, entry, .. }) = queued else { break };
                let key = (Arc::clone(&service.cluster), Arc::clone(&service.log_name), service.entries);
                let stream = streams.entry(key).or_insert_with(|| LogStream::new(&links, &node, &service, &handle));
                if !stream.add(&service, entry) {
                    handle.count(service.stats.logs_dropped, 1).await;
                }
            }
            () = flush => {}
        }
        let now = Instant::now();
        for stream in streams.values_mut() {
            stream.flush(now);
        }
    }
    for stream in streams.values_mut() {
        stream.flush_all();
    }
}
