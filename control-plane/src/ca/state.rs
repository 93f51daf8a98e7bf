//! Roots and issuers of one moment, as the records in the store say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use weft_api::rest::RootOrigin;
use weft_store::Revision;

use super::chain::{Serial, SigningChain, ValidCertificate};
use super::records::{CaRecords, NEXT, OLD_ROOT};
use super::rotation_stage::{RootRotation, RotationStage};
use super::seal::SealKey;
use super::{AuthoritySettings, CaError};
use crate::clock::Clock;

/// What the authority is made of. Immutable; a newer one takes its place.
#[derive(Debug)]
pub struct AuthorityState {
    /// What signs leaves of workloads.
    pub signing: Arc<SigningChain>,
    /// What signs the control planes' own certificates.
    pub own: Arc<SigningChain>,
    /// What control planes send behind their issuer: their root, and how those before it vouch for it.
    pub line: Vec<CertificateDer<'static>>,
    /// The roots that members trust, ordered by their serial numbers.
    pub bundle: Vec<ValidCertificate>,
    /// The root that is the mesh's whether a rotation is ended or undone.
    pub elder: ValidCertificate,
    /// Who made the roots of the bundle, by serial number.
    pub origins: BTreeMap<Serial, RootOrigin>,
    /// Whether issuers below the root are made here.
    pub signs_issuers: bool,
    /// The issuer that stands in every bundle and signs next, below the same root.
    pub coming_issuer: Option<Serial>,
    /// The rotation of the root that is under way.
    pub rotation: Option<RootRotation>,
    /// Whether the root that leaves by it vouches for the one that comes.
    pub vouched: bool,
    /// Issuers whose leaves may live, or will.
    pub issuers: Vec<IssuerOfMesh>,
    /// What the store was read at.
    pub(super) revision: Revision,
}

/// An issuer, and the root that signed it.
#[derive(Debug, Clone)]
pub struct IssuerOfMesh {
    pub certificate: ValidCertificate,
    /// Serial number of its root; none of one whose root left.
    pub root: Option<Serial>,
}

impl AuthorityState {
    pub(super) fn read(
        records: &CaRecords,
        settings: &AuthoritySettings,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Self, CaError> {
        let (bundle, rotation) = (records.bundle()?, records.rotation()?);
        let (own, line) = records.open_own_chain(seal, clock.now(), settings.least_left())?;
        let signing = records.open_chain(seal)?;
        let old = records.old_root()?.map(|old| old.valid(OLD_ROOT)).transpose()?;
        let is_undone = rotation.as_ref().is_some_and(|rotation| rotation.aborted);
        let (root, next) = (records.root()?, records.next_root()?);
        let vouched = match (&next, &old) {
            (Some(next), _) => next.vouched.is_some(),
            (None, Some(old)) => root.vouched.as_ref().is_some_and(|vouched| vouched.by == old.serial),
            (None, None) => true,
        };
        // Who knows the old root alone finds no way to control planes that have moved, unless it vouches for the new one.
        let has_moved =
            rotation.as_ref().is_some_and(|now| now.stage == RotationStage::MovingControlPlanes) && !vouched;
        let elder = old.filter(|_| !is_undone && !has_moved).unwrap_or_else(|| signing.root.clone());
        let coming_issuer = records.next()?.map(|next| next.valid(NEXT)).transpose()?;
        let coming_issuer = coming_issuer.map(|issuer| issuer.serial);
        let known = records.issuers()?.into_iter().map(|issuer| {
            let root = bundle.iter().find(|root| issuer.is_below(root));
            IssuerOfMesh { root: root.map(|root| root.serial.clone()), certificate: issuer.certificate }
        });
        let issuers = known.collect();
        let (signing, own) = (Arc::new(signing), Arc::new(own));
        Ok(Self {
            signing,
            own,
            line,
            bundle,
            elder,
            origins: records.origins()?,
            signs_issuers: root.signs(),
            coming_issuer,
            rotation,
            vouched,
            issuers,
            revision: records.revision,
        })
    }

    /// Whether nobody would see a difference to another state.
    pub(super) fn serves_as(&self, other: &Self) -> bool {
        let serials =
            |roots: &[ValidCertificate]| roots.iter().map(|root| root.serial.clone()).collect::<Vec<_>>();
        let issuers = |known: &[IssuerOfMesh]| {
            known.iter().map(|issuer| issuer.certificate.serial.clone()).collect::<Vec<_>>()
        };
        self.signing.generation == other.signing.generation
            && self.own.issuer.serial == other.own.issuer.serial
            && self.line == other.line
            && serials(&self.bundle) == serials(&other.bundle)
            && issuers(&self.issuers) == issuers(&other.issuers)
            && self.rotation == other.rotation
            && self.signs_issuers == other.signs_issuers
    }

    /// Who made a root of the bundle.
    #[must_use]
    pub fn origin_of(&self, root: &Serial) -> RootOrigin {
        self.origins.get(root).copied().unwrap_or_default()
    }

    /// SHA-256 of the public keys of the roots that members trust, in hexadecimal.
    #[must_use]
    pub fn fingerprints(&self) -> BTreeSet<String> {
        self.bundle.iter().map(|root| HEXLOWER.encode(&root.spki_sha256)).collect()
    }

    /// Serial numbers of the issuers below a root.
    #[must_use]
    pub fn issuers_below(&self, root: &Serial) -> Vec<&Serial> {
        let below = self.issuers.iter().filter(|issuer| issuer.root.as_ref() == Some(root));
        below.map(|issuer| &issuer.certificate.serial).collect()
    }

    /// The root that a rotation takes away, or brings in: the one beside the root under which leaves are signed.
    #[must_use]
    pub fn other_root(&self) -> Option<&ValidCertificate> {
        self.bundle.iter().find(|root| root.serial != self.signing.root.serial)
    }
}
