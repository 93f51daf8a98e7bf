//! How far a request's body has come.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http_body::Frame;

use super::super::clock::now;
use super::error::BodyError;

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

    /// Notes what was read from the caller.
    #[inline]
    pub(super) fn note(&self, frame: &Option<Result<Frame<Bytes>, BodyError>>) {
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

    /// Notes that the request has come whole.
    pub(crate) fn end(&self) {
        if self.ended.get().is_none() {
            self.ended.set(Some(now()));
        }
    }
}
