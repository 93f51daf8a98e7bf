//! The beginning of a request's content, read before it is known where the request goes.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::error::BodyError;
use super::progress::Progress;
use super::request_content::RequestContent;

/// Pieces that are smaller than this are put together: each would cost more than its bytes, and hold the whole buffer
/// that it was read into.
const SMALL: usize = 16 * 1024;

/// What was read of a request's content, in pieces, and what is still to come. It takes twice as much memory as it has
/// bytes, at most; how many it has is for the one to bound who reads.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    pieces: VecDeque<Bytes>,
    /// The last, small pieces.
    small: BytesMut,
    trailers: Option<HeaderMap>,
    /// `None` once the end was read.
    rest: Option<RequestContent>,
    size: usize,
}

impl ReadAhead {
    /// All that there is.
    pub(super) fn whole(content: Bytes) -> Self {
        Self { size: content.len(), pieces: VecDeque::from([content]), ..Self::default() }
    }

    /// Of content of which nothing has been read.
    pub(super) fn new(rest: RequestContent) -> Self {
        Self { rest: Some(rest), ..Self::default() }
    }

    /// Reads one piece more, which counts as progress of the request; ready at once where all was read.
    ///
    /// # Errors
    /// The caller broke off, or what it sent is no HTTP.
    pub(crate) fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Result<(), BodyError>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(Ok(())) };
        let frame = ready!(rest.poll(cx, progress)).transpose()?;
        let ended = frame.is_none() || rest.is_end_stream();
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.keep(data),
            Some(Err(other)) => self.trailers = other.into_trailers().ok(),
            None => {}
        }
        if ended {
            self.rest = None;
            progress.end();
        }
        Poll::Ready(Ok(()))
    }

    fn keep(&mut self, data: Bytes) {
        self.size += data.len();
        if data.len() < SMALL {
            self.small.extend_from_slice(&data);
        }
        if (data.len() >= SMALL || self.small.len() >= SMALL) && !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        if data.len() >= SMALL {
            self.pieces.push_back(data);
        }
    }

    /// How many bytes were read, and not passed on.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether all of it was read.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// What was read, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &piece[..]).chain(Some(&self.small[..]))
    }

    /// What was read, then what comes.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.next() {
            self.size -= piece.len();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.rest {
            Some(rest) => rest.poll(cx, progress),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        self.pieces.pop_front().or_else(|| (!self.small.is_empty()).then(|| self.small.split().freeze()))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.size == 0
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(RequestContent::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let ahead = self.size as u64;
        let Some(rest) = &self.rest else {
            // Trailers need a coding that has a place for them.
            return if self.trailers.is_none() { SizeHint::with_exact(ahead) } else { SizeHint::default() };
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(ahead: &mut ReadAhead) -> Vec<usize> {
        std::iter::from_fn(|| ahead.next()).map(|piece| piece.len()).collect()
    }

    #[test]
    fn small_pieces_are_put_together_and_large_ones_are_not_copied() {
        let mut ahead = ReadAhead::default();
        let large = Bytes::from(vec![b'x'; SMALL]);
        for piece in [&b"ab"[..], b"c"] {
            ahead.keep(Bytes::copy_from_slice(piece));
        }
        ahead.keep(large.clone());
        ahead.keep(Bytes::from_static(b"d"));
        assert_eq!(ahead.size(), 4 + SMALL);
        assert_eq!(ahead.pieces().map(<[u8]>::len).collect::<Vec<_>>(), [3, SMALL, 1]);
        assert_eq!(ahead.pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(given(&mut ahead), [3, SMALL, 1]);
    }

    #[test]
    fn content_in_single_bytes_takes_little_more_than_its_size() {
        let mut ahead = ReadAhead::default();
        for _ in 0..10 * SMALL {
            ahead.keep(Bytes::from_static(b"x"));
        }
        assert!(ahead.pieces.len() <= 10);
        assert_eq!(given(&mut ahead).iter().sum::<usize>(), 10 * SMALL);
    }
}
