//! Taking a record out of the store, whatever it says by then.

use weft_store::{CommitError, Store, Txn};

use crate::StoreError;

/// Removes a record; `false` when there is none. One that was changed in between goes too.
pub(super) async fn remove(store: &dyn Store, key: &str) -> Result<bool, StoreError> {
    loop {
        let Some(entry) = store.get(key).await? else { return Ok(false) };
        match store.commit(Txn::new().expect_at(&entry.key, entry.mod_revision).delete(&entry.key)).await {
            Ok(_) => return Ok(true),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
