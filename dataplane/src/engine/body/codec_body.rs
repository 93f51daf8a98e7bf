//! The content of a message as it comes from a peer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::super::observed_stream::ObservedStream;
use super::error::BodyError;

/// What a peer sends after a message's head.
#[derive(Debug)]
pub(crate) enum CodecBody<H> {
    /// Read from the peer's connection when it is asked for.
    Http1(H),
    /// A stream of HTTP/2.
    Http2(hyper::body::Incoming),
}

/// The content of a request.
pub(crate) type Incoming = CodecBody<weft_http1::server::ReceivedBody<ObservedStream>>;

impl<H> Body for CodecBody<H>
where
    H: Body<Data = Bytes, Error = weft_http1::Error> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http1),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http2),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
