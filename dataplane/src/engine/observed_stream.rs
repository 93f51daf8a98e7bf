//! A downstream connection's bytes, noticed as they come and go: what comes between two requests begins a head, and what
//! does not go means that the peer takes nothing.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// What a stream tells its connection.
#[derive(Debug, Default)]
pub(crate) struct StreamActivity {
    /// Bytes came since this was looked at.
    received: Cell<bool>,
    /// Odd while bytes wait that cannot be written; grows with each change.
    stalls: Cell<u32>,
}

impl StreamActivity {
    /// Whether bytes came since this was asked last.
    pub(super) fn take_received(&self) -> bool {
        self.received.replace(false)
    }

    /// A number while nothing can be written: the same one for as long as nothing was.
    pub(super) fn stalled(&self) -> Option<u32> {
        Some(self.stalls.get()).filter(|number| number % 2 == 1)
    }

    #[inline]
    fn note_write<T>(&self, polled: &Poll<T>) {
        let number = self.stalls.get();
        if polled.is_pending() != (number % 2 == 1) {
            self.stalls.set(number.wrapping_add(1));
        }
    }
}

/// A stream that tells its connection.
#[derive(Debug)]
pub(crate) struct ObservedStream {
    pub(super) stream: Stream,
    pub(super) activity: Rc<StreamActivity>,
}

impl AsyncRead for ObservedStream {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.received.set(true);
        }
        polled
    }
}

impl AsyncWrite for ObservedStream {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.activity.note_write(&polled);
        polled
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.activity.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_pending() {
            // A stream that has nothing to flush says nothing about bytes that could not even be given to it.
            self.activity.note_write(&polled);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.activity.note_write(&polled);
        polled
    }
}
