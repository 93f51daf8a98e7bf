//! Which replicas have a seal key, before records are sealed with it: one without could not read them.

use weft_store::{Leadership, ReadError, Store};

use super::shown_roots;
use crate::ca::{Authority, CaError, SealKeyId};

/// The living replicas that do not have a key, or do not tell, but for the one that asks.
///
/// # Errors
/// When the store fails.
pub async fn without(
    store: &dyn Store,
    key: &SealKeyId,
    own: Option<&str>,
) -> Result<Vec<String>, ReadError> {
    let living = shown_roots::living(store).await?;
    let others = living.shown.iter().filter(|replica| Some(replica.replica.as_str()) != own);
    let lacking = others.filter(|replica| !replica.seal_keys.as_ref().is_some_and(|keys| keys.contains(key)));
    let lacking = lacking.map(|replica| replica.address.to_string());
    Ok(lacking.chain(living.silent).collect())
}

/// Gives the records of an earlier release their version, once every living replica reads such records. The leader calls this;
/// the write is fenced.
///
/// # Errors
/// When the store fails, leadership was lost, or a record does not open.
pub async fn upgrade(authority: &Authority, store: &dyn Store, leader: &Leadership) -> Result<(), CaError> {
    let now = authority.seal_use(store).await?;
    if now.version.is_none() && without(store, &now.sealing, None).await?.is_empty() {
        authority.reseal(store, Some(&leader.guard())).await?;
    }
    Ok(())
}
