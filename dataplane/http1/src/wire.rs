//! The client's side of a connection, shared by the connection and the content of the request that it serves.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::{Inbox, Outbox};
use super::decoder::{Decoder, Piece};
use super::error::{Error, Malformed};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection's stream, what was read from it, and what is to be written.
#[derive(Debug)]
pub(super) struct Wire<I> {
    /// Taken by a tunnel, or dropped at the end of the connection.
    pub(super) io: Option<I>,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    /// Of the request that is served.
    pub(super) decoder: Decoder,
    /// Which request that is; a body that outlives its request must not read the next one's.
    pub(super) message: u64,
    /// What of that request's content is refused.
    pub(super) malformed: Option<Malformed>,
    /// The client went away in the middle of that content.
    pub(super) is_gone: bool,
    /// The task that drives the connection, where another one reads the content of its request.
    pub(super) driver: Option<Waker>,
    /// The client waits to be asked for its content.
    pub(super) continue_owed: bool,
    /// The protocol has changed: a tunnel may take the stream.
    pub(super) is_handed_over: bool,
    /// Who waits for that.
    pub(super) successor: Option<Waker>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Wire<I> {
    pub(super) fn new(io: I) -> Self {
        Self {
            io: Some(io),
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            decoder: Decoder::ended(),
            message: 0,
            malformed: None,
            is_gone: false,
            driver: None,
            continue_owed: false,
            is_handed_over: false,
            successor: None,
        }
    }

    /// Reads what the socket has, once, behind what was read before.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(Error::Gone)) };
        self.inbox.poll_read(io, cx).map_err(Error::Io)
    }

    /// Writes what is to be written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(io) = &mut self.io else { return Poll::Ready(Err(Error::Gone)) };
        self.outbox.poll_write(io, cx).map_err(Error::Io)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Error>> {
        let polled = ready!(self.poll_decode(cx));
        match &polled {
            Ok(_) => {}
            Err(Error::Malformed(malformed)) => self.malformed = Some(*malformed),
            Err(Error::Io(_) | Error::Incomplete | Error::Closed | Error::Gone | Error::Body) => {
                self.is_gone = true;
            }
        }
        // Once the content is over it is for the connection to notice that the client goes away.
        if (polled.is_err() || self.decoder.is_ended())
            && let Some(driver) = self.driver.take()
            && !driver.will_wake(cx.waker())
        {
            driver.wake();
        }
        Poll::Ready(polled)
    }

    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Error>> {
        loop {
            if let Some(piece) = self.decoder.decode(&mut self.inbox.bytes)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.decoder.is_ended() {
                return Poll::Ready(Ok(None));
            }
            if std::mem::take(&mut self.continue_owed) {
                self.outbox.head.extend_from_slice(CONTINUE);
            }
            if !self.outbox.is_empty() {
                // The connection writes what is left over.
                let _ = self.poll_write(cx)?;
            }
            if ready!(self.poll_read(cx))? == 0 {
                return Poll::Ready(Err(Error::Incomplete));
            }
        }
    }
}

/// The content of a request, which is read from the connection when it is asked for.
pub struct ReceivedBody<I> {
    wire: Rc<RefCell<Wire<I>>>,
    message: u64,
    progress: ReadState,
}

/// Known with the last piece: the connection may be with the next request already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    Reading,
    Whole,
    Broken,
}

impl<I> fmt::Debug for ReceivedBody<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl<I> ReceivedBody<I> {
    pub(super) fn new(wire: &Rc<RefCell<Wire<I>>>) -> Self {
        let (message, is_ended) = {
            let wire = wire.borrow();
            (wire.message, wire.decoder.is_ended())
        };
        let progress = if is_ended { ReadState::Whole } else { ReadState::Reading };
        Self { wire: wire.clone(), message, progress }
    }

    /// The stream, once the answer to this request has changed the protocol.
    pub fn upgrade(&self) -> Upgrade<I> {
        Upgrade { wire: self.wire.clone(), message: self.message }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Body for ReceivedBody<I> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.progress != ReadState::Reading {
            return Poll::Ready(None);
        }
        let (polled, is_ended) = {
            let mut wire = self.wire.borrow_mut();
            let polled =
                if wire.message == self.message { ready!(wire.poll_piece(cx)) } else { Err(Error::Gone) };
            (polled, wire.decoder.is_ended())
        };
        self.progress = match polled {
            Err(_) => ReadState::Broken,
            Ok(_) if is_ended => ReadState::Whole,
            Ok(_) => ReadState::Reading,
        };
        Poll::Ready(polled.map(|piece| piece.map(frame)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.progress == ReadState::Whole
    }

    fn size_hint(&self) -> SizeHint {
        match self.progress {
            ReadState::Whole => return SizeHint::with_exact(0),
            ReadState::Broken => return SizeHint::default(),
            ReadState::Reading => {}
        }
        let wire = self.wire.borrow();
        wire.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A piece of content as the rest of the proxy knows it.
pub(super) fn frame(piece: Piece) -> Frame<Bytes> {
    match piece {
        Piece::Data(data) => Frame::data(data),
        Piece::Trailers(trailers) => Frame::trailers(trailers),
    }
}

/// Waits for a connection to become a tunnel.
pub struct Upgrade<I> {
    wire: Rc<RefCell<Wire<I>>>,
    message: u64,
}

impl<I> fmt::Debug for Upgrade<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("message", &self.message).finish_non_exhaustive()
    }
}

impl<I> Future for Upgrade<I> {
    /// The stream and what was read ahead of it.
    type Output = Result<(I, Bytes), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut wire = self.wire.borrow_mut();
        if wire.message != self.message {
            return Poll::Ready(Err(Error::Gone));
        }
        if !wire.is_handed_over && wire.io.is_some() {
            wire.successor = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(io) = wire.io.take() else { return Poll::Ready(Err(Error::Gone)) };
        Poll::Ready(Ok((io, wire.inbox.bytes.split().freeze())))
    }
}
