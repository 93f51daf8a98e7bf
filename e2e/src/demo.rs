//! A small application to see a mesh with: it answers on HTTP/1.1, h2, gRPC and TCP, calls other services on the way,
//! and returns the whole tree of calls with who saw whom.
//!
//! ```text
//! GET / on web ──▶ calls cart, catalog through its sidecar ──▶ each answers with its own tree
//! ```
//!
//! It knows nothing of the mesh: it speaks plain text to loopback, and learns its caller's identity from the
//! `x-forwarded-client-cert` header that its sidecar sets.

mod call;
mod collect;
mod fault;
mod grpc;
mod http;
mod issue;
mod load;
mod serve;
mod tcp;

pub use call::{CallArgs, DemoCaller, Dialer, run as run_call};
pub use collect::{CollectArgs, run as run_collector};
pub use fault::{Faults, InjectedFault};
pub use grpc::{EchoServer, echo};
pub use http::{CallTree, router};
pub use issue::{IssueArgs, run as run_issuer};
pub use load::{LoadArgs, run as run_load};
pub use serve::{ServeArgs, run as run_service};

use std::sync::Arc;

/// Who this instance says it is.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Name of the service.
    pub service: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Name of the workload.
    pub workload: Arc<str>,
}

/// The caller's SPIFFE id in the header that a sidecar sets: the `URI=` part of its last element.
#[must_use]
pub fn peer_of(forwarded_client_cert: Option<&str>) -> String {
    let last = forwarded_client_cert.and_then(|header| header.rsplit(',').next()).unwrap_or_default();
    let uri = last.split(';').find_map(|part| part.trim().strip_prefix("URI="));
    uri.unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::peer_of;

    #[test]
    fn peer_is_the_uri_of_the_last_element() {
        let header = "Hash=1;URI=spiffe://m/ns/a/svc/b,By=spiffe://m/x;Hash=2;URI=spiffe://m/ns/shop/svc/web";
        assert_eq!(peer_of(Some(header)), "spiffe://m/ns/shop/svc/web");
        assert_eq!(peer_of(None), "");
    }
}
