//! Keys, bytes, revisions and leases, kept by one of three engines behind one trait.
//!
//! The crate knows no mesh concept: what the keys mean is the caller's affair, and the engine
//! crates (redb, etcd-client) are named nowhere else in the workspace.
//!
//! ```text
//!   open(Location) ──> Arc<dyn Store> ──┬── list_all / get        read, at one revision
//!                          │            ├── commit(Txn)           all or nothing, guarded
//!        ┌─────────────────┼────────┐   ├── follow(prefix)        snapshot, then every change
//!     memory           embedded    etcd ├── lease(ttl)            kept alive until dropped
//!        └── state, history ───┘        └── elect(key, who, ttl)  a fencing token for writes
//! ```
//!
//! What every engine promises, and the conformance suite in `tests/` checks against all three:
//!
//! - A [`Txn`] that changes something gets the next [`Revision`]; everything in it has that one
//!   revision, and a watcher sees it as one [`Batch`]. A transaction that changes nothing takes none.
//! - `list` reads at one revision, over as many pages as it takes.
//! - A watch gives every batch once, in order, from the revision asked for, or says
//!   [`ReadError::Compacted`]. [`StoreExt::follow`] turns that into a relist and a difference.
//! - A key put under a lease goes away when the lease does.
//!
//! A [`Backup`] is the state of any engine as one stream of bytes, and [`fill`], [`fill_file`] put a state into another.
//!
//! What it deliberately does not do: it never retries a commit (only the caller knows whether that is
//! safe, see [`CommitError::Uncertain`]), never splits one (see [`TxnLimits`]), and never interprets a value.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use weft_store::{Location, Txn};
//!
//! let store = weft_store::open(Location::Memory).await?;
//! let at = store.commit(Txn::new().expect_absent("head").put("head", "1")).await?;
//! let refused = store.commit(Txn::new().expect_absent("head").put("head", "2")).await;
//! assert!(refused.is_err());
//! store.commit(Txn::new().expect_at("head", at).put("head", "2")).await?;
//! # Ok(()) }
//! ```

mod backup;
mod condition;
mod deadlines;
mod election;
mod embedded;
mod error;
mod etcd;
mod extension;
mod filling;
mod follow;
mod history;
mod lease;
mod listing;
mod memory;
mod open;
mod pause;
mod record;
mod state;
mod store;
mod txn;

pub use backup::{Backup, BackupError, BackupStream};
pub use condition::StoreCondition;
pub use election::Leadership;
pub use embedded::EmbeddedStore;
pub use error::{CommitError, LeaseError, OpenError, ReadError};
pub use etcd::{EtcdConfig, EtcdStore, EtcdTls};
pub use extension::StoreExt;
pub use filling::{FillError, fill, fill_file};
pub use follow::{Follow, FollowHealth, FollowUpdate};
pub use history::Retention;
pub use lease::Lease;
pub use memory::MemoryStore;
pub use open::{Location, open};
pub use record::{Batch, Entry, Event, Key, LeaseId, Listing, Page, Revision, Snapshot};
pub use store::{Grant, Store, Watch};
pub use txn::{Guard, Op, Txn, TxnLimits};
