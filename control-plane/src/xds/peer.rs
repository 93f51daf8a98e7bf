//! Who is on the other end of a call, by its certificate.

use tonic::{Request, Status};
use weft_api::{ServiceId, WorkloadId};
use weft_xds::transport::PeerIdentity;

/// The workload behind a call; the certificate is the truth.
///
/// # Errors
/// UNAUTHENTICATED without a client certificate, PERMISSION_DENIED for one that is no workload's.
#[allow(clippy::result_large_err, reason = "Status is what tonic's handlers return")]
pub fn workload<T>(request: &Request<T>) -> Result<(WorkloadId, ServiceId), Status> {
    let peer = request.extensions().get::<PeerIdentity>().ok_or_else(|| {
        Status::unauthenticated("this call needs the client certificate of a joined workload")
    })?;
    match (&peer.workload, &peer.service) {
        (Some(workload), Some(service)) => Ok((workload.clone(), service.clone())),
        _ => Err(Status::permission_denied("the client certificate is not a workload's")),
    }
}
