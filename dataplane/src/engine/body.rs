//! Message bodies on their way through: streamed, counted, watched for silence, kept for a retry.

mod replay;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

pub(crate) use replay::{Replay, Replayed};

use super::exchange::Exchange;
use super::pool::Lease;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error("no data for the stream idle timeout")]
    Idle,
    #[error("the response took longer than the route's timeout")]
    Timeout,
    #[error("the caller gave up")]
    Cancelled,
}

/// Any body that this proxy writes.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// A request's body that is counted.
    Request(Box<RequestBody>),
    /// A request's body that may have to be sent again.
    Replayed(Replayed),
    /// A response's body, which ends the exchange.
    Response(ResponseBody),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Request(request) => request.poll(cx),
            Self::Replayed(replayed) => replayed.poll(cx),
            Self::Response(response) => response.poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Request(request) => request.incoming.is_end_stream(),
            Self::Replayed(replayed) => replayed.is_end_stream(),
            Self::Response(response) => response.source.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Request(request) => request.incoming.size_hint(),
            Self::Replayed(replayed) => replayed.size_hint(),
            Self::Response(response) => response.source.size_hint(),
        }
    }
}

/// Counts of a request's body, shared with the exchange that reports them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of body read from the caller.
    pub(crate) bytes: std::cell::Cell<u64>,
    /// The request's end was read.
    pub(crate) ended: std::cell::Cell<bool>,
    /// Something moved since the idle timer was set last.
    pub(crate) moved: std::cell::Cell<bool>,
    /// The caller's connection broke while its request was read.
    pub(crate) broke: std::cell::Cell<bool>,
}

impl Progress {
    fn note(&self, frame: &Option<Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => {
                self.moved.set(true);
                let n = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes.set(self.bytes.get() + n);
            }
            Some(Err(_)) => self.broke.set(true),
            None => self.ended.set(true),
        }
    }
}

/// A request's body that is sent once.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) incoming: Incoming,
    pub(crate) progress: std::rc::Rc<Progress>,
}

impl RequestBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx).map_err(BodyError::Hyper);
        if let Poll::Ready(frame) = &polled {
            self.progress.note(frame);
            if http_body::Body::is_end_stream(&self.incoming) {
                self.progress.ended.set(true);
            }
        }
        polled
    }
}

/// Where a response's bytes come from.
pub(crate) enum Source {
    Empty,
    Full(Option<Bytes>),
    Upstream(Incoming),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Upstream(_) => "Upstream",
        })
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Upstream(incoming) => http_body::Body::is_end_stream(incoming),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Upstream(incoming) => http_body::Body::size_hint(incoming),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Upstream(incoming) => {
                http_body::Body::poll_frame(Pin::new(incoming), cx).map_err(BodyError::Hyper)
            }
        }
    }
}

/// A response's body; its end, or its being dropped, ends the exchange.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    pub(crate) source: Source,
    pub(crate) exchange: Box<Exchange>,
}

impl ResponseBody {
    /// What has come already, else what comes when the connection is driven.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let lease = self.exchange.upstream.as_ref().and_then(|upstream| upstream.lease.as_ref());
        let Some(line) = lease.and_then(Lease::line) else { return self.source.poll(cx) };
        // The connection wakes this task; the body in between need not.
        let unheard = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = self.source.poll(unheard) {
            return Poll::Ready(frame);
        }
        // Its end is also the body's.
        let _ = line.poll(cx);
        self.source.poll(unheard)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.poll_source(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.sent(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.exchange.trailers(trailers);
                }
                if self.source.is_end_stream() {
                    self.exchange.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.exchange.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.exchange.upstream_broke();
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending => match self.exchange.poll_timeouts(cx) {
                Poll::Ready(error) => Poll::Ready(Some(Err(error))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.source.is_end_stream() {
            self.exchange.complete();
        }
    }
}

/// Whether a response with this head is a gRPC answer without messages, whose status is in the head.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
