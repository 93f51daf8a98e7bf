//! What was read and not used yet, and what is to be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::encode::Framed;

/// Room for a first read.
const SMALLEST: usize = 4 * 1024;
/// Room for a read of bulk data.
const LARGEST: usize = 256 * 1024;
/// Data up to this length is copied behind what is written before it, which costs less than another piece of memory in
/// the same call.
const COPIED: usize = 1024;
/// Small pieces are gathered up to about this many bytes.
const GATHERED: usize = 16 * 1024;

/// Bytes that were read. The room for the next read grows while reads fill it, and shrinks when they do not.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) bytes: BytesMut,
    room: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: BytesMut::new(), room: SMALLEST }
    }

    /// Reads once; the number of bytes, which is 0 at the end.
    pub(super) fn poll_read<I>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        I: AsyncRead + Unpin,
    {
        if self.bytes.capacity() - self.bytes.len() < self.room / 2 {
            self.bytes.reserve(self.room);
        }
        let spare = self.bytes.capacity() - self.bytes.len();
        let read = ready!(poll_read_buf(Pin::new(io), cx, &mut self.bytes))?;
        if read == spare {
            self.room = (self.room * 2).min(LARGEST);
        } else if read < self.room / 4 {
            self.room = (self.room / 2).max(SMALLEST);
        }
        Poll::Ready(Ok(read))
    }
}

/// Bytes that are to be written, in this order: heads and small pieces, one large piece, what frames its end.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) head: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
}

impl Outbox {
    /// Whether all was written.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether more may be added before something is written.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.head.len() < GATHERED
    }

    /// Adds a piece of content. There must be room.
    pub(super) fn push(&mut self, framed: Framed) {
        let Framed { data, tail } = framed;
        if data.len() <= COPIED {
            self.head.extend_from_slice(&data);
            self.head.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }

    /// Writes all that there is.
    pub(super) fn poll_write<I>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        I: AsyncWrite + Unpin,
    {
        if self.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let head = &self.head[self.written..];
            let written = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, head))?
            } else {
                let parts = [IoSlice::new(head), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.len() - self.written);
        self.written += of_head;
        if self.written == self.head.len() {
            self.head.clear();
            self.written = 0;
        }
        let of_data = (written - of_head).min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // An empty rest would hold on to what it was cut from.
            self.data = Bytes::new();
        }
        self.tail = &self.tail[written - of_head - of_data..];
    }
}
