//! The head of a response.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode, Version};

use super::error::Malformed;
use super::framing::{BodyLength, FramingFields, Persistence};
use super::lines::{Cut, StatusLine};

/// What the request was, as far as that decides how its response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A method whose responses may have content.
    Plain,
    /// HEAD: a response without content, whatever its fields say.
    Head,
    /// CONNECT: success makes a tunnel.
    Connect,
    /// One that asks for another protocol.
    Upgrade,
}

/// A response's head that was found to be in order.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status; of those below 200 only 101 is a response, the others announce one.
    pub status: StatusCode,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order.
    pub headers: HeaderMap,
    /// Where the content ends.
    pub length: BodyLength,
    /// Whether the server takes another request on this connection.
    pub persistence: Persistence,
    /// The connection becomes a tunnel.
    pub is_upgrade: bool,
}

impl ResponseHead {
    pub(super) fn judge(mut cut: Cut<'_>, line: StatusLine, asked: Asked) -> Result<Self, Malformed> {
        let version = if line.minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let status = StatusCode::from_u16(line.code).map_err(|_| Malformed::Syntax)?;
        let gathered = cut.fields()?;
        gathered.check(version)?;
        let Cut { mut headers, .. } = cut;
        if status.is_informational() || status == StatusCode::NO_CONTENT {
            check_no_content(&gathered, &mut headers)?;
        }
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        if switches && asked != Asked::Upgrade {
            return Err(Malformed::Upgrade);
        }
        let connected = asked == Asked::Connect && status.is_success();
        if connected && gathered.chunked {
            return Err(Malformed::Coding);
        }
        let is_upgrade = switches || connected;
        let bodiless = is_upgrade
            || asked == Asked::Head
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        let length = if bodiless { BodyLength::EMPTY } else { length(&gathered) };
        let persistence = match length {
            BodyLength::UntilClose => Persistence::Close,
            BodyLength::Exact(_) | BodyLength::Chunked if is_upgrade => Persistence::Close,
            BodyLength::Exact(_) | BodyLength::Chunked => gathered.persistence(version),
        };
        Ok(Self { status, version, headers, length, persistence, is_upgrade })
    }
}

fn length(gathered: &FramingFields) -> BodyLength {
    match gathered.length {
        _ if gathered.chunked => BodyLength::Chunked,
        Some(length) => BodyLength::Exact(length),
        None => BodyLength::UntilClose,
    }
}

/// As in Envoy, a length of zero is passed over where there can be no content, and anything else is refused.
fn check_no_content(gathered: &FramingFields, headers: &mut HeaderMap) -> Result<(), Malformed> {
    if gathered.chunked {
        return Err(Malformed::CodingNotAllowed);
    }
    match gathered.length {
        None => Ok(()),
        Some(0) => {
            headers.remove(CONTENT_LENGTH);
            Ok(())
        }
        Some(_) => Err(Malformed::LengthNotAllowed),
    }
}
