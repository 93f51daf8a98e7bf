//! Calls of gRPC with one message each way, over [`super::async_client`].

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Method, StatusCode};
use prost::Message;

use super::async_client::{Call, CallResponse};
use super::grpc;

/// Which method is called, and within which bounds.
#[derive(Debug)]
pub(crate) struct UnaryMethod {
    pub(crate) authority: Authority,
    /// `/package.Service/Method`.
    pub(crate) path: PathAndQuery,
    pub(crate) timeout: Option<Duration>,
    /// Bytes that the answer's message may have.
    pub(crate) largest: usize,
}

/// Why an answer has no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnaryError {
    #[error("HTTP status {0}")]
    Http(StatusCode),
    #[error("gRPC status {0}")]
    Grpc(u32),
    #[error("no gRPC status")]
    NoStatus,
    #[error("not one whole message without compression")]
    Framing,
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
}

/// The flag of compression, and the length.
const PREFIX: usize = 5;

impl UnaryMethod {
    /// The call that carries a message; `headers` go with it.
    pub(crate) fn call(self, mut headers: HeaderMap, message: &impl Message) -> Call {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        // Eight digits are the most that gRPC allows.
        if let Some(millis) = self.timeout.map(|timeout| timeout.as_millis().min(99_999_999))
            && let Ok(value) = HeaderValue::from_str(&format!("{millis}m"))
        {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(PREFIX + length);
        body.put_u8(0);
        body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        body.put_slice(&message.encode_to_vec());
        Call {
            method: Method::POST,
            authority: self.authority,
            path: self.path,
            headers,
            body: body.freeze(),
            timeout: self.timeout,
            largest: self.largest.saturating_add(PREFIX),
        }
    }
}

/// The message of an answer.
///
/// # Errors
/// The call failed, by its status, or what came is no message.
pub(crate) fn message<M: Message + Default>(answer: &CallResponse) -> Result<M, UnaryError> {
    if answer.head.status != StatusCode::OK {
        return Err(UnaryError::Http(answer.head.status));
    }
    let trailers = answer.trailers.as_ref().and_then(grpc::status);
    match trailers.or_else(|| grpc::status(&answer.head.headers)) {
        Some(0) => {}
        Some(other) => return Err(UnaryError::Grpc(other)),
        None => return Err(UnaryError::NoStatus),
    }
    Ok(M::decode(unframed(answer.body.clone())?)?)
}

fn unframed(mut body: Bytes) -> Result<Bytes, UnaryError> {
    if body.len() < PREFIX || body.get_u8() != 0 || body.get_u32() as usize != body.len() {
        return Err(UnaryError::Framing);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_is_taken_and_nothing_else() {
        assert_eq!(&unframed(Bytes::from_static(b"\0\0\0\0\x02ab")).unwrap()[..], b"ab");
        for wrong in [&b"\0\0\0\0"[..], b"\x01\0\0\0\x02ab", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab", b""] {
            assert!(unframed(Bytes::from_static(wrong)).is_err(), "{wrong:?}");
        }
    }
}
