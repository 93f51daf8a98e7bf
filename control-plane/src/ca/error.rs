//! What can go wrong with the authority, and what to do about it.

use time::{Duration, OffsetDateTime};
use weft_api::TrustDomain;

use super::seal::SealError;
use super::unfit::Unfit;

/// Why the authority cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A life out of bounds.
    #[error("a certificate life of {0} is not allowed; use 10s to 7d")]
    LeafLife(Duration),
    /// The issuer ends too soon to be of use.
    #[error("the issuer ends at {0}, too soon to sign; check the leader's log for why it was not renewed")]
    IssuerEnding(OffsetDateTime),
    /// Nothing that the root signed is believed any more.
    #[error(
        "the mesh's root expired at {0}, and with it every certificate of the mesh: start a new mesh in an empty data directory (with etcd, under another --etcd-prefix), apply its policies and have its workloads join again; if the root is not that old, set this machine's clock"
    )]
    RootOver(OffsetDateTime),
    /// The issuer has ended, and nobody here can make another.
    #[error(
        "the issuer ended at {0} and its root's key is not kept here: start with --ca-cert and --ca-key of an intermediate below the same root; if the issuer is not that old, set this machine's clock"
    )]
    IssuerOver(OffsetDateTime),
    /// Issuers below this root are signed elsewhere.
    #[error("the root's key is not kept here: have an issuer signed with `weft ca csr` and `weft ca import`")]
    KeyElsewhere,
    /// An authority of the user's own that does not fit.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The clock is before the issuer's first second.
    #[error("this machine's clock is before the issuer's first second, {0}; set the clock")]
    ClockBehind(OffsetDateTime),
    #[error("the store holds the mesh {stored}, not {wanted}; correct --trust-domain or use another store")]
    OtherMesh {
        stored: TrustDomain,
        /// What was asked for.
        wanted: TrustDomain,
    },
    /// A record that this version cannot read.
    #[error("the record {record} cannot be read: {reason}; restore it from a backup or use a newer version")]
    CorruptRecord {
        /// Its key in the store.
        record: String,
        reason: String,
    },
    /// A record that does not belong to the newest version.
    #[error(
        "{record} is not as it was in version {version} of the authority's records: somebody who does not have the seal key put it \
         back, changed, added or removed it; see who can write to the store, and restore the newest backup"
    )]
    NotNewest {
        /// Its key in the store.
        record: String,
        version: u64,
    },
    /// All records are older than what this machine has seen.
    #[error(
        "the store has version {found} of the authority's records, and this machine has seen version {seen}: an older state was put \
         back; if that was you, by restoring a backup, remove {file} and start again", file = file.display()
    )]
    OlderState { found: u64, seen: u64, file: std::path::PathBuf },
    /// A stored certificate is unreadable.
    #[error("a CA certificate in the store is not valid X.509; restore the store from a backup")]
    CorruptCertificate,
    /// A stored key is another one's.
    #[error("the issuer's key is not that of its certificate; restore the store from a backup")]
    KeyMismatch,
    /// The CA key's seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Encode(#[from] rcgen::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] weft_store::ReadError),
    /// The store does not take the write.
    #[error(transparent)]
    Commit(#[from] weft_store::CommitError),
}
