//! Weft's control plane.
//!
//! Its rooms; each uses only those below it:
//!
//! ```text
//! server, backup            put all together; take a whole state out, and into an empty place
//! api   xds, join           what people are served; what proxies are served
//! replicas                  what the replicas of one mesh tell each other, and which of them leads
//! reconciler                the one owner of the mesh as it is now
//! identity                  whose a certificate is; tokens, secrets, revocation
//! presence  policy  edges   who is there; the policies and their log; who calls whom
//! requests, taps            what failed or was refused on the way; requests as they end, for who looks on
//! listener, tls, ca         connections, what they are secured with, the certificate authority
//! ```

#![allow(
    missing_docs,
    reason = "no library: nothing but `main`, tests and benchmarks use it; a field whose name says all has no comment"
)]

pub mod api;
pub mod args;
pub mod backup;
pub mod ca;
pub mod clock;
pub mod edges;
pub mod identity;
pub mod join;
pub mod listener;
pub mod metrics;
pub mod policy;
pub mod presence;
pub mod private_file;
pub mod reconciler;
pub mod replicas;
pub mod requests;
pub mod server;
pub mod source;
pub mod store_error;
pub mod store_location;
pub mod taps;
pub mod tls;
pub mod xds;

pub use store_error::StoreError;
