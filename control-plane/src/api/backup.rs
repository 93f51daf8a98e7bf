//! The state of the mesh, as a backup.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use futures::stream;
use weft_store::{Backup, StoreExt};

use super::answer::Octets;
use super::error::ApiError;
use super::problem_code::ProblemCode;
use super::state::Api;

/// Backups at the same time: each holds a state of its own where the store is etcd.
pub const AT_ONCE: usize = 2;

/// `GET /v1/backup`
pub async fn take(State(api): State<Api>) -> Result<Octets, ApiError> {
    let Ok(place) = Arc::clone(&api.backups).try_acquire_owned() else {
        let detail = format!("{AT_ONCE} backups are under way; come back when one of them is done");
        return Err(ApiError::new(ProblemCode::Busy, detail));
    };
    let snapshot = api.store.list_all("").await?;
    let (revision, mesh) = (snapshot.revision, api.authority.trust_domain());
    let backup = Backup::new(mesh.as_str(), api.clock.unix_seconds(), snapshot);
    tracing::info!(
        event = "backup_taken",
        %revision, records = backup.snapshot.entries.len(),
        "a backup is taken"
    );
    let pieces = backup.encode().map(move |piece| {
        let _until_the_end = &place;
        Ok::<_, Infallible>(piece)
    });
    Ok(Octets(Body::from_stream(stream::iter(pieces))))
}
