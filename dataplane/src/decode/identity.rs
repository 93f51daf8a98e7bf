//! Identities of clusters and filter chains: whether connections may live on under a new version of their resource.

use prost::Message;
use xxhash_rust::xxh3::Xxh3Default;

/// A hash of what connections depend on.
pub(super) struct IdentityHash(Xxh3Default);

impl IdentityHash {
    pub(super) fn new() -> Self {
        Self(Xxh3Default::new())
    }

    /// Adds a part. Its length is hashed too, so that nothing can move from one part to the next unseen.
    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Adds a message; an absent one is an empty part.
    pub(super) fn message(&mut self, message: Option<&impl Message>) {
        self.part(&message.map(Message::encode_to_vec).unwrap_or_default());
    }

    pub(super) fn finish(self) -> u64 {
        self.0.digest()
    }
}
