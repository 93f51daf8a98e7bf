//! What certificate a client showed in a handshake that failed.

use std::cell::RefCell;

use time::OffsetDateTime;
use weft_api::WorkloadId;

tokio::task_local! {
    // A verifier belongs to a configuration and not to a connection, and rustls gives nothing of a certificate that was
    // refused: what it has seen is left here for the one who does the handshake.
    static SHOWN: RefCell<Option<ExpiredCertificate>>;
}

/// The certificate of a client, where it was refused for its time alone: the names in it are the mesh's own.
#[derive(Debug, Clone)]
pub(crate) struct ExpiredCertificate {
    pub(crate) workload: Option<WorkloadId>,
    pub(crate) not_after: OffsetDateTime,
}

/// Leaves word of a certificate that is refused, if a handshake listens.
pub(super) fn note_shown(shown: ExpiredCertificate) {
    let _ = SHOWN.try_with(|slot| slot.replace(Some(shown)));
}

/// Does a handshake, and gives what certificate was refused in it.
pub(crate) async fn watching<T>(handshake: impl Future<Output = T>) -> (T, Option<ExpiredCertificate>) {
    let watched = async {
        let done = handshake.await;
        (done, SHOWN.with(RefCell::take))
    };
    SHOWN.scope(RefCell::new(None), watched).await
}
