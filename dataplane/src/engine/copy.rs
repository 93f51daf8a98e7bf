//! Bytes both ways between two connections, with half-close.
//!
//! Buffers grow with the stream: 2 KiB first, 16 KiB after 128 KiB went through, 256 KiB after 10 MiB, so that
//! a quiet connection costs little and a bulk transfer few system calls. Nothing more is read while the other
//! side does not take what was read: that is the back-pressure.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::Deadline;

const SMALL: usize = 2 * 1024;
const MEDIUM: usize = 16 * 1024;
const LARGE: usize = 256 * 1024;

/// How a tunnel ended.
#[derive(Debug, Default)]
pub(crate) struct Tunnelled {
    /// Bytes from the caller to the endpoint.
    pub(crate) up: u64,
    /// Bytes from the endpoint to the caller.
    pub(crate) down: u64,
    pub(crate) end: TunnelEnd,
    /// What reading from the side that broke has brought.
    pub(crate) failure: Option<io::Error>,
}

/// Why a tunnel ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// Both sides said that they were done.
    #[default]
    Closed,
    /// The caller's connection broke.
    DownstreamBroke,
    /// The endpoint's connection broke.
    UpstreamBroke,
    /// Nothing moved for the idle timeout.
    Idle,
    /// It was told to stop.
    Stopped,
}

struct Half {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    total: u64,
    state: CopyState,
    unflushed: bool,
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum CopyState {
    Running,
    ShuttingDown,
    Done,
}

/// Which side an error came from.
enum CopyError {
    Reader(io::Error),
    Writer,
}

impl Half {
    fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, total: 0, state: CopyState::Running, unflushed: false }
    }

    fn wanted_size(&self) -> usize {
        match self.total {
            0..0x2_0000 => SMALL,
            0x2_0000..0xA0_0000 => MEDIUM,
            _ => LARGE,
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<Result<(), CopyError>>
    where
        R: AsyncRead + ?Sized,
        W: AsyncWrite + ?Sized,
    {
        loop {
            if self.state == CopyState::Done {
                return Poll::Ready(Ok(()));
            }
            while self.start < self.end {
                let n = ready!(to.as_mut().poll_write(cx, &self.buffer[self.start..self.end]))
                    .map_err(|_: io::Error| CopyError::Writer)?;
                if n == 0 {
                    return Poll::Ready(Err(CopyError::Writer));
                }
                self.start += n;
                self.total += n as u64;
                self.unflushed = true;
            }
            if self.state == CopyState::ShuttingDown {
                // A peer that is gone cannot be told; what it was sent has gone out.
                let _ = ready!(to.as_mut().poll_shutdown(cx));
                self.state = CopyState::Done;
                continue;
            }
            match self.poll_fill(cx, from.as_mut()) {
                Poll::Ready(Ok(0)) => self.state = CopyState::ShuttingDown,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(CopyError::Reader(error))),
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx)).map_err(|_| CopyError::Writer)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_fill<R: AsyncRead + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut R>,
    ) -> Poll<io::Result<usize>> {
        let size = self.wanted_size();
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        let mut buf = ReadBuf::new(&mut self.buffer);
        ready!(from.poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        self.start = 0;
        self.end = n;
        Poll::Ready(Ok(n))
    }
}

/// How many bytes have moved so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
    /// From the caller to the endpoint.
    pub(crate) up: u64,
    /// From the endpoint to the caller.
    pub(crate) down: u64,
}

/// Copies until both directions have ended, one breaks, `idle` is due without movement, or `stop` is ready, which is asked
/// whenever something has moved.
pub(crate) async fn tunnel<D, U>(
    downstream: D,
    upstream: U,
    idle: Option<(Deadline, std::time::Duration)>,
    mut stop: impl FnMut(&mut Context<'_>, Moved) -> Poll<()>,
) -> Tunnelled
where
    D: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (mut downstream, mut upstream) = (std::pin::pin!(downstream), std::pin::pin!(upstream));
    let (mut up, mut down) = (Half::new(), Half::new());
    let mut moved = 0;
    if let Some((deadline, span)) = &idle {
        deadline.set(*span);
    }
    std::future::poll_fn(|cx| {
        // Both connections are polled for reading and for writing in one task, so no lock splits them.
        let sent = {
            let (d, u) = (downstream.as_mut(), upstream.as_mut());
            up.poll(cx, d, u)
        };
        let received = {
            let (d, u) = (downstream.as_mut(), upstream.as_mut());
            down.poll(cx, u, d)
        };
        let end = match (&sent, &received) {
            (Poll::Ready(Err(CopyError::Reader(_))), _) | (_, Poll::Ready(Err(CopyError::Writer))) => {
                TunnelEnd::DownstreamBroke
            }
            (Poll::Ready(Err(CopyError::Writer)), _) | (_, Poll::Ready(Err(CopyError::Reader(_)))) => {
                TunnelEnd::UpstreamBroke
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => TunnelEnd::Closed,
            (Poll::Pending, _) | (_, Poll::Pending) => {
                let total = up.total + down.total;
                if let Some((deadline, span)) = &idle {
                    if total != moved {
                        deadline.set(*span);
                    }
                    moved = total;
                    if deadline.poll(cx).is_ready() {
                        return Poll::Ready(Tunnelled {
                            up: up.total,
                            down: down.total,
                            end: TunnelEnd::Idle,
                            failure: None,
                        });
                    }
                }
                if stop(cx, Moved { up: up.total, down: down.total }).is_pending() {
                    return Poll::Pending;
                }
                TunnelEnd::Stopped
            }
        };
        let failure = match (sent, received) {
            (_, Poll::Ready(Err(CopyError::Reader(error)))) if end == TunnelEnd::UpstreamBroke => Some(error),
            (Poll::Ready(Err(CopyError::Reader(error))), _) => Some(error),
            _ => None,
        };
        Poll::Ready(Tunnelled { up: up.total, down: down.total, end, failure })
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn passes_a_half_close_on_and_keeps_the_other_direction() {
        let (mut client, ours) = duplex(64);
        let (theirs, mut server) = duplex(64);
        let talk = async move {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut asked = String::new();
            server.read_to_string(&mut asked).await.unwrap();
            assert_eq!(asked, "question");
            server.write_all(b"late answer").await.unwrap();
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "late answer");
        };
        let (done, ()) = tokio::join!(tunnel(ours, theirs, None, |_, _| Poll::Pending), talk);
        assert_eq!((done.up, done.down, done.end), (8, 11, TunnelEnd::Closed));
    }

    #[tokio::test]
    async fn large_transfers_arrive_whole_through_a_slow_reader() {
        let (mut client, ours) = duplex(1000);
        let (theirs, mut server) = duplex(777);
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sending = async {
            client.write_all(&data).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let receiving = async {
            server.read_to_end(&mut got).await.unwrap();
            server.shutdown().await.unwrap();
        };
        tokio::join!(tunnel(ours, theirs, None, |_, _| Poll::Pending), sending, receiving);
        assert!(got == data);
    }
}
