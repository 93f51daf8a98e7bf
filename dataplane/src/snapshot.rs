//! The last good configuration, kept beside the identity so that a restart without a control plane serves.
//!
//! One file: a line that names the format, a checksum, then the resources as protobuf. A file that is torn or of
//! another format is not used. Private keys are never in it: the certificate has its own file. The trust bundle is, with
//! its revocation lists, so that a peer which was revoked stays so over a restart without a control plane.

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use prost::Message as _;
use weft_api::ResourceKind;
use xxhash_rust::xxh3::xxh3_64;

use crate::identity::IdentityDir;
use crate::identity::files::FilesError;

const MAGIC: &[u8] = b"weft snapshot 1\n";
const FILE: &str = "snapshot.bin";

/// The resources that every worker served last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub resources: Vec<SavedResource>,
    /// `node.id` that they were computed for.
    #[prost(string, tag = "2")]
    pub node: String,
    /// What the proxy told that it can, when it was sent them: it may be sent others under equal versions now.
    #[prost(string, repeated, tag = "3")]
    pub features: Vec<String>,
}

/// One resource of a snapshot.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedResource {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub name: String,
    /// The version that the control plane gave it.
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{FILE} cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is of another format.
    #[error("{FILE} is not a snapshot of this version; it is not used")]
    Format,
    /// The file is torn or changed.
    #[error("{FILE} is damaged; it is not used")]
    Damaged,
    /// It belongs to another workload.
    #[error("{FILE} was taken as {0:?}; it is not used")]
    Node(String),
}

fn is_trust(secret: &Bytes) -> bool {
    let secret = Secret::decode(secret.clone());
    secret.is_ok_and(|secret| matches!(secret.r#type, Some(secret::Type::ValidationContext(_))))
}

impl ConfigSnapshot {
    /// Adds a resource; a secret that is no validation context is left out.
    pub fn push(&mut self, kind: ResourceKind, name: &str, version: &str, body: Bytes) {
        if kind != ResourceKind::Secret || is_trust(&body) {
            self.resources.push(SavedResource {
                type_url: kind.type_url().to_owned(),
                name: name.to_owned(),
                version: version.to_owned(),
                body,
            });
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the disk refuses; the older snapshot is whole then.
    pub fn store(&self, directory: &IdentityDir) -> Result<(), FilesError> {
        directory.write(FILE, &self.encode_file())
    }

    fn encode_file(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let mut file = Vec::with_capacity(MAGIC.len() + 8 + body.len());
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        file.extend_from_slice(&body);
        file
    }

    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be used; serving without it is right then.
    pub fn load(directory: &IdentityDir, node: &str) -> Result<Option<Self>, SnapshotError> {
        let file = match std::fs::read(directory.path(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let snapshot = Self::decode_file(&file)?;
        if snapshot.node != node {
            return Err(SnapshotError::Node(snapshot.node));
        }
        Ok(Some(snapshot))
    }

    fn decode_file(file: &[u8]) -> Result<Self, SnapshotError> {
        let rest = file.strip_prefix(MAGIC).ok_or(SnapshotError::Format)?;
        let (sum, body) = rest.split_first_chunk::<8>().ok_or(SnapshotError::Damaged)?;
        if u64::from_le_bytes(*sum) != xxh3_64(body) {
            return Err(SnapshotError::Damaged);
        }
        Self::decode(body).map_err(|_| SnapshotError::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> ConfigSnapshot {
        let mut snapshot = ConfigSnapshot { node: "shop/web-1".to_owned(), ..ConfigSnapshot::default() };
        snapshot.push(ResourceKind::Cluster, "shop/cart/http", "0123", Bytes::from_static(b"\x0a\x01a"));
        snapshot
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        assert!(ConfigSnapshot::load(&files, "shop/web-1").unwrap().is_none());
        snapshot().store(&files).unwrap();
        assert_eq!(ConfigSnapshot::load(&files, "shop/web-1").unwrap(), Some(snapshot()));
    }

    #[test]
    fn any_damaged_byte_is_noticed() {
        let file = snapshot().encode_file();
        for at in 0..file.len() {
            let mut torn = file.clone();
            torn[at] ^= 0x40;
            assert!(ConfigSnapshot::decode_file(&torn).is_err(), "byte {at}");
        }
        for length in 0..file.len() {
            assert!(ConfigSnapshot::decode_file(&file[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn another_workloads_snapshot_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        snapshot().store(&files).unwrap();
        assert!(matches!(ConfigSnapshot::load(&files, "shop/web-2"), Err(SnapshotError::Node(_))));
    }

    #[test]
    fn secrets_are_left_out() {
        let mut snapshot = ConfigSnapshot::default();
        snapshot.push(ResourceKind::Secret, "identity", "1", Bytes::from_static(b"key"));
        assert!(snapshot.resources.is_empty());
    }
}
