//! The records of the authority as the store holds them: certificates, and keys under seal.
//!
//! ```text
//! mesh/root              the root under which leaves are signed
//! mesh/issuer            the issuer that signs now
//! mesh/next              the one after it: its list is in every bundle before it signs its first leaf
//! mesh/issuers/SERIAL    those before: they sign nothing but their lists
//! mesh/crls/SERIAL       the revocation list of each
//!
//! mesh/head              which of all these are the newest, sealed
//!
//! mesh/rotation          the rotation of the root that is under way, and its stage
//! mesh/next-root         the root that is to come, with …
//! mesh/next-root-issuer  … the issuer that will sign under it
//! mesh/old-root          the root that is about to leave
//! mesh/roots/SERIAL      roots that left: their certificates, without keys, for those who know the mesh by them
//!
//! mesh/csr               an issuer's key and the request for its certificate, which the owner of an offline root signs
//! ```

mod entry;
mod head;
mod line;
mod record;

use std::collections::BTreeMap;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use weft_api::TrustDomain;
use weft_api::rest::RootOrigin;
use weft_store::{Entry, Revision, Store, StoreExt, Txn};

use super::chain::{SigningChain, ValidCertificate};
use super::crl::{self, RevocationList};
use super::rotation_stage::{RootRotation, RotationStage};
use super::seal::SealKey;
use super::{CaError, Serial};
use crate::clock::Clock;
pub(super) use entry::{
    ISSUER, LEFT_ROOTS, NEXT, NEXT_ROOT, NEXT_ROOT_ISSUER, OLD_ROOT, PREFIX, REQUEST, RETIRED, ROOT,
    ROTATION, missing, read_json,
};
pub(super) use head::{created, resealed};
pub(super) use record::{AuthorityRecord, Vouched, sealed};

/// All records, of one revision of the store.
pub(super) struct CaRecords {
    pub(super) revision: Revision,
    head: Option<Entry>,
    digests: head::Digests,
    root: Entry,
    issuer: Entry,
    next: Option<Entry>,
    retired: Vec<Entry>,
    pub(super) lists: Vec<Entry>,
    rotation: Option<Entry>,
    next_root: Option<Entry>,
    next_root_issuer: Option<Entry>,
    old_root: Option<Entry>,
    left: Vec<Entry>,
    pub(super) request: Option<Entry>,
}

/// An issuer, whether it signs now, later or no more.
pub(super) struct KnownIssuer<'a> {
    entry: &'a Entry,
    pub(super) record: AuthorityRecord,
    pub(super) certificate: ValidCertificate,
    /// What stands right below the root.
    highest: ValidCertificate,
}

impl CaRecords {
    /// All of them; `None` when there is no mesh yet.
    pub(super) async fn read(store: &dyn Store) -> Result<Option<Self>, CaError> {
        let listing = store.list_all(PREFIX).await?;
        let entries = listing.entries;
        let find = |key: &str| entries.iter().find(|entry| entry.key.as_str() == key).cloned();
        let below = |prefix: &str| {
            entries.iter().filter(|entry| entry.key.as_str().starts_with(prefix)).cloned().collect()
        };
        match (find(ROOT), find(ISSUER)) {
            (Some(root), Some(issuer)) => Ok(Some(Self {
                revision: listing.revision,
                head: find(head::HEAD),
                digests: head::digests(&entries),
                root,
                issuer,
                next: find(NEXT),
                retired: below(RETIRED),
                lists: below(crl::PREFIX),
                rotation: find(ROTATION),
                next_root: find(NEXT_ROOT),
                next_root_issuer: find(NEXT_ROOT_ISSUER),
                old_root: find(OLD_ROOT),
                left: below(LEFT_ROOTS),
                request: find(REQUEST),
            })),
            (None, None) if find(head::HEAD).is_none() => Ok(None),
            (None, _) => Err(missing(ROOT)),
            (Some(_), None) => Err(missing(ISSUER)),
        }
    }

    pub(super) fn root(&self) -> Result<AuthorityRecord, CaError> {
        decode(&self.root)
    }

    pub(super) fn issuer(&self) -> Result<AuthorityRecord, CaError> {
        decode(&self.issuer)
    }

    pub(super) fn next(&self) -> Result<Option<AuthorityRecord>, CaError> {
        self.next.as_ref().map(decode).transpose()
    }

    pub(super) fn next_root(&self) -> Result<Option<AuthorityRecord>, CaError> {
        self.next_root.as_ref().map(decode).transpose()
    }

    pub(super) fn next_root_issuer(&self) -> Result<Option<AuthorityRecord>, CaError> {
        self.next_root_issuer.as_ref().map(decode).transpose()
    }

    pub(super) fn old_root(&self) -> Result<Option<AuthorityRecord>, CaError> {
        self.old_root.as_ref().map(decode).transpose()
    }

    pub(super) fn rotation(&self) -> Result<Option<RootRotation>, CaError> {
        self.rotation.as_ref().map(read_json).transpose()
    }

    pub(super) fn check_mesh(&self, wanted: &TrustDomain) -> Result<(), CaError> {
        let stored = self.root()?.trust_domain;
        if stored == *wanted { Ok(()) } else { Err(CaError::OtherMesh { stored, wanted: wanted.clone() }) }
    }

    pub(super) fn lists(&self) -> Result<Vec<RevocationList>, CaError> {
        self.lists.iter().map(RevocationList::decode).collect()
    }

    pub(super) fn list_of(&self, issuer: &Serial) -> Option<&Entry> {
        let key = RevocationList::key(issuer);
        self.lists.iter().find(|entry| entry.key.as_str() == key)
    }

    /// The roots that members trust, ordered by their serial numbers, so that every replica says the same.
    pub(super) fn bundle(&self) -> Result<Vec<ValidCertificate>, CaError> {
        let roots = [Some(&self.root), self.next_root.as_ref(), self.old_root.as_ref()];
        let certificate = |entry| decode(entry)?.valid(&entry.key);
        let mut roots: Vec<_> = roots.into_iter().flatten().map(certificate).collect::<Result<_, _>>()?;
        roots.sort_by(|one, other| one.serial.cmp(&other.serial));
        Ok(roots)
    }

    /// Who made the roots of the bundle.
    pub(super) fn origins(&self) -> Result<BTreeMap<Serial, RootOrigin>, CaError> {
        let roots = [Some(&self.root), self.next_root.as_ref(), self.old_root.as_ref()];
        let origin = |entry| {
            let record = decode(entry)?;
            Ok((record.valid(&entry.key)?.serial, record.origin))
        };
        roots.into_iter().flatten().map(origin).collect()
    }

    /// All issuers whose leaves may live, or will.
    pub(super) fn issuers(&self) -> Result<Vec<KnownIssuer<'_>>, CaError> {
        let others = self.next.iter().chain(&self.next_root_issuer).chain(&self.retired);
        let read = |entry| {
            let record = decode(entry)?;
            let (certificate, highest) = (record.valid(&entry.key)?, record.highest(&entry.key)?);
            Ok(KnownIssuer { entry, record, certificate, highest })
        };
        [&self.issuer].into_iter().chain(others).map(read).collect()
    }

    /// Certificate and key of an issuer.
    pub(super) fn issuer_of(
        &self,
        serial: &Serial,
        seal: &SealKey,
    ) -> Result<(CertificateDer<'static>, KeyPair), CaError> {
        let issuers = self.issuers()?;
        let found = issuers.into_iter().find(|issuer| issuer.certificate.serial == *serial);
        let found = found.ok_or_else(|| missing(&format!("{RETIRED}{serial}")))?;
        let key = found.record.open_key(&found.entry.key, seal)?;
        Ok((found.certificate.certificate, key))
    }

    /// The newest issuer below a root that signs no more.
    pub(super) fn retired_below(&self, root: &ValidCertificate) -> Result<Option<KnownIssuer<'_>>, CaError> {
        let retired = self.issuers()?.into_iter().filter(|issuer| issuer.entry.key.starts_with(RETIRED));
        let below = retired.filter(|issuer| issuer.is_below(root));
        Ok(below.max_by_key(|issuer| issuer.record.generation))
    }

    /// Nothing of what is decided here has changed meanwhile.
    pub(super) fn guarded(&self) -> Txn {
        let mut txn = Txn::new();
        for (key, entry) in [
            (ROOT, Some(&self.root)),
            (ISSUER, Some(&self.issuer)),
            (NEXT, self.next.as_ref()),
            (ROTATION, self.rotation.as_ref()),
            (NEXT_ROOT, self.next_root.as_ref()),
            (OLD_ROOT, self.old_root.as_ref()),
        ] {
            txn = match entry {
                Some(entry) => txn.expect_at(key, entry.mod_revision),
                None => txn.expect_absent(key),
            };
        }
        txn
    }

    /// Puts a new issuer in the place of one that is over, with its list.
    pub(super) fn replacing_issuer(
        &self,
        record: &AuthorityRecord,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Txn, CaError> {
        let (key, list) = record.first_list(ISSUER, seal, clock)?;
        Ok(self.guarded().delete(NEXT).put(ISSUER, record.encode()).put(key, list.encode()))
    }

    /// Puts a new issuer beside the one that signs, with its list.
    pub(super) fn announcing(
        &self,
        record: &AuthorityRecord,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Txn, CaError> {
        let (key, list) = record.first_list(NEXT, seal, clock)?;
        Ok(self.guarded().put(NEXT, record.encode()).put(key, list.encode()))
    }

    /// Lets the next issuer sign, and keeps the one before for its list.
    pub(super) fn promoting(&self, next: &AuthorityRecord, seal: &SealKey) -> Result<Txn, CaError> {
        let promoted = next.moved(NEXT, ISSUER, seal)?;
        self.retiring_issuer(self.guarded().delete(NEXT).put(ISSUER, promoted.encode()), seal)
    }

    /// Keeps the issuer that signs now for its list.
    pub(super) fn retiring_issuer(&self, txn: Txn, seal: &SealKey) -> Result<Txn, CaError> {
        let old = self.issuer()?;
        let retired = format!("{RETIRED}{}", old.valid(ISSUER)?.serial);
        let kept = old.moved(ISSUER, &retired, seal)?;
        Ok(txn.put(retired, kept.encode()))
    }

    /// Drops an issuer that was to sign and has signed nothing, with its list.
    pub(super) fn dropping_next(&self, txn: Txn) -> Result<Txn, CaError> {
        let Some(next) = self.next()? else { return Ok(txn) };
        Ok(txn.delete(NEXT).delete(RevocationList::key(&next.valid(NEXT)?.serial)))
    }

    /// Drops the issuers below a root that leaves, with their lists: no leaf of theirs lives.
    pub(super) fn dropping_issuers_below(
        &self,
        mut txn: Txn,
        root: &ValidCertificate,
    ) -> Result<Txn, CaError> {
        for issuer in self.issuers()?.into_iter().filter(|issuer| issuer.is_below(root)) {
            txn = txn.delete(&issuer.entry.key).delete(RevocationList::key(&issuer.certificate.serial));
        }
        Ok(txn)
    }

    /// The first list of a mesh that was made before there were lists. Leaves of issuers whose keys were not kept may live:
    /// until the last of them has ended, the list is not in force.
    pub(super) async fn first_list(
        &self,
        store: &dyn Store,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Txn, CaError> {
        let (key, mut list) = self.issuer()?.first_list(ISSUER, seal, clock)?;
        let leaves = store.list_all(super::ledger::PREFIX).await?.entries;
        let leaves =
            leaves.iter().filter_map(|entry| serde_json::from_slice::<super::LedgerEntry>(&entry.value).ok());
        let foreign =
            leaves.filter(|leaf| self.list_of(&leaf.issuer).is_none() && leaf.issuer != list.issuer);
        list.in_force_from = foreign.map(|leaf| leaf.expires_at).max().unwrap_or_default();
        Ok(self.guarded().expect_absent(key.as_str()).put(key, list.encode()))
    }

    /// The root and the issuer under which leaves are signed.
    pub(super) fn open_chain(&self, seal: &SealKey) -> Result<SigningChain, CaError> {
        self.issuer()?.signing(ISSUER, self.root()?.der(ROOT)?, seal)
    }

    /// What signs the control planes' own certificates, and what they send behind their issuer: these move to a new root
    /// last of all, when everybody trusts it.
    pub(super) fn open_own_chain(
        &self,
        seal: &SealKey,
        now: OffsetDateTime,
        least: time::Duration,
    ) -> Result<(SigningChain, Vec<CertificateDer<'static>>), CaError> {
        let rotation = self.rotation()?;
        let stays = rotation
            .is_some_and(|rotation| rotation.stage == RotationStage::RenewingLeaves && !rotation.aborted);
        if stays && let Some(old) = self.old_root()? {
            let root = old.valid(OLD_ROOT)?;
            let retired = self.retired_below(&root)?;
            let retired = retired.filter(|issuer| issuer.certificate.not_after - now > least);
            if let Some(issuer) = retired {
                let line = self.line_of(&old, now)?;
                return Ok((issuer.record.signing(issuer.name(), root.certificate, seal)?, line));
            }
        }
        Ok((self.open_chain(seal)?, self.line_of(&self.root()?, now)?))
    }
}

impl KnownIssuer<'_> {
    /// The key of its record in the store.
    pub(super) fn name(&self) -> &str {
        &self.entry.key
    }

    /// Whether its chain ends at this root, by what the certificates say.
    pub(super) fn is_below(&self, root: &ValidCertificate) -> bool {
        self.highest.is_below(root)
    }
}

/// Which mesh these entries of a store are of; none when there is no mesh among them.
///
/// # Errors
/// When its record cannot be read.
pub fn mesh_of(entries: &[Entry]) -> Result<Option<TrustDomain>, CaError> {
    let root = entries.iter().find(|entry| entry.key.as_str() == ROOT);
    Ok(root.map(decode).transpose()?.map(|record| record.trust_domain))
}

fn decode(entry: &Entry) -> Result<AuthorityRecord, CaError> {
    let record: AuthorityRecord = read_json(entry)?;
    record.check_format(&entry.key)?;
    Ok(record)
}
