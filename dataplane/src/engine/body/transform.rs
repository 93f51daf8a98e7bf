//! Content that is changed on its way, a piece at a time.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::error::BodyError;

/// What makes other content of the content that passes. It holds no more than it needs for the piece at hand.
pub(crate) trait Transform: fmt::Debug {
    /// Takes a part of `input` from its front, at least one byte where there is one, and answers what becomes of it, which
    /// may be nothing and has an upper bound. What is left of `input` is offered again when the answer has been taken.
    /// With `ended` nothing follows `input`; it is called then until both are empty.
    fn next(&mut self, input: &mut Bytes, ended: bool) -> Bytes;
}

/// What filters make of one message's content, in the order in which it passes them.
pub(crate) type Transforms = Vec<Box<dyn Transform>>;

/// Content behind a [`Transform`]. It is read when somebody takes it, and no more than one piece of it is kept.
#[derive(Debug)]
pub(crate) struct Transformed<S> {
    source: S,
    transform: Box<dyn Transform>,
    /// What was read and not changed yet.
    input: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether all was read.
    ended: bool,
    /// Whether all was changed and taken, but for the trailers.
    done: bool,
}

impl<S> Transformed<S> {
    pub(crate) fn new(source: S, transform: Box<dyn Transform>) -> Self {
        Self { source, transform, input: Bytes::new(), trailers: None, ended: false, done: false }
    }

    /// The next frame; `read` gives those of the source. A poll that has to wait has taken nothing that another one would
    /// miss.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut S, &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        while !self.done {
            if self.ended || !self.input.is_empty() {
                let changed = self.transform.next(&mut self.input, self.ended);
                if !changed.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(changed))));
                }
                self.done = self.ended && self.input.is_empty();
                continue;
            }
            match ready!(read(&mut self.source, cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.input = data,
                Some(Err(other)) => {
                    self.trailers = other.into_trailers().ok();
                    self.ended = true;
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.done && self.trailers.is_none()
    }

    /// How long it becomes is known when it is over.
    pub(crate) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Says each byte twice, three bytes at a time, and a full stop.
    #[derive(Debug, Default)]
    struct Twice {
        stopped: bool,
    }

    impl Transform for Twice {
        fn next(&mut self, input: &mut Bytes, ended: bool) -> Bytes {
            if input.is_empty() && ended {
                return Bytes::from_static(if std::mem::replace(&mut self.stopped, true) {
                    b""
                } else {
                    b"."
                });
            }
            let taken = input.split_to(input.len().min(3));
            taken.iter().flat_map(|byte| [*byte; 2]).collect::<Vec<u8>>().into()
        }
    }

    type Frames = std::collections::VecDeque<Poll<Option<Result<Frame<Bytes>, BodyError>>>>;

    fn data(text: &'static str) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }

    fn next(body: &mut Transformed<Frames>) -> Poll<Option<Frame<Bytes>>> {
        let read = |source: &mut Frames, _: &mut Context<'_>| source.pop_front().unwrap_or(Poll::Ready(None));
        let polled = body.poll(&mut Context::from_waker(Waker::noop()), read);
        polled.map(|frame| frame.map(|frame| frame.expect("no error")))
    }

    #[test]
    fn content_is_changed_in_bounded_pieces_and_trailers_come_behind_it() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("4"));
        let last = Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        let frames = Frames::from([data("abcd"), data(""), Poll::Pending, data("e"), last]);
        let mut body = Transformed::new(frames, Box::new(Twice::default()));
        let mut seen = Vec::new();
        loop {
            match next(&mut body) {
                Poll::Pending => seen.push("pending".to_owned()),
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => match frame.into_data() {
                    Ok(data) => seen.push(String::from_utf8_lossy(&data).into_owned()),
                    Err(frame) => seen.push(format!("{:?}", frame.trailers_ref().map(HeaderMap::len))),
                },
            }
        }
        assert_eq!(seen, ["aabbcc", "dd", "pending", "ee", ".", "Some(1)"]);
        assert!(body.is_end_stream());
    }

    #[test]
    fn nothing_is_read_while_what_was_read_is_not_taken() {
        let mut body =
            Transformed::new(Frames::from([data("abcdef"), data("g")]), Box::new(Twice::default()));
        assert!(next(&mut body).is_ready());
        assert_eq!((body.input.len(), body.source.len()), (3, 1));
        assert!(next(&mut body).is_ready());
        assert_eq!((body.input.len(), body.source.len()), (0, 1));
    }
}
