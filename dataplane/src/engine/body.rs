//! Message bodies on their way through: streamed, counted, watched for silence, kept for a retry.

mod replay;

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

pub(crate) use replay::{Replay, Replayed};

use super::clock::now;
use super::exchange::Exchange;
use super::pool::{Lease, Upload};

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error("the request is sent by another try")]
    Superseded(#[source] h2::Error),
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
            Self::Response(response) => response.is_end_stream(),
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

/// How far a request's body has come, shared with the exchange that reports it and with the limits that watch it.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Bytes of body read from the caller.
    pub(crate) bytes: Cell<u64>,
    /// When the request's end was read.
    pub(crate) ended: Cell<Option<Instant>>,
    /// When something was read last.
    pub(crate) moved: Cell<Instant>,
    /// The caller's connection broke while its request was read.
    pub(crate) broke: Cell<bool>,
}

impl Progress {
    pub(crate) fn new() -> Rc<Self> {
        let (bytes, ended, moved, broke) =
            (Cell::new(0), Cell::new(None), Cell::new(now()), Cell::new(false));
        Rc::new(Self { bytes, ended, moved, broke })
    }

    fn note(&self, frame: &Option<Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => {
                self.moved.set(now());
                let n = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes.set(self.bytes.get() + n);
            }
            Some(Err(_)) => self.broke.set(true),
            None => self.end(),
        }
    }

    pub(crate) fn end(&self) {
        if self.ended.get().is_none() {
            self.ended.set(Some(now()));
        }
    }
}

/// A request's body that is sent once.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) incoming: Incoming,
    pub(crate) progress: Rc<Progress>,
    pub(crate) upload: Option<Upload>,
}

impl RequestBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(upload) = self.upload.take() {
            upload.begin();
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx).map_err(BodyError::Hyper);
        if let Poll::Ready(frame) = &polled {
            self.progress.note(frame);
            if http_body::Body::is_end_stream(&self.incoming) {
                self.progress.end();
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
    source: Source,
    pub(crate) exchange: Box<Exchange>,
    /// The last byte of a large last piece; see [`ResponseBody::hold_back`].
    last: Option<Bytes>,
}

/// The last piece of a response that is larger than this goes to an HTTP/2 stream in two.
const LARGE: usize = 16 * 1024;

impl ResponseBody {
    pub(crate) fn new(source: Source, exchange: Box<Exchange>) -> Self {
        Self { source, exchange, last: None }
    }

    /// hyper lets go of a stream when its last piece fits into the window by one byte; what is left of it waits in the
    /// connection, and nobody could end that. A byte of its own keeps the stream's task until the rest is taken.
    fn hold_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if self.exchange.connection.speaks_http1() {
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
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        match self.poll_source(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.exchange.sent(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.exchange.trailers(trailers);
                }
                if !self.source.is_end_stream() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.exchange.complete();
                Poll::Ready(Some(Ok(self.hold_back(frame))))
            }
            Poll::Ready(None) => {
                self.exchange.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.exchange.upstream_broke();
                Poll::Ready(Some(Err(error)))
            }
            // Its limits are the driver's to watch: here nobody looks while the caller does not read.
            Poll::Pending => Poll::Pending,
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
