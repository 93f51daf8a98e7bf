//! Why the content of a message could not be read to its end.

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Http1(weft_http1::Error),
    #[error(transparent)]
    Http2(hyper::Error),
    #[error("the request is sent by another try")]
    Superseded(#[source] h2::Error),
}

impl BodyError {
    /// Whether a peer that speaks HTTP/1 did not keep to it: as in Envoy, one that closes its connection in the middle of
    /// a message did not either.
    pub(crate) fn is_malformed(&self) -> bool {
        match self {
            Self::Http1(error) => {
                matches!(error, weft_http1::Error::Malformed(_) | weft_http1::Error::Incomplete)
            }
            Self::Http2(_) | Self::Superseded(_) => false,
        }
    }
}
