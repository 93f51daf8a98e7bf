//! A request's body that can be sent again.
//!
//! What was read from the caller is kept up to a limit. Past the limit the kept bytes are let go and the request
//! cannot be sent again. One attempt at a time reads; a new attempt takes over where the caller's bytes end.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::error::BodyError;
use super::progress::Progress;
use super::request_content::RequestContent;

struct ReplayBuffer {
    content: RequestContent,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    size: usize,
    limit: usize,
    ended: bool,
    overflow: bool,
    attempt: u32,
}

/// The original of a body.
#[derive(Clone)]
pub(crate) struct Replay {
    kept: Rc<RefCell<ReplayBuffer>>,
    progress: Rc<Progress>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

impl Replay {
    pub(crate) fn new(content: RequestContent, limit: usize, progress: Rc<Progress>) -> Self {
        let kept = ReplayBuffer {
            content,
            chunks: Vec::new(),
            trailers: None,
            size: 0,
            limit,
            ended: false,
            overflow: false,
            attempt: 0,
        };
        Self { kept: Rc::new(RefCell::new(kept)), progress }
    }

    /// Whether the whole request can still be sent from its beginning.
    pub(crate) fn is_replayable(&self) -> bool {
        !self.kept.borrow().overflow
    }

    /// A body for the next attempt, from the beginning. Bodies of earlier attempts end with an error.
    pub(crate) fn attempt(&self) -> Replayed {
        let mut kept = self.kept.borrow_mut();
        kept.attempt += 1;
        Replayed { of: self.clone(), attempt: kept.attempt, next: 0, trailers_sent: false }
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub(crate) struct Replayed {
    of: Replay,
    attempt: u32,
    next: usize,
    trailers_sent: bool,
}

impl Replayed {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let kept = &mut *self.of.kept.borrow_mut();
        if kept.attempt != self.attempt {
            let cancelled = h2::Error::from(h2::Reason::CANCEL);
            return Poll::Ready(Some(Err(BodyError::Superseded(cancelled))));
        }
        if let Some(chunk) = kept.chunks.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if kept.ended {
            if self.trailers_sent {
                return Poll::Ready(None);
            }
            self.trailers_sent = true;
            return Poll::Ready(kept.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = kept.content.poll(cx, &self.of.progress);
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(Ok(frame)) => self.next += keep(kept, frame),
                Some(Err(_)) => kept.overflow = true,
                None => kept.ended = true,
            }
            self.trailers_sent |= kept.trailers.is_some() || kept.ended;
            if kept.content.is_end_stream() {
                kept.ended = true;
                self.of.progress.end();
            }
        }
        polled
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let kept = self.of.kept.borrow();
        let all_kept_sent = self.next >= kept.chunks.len();
        let ended = kept.ended || kept.content.is_end_stream();
        if ended {
            self.of.progress.end();
        }
        kept.attempt == self.attempt
            && ended
            && all_kept_sent
            && (self.trailers_sent || kept.trailers.is_none())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = self.of.kept.borrow();
        let ahead: u64 = kept.chunks.iter().skip(self.next).map(|chunk| chunk.len() as u64).sum();
        if kept.ended && kept.trailers.is_none() {
            return SizeHint::with_exact(ahead);
        }
        let rest = kept.content.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

/// Keeps a frame for later attempts; answers how many chunks that added.
fn keep(kept: &mut ReplayBuffer, frame: &Frame<Bytes>) -> usize {
    if let Some(trailers) = frame.trailers_ref() {
        kept.trailers = Some(trailers.clone());
        kept.ended = true;
        return 0;
    }
    let Some(data) = frame.data_ref() else { return 0 };
    if kept.overflow {
        return 0;
    }
    kept.size += data.len();
    if kept.size > kept.limit {
        kept.overflow = true;
        kept.chunks = Vec::new();
        return 0;
    }
    kept.chunks.push(data.clone());
    1
}
