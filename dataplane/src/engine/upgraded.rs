//! One side of a connection that has become a tunnel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{BodyError, Incoming};
use super::observed_stream::ObservedStream;
use super::stream::Stream;

/// The caller's side, which is there once the answer has gone out.
#[derive(Debug)]
pub(super) enum DownstreamUpgrade {
    Http1(weft_http1::server::Upgrade<ObservedStream>),
    Http2(OnUpgrade),
}

impl DownstreamUpgrade {
    /// Of a request that asks for it.
    pub(super) fn of(request: &mut Request<Incoming>) -> Self {
        match request.body() {
            Incoming::Http1(body) => Self::Http1(body.upgrade()),
            Incoming::Http2(_) => Self::Http2(hyper::upgrade::on(request)),
        }
    }

    pub(super) async fn stream(self) -> Result<Upgraded, BodyError> {
        match self {
            Self::Http1(upgrade) => {
                let (observed, ahead) = upgrade.await.map_err(BodyError::Http1)?;
                Ok(Upgraded::Connection(observed.stream.rewind(ahead.into())))
            }
            Self::Http2(upgrade) => upgrade.await.map(Upgraded::stream_of).map_err(BodyError::Http2),
        }
    }
}

/// A tunnel's bytes.
#[derive(Debug)]
pub(super) enum Upgraded {
    Connection(Stream),
    /// One stream of an HTTP/2 connection.
    Stream(TokioIo<hyper::upgrade::Upgraded>),
}

impl Upgraded {
    /// One stream of an HTTP/2 connection.
    pub(super) fn stream_of(upgraded: hyper::upgrade::Upgraded) -> Self {
        Self::Stream(TokioIo::new(upgraded))
    }
}

macro_rules! each {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.get_mut() {
            Upgraded::Connection($inner) => $call,
            Upgraded::Stream($inner) => $call,
        }
    };
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => Pin::new(inner).poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }
}
