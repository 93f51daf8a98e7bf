//! The head of a request.

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Method, Uri, Version};

use super::error::Malformed;
use super::framing::{BodyLength, FramingFields, Persistence};
use super::lines::{Cut, RequestLine};
use super::target;

/// A request's head that was found to be in order.
#[derive(Debug)]
pub struct ParsedRequest {
    /// One of those that Envoy knows.
    pub method: Method,
    /// A path, an absolute URI of `http` or `https`, for OPTIONS `*`, for CONNECT a host and a port.
    pub uri: Uri,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// All fields in their order.
    pub headers: HeaderMap,
    /// Where the content ends; never [`BodyLength::UntilClose`].
    pub length: BodyLength,
    /// Whether the client wants to send another request.
    pub persistence: Persistence,
    /// `expect: 100-continue`: the content comes when it is asked for.
    pub expects_continue: bool,
    /// CONNECT, or `connection: upgrade`: where that is granted, what follows is no message.
    pub upgrades: bool,
}

impl ParsedRequest {
    pub(super) fn judge(mut cut: Cut<'_>, line: RequestLine) -> Result<Self, Malformed> {
        let version = if line.minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let method = target::method(&cut.bytes[line.method])?;
        let uri = target::uri(&method, cut.bytes.slice(line.target))?;
        let gathered = cut.fields()?;
        gathered.check(version)?;
        let Cut { mut headers, .. } = cut;
        check_host(&gathered, &headers)?;
        let connects = method == Method::CONNECT;
        let length = if connects {
            check_connect(&gathered, &mut headers)?;
            BodyLength::EMPTY
        } else if gathered.chunked {
            BodyLength::Chunked
        } else {
            BodyLength::Exact(gathered.length.unwrap_or_default())
        };
        Ok(Self {
            upgrades: connects || gathered.upgrade,
            expects_continue: gathered.expects_continue && version == Version::HTTP_11,
            persistence: gathered.persistence(version),
            method,
            uri,
            version,
            headers,
            length,
        })
    }
}

/// One host, whose characters name a host and a port and nothing else.
fn check_host(gathered: &FramingFields, headers: &HeaderMap) -> Result<(), Malformed> {
    match gathered.hosts {
        0 => Ok(()),
        1 if headers.get(HOST).is_none_or(|host| target::is_authority(host.as_bytes())) => Ok(()),
        _ => Err(Malformed::Host),
    }
}

/// Content of a CONNECT has no meaning (RFC 9110, section 9.3.6): what follows its head is the tunnel's.
fn check_connect(gathered: &FramingFields, headers: &mut HeaderMap) -> Result<(), Malformed> {
    if gathered.chunked {
        return Err(Malformed::Coding);
    }
    match gathered.length {
        None => Ok(()),
        Some(0) => {
            headers.remove(CONTENT_LENGTH);
            Ok(())
        }
        Some(_) => Err(Malformed::BodyNotAllowed),
    }
}
