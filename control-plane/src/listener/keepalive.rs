//! Whether somebody is alive behind a connection: an HTTP/2 PING when we want to know, not when a timer says so.
//!
//! ```text
//! hyper ── frames ──▶ Pinged ── the same, and a PING between two of them ──▶ TLS
//! hyper ◀── bytes ─── KeepaliveStream ◀── what arrives after it is the sign of life ── TLS
//! ```
//!
//! hyper pings by its own timer only. So a PING is put between its frames underneath it, and its acknowledgement goes
//! up to h2, which ignores one that it did not ask for. Any byte counts as an answer, not the acknowledgement alone: a
//! client that is in the middle of a large response reads the PING late, but opens its windows all the while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
// RFC 9113, section 6.7: eight bytes of any content, on stream 0.
const PING: &[u8; FRAME_HEADER + 8] = b"\0\0\x08\x06\0\0\0\0\0weftping";

/// Asks the other end of one connection for a sign of life.
#[derive(Debug, Default)]
pub(crate) struct Keepalive {
    wanted: AtomicBool,
    listening: AtomicBool,
    connection: AtomicWaker,
    heard: Notify,
    ended: CancellationToken,
}

impl Keepalive {
    /// Waits for a sign of life that comes after this call; false when the connection ends first.
    pub(super) async fn beat(&self) -> bool {
        // `notify_waiters` wakes whoever has asked by then, polled or not.
        let heard = self.heard.notified();
        self.listening.store(true, Ordering::SeqCst);
        self.wanted.store(true, Ordering::SeqCst);
        self.connection.wake();
        tokio::select! {
            () = heard => true,
            () = self.ended.cancelled() => false,
        }
    }

    /// The connection is gone: nobody waits for it any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    fn note_activity(&self) {
        if self.listening.load(Ordering::Relaxed) && self.listening.swap(false, Ordering::SeqCst) {
            self.heard.notify_waiters();
        }
    }
}

/// A connection that carries HTTP/2 and can be pinged underneath.
#[derive(Debug)]
pub(crate) struct KeepaliveStream<S> {
    inner: S,
    // Without one, bytes only pass.
    keepalive: Option<Arc<Keepalive>>,
    sent: Frames,
    unsent: &'static [u8],
    is_unflushed: bool,
}

impl<S> KeepaliveStream<S> {
    /// Around a connection on which nothing was sent yet.
    pub(crate) fn new(inner: S, keepalive: Option<Arc<Keepalive>>) -> Self {
        Self { inner, keepalive, sent: Frames::default(), unsent: &[], is_unflushed: false }
    }
}

impl<S: AsyncWrite + Unpin> KeepaliveStream<S> {
    /// Begins a PING where one is wanted and may stand, and sends what is left of one that was begun.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(keepalive) = &self.keepalive else { return Poll::Ready(Ok(())) };
        if self.unsent.is_empty() && self.sent.is_between() && keepalive.wanted.swap(false, Ordering::SeqCst)
        {
            self.unsent = PING;
        }
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent = &self.unsent[written..];
            self.is_unflushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for KeepaliveStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(keepalive) = &this.keepalive {
            // h2 reads each time that its task is woken: a wish that comes later wakes it and is seen here.
            keepalive.connection.register(cx.waker());
        }
        // A PING that cannot leave now does not keep what arrives waiting; the write wakes this task again.
        if this.poll_ping(cx)?.is_ready()
            && this.is_unflushed
            && Pin::new(&mut this.inner).poll_flush(cx)?.is_ready()
        {
            this.is_unflushed = false;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before
            && let Some(keepalive) = &this.keepalive
        {
            keepalive.note_activity();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for KeepaliveStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx))?;
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, buf))?;
        this.sent.pass(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx))?;
        let written = ready!(Pin::new(&mut this.inner).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            this.sent.pass(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_ping(cx))?;
        ready!(Pin::new(&mut this.inner).poll_flush(cx))?;
        this.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// Where in the sequence of frames a server's output stands.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; FRAME_HEADER],
    have: usize,
    payload: usize,
    has_begun: bool,
    is_in_block: bool,
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.have < FRAME_HEADER {
                let part = bytes.len().min(FRAME_HEADER - self.have);
                self.header[self.have..self.have + part].copy_from_slice(&bytes[..part]);
                self.have += part;
                bytes = &bytes[part..];
                if self.have < FRAME_HEADER {
                    return;
                }
                let [a, b, c, kind, flags, ..] = self.header;
                self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
                    self.is_in_block = flags & END_HEADERS == 0;
                }
            }
            let part = bytes.len().min(self.payload);
            self.payload -= part;
            bytes = &bytes[part..];
            if self.payload == 0 {
                self.have = 0;
                self.has_begun = true;
            }
        }
    }

    /// Whether another frame may stand here: SETTINGS come first, and nothing comes between parts of a header block.
    fn is_between(&self) -> bool {
        self.has_begun && self.have == 0 && !self.is_in_block
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER + payload, 0xff);
        frame
    }

    #[test]
    fn nothing_stands_before_the_settings_or_inside_a_header_block() {
        let mut sent = Frames::default();
        assert!(!sent.is_between());
        sent.pass(&frame(4, 0, 6));
        assert!(sent.is_between());
        sent.pass(&frame(HEADERS, 0, 10));
        assert!(!sent.is_between());
        sent.pass(&frame(CONTINUATION, 0, 0));
        assert!(!sent.is_between());
        sent.pass(&frame(CONTINUATION, END_HEADERS, 3));
        assert!(sent.is_between());
    }

    proptest! {
        #[test]
        fn boundaries_are_found_however_the_bytes_are_cut(
            lengths in prop::collection::vec(0_usize..40, 1..20),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let frames: Vec<Vec<u8>> = lengths.iter().map(|length| frame(0, 0, *length)).collect();
            let ends: Vec<usize> = frames
                .iter()
                .scan(0, |at, frame| {
                    *at += frame.len();
                    Some(*at)
                })
                .collect();
            let bytes = frames.concat();
            let (mut sent, mut at) = (Frames::default(), 0);
            for cut in cuts.iter().cycle() {
                let next = (at + cut).min(bytes.len());
                sent.pass(&bytes[at..next]);
                at = next;
                prop_assert_eq!(sent.is_between(), ends.contains(&at), "at {}", at);
                if at == bytes.len() {
                    break;
                }
            }
        }
    }
}
