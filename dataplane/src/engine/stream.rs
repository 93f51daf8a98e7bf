//! A connection's bytes: TCP or TLS over TCP, with the bytes that were read ahead for inspection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection of which some bytes were read ahead.
#[derive(Debug)]
pub(crate) struct Rewound {
    tcp: TcpStream,
    ahead: Option<Box<Ahead>>,
}

#[derive(Debug)]
struct Ahead {
    bytes: Vec<u8>,
    taken: usize,
}

impl Ahead {
    /// Puts what fits into `buf`; whether that was the last of it.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.bytes[self.taken..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.taken += n;
        self.taken == self.bytes.len()
    }
}

impl Rewound {
    pub(crate) fn new(tcp: TcpStream, bytes: Vec<u8>) -> Self {
        let ahead = (!bytes.is_empty()).then(|| Box::new(Ahead { bytes, taken: 0 }));
        Self { tcp, ahead }
    }
}

impl AsyncRead for Rewound {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ahead) = &mut self.ahead {
            if ahead.give(buf) {
                self.ahead = None;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Rewound {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, data)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Either end of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Rewound),
    /// TLS that a client began.
    Accepted(Box<tokio_rustls::server::TlsStream<Rewound>>),
    /// TLS that we began.
    Connected(Box<tokio_rustls::client::TlsStream<Rewound>>),
    /// Any of these with decrypted bytes that were read ahead.
    Fronted(Box<Fronted>),
}

/// A stream of which some bytes were read ahead.
#[derive(Debug)]
pub(crate) struct Fronted {
    ahead: Option<Ahead>,
    rest: Stream,
}

impl AsyncRead for Fronted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ahead) = &mut self.ahead {
            if ahead.give(buf) {
                self.ahead = None;
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.rest).poll_read(cx, buf)
    }
}

impl AsyncWrite for Fronted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(cx)
    }
}

impl Stream {
    /// The same stream with bytes that were read from it put back in front.
    pub(crate) fn rewind(self, ahead: Vec<u8>) -> Self {
        match self {
            _ if ahead.is_empty() => self,
            Self::Plain(Rewound { tcp, ahead: None }) => Self::Plain(Rewound::new(tcp, ahead)),
            rest => Self::Fronted(Box::new(Fronted { ahead: Some(Ahead { bytes: ahead, taken: 0 }), rest })),
        }
    }
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($inner) => $call,
            Stream::Accepted($inner) => $call,
            Stream::Connected($inner) => $call,
            Stream::Fronted($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, data))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Accepted(tls) => tls.is_write_vectored(),
            Self::Connected(tls) => tls.is_write_vectored(),
            Self::Fronted(fronted) => fronted.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
