//! Request bodies on their way to a server: streamed, counted, watched for silence, kept for a retry.

mod error;
mod incoming;
mod replay;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

pub(crate) use error::BodyError;
pub(crate) use incoming::Incoming;
pub(crate) use replay::{Replay, Replayed};

use super::clock::now;

/// A request's body.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// What is sent once.
    Once(Box<OnceBody>),
    /// What may have to be sent again.
    Replayed(Replayed),
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(once) => once.poll(cx),
            Self::Replayed(replayed) => replayed.poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(once) => once.is_end_stream(),
            Self::Replayed(replayed) => replayed.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(once) => once.incoming.size_hint(),
            Self::Replayed(replayed) => replayed.size_hint(),
        }
    }
}

/// How a caller ended its request before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestInterrupted {
    /// It sent what is no HTTP.
    Malformed,
    /// It went away. Its connection ends without an answer.
    Gone,
}

impl RequestInterrupted {
    fn of(error: &BodyError) -> Self {
        match error {
            BodyError::Http1(weft_http1::Error::Malformed(_)) | BodyError::Http2(_) => Self::Malformed,
            BodyError::Http1(_) | BodyError::Superseded(_) => Self::Gone,
        }
    }
}

/// How far a request's body has come, shared with the request that reports it and with the limits that watch it.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Bytes of body read from the caller.
    pub(crate) bytes: Cell<u64>,
    /// When the request's end was read.
    pub(crate) ended: Cell<Option<Instant>>,
    /// When something was read last.
    pub(crate) moved: Cell<Instant>,
    /// Why the request could not be read to its end.
    pub(crate) interrupted: Cell<Option<RequestInterrupted>>,
}

impl Progress {
    pub(crate) fn new() -> Rc<Self> {
        let (bytes, ended, moved, interrupted) =
            (Cell::new(0), Cell::new(None), Cell::new(now()), Cell::new(None));
        Rc::new(Self { bytes, ended, moved, interrupted })
    }

    fn note(&self, frame: &Option<Result<Frame<Bytes>, BodyError>>) {
        match frame {
            Some(Ok(frame)) => {
                self.moved.set(now());
                let n = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes.set(self.bytes.get() + n);
            }
            Some(Err(error)) => self.interrupted.set(Some(RequestInterrupted::of(error))),
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
pub(crate) struct OnceBody {
    incoming: Incoming,
    progress: Rc<Progress>,
}

impl OnceBody {
    pub(crate) fn new(incoming: Incoming, progress: Rc<Progress>) -> Self {
        Self { incoming, progress }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            self.progress.note(frame);
            self.is_end_stream();
        }
        polled
    }

    /// Who is told that it is over does not poll it again.
    fn is_end_stream(&self) -> bool {
        let ended = self.incoming.is_end_stream();
        if ended {
            self.progress.end();
        }
        ended
    }
}
