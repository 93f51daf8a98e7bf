//! The server's end of a connection: reads requests one after the other, and writes what answers them.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use super::decoder::Decoder;
use super::encode::{self, Encoder, FieldCase};
use super::error::{Error, Malformed};
use super::framing::{BodyLength, Persistence};
use super::head::HeadParser;
use super::options::CodecOptions;
use super::outgoing::{Gathered, Outgoing};
use super::request::ParsedRequest;
use super::wire::Wire;
pub use super::wire::{ReceivedBody, Upgrade};

/// What answers the requests of one connection.
pub trait RequestHandler<I> {
    /// The content of its answers.
    type Body: Body<Data = Bytes> + Unpin;
    /// An answer on its way.
    type Answer: Future<Output = Response<Self::Body>>;

    /// Answers a request. A `connection: close` in the answer ends the connection after it.
    fn answer(&mut self, request: Request<ReceivedBody<I>>) -> Self::Answer;

    /// Answers bytes that are no request; the connection ends after it.
    fn refuse(&mut self, malformed: Malformed) -> Response<Self::Body>;
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The connection was closed, by either side, between two messages.
    Closed,
    /// It became a tunnel, which has its stream.
    Upgraded,
    /// What came was no request; that was said.
    Refused(Malformed),
}

/// A connection. Dropping it closes it, and the body of its request with it.
pub struct ServerConnection<I, S: RequestHandler<I>> {
    wire: Rc<RefCell<Wire<I>>>,
    service: S,
    options: CodecOptions,
    parser: HeadParser,
    /// The answer that is being made; the memory is kept from one to the next.
    answer: Pin<Box<Option<S::Answer>>>,
    response: Option<Outgoing<S::Body>>,
    stage: ServerStage,
    exchange: Exchange,
    is_finishing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerStage {
    /// Between two requests, or in a head.
    Head,
    /// A request waits for its answer.
    Answering,
    /// An answer is written.
    Responding,
    /// All was written; what becomes of the connection is to be seen.
    Written,
    /// The last answer is on its way.
    Closing,
    /// It went out; what the client still sends is passed over until it closes.
    Lingering,
    Over,
}

/// How far an answer has gone out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// The whole message, to its end.
    Whole,
    /// All that there is yet.
    Waiting,
    /// The client does not take it.
    Stalled,
}

/// What of a request decides how its answer is written.
#[derive(Debug)]
struct Exchange {
    method: Method,
    version: Version,
    persistence: Persistence,
    upgrades: bool,
    switched: bool,
    refused: Option<Malformed>,
}

impl<I, S: RequestHandler<I>> fmt::Debug for ServerConnection<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl<I, S> ServerConnection<I, S>
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: RequestHandler<I>,
{
    /// A connection on which nothing was read yet.
    pub fn new(io: I, service: S, options: CodecOptions) -> Self {
        Self {
            wire: Rc::new(RefCell::new(Wire::new(io))),
            service,
            options,
            parser: HeadParser::new(options.limits),
            answer: Box::pin(None),
            response: None,
            stage: ServerStage::Head,
            exchange: Exchange {
                method: Method::GET,
                version: Version::HTTP_11,
                persistence: Persistence::KeepAlive,
                upgrades: false,
                switched: false,
                refused: None,
            },
            is_finishing: false,
        }
    }

    /// Takes no further request: ends when idle, or after the answer that is under way.
    pub fn finish(&mut self) {
        self.is_finishing = true;
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.stage == ServerStage::Head
    }

    /// Whether nothing is waited for but the client's closing: a connection that is closed with bytes unread is reset,
    /// and the client may lose the answer (RFC 9112, section 9.6). How long that may take is for the caller to say.
    pub fn is_lingering(&self) -> bool {
        self.stage == ServerStage::Lingering
    }

    /// What was refused, of a head or of content.
    pub fn refused(&self) -> Option<Malformed> {
        self.exchange.refused.or(self.wire.borrow().malformed)
    }

    /// Serves; ready when the connection is over.
    ///
    /// # Errors
    ///
    /// Where the connection broke, or an answer's content did not fit its head.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Error>> {
        loop {
            match self.stage {
                ServerStage::Head => match ready!(self.poll_head(cx))? {
                    Some(head) => self.begin(head),
                    // Else there is a refusal to write.
                    None if self.stage == ServerStage::Head => return self.over(End::Closed),
                    None => {}
                },
                ServerStage::Answering => {
                    let Some(answer) = self.answer.as_mut().as_pin_mut() else {
                        return self.over(End::Closed);
                    };
                    match answer.poll(cx) {
                        Poll::Ready(response) => {
                            self.answer.set(None);
                            self.respond(response);
                        }
                        Poll::Pending => return self.watch(cx),
                    }
                }
                ServerStage::Responding => match self.poll_response(cx)? {
                    Wrote::Whole => self.stage = ServerStage::Written,
                    Wrote::Waiting => return self.watch(cx),
                    Wrote::Stalled => return Poll::Pending,
                },
                ServerStage::Written => {
                    if let Some(end) = self.written() {
                        return self.over(end);
                    }
                }
                ServerStage::Closing => {
                    let mut wire = self.wire.borrow_mut();
                    if let Some(io) = &mut wire.io {
                        // The peer may have gone already, which is as well.
                        let _ = ready!(Pin::new(io).poll_shutdown(cx));
                    }
                    let is_read = wire.decoder.is_ended();
                    drop(wire);
                    if is_read && self.refused().is_none() {
                        return self.over(End::Closed);
                    }
                    self.stage = ServerStage::Lingering;
                }
                ServerStage::Lingering => {
                    let mut wire = self.wire.borrow_mut();
                    loop {
                        wire.inbox.bytes.clear();
                        match ready!(wire.poll_read(cx)) {
                            Ok(1..) => {}
                            Ok(0) | Err(_) => break,
                        }
                    }
                    drop(wire);
                    let end = self.refused().map_or(End::Closed, End::Refused);
                    return self.over(end);
                }
                ServerStage::Over => return Poll::Ready(Ok(End::Closed)),
            }
        }
    }

    /// The next head; `None` at the end of the connection, and where a refusal is to be written.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<ParsedRequest>, Error>> {
        let mut wire = self.wire.borrow_mut();
        loop {
            match self.parser.request(&mut wire.inbox.bytes) {
                Ok(Some(head)) => return Poll::Ready(Ok(Some(head))),
                Ok(None) if self.is_finishing && wire.inbox.bytes.is_empty() => {
                    return Poll::Ready(Ok(None));
                }
                Ok(None) => {}
                Err(malformed) => {
                    drop(wire);
                    self.refuse(malformed);
                    return Poll::Ready(Ok(None));
                }
            }
            if ready!(wire.poll_read(cx))? == 0 {
                let whole = wire.inbox.bytes.is_empty();
                return Poll::Ready(if whole { Ok(None) } else { Err(Error::Incomplete) });
            }
        }
    }

    fn begin(&mut self, head: ParsedRequest) {
        let mut wire = self.wire.borrow_mut();
        wire.message += 1;
        wire.malformed = None;
        wire.decoder = Decoder::new(head.length, self.options.limits);
        wire.continue_owed = head.expects_continue && !wire.decoder.is_ended();
        drop(wire);
        let mut request = Request::new(ReceivedBody::new(&self.wire));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri;
        *request.version_mut() = head.version;
        *request.headers_mut() = head.headers;
        self.exchange.method = head.method;
        self.exchange.version = head.version;
        self.exchange.persistence = head.persistence;
        self.exchange.upgrades = head.upgrades;
        let answer = self.service.answer(request);
        self.answer.set(Some(answer));
        self.stage = ServerStage::Answering;
    }

    /// While an answer is made: a client that goes away takes the answer with it.
    fn watch(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Error>> {
        let mut wire = self.wire.borrow_mut();
        if !wire.outbox.is_empty() {
            let _ = wire.poll_write(cx)?;
        }
        if !wire.decoder.is_ended() {
            // Whoever reads the content says when it is over.
            match &mut wire.driver {
                Some(known) => known.clone_from(cx.waker()),
                None => wire.driver = Some(cx.waker().clone()),
            }
        }
        let is_gone = wire.is_gone
            || (wire.decoder.is_ended()
                && wire.inbox.bytes.is_empty()
                && matches!(wire.poll_read(cx)?, Poll::Ready(0)));
        drop(wire);
        if is_gone { self.over(End::Closed) } else { Poll::Pending }
    }

    fn refuse(&mut self, malformed: Malformed) {
        let response = self.service.refuse(malformed);
        self.exchange.method = Method::GET;
        self.exchange.version = Version::HTTP_11;
        self.exchange.persistence = Persistence::Close;
        self.exchange.upgrades = false;
        self.exchange.refused = Some(malformed);
        self.respond(response);
    }

    /// Writes an answer's head; its content follows.
    fn respond(&mut self, response: Response<S::Body>) {
        let (mut parts, body) = response.into_parts();
        let mut wire = self.wire.borrow_mut();
        wire.continue_owed = false;
        let exchange = &mut self.exchange;
        let connects = exchange.method == Method::CONNECT && parts.status.is_success();
        exchange.switched =
            exchange.upgrades && (connects || parts.status == StatusCode::SWITCHING_PROTOCOLS);
        if closes(&parts.headers) || self.is_finishing || wire.malformed.is_some() {
            exchange.persistence = Persistence::Close;
        }
        let (out, case) = (&mut wire.outbox.head, self.options.case);
        let bodiless = exchange.switched
            || exchange.method == Method::HEAD
            || parts.status.is_informational()
            || parts.status == StatusCode::NO_CONTENT
            || parts.status == StatusCode::NOT_MODIFIED;
        encode::response_head(out, exchange.version, parts.status, &parts.headers, case);
        let encoder = if bodiless {
            Encoder::empty()
        } else if exchange.version == Version::HTTP_11 {
            Encoder::frame(out, &parts.headers, body.size_hint().exact(), BodyLength::Chunked, case)
        } else {
            Encoder::frame(out, &parts.headers, body.size_hint().exact(), BodyLength::UntilClose, case)
        };
        if encoder.ends_connection() {
            exchange.persistence = Persistence::Close;
        }
        if !exchange.switched && !parts.headers.contains_key(CONNECTION) {
            persist(out, exchange, case);
        }
        out.extend_from_slice(b"\r\n");
        drop(wire);
        parts.headers.clear();
        self.parser.recycle(parts.headers);
        self.stage = ServerStage::Responding;
        self.response = (!bodiless).then_some(Outgoing { body, encoder, case });
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Result<Wrote, Error> {
        loop {
            let gathered = match &mut self.response {
                None => Ok(Gathered::Whole),
                Some(response) => {
                    // The content may come from this connection: it is asked without the wire being held.
                    let mut outbox = std::mem::take(&mut self.wire.borrow_mut().outbox);
                    let gathered = response.gather(&mut outbox, cx);
                    self.wire.borrow_mut().outbox = outbox;
                    gathered
                }
            };
            let mut wire = self.wire.borrow_mut();
            let gathered = match gathered {
                Ok(gathered) => gathered,
                Err(error) => {
                    // What there is of it is still sent, as far as it goes at once, so that the client sees how far it
                    // came.
                    let _ = wire.poll_write(cx)?;
                    return Err(wire.malformed.map_or(error, Error::Malformed));
                }
            };
            if gathered == Gathered::Whole {
                self.response = None;
            }
            if wire.poll_write(cx)?.is_pending() {
                return Ok(Wrote::Stalled);
            }
            match gathered {
                Gathered::Whole => return Ok(Wrote::Whole),
                Gathered::Full => {}
                Gathered::Waiting => return Ok(Wrote::Waiting),
            }
        }
    }

    /// What follows an answer.
    fn written(&mut self) -> Option<End> {
        let wire = &mut *self.wire.borrow_mut();
        if self.exchange.switched {
            wire.is_handed_over = true;
            if let Some(successor) = wire.successor.take() {
                successor.wake();
            }
            return Some(End::Upgraded);
        }
        // What is left of the request and has come already is passed over; more is not waited for.
        // Behind what was refused nobody knows where anything begins.
        while wire.malformed.is_none() {
            match wire.decoder.decode(&mut wire.inbox.bytes) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(malformed) => wire.malformed = Some(malformed),
            }
        }
        let goes_on = self.exchange.persistence == Persistence::KeepAlive
            && wire.malformed.is_none()
            && wire.decoder.is_ended();
        self.stage = if goes_on { ServerStage::Head } else { ServerStage::Closing };
        None
    }

    fn over(&mut self, end: End) -> Poll<Result<End, Error>> {
        self.stage = ServerStage::Over;
        self.answer.set(None);
        self.response = None;
        Poll::Ready(Ok(end))
    }
}

impl<I, S: RequestHandler<I>> Drop for ServerConnection<I, S> {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if !wire.is_handed_over {
            wire.io = None;
        }
        if let Some(successor) = wire.successor.take() {
            successor.wake();
        }
    }
}

fn closes(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// Tells the client what becomes of the connection, where it would think otherwise.
fn persist(out: &mut Vec<u8>, exchange: &Exchange, case: FieldCase) {
    let told = match (exchange.version == Version::HTTP_10, exchange.persistence) {
        (false, Persistence::Close) => "close",
        (true, Persistence::KeepAlive) => "keep-alive",
        (false, Persistence::KeepAlive) | (true, Persistence::Close) => return,
    };
    encode::write(out, CONNECTION.as_str(), told.as_bytes(), case);
}
