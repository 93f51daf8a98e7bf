//! The state out of a store, and into a file.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use weft_api::client::ApiClient;
use weft_store::{Backup, EmbeddedStore, OpenError, Snapshot, StoreExt};

use super::read;
use crate::api::local_access;
use crate::ca;
use crate::clock::Clock;
use crate::identity::operator;
use crate::private_file::Draft;
use crate::store_location::{FILE, StoreLocation};

/// Writes the state of a place into a new file, reads that again, and gives it its name.
pub(super) async fn write(place: &StoreLocation, file: &Path, clock: &Clock) -> anyhow::Result<Backup> {
    if file.exists() {
        bail!("{} exists: a backup is never written over anything, give another name", file.display());
    }
    let mut draft = Draft::create(file)?;
    match place {
        StoreLocation::Directory(directory) => {
            match EmbeddedStore::read_at_rest(directory.join(FILE)).await {
                Ok(snapshot) => put(&mut draft, of(snapshot, clock)?)?,
                Err(OpenError::InUse { .. }) => fetch(directory, &mut draft).await?,
                Err(error) => return Err(error.into()),
            }
        }
        StoreLocation::Etcd(_) => {
            let store = weft_store::open(place.clone().location()).await?;
            put(&mut draft, of(store.list_all("").await?, clock)?)?;
        }
    }
    draft.sync()?;
    // What was cut on the way must not lie there under the name of a backup.
    let backup = read(draft.path())?;
    if !draft.finish()? {
        bail!("{} exists: a backup is never written over anything, give another name", file.display());
    }
    Ok(backup)
}

/// The state of a place that nobody uses.
pub(super) async fn at_rest(place: &StoreLocation) -> anyhow::Result<Snapshot> {
    let snapshot = match place {
        StoreLocation::Directory(directory) => EmbeddedStore::read_at_rest(directory.join(FILE)).await?,
        StoreLocation::Etcd(_) => weft_store::open(place.clone().location()).await?.list_all("").await?,
    };
    // Whoever serves holds something under a lease: presence, leadership.
    if let (StoreLocation::Etcd(_), Some(held)) =
        (place, snapshot.entries.iter().find(|entry| entry.lease.is_some()))
    {
        bail!(
            "{place} is in use ({} is held there): end every control plane on it; what one that was killed held goes \
             within 15 s",
            held.key
        );
    }
    Ok(snapshot)
}

/// A snapshot as a backup of the mesh in it.
pub(super) fn of(snapshot: Snapshot, clock: &Clock) -> anyhow::Result<Backup> {
    let mesh = ca::mesh_of(&snapshot.entries)?.context("there is no mesh in this store")?;
    Ok(Backup::new(mesh.as_str(), clock.unix_seconds(), snapshot))
}

fn put(draft: &mut Draft, backup: Backup) -> anyhow::Result<()> {
    for piece in backup.encode() {
        draft.write_all(&piece).with_context(|| draft.path().display().to_string())?;
    }
    Ok(())
}

/// Asks the control plane that runs on this directory, as an operator does.
async fn fetch(directory: &Path, draft: &mut Draft) -> anyhow::Result<()> {
    let text = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (api, token) = (text(local_access::API)?, text(operator::FILE)?);
    let roots = CertificateDer::pem_file_iter(directory.join(local_access::ROOTS))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| directory.join(local_access::ROOTS).display().to_string())?;
    let client = ApiClient::try_new(api.trim(), token.trim(), &roots)?;
    let mut pieces = client.backup().await?;
    while let Some(piece) = pieces.next().await? {
        draft.write_all(&piece).with_context(|| draft.path().display().to_string())?;
    }
    Ok(())
}
