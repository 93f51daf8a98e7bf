//! The client's end of a connection: sends one request after the other, and reads what answers them.
//!
//! ```text
//! send ──▶ poll_head ──▶ poll_frame … None ──▶ is_reusable ──▶ send
//! ```
//!
//! Whoever waits for the response also sends the request's content: both polls do both. A response may come whole before
//! the request is; its connection is used again when the rest has gone out, for which `poll_idle` sees.

use std::fmt;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::{Inbox, Outbox};
use super::decoder::Decoder;
use super::encode::{self, Encoder};
use super::error::Error;
use super::framing::{BodyLength, Persistence};
use super::head::HeadParser;
use super::options::CodecOptions;
use super::outgoing::{Gathered, Outgoing};
use super::response::{Asked, ResponseHead};
use super::wire::frame;

/// Announcements (status 1xx) that may come before a response.
const ANNOUNCEMENTS: u32 = 32;

/// A connection to a server.
pub struct ClientConnection<I, B> {
    io: I,
    options: CodecOptions,
    parser: HeadParser,
    inbox: Inbox,
    outbox: Outbox,
    request: Option<Outgoing<B>>,
    decoder: Decoder,
    asked: Asked,
    stage: ClientStage,
    announcements: u32,
    persistence: Persistence,
    /// Whether any byte of a response has come.
    has_answered: bool,
    /// A request could not be sent whole.
    is_cut_short: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientStage {
    /// No request is under way.
    Idle,
    /// A request waits for its response.
    Waiting,
    /// A response's content is read.
    Receiving,
    /// The connection is a tunnel, or of no use any more.
    Over,
}

impl<I, B> fmt::Debug for ClientConnection<I, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<I, B> ClientConnection<I, B>
where
    I: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes> + Unpin,
{
    /// A connection on which nothing was sent yet.
    pub fn new(io: I, options: CodecOptions) -> Self {
        Self {
            io,
            options,
            parser: HeadParser::new(options.limits),
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            request: None,
            decoder: Decoder::ended(),
            asked: Asked::Plain,
            stage: ClientStage::Idle,
            announcements: 0,
            persistence: Persistence::KeepAlive,
            has_answered: false,
            is_cut_short: false,
        }
    }

    /// Whether the next request may be sent: the last request is over on both sides, and the server keeps the
    /// connection. What the server has done since is seen by [`ClientConnection::poll_idle`].
    pub fn is_reusable(&self) -> bool {
        self.stage == ClientStage::Idle && self.request.is_none() && self.outbox.is_empty()
    }

    /// For a connection that waits: ready when it is of no use any more. A server that says something without being
    /// asked is not listened to: it would be taken for the answer to the next request. What is left of a request whose
    /// response came before it was sent is sent here.
    pub fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let goes_on = self.stage == ClientStage::Idle
            && self.inbox.bytes.is_empty()
            && self.poll_upload(cx).is_ok()
            && self.inbox.poll_read(&mut self.io, cx).is_pending();
        if goes_on {
            return Poll::Pending;
        }
        self.stage = ClientStage::Over;
        Poll::Ready(())
    }

    /// Whether the last request is over as far as the server is concerned, and it keeps the connection.
    pub fn is_idle(&self) -> bool {
        self.stage == ClientStage::Idle
    }

    /// Takes a request to be sent; it goes out when the response is polled. The connection must be reusable, and what
    /// the head says is the caller's responsibility, but for the framing.
    pub fn send(&mut self, request: Request<B>) {
        let (parts, body) = request.into_parts();
        self.send_parts(&parts.method, &parts.uri, &parts.headers, body);
        self.parser.recycle(parts.headers);
    }

    /// The same with a head that stays with the caller, who may have to send it again.
    pub fn send_parts(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: B) {
        debug_assert!(self.is_reusable(), "one request at a time");
        let (out, case) = (&mut self.outbox.head, self.options.case);
        encode::request_head(out, method, uri, headers, case);
        let upgrades = headers.contains_key(http::header::UPGRADE);
        self.asked = match *method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ if upgrades => Asked::Upgrade,
            _ => Asked::Plain,
        };
        // A request without content says so only where its method makes one expect some (RFC 9110, section 8.6): of
        // all but those that Envoy takes for bodiless.
        let bodiless =
            matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT | Method::TRACE);
        let is_empty = body.is_end_stream();
        let encoder = if *method == Method::CONNECT || (is_empty && bodiless) {
            Encoder::empty()
        } else {
            Encoder::frame(out, headers, body.size_hint().exact(), BodyLength::Chunked, case)
        };
        out.extend_from_slice(b"\r\n");
        self.request = (!is_empty).then_some(Outgoing { body, encoder, case });
        self.stage = ClientStage::Waiting;
        self.announcements = 0;
        self.has_answered = false;
    }

    /// Sends the request and waits for the response's head.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] where the connection ended before a byte of a response came: the server may not have seen the
    /// request. Others where it broke, or what came is refused. The connection is over then.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        let polled = self.poll_response(cx);
        if matches!(polled, Poll::Ready(Err(_))) {
            self.stage = ClientStage::Over;
        }
        polled
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        let uploaded = self.poll_upload(cx);
        if let Err(Error::Body) = uploaded {
            return Poll::Ready(Err(Error::Body));
        }
        loop {
            match self.parser.response(&mut self.inbox.bytes, self.asked)? {
                Some(head) if head.status.is_informational() && !head.is_upgrade => {
                    self.announcements += 1;
                    if self.announcements > ANNOUNCEMENTS {
                        return Poll::Ready(Err(Error::Malformed(super::error::Malformed::Syntax)));
                    }
                    continue;
                }
                Some(head) => return Poll::Ready(Ok(self.begin(head))),
                None => {}
            }
            match self.inbox.poll_read(&mut self.io, cx) {
                Poll::Ready(Ok(0)) if self.has_answered => return Poll::Ready(Err(Error::Incomplete)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(Ok(_)) => self.has_answered = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Error::Io(error))),
                // A server may refuse a request that it does not read: only when nothing is to be read does it count
                // that the request could not be sent.
                Poll::Pending => {
                    return uploaded.map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending);
                }
            }
        }
    }

    fn begin(&mut self, head: ResponseHead) -> Response<()> {
        self.decoder = Decoder::new(head.length, self.options.limits);
        self.persistence = head.persistence;
        self.stage = if head.is_upgrade { ClientStage::Over } else { ClientStage::Receiving };
        self.settle();
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        response
    }

    /// The next piece of the response's content; sends what is left of the request meanwhile.
    ///
    /// # Errors
    ///
    /// Where the connection broke, or what came is refused. The connection is over then.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.decoder.is_ended() {
            return Poll::Ready(None);
        }
        let polled = ready!(self.poll_piece(cx)).transpose();
        if matches!(polled, Some(Err(_))) {
            self.stage = ClientStage::Over;
            self.decoder = Decoder::ended();
        } else {
            self.settle();
        }
        Poll::Ready(polled)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        match self.poll_upload(cx) {
            // Half a request must not look like a whole one.
            Err(Error::Body) => return Poll::Ready(Err(Error::Body)),
            // That the server does not take the rest of a request that it answers is its right.
            Ok(())
            | Err(Error::Malformed(_) | Error::Io(_) | Error::Incomplete | Error::Closed | Error::Gone) => {}
        }
        loop {
            if let Some(piece) = self.decoder.decode(&mut self.inbox.bytes)? {
                return Poll::Ready(Ok(Some(frame(piece))));
            }
            if self.decoder.is_ended() {
                return Poll::Ready(Ok(None));
            }
            if ready!(self.inbox.poll_read(&mut self.io, cx))? == 0 {
                return Poll::Ready(if self.decoder.close() { Ok(None) } else { Err(Error::Incomplete) });
            }
        }
    }

    /// Whether the response has come whole; with the last piece this is mostly known already.
    pub fn is_end_stream(&self) -> bool {
        self.decoder.is_ended()
    }

    /// How many bytes of content are still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    /// The stream, and what was read ahead of a tunnel.
    pub fn into_parts(mut self) -> (I, Bytes) {
        (self.io, self.inbox.bytes.split().freeze())
    }

    /// The response is whole: the next request may follow, where both sides are done and wish it.
    fn settle(&mut self) {
        if self.stage != ClientStage::Receiving || !self.decoder.is_ended() {
            return;
        }
        let goes_on =
            !self.is_cut_short && self.persistence == Persistence::KeepAlive && self.inbox.bytes.is_empty();
        self.stage = if goes_on { ClientStage::Idle } else { ClientStage::Over };
    }

    /// Sends as much of the request as goes. One that cannot be sent whole is the connection's last.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let polled = self.poll_request(cx);
        if polled.is_err() {
            self.request = None;
            self.is_cut_short = true;
        }
        polled
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        while let Some(request) = &mut self.request {
            let gathered = request.gather(&mut self.outbox, cx)?;
            if gathered == Gathered::Whole {
                self.request = None;
            }
            if self.outbox.poll_write(&mut self.io, cx)?.is_pending() || gathered == Gathered::Waiting {
                return Ok(());
            }
        }
        let _ = self.outbox.poll_write(&mut self.io, cx)?;
        Ok(())
    }
}
