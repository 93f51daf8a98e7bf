//! The mesh's certificate authority.
//!
//! ```text
//!   store: mesh/root, mesh/issuer, … (keys sealed)         leaves/… (ledger)
//!        │ open: read, or create by one compare-and-swap          ▲ one entry a leaf
//!        ▼                                                        │
//!   Authority ── AuthorityState (watch) ── issue_workload ── IssuedLeaf
//!        ▲                          └─── issue_control_plane ── ServerIdentity ── tls
//!        └ renewal: the leader, at half of the issuer's life
//! ```
//!
//! Signing reads memory only: a store that is away stops no renewal. The root's key is opened for the moments in
//! which an issuer is made. The root is replaced stage by stage (`root_rotation`), by one that the mesh makes or by the
//! user's own (`adoption`).

mod adoption;
mod chain;
mod crl;
mod csr;
mod error;
mod fitness;
mod issued;
mod ledger;
mod limits;
mod mesh;
mod metrics;
mod own;
mod profile;
mod proof;
mod records;
mod reseal;
mod root_rotation;
mod rotation;
mod rotation_stage;
mod seal;
mod seen_version;
mod state;
mod unfit;
mod vouching;

use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;
use weft_api::{ServiceId, SpiffeId, TrustDomain, WorkloadId};

pub use adoption::{Adopted, AdoptionError, CertificateRequest};
pub use chain::{Serial, SigningChain, ValidCertificate};
pub use crl::RevocationList;
pub use csr::{CheckedCsr, CsrError, MAX_CSR_BYTES};
pub use error::CaError;
pub use issued::Issued;
pub use ledger::{KeyOrigin, Ledger, LedgerEntry, LedgerFull};
pub use limits::{LEAVES_OF_A_NAME, LEAVES_OF_AN_INSTANCE, Limited, NoRoom, SigningLimits};
pub use mesh::{Renewal, open, spawn_follow};
pub use metrics::AuthorityMetrics;
pub use own::OwnAuthority;
pub use profile::{BACKDATE, ISSUER_LIFE, ROOT_LIFE, ServerName, new_key};
pub use records::mesh_of;
pub use reseal::SealUse;
pub use root_rotation::RotationError;
pub use rotation::{rotate_at, sleep_until};
pub use rotation_stage::{DEFAULT_SPREAD, LONGEST_SPREAD, RootRotation, RotationStage};
pub use seal::{SealError, SealKey, SealKeyId, Sealed};
pub use seen_version::file_beside as seen_version_file;
pub use state::{AuthorityState, IssuerOfMesh};
pub use unfit::Unfit;

/// The least life of a workload's certificate, for tests.
pub const MIN_LEAF_LIFE: Duration = Duration::seconds(10);
/// The longest life of a workload's certificate.
pub const MAX_LEAF_LIFE: Duration = Duration::days(7);
/// Life of the control plane's own certificate.
pub const SERVER_LIFE: Duration = Duration::hours(24);

/// What the authority is for.
#[derive(Debug, Clone)]
pub struct AuthoritySettings {
    /// The mesh that it speaks for.
    pub trust_domain: TrustDomain,
    /// Life of workloads' certificates, `MIN_LEAF_LIFE` to `MAX_LEAF_LIFE`.
    pub leaf_life: Duration,
    /// Life of issuers; [`ISSUER_LIFE`] but in tests.
    pub issuer_life: Duration,
    /// Life of new roots; [`ROOT_LIFE`] but in tests.
    pub root_life: Duration,
    /// What the control planes' own certificates name: constraints of an authority must permit it.
    pub server_names: Vec<ServerName>,
    /// The user's own authority, where files bring one.
    pub own: Option<Arc<OwnAuthority>>,
}

impl AuthoritySettings {
    /// An issuer with less life than this signs nothing new.
    fn least_left(&self) -> Duration {
        profile::LEAST_LEFT.min(self.issuer_life / 4)
    }
}

/// Issues certificates. Shared by reference.
#[derive(Debug)]
pub struct Authority {
    pub(crate) settings: AuthoritySettings,
    clock: crate::clock::Clock,
    seal: SealKey,
    state: watch::Sender<Arc<AuthorityState>>,
    lists: watch::Sender<Arc<Vec<RevocationList>>>,
}

/// A workload's certificate, and what the ledger keeps of it.
#[derive(Debug, Clone)]
pub struct IssuedLeaf {
    /// The leaf, then its issuer and those above it; without the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub serial: Serial,
    /// Serial number of its issuer.
    pub issuer: Serial,
    pub service: ServiceId,
    pub workload: WorkloadId,
    /// When it was made.
    pub issued_at: OffsetDateTime,
    /// The last second in which it is valid.
    pub not_after: OffsetDateTime,
}

/// The control plane's own certificate with its key, which never leaves memory.
#[derive(Debug)]
pub struct ServerIdentity {
    /// The leaf, its issuer, and the roots that the mesh may be known by, so that a joiner can compare one with its token.
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// When it was made.
    pub issued_at: OffsetDateTime,
    /// The last second in which it is valid.
    pub not_after: OffsetDateTime,
}

impl Authority {
    /// An authority that signs as `state` says.
    ///
    /// # Errors
    /// When the leaf life is out of bounds.
    pub fn try_new(
        settings: AuthoritySettings,
        clock: crate::clock::Clock,
        seal: SealKey,
        state: AuthorityState,
        lists: Vec<RevocationList>,
    ) -> Result<Self, CaError> {
        if !(MIN_LEAF_LIFE..=MAX_LEAF_LIFE).contains(&settings.leaf_life) {
            return Err(CaError::LeafLife(settings.leaf_life));
        }
        let (state, lists) = (watch::Sender::new(Arc::new(state)), watch::Sender::new(Arc::new(lists)));
        Ok(Self { settings, clock, seal, state, lists })
    }

    /// The mesh that it speaks for.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }

    /// Life of workloads' certificates.
    #[must_use]
    pub fn leaf_life(&self) -> Duration {
        self.settings.leaf_life
    }

    /// Roots and issuers at this moment.
    #[must_use]
    pub fn state(&self) -> Arc<AuthorityState> {
        Arc::clone(&self.state.borrow())
    }

    /// The chain that signs leaves at this moment.
    #[must_use]
    pub fn chain(&self) -> Arc<SigningChain> {
        Arc::clone(&self.state.borrow().signing)
    }

    /// Roots and issuers, from now on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<AuthorityState>> {
        self.state.subscribe()
    }

    /// The revocation lists of all issuers, ordered by the issuers' serials.
    #[must_use]
    pub fn lists(&self) -> Arc<Vec<RevocationList>> {
        Arc::clone(&self.lists.borrow())
    }

    /// The revocation lists, from now on.
    #[must_use]
    pub fn subscribe_lists(&self) -> watch::Receiver<Arc<Vec<RevocationList>>> {
        self.lists.subscribe()
    }

    /// The revocation list of the issuer that a leaf names as its own, by DER; none of one that is not kept.
    #[must_use]
    pub fn list_of(&self, issuer: &[u8]) -> Option<RevocationList> {
        let state = self.state();
        let issuer = state.issuers.iter().find(|known| known.certificate.subject() == issuer)?;
        self.lists().iter().find(|list| list.issuer == issuer.certificate.serial).cloned()
    }

    /// The roots that members trust.
    #[must_use]
    pub fn bundle(&self) -> Vec<CertificateDer<'static>> {
        self.state.borrow().bundle.iter().map(|root| root.certificate.clone()).collect()
    }

    /// SHA-256 of a root's `SubjectPublicKeyInfo`, which join tokens carry: of the one that stays the mesh's whether a
    /// rotation is ended or undone.
    #[must_use]
    pub fn root_spki_sha256(&self) -> [u8; 32] {
        self.state.borrow().elder.spki_sha256
    }

    /// A certificate for a workload's key. Who asks must be known before.
    ///
    /// # Errors
    /// When the issuer is about to end, or the clock is wrong.
    pub fn issue_workload(
        &self,
        service: &ServiceId,
        workload: &WorkloadId,
        key: &impl PublicKeyData,
    ) -> Result<IssuedLeaf, CaError> {
        let chain = self.chain();
        let now = self.clock.now();
        let validity = self.validity(&chain, now, self.settings.leaf_life)?;
        let params = profile::workload(self.trust_domain(), service, &workload.name, validity)?;
        let leaf = chain.sign(&params, key)?;
        Ok(IssuedLeaf {
            chain: [leaf.certificate].into_iter().chain(chain.above_leaves()).collect(),
            serial: leaf.serial,
            issuer: chain.issuer.serial.clone(),
            service: service.clone(),
            workload: workload.clone(),
            issued_at: now,
            not_after: leaf.not_after,
        })
    }

    /// A new key and certificate for the control plane itself.
    ///
    /// # Errors
    /// As [`Self::issue_workload`].
    pub fn issue_control_plane(&self, names: &[ServerName]) -> Result<ServerIdentity, CaError> {
        let state = self.state();
        let own = &state.own;
        let now = self.clock.now();
        let validity = self.validity(own, now, SERVER_LIFE)?;
        let key = new_key()?;
        let leaf = own.sign(&profile::control_plane(self.trust_domain(), names, validity)?, &key)?;
        let above = own.above_leaves().into_iter().chain(state.line.iter().cloned());
        let chain = [leaf.certificate].into_iter().chain(above).collect();
        Ok(ServerIdentity {
            chain,
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            issued_at: now,
            not_after: leaf.not_after,
        })
    }

    /// The control plane's identity, which clients pin.
    #[must_use]
    pub fn control_plane_id(&self) -> SpiffeId {
        SpiffeId::control_plane(self.trust_domain())
    }

    // A leaf that ends with its issuer is fine; one with hardly any life left would only hide the trouble.
    fn validity(
        &self,
        chain: &SigningChain,
        now: OffsetDateTime,
        life: Duration,
    ) -> Result<profile::Validity, CaError> {
        if now < chain.issuer.not_before {
            return Err(CaError::ClockBehind(chain.issuer.not_before));
        }
        let end = chain.issuer.not_after.min(chain.root.not_after);
        // An issuer that lives for minutes, as in tests, signs for a part of them.
        let least = Duration::minutes(10).min(life / 4).min((end - chain.issuer.not_before) / 8);
        if end - now < least {
            return Err(CaError::IssuerEnding(end));
        }
        Ok(profile::Validity::starting(now, life, Some(end)))
    }
}

#[cfg(test)]
pub(crate) mod tests;
