//! HTTP/1.1 as bytes: heads and bodies are parsed, judged and written.
//!
//! ```text
//!              HeadParser ──▶ head, Framing      one message at a time
//!   bytes ──▶  Decoder    ──▶ data, trailers
//!   bytes ◀──  head, Encoder                     sans I/O up to here
//!   ------------------------------------------------------------------
//!   server::Connection, client::Connection       over AsyncRead and AsyncWrite, no task and no timer of their own
//! ```
//!
//! The syntax is `httparse`'s; what the syntax leaves open is judged here, since two parties that read one message in
//! two ways are how requests are smuggled (RFC 9112, section 11.2). Refused are: both framings at once, a length twice,
//! a coding that is not `chunked` alone, folded lines, space before a colon, fragments and other targets that no server
//! should see, heads, trailers and chunk extensions that are too large. Lines of a head may end in a line feed alone
//! (RFC 9112, section 2.2), as in Envoy; those of chunks and trailers may not.
//!
//! What it does not do: no routing, no timeouts, no pooling, no pipelining of answers. A connection has no task: whoever
//! waits for a message drives it.

mod buffer;
mod chunked;
pub mod client;
mod decoder;
mod encode;
mod error;
mod fields;
mod framing;
mod head;
mod lines;
mod options;
mod outgoing;
mod request;
mod response;
pub mod server;
mod target;
mod wire;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Piece};
pub use encode::{Encoder, FieldCase};
pub use error::{Error, Malformed};
pub use framing::{BodyLength, Persistence};
pub use head::HeadParser;
pub use lines::HeadLimits;
pub use options::CodecOptions;
pub use request::ParsedRequest;
pub use response::{Asked, ResponseHead};
