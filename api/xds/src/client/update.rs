//! What a response asks the client to apply, and what became of it.

use std::sync::Arc;

use bytes::Bytes;
use weft_api::resource::ResourceKind;

/// One resource as it arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// The resource's name, unique within its type.
    pub name: Arc<str>,
    /// The server's version in delta; a hash of the body in state of the world.
    pub version: Arc<str>,
    /// The encoded message, a slice of the response.
    pub body: Bytes,
}

/// Names one response of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseId {
    pub(super) stream: u64,
    pub(super) nonce: String,
}

/// One response, to be applied and answered. Updates of a type are answered in the order of their arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The resource type that this is about.
    pub kind: ResourceKind,
    /// New and changed resources; one that was sent again unchanged is here too (its parent may need it).
    pub added: Vec<Added>,
    /// Names that do not exist (any more), also some that were never held.
    pub removed: Vec<Arc<str>>,
    /// Names the response to [`Session::answer`](super::Session::answer).
    pub response_id: ResponseId,
}

/// What became of an update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in use.
    Ack,
    /// It is refused; the words go to the server, and say which resource and which field.
    Nack(String),
}
