//! Listings of any size, read page by page at one revision.

use crate::error::ReadError;
use crate::record::{Page, Snapshot};
use crate::store::Store;

/// What a page aims at, in bytes.
const PAGE_BYTES: usize = 4 << 20;

/// Everything below a prefix at one revision, however many pages it takes.
pub(crate) async fn list_all(store: &dyn Store, prefix: &str) -> Result<Snapshot, ReadError> {
    loop {
        match list_once(store, prefix).await {
            // Compacted between two pages: begin again at a newer revision.
            Err(ReadError::Compacted { .. }) => tokio::task::yield_now().await,
            done => return done,
        }
    }
}

async fn list_once(store: &dyn Store, prefix: &str) -> Result<Snapshot, ReadError> {
    let mut page = Page { limit: 64, ..Page::default() };
    let mut snapshot = Snapshot::default();
    loop {
        let listing = store.list(prefix, page.clone()).await?;
        let bytes: usize = listing.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
        let mean = bytes / listing.entries.len().max(1);
        page.limit = (PAGE_BYTES / (mean + 1)).clamp(8, 8192);
        page.at = Some(listing.revision);
        page.after = listing.entries.last().map(|entry| entry.key.clone());
        snapshot.revision = listing.revision;
        snapshot.entries.extend(listing.entries);
        if !listing.more {
            return Ok(snapshot);
        }
    }
}
