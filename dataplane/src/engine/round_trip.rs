//! One round trip on a pooled connection: a request goes out, the head of a response or an error comes back.

use std::error::Error as StdError;

use http::{Method, Request, Response};

use super::body::RequestBody;
use super::pool::{ConnectionLease, Content, UploadBody};

/// Why no response came on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The request did not leave this process.
    NotSent,
    /// The server refused the stream without looking at it.
    Refused,
    /// The connection ended before any byte of a response.
    Broken,
    /// The stream was reset.
    Stream,
    /// What came was no response.
    Malformed,
}

impl Reset {
    /// Whether the request had no effect, or one that is the same twice, so that it may be sent again on a fresh connection.
    pub(crate) fn had_no_effect(self, method: &Method) -> bool {
        match self {
            Self::NotSent | Self::Refused => true,
            Self::Broken => method.is_safe(),
            Self::Stream | Self::Malformed => false,
        }
    }
}

/// A request that got no response.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) reset: Reset,
    pub(crate) error: Box<dyn StdError>,
    /// The request, where it came back unsent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

/// Sends a request over a connection and waits for the response's head.
///
/// # Errors
/// Nothing came that is a response.
pub(crate) async fn round_trip(
    lease: &mut ConnectionLease,
    request: Request<RequestBody>,
) -> Result<Response<Content>, Box<Unanswered>> {
    match lease {
        ConnectionLease::Http1(h1) => {
            h1.send(request);
            match std::future::poll_fn(|cx| h1.poll_head(cx)).await {
                Ok(response) => Ok(response.map(|()| Content::Http1(h1.content()))),
                Err(error) => {
                    tracing::debug!(%error, "no response");
                    Err(Box::new(Unanswered { reset: of_http1(&error), error: cause(error), unsent: None }))
                }
            }
        }
        ConnectionLease::Http2(h2) => {
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, h2.body(body));
            match h2.sender().try_send_request(request).await {
                Ok(response) => Ok(response.map(Content::Http2)),
                Err(mut failed) => {
                    tracing::debug!(error = %failed.error(), "no response");
                    let unsent = failed.take_message().map(|request| request.map(UploadBody::into_inner));
                    let reset = if unsent.is_some() {
                        h2.connection().spent.set(true);
                        Reset::NotSent
                    } else {
                        of_http2(failed.error())
                    };
                    Err(Box::new(Unanswered { reset, error: Box::new(failed.into_error()), unsent }))
                }
            }
        }
    }
}

/// The system's error where there is one: it says whether the server refused our certificate.
fn cause(error: weft_http1::Error) -> Box<dyn StdError> {
    match error {
        weft_http1::Error::Io(error) => Box::new(error),
        other => Box::new(other),
    }
}

fn of_http1(error: &weft_http1::Error) -> Reset {
    match error {
        weft_http1::Error::Malformed(_) | weft_http1::Error::Incomplete => Reset::Malformed,
        weft_http1::Error::Io(_) | weft_http1::Error::Closed | weft_http1::Error::Gone => Reset::Broken,
        weft_http1::Error::Body => Reset::Stream,
    }
}

fn of_http2(error: &hyper::Error) -> Reset {
    let mut source = StdError::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                Some(h2::Reason::REFUSED_STREAM) => Reset::Refused,
                // Found here: a server of HTTP/1.1, say, whose answer is no frame.
                Some(h2::Reason::FRAME_SIZE_ERROR | h2::Reason::PROTOCOL_ERROR) if h2.is_library() => {
                    Reset::Malformed
                }
                Some(_) | None if h2.is_io() || h2.is_go_away() => Reset::Broken,
                Some(_) | None => Reset::Stream,
            };
        }
        source = cause.source();
    }
    let broken = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    let io = StdError::source(error).is_some_and(<dyn StdError>::is::<std::io::Error>);
    if broken || io { Reset::Broken } else { Reset::Stream }
}
