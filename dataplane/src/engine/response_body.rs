//! Response bodies on their way to the caller; the end of one ends its stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::active_stream::ActiveStream;
use super::body::{BodyError, Transformed, Transforms};
use super::pool::Content;
use crate::filter;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Nothing: what follows is a tunnel's, which ends the stream.
    Tunnel,
    /// What ends the stream with its last byte.
    Content(ContentBody),
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Tunnel => Poll::Ready(None),
            Self::Content(content) => content.poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Tunnel => true,
            Self::Content(content) => content.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Tunnel => SizeHint::with_exact(0),
            Self::Content(content) => content.source.size_hint(),
        }
    }
}

/// Where a response's bytes come from.
pub(crate) enum ContentSource {
    Empty,
    Full(Option<Bytes>),
    Upstream(Content),
    /// As a filter changes them.
    Transformed(Box<Transformed<Self>>),
}

impl fmt::Debug for ContentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Upstream(_) => "Upstream",
            Self::Transformed(_) => "Transformed",
        })
    }
}

impl ContentSource {
    /// The same as filters change it, the first of them first.
    pub(crate) fn transformed(self, transforms: Transforms) -> Self {
        let behind = |source, transform| Self::Transformed(Box::new(Transformed::new(source, transform)));
        transforms.into_iter().fold(self, behind)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(content) => http_body::Body::is_end_stream(content),
            Self::Transformed(changed) => changed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(content) => http_body::Body::size_hint(content),
            Self::Transformed(changed) => changed.size_hint(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(content) => http_body::Body::poll_frame(Pin::new(content), cx),
            Self::Transformed(changed) => changed.poll(cx, Self::poll),
        }
    }
}

/// A response's bytes; their end, or their being dropped, ends the stream.
#[derive(Debug)]
pub(crate) struct ContentBody {
    source: ContentSource,
    pub(crate) stream: Box<ActiveStream>,
    /// The last byte of a large last piece; see [`ContentBody::hold_back`].
    last: Option<Bytes>,
}

/// The last piece of a response that is larger than this goes to an HTTP/2 stream in two.
const LARGE: usize = 16 * 1024;

impl ContentBody {
    pub(crate) fn new(source: ContentSource, stream: Box<ActiveStream>) -> Self {
        Self { source, stream, last: None }
    }

    /// hyper lets go of a stream when its last piece fits into the window by one byte; what is left of it waits in the
    /// connection, and nobody could end that. A byte of its own keeps the stream's task until the rest is taken.
    fn hold_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.stream.connection.speaks_http1() {
            return frame;
        }
        match frame.into_data() {
            Ok(mut data) if data.len() > LARGE => {
                self.last = Some(data.split_off(data.len() - 1));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(other) => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.source.is_end_stream()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        match self.source.poll(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.stream.sent(data.len());
                } else if let Some(trailers) = frame.trailers_mut() {
                    filter::chain::on_trailers(&mut self.stream, trailers);
                    self.stream.trailers(trailers);
                }
                if !self.source.is_end_stream() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.stream.complete();
                Poll::Ready(Some(Ok(self.hold_back(frame))))
            }
            Poll::Ready(None) => {
                self.stream.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.stream.upstream_broke(&error);
                Poll::Ready(Some(Err(error)))
            }
            // Its limits are the driver's to watch: here nobody looks while the caller does not read.
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for ContentBody {
    fn drop(&mut self) {
        if self.source.is_end_stream() {
            self.stream.complete();
        }
    }
}
