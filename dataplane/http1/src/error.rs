//! Why a message is refused, or a connection given up.

use std::io;

use http::StatusCode;

/// What is wrong with bytes that should be an HTTP/1.1 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Bytes that are no head at all: bad characters, folded lines, in trailers a line that ends in a line
    /// feed alone.
    #[error("not an HTTP/1.1 message")]
    Syntax,
    /// A method that Envoy does not know either.
    #[error("unknown method")]
    Method,
    /// A request target of the wrong form, or with characters that may not stand in it.
    #[error("invalid request target")]
    Target,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("unsupported version")]
    Version,
    /// `host` given twice, or with characters that may not stand in it.
    #[error("invalid host")]
    Host,
    /// The head or the trailers have more bytes than the limit.
    #[error("head is too large")]
    TooLarge,
    /// The head or the trailers have more fields than the limit.
    #[error("too many header fields")]
    TooManyFields,
    /// `content-length` beside `transfer-encoding`.
    #[error("both content-length and transfer-encoding")]
    LengthAndCoding,
    /// `content-length` twice, or with a value that is no number.
    #[error("invalid content-length")]
    Length,
    /// `content-length` on a message that has no content.
    #[error("content-length not allowed here")]
    LengthNotAllowed,
    /// A `transfer-encoding` other than `chunked`, once.
    #[error("unsupported transfer-encoding")]
    Coding,
    /// `transfer-encoding` in HTTP/1.0, or on a message that has no content.
    #[error("transfer-encoding not allowed here")]
    CodingNotAllowed,
    /// CONNECT with content of its own.
    #[error("content is not allowed here")]
    BodyNotAllowed,
    /// A chunk's size, its extension or its end.
    #[error("invalid chunk")]
    Chunk,
    /// A response that changes the protocol, to a request that did not ask for it.
    #[error("unexpected change of protocol")]
    Upgrade,
}

impl Malformed {
    /// The answer to a request that is wrong in this way.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Syntax
            | Self::Method
            | Self::Target
            | Self::Version
            | Self::Host
            | Self::LengthAndCoding
            | Self::Length
            | Self::LengthNotAllowed
            | Self::CodingNotAllowed
            | Self::BodyNotAllowed
            | Self::Chunk
            | Self::Upgrade => StatusCode::BAD_REQUEST,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`, in Envoy's words.
    pub fn details(self) -> &'static str {
        match self {
            Self::Target => "http1.invalid_url",
            Self::TooLarge => "http1.headers_too_large",
            Self::TooManyFields => "http1.too_many_headers",
            Self::LengthAndCoding => "http1.content_length_and_chunked_not_allowed",
            Self::LengthNotAllowed => "http1.content_length_not_allowed",
            Self::Coding => "http1.invalid_transfer_encoding",
            Self::CodingNotAllowed => "http1.transfer_encoding_not_allowed",
            Self::BodyNotAllowed => "http1.body_disallowed",
            Self::Host => "http.invalid_authority",
            Self::Syntax | Self::Method | Self::Version | Self::Length | Self::Chunk | Self::Upgrade => {
                "http1.codec_error"
            }
        }
    }
}

/// Why a connection, or the message on it, came to an end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer sent something that is refused.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer closed the connection before the message was whole.
    #[error("connection closed in the middle of a message")]
    Incomplete,
    /// The peer closed the connection before it sent anything of a response.
    #[error("connection closed before a response")]
    Closed,
    /// The connection that the message belongs to is over.
    #[error("the message's connection is over")]
    Gone,
    /// The body that was to be sent ended early, failed, or was longer than its head says.
    #[error("the body does not fit its head")]
    Body,
}
