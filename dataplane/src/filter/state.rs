//! What filters remember of a stream from the request to its end.

use std::sync::Arc;

use http::HeaderValue;

use super::cors::AllowedOrigin;
use super::fault::active::ActiveFault;
use super::header_mutation::Trailers;
use super::local_rate_limit::LocalRateLimit;
use crate::route::HeaderOps;

/// What one filter of a connection manager remembers.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The filter's place in the list.
    pub(super) place: usize,
    pub(super) state: FilterState,
}

/// See [`Remembered`].
#[derive(Debug)]
pub(crate) enum FilterState {
    /// What codings of its content the caller takes.
    AcceptEncoding(HeaderValue),
    /// The response is for a page of this origin.
    Cors(AllowedOrigin),
    /// Counted as long as the stream lives.
    Fault(#[expect(dead_code, reason = "counts until it is dropped")] ActiveFault),
    /// What an authorization server wants added to the response.
    ExtAuthz(Arc<HeaderOps>),
    /// The limit by which the request was counted, where the response tells of it.
    RateLimit(Arc<LocalRateLimit>),
    /// Changes of the trailers that are to come.
    Trailers(Trailers),
}
