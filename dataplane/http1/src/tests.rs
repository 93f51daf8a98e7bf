//! What is taken and what is refused, however it is cut on its way, and what the two ends say to each other.

mod both;
mod cut;
mod fuzz;
mod messages;
mod requests;
mod responses;
mod sending;
mod serving;

use bytes::BytesMut;

use super::{Asked, BodyLength, Decoder, HeadLimits, HeadParser, Malformed, Piece};

/// Envoy's defaults.
const LIMITS: HeadLimits = HeadLimits { fields: 100, bytes: 60 * 1024 };

/// What a side of a connection takes from bytes: messages one after the other, and why it stops.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    messages: Vec<Message>,
    refused: Option<Malformed>,
    /// Bytes that belong to nothing yet.
    left: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    head: String,
    fields: Vec<(String, Vec<u8>)>,
    data: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client(Asked),
}

/// Feeds pieces to a side, one after the other.
fn take<'a>(side: Side, limits: HeadLimits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Taken {
    let mut reader = Reader {
        side,
        parser: HeadParser::new(limits),
        limits,
        decoder: Decoder::ended(),
        buffer: BytesMut::new(),
        messages: Vec::new(),
        is_over: false,
    };
    let mut refused = None;
    for piece in pieces {
        if refused.is_none() {
            reader.buffer.extend_from_slice(piece);
            refused = reader.run().err();
        }
    }
    // What lies behind an error depends on how much had come, and is nobody's.
    let left = if refused.is_some() { 0 } else { reader.buffer.len() };
    Taken { messages: reader.messages, refused, left }
}

struct Reader {
    side: Side,
    parser: HeadParser,
    limits: HeadLimits,
    decoder: Decoder,
    buffer: BytesMut,
    messages: Vec<Message>,
    /// What follows is no message.
    is_over: bool,
}

impl Reader {
    fn run(&mut self) -> Result<(), Malformed> {
        while !self.is_over {
            if !self.decoder.is_ended() {
                let piece = self.decoder.decode(&mut self.buffer)?;
                let message = self.messages.last_mut().unwrap();
                match piece {
                    Some(Piece::Data(data)) => {
                        assert!(!data.is_empty());
                        message.data.extend_from_slice(&data);
                    }
                    Some(Piece::Trailers(trailers)) => message.trailers = listed(&trailers),
                    None if !self.decoder.is_ended() => return Ok(()),
                    None => {}
                }
                message.whole = self.decoder.is_ended();
                continue;
            }
            let Some((head, fields, length)) = self.head()? else { return Ok(()) };
            self.decoder = Decoder::new(length, self.limits);
            let (data, trailers, whole) = (Vec::new(), Vec::new(), self.decoder.is_ended());
            self.messages.push(Message { head, fields, data, trailers, whole });
        }
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn head(&mut self) -> Result<Option<(String, Vec<(String, Vec<u8>)>, BodyLength)>, Malformed> {
        match self.side {
            Side::Server => {
                let Some(head) = self.parser.request(&mut self.buffer)? else { return Ok(None) };
                self.is_over = head.method == http::Method::CONNECT;
                let flags = (head.persistence, head.expects_continue, head.upgrades);
                let text = format!("{} {} {:?} {flags:?}", head.method, head.uri, head.version);
                Ok(Some((text, listed(&head.headers), head.length)))
            }
            Side::Client(asked) => {
                let Some(head) = self.parser.response(&mut self.buffer, asked)? else { return Ok(None) };
                self.is_over = head.is_upgrade;
                let text = format!("{} {:?} {:?}", head.status, head.version, head.persistence);
                Ok(Some((text, listed(&head.headers), head.length)))
            }
        }
    }
}

fn listed(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

fn requests(bytes: &[u8]) -> Taken {
    take(Side::Server, LIMITS, [bytes])
}

fn responses(asked: Asked, bytes: &[u8]) -> Taken {
    take(Side::Client(asked), LIMITS, [bytes])
}
