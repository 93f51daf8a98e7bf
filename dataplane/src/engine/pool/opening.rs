//! A new HTTP/2 connection's bytes: nothing is read before the first request has been written.
//!
//! A server's settings apply from the moment at which they are known. Read first, they could forbid the very request for
//! which the connection was opened, which would then wait in it for ever; Envoy writes first as well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection to a server that is read only once its first request has been written.
#[derive(Debug)]
pub(super) struct Opening<S> {
    stream: S,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// The preface goes out.
    NotYet,
    /// Somebody wants to read; what is written next begins with the first request.
    Wanted(Waker),
    Open,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, reading: Reading::NotYet }
    }

    #[inline]
    fn written(&mut self) {
        if let Reading::Wanted(waker) = &self.reading {
            waker.wake_by_ref();
            self.reading = Reading::Open;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !matches!(self.reading, Reading::Open) {
            self.reading = Reading::Wanted(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.written();
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written();
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
