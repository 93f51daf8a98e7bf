//! Where a store is kept, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use crate::embedded::EmbeddedStore;
use crate::error::OpenError;
use crate::etcd::{EtcdConfig, EtcdStore};
use crate::filling::MARK;
use crate::memory::MemoryStore;
use crate::store::Store;

/// Where a store is kept.
#[derive(Clone, Debug)]
pub enum Location {
    /// In this process, gone when it ends: tests and trials.
    Memory,
    /// In one file, owned by one process.
    Embedded(PathBuf),
    /// In an etcd cluster, shared by any number of processes.
    Etcd(Box<EtcdConfig>),
}

/// Opens the store at a location. The paved path: everything else is a method of what it returns.
pub async fn open(location: Location) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match location {
        Location::Memory => Arc::new(MemoryStore::new()),
        Location::Embedded(path) => Arc::new(EmbeddedStore::open(path).await?),
        Location::Etcd(config) => {
            let place = format!("etcd at {}, prefix {:?}", config.endpoints.join(", "), config.prefix);
            let store = EtcdStore::connect(*config).await?;
            match store.get(MARK).await {
                Ok(None) => Arc::new(store),
                Ok(Some(_)) => return Err(OpenError::Unfinished { place }),
                Err(error) => {
                    return Err(OpenError::Unreachable { endpoints: place, reason: error.to_string() });
                }
            }
        }
    })
}
