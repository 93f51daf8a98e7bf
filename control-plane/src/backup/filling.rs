//! The state into an empty place.

use std::time::Duration;

use anyhow::Context as _;
use weft_store::{EtcdStore, FillError, Snapshot};

use crate::store_location::{FILE, StoreLocation, make_data_dir};

/// How long an etcd may take to answer for the first time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Fills a place: with all of it, or with nothing that a control plane would take for a store.
pub(super) async fn fill(place: &StoreLocation, state: Snapshot) -> anyhow::Result<()> {
    let filled = match place {
        StoreLocation::Directory(directory) => {
            make_data_dir(directory)?;
            weft_store::fill_file(directory.join(FILE), state).await
        }
        StoreLocation::Etcd(config) => {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, EtcdStore::connect((**config).clone()));
            let store = connecting.await.context("etcd did not answer within 30 s")??;
            weft_store::fill(&store, &state).await.map(drop)
        }
    };
    filled.map_err(|error| match (error, place) {
        (FillError::Unfinished | FillError::Commit(_), StoreLocation::Etcd(config)) => anyhow::anyhow!(
            "{place}: a restore or a copy into it is under way or was cut short, and no control plane starts on it; if it \
             was cut short, run `etcdctl del --prefix {}` and do it again",
            config.prefix
        ),
        (error, _) => anyhow::Error::from(error).context(place.to_string()),
    })
}
