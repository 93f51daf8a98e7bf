//! The mesh moves to an authority of the user's own, and to another issuer below one.
//!
//! ```text
//! request ──▶ mesh/csr: a key under seal ──▶ PEM ──▶ the owner of an offline root signs
//! import  ◀── the chain, issuer to root: another root ──▶ a rotation to it, stage by stage (`root_rotation`)
//!                                        the same one ──▶ mesh/next: signs when all have its list
//! adopt   ◀── --ca-cert, --ca-key: another root ──▶ a rotation; the same one ──▶ signs the next issuer
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::Duration;
use weft_api::rest::RootOrigin;
use weft_store::{CommitError, Entry, Store, Txn};

use super::fitness::{Below, FitChain, Fitness};
use super::proof::prove;
use super::records::{
    AuthorityRecord, CaRecords, ISSUER, NEXT, NEXT_ROOT, NEXT_ROOT_ISSUER, OLD_ROOT, REQUEST, ROOT,
    read_json, sealed,
};
use super::root_rotation::{RotationError, RotationPlan};
use super::seal::{SealKey, Sealed};
use super::unfit::Unfit;
use super::{Authority, AuthoritySettings, CaError, DEFAULT_SPREAD, OwnAuthority, profile};
use crate::clock::Clock;

/// What the chain of an import is called in messages.
const CHAIN: &str = "chain";

/// Why an authority of the user's own was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(
        "no request for an issuer's certificate is open: `weft ca csr` makes one, for the owner of the root to sign"
    )]
    NoRequest,
    #[error("another issuer is on its way already; import again when `weft ca status` shows it as Signing")]
    IssuerComing,
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

impl From<CaError> for AdoptionError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Unfit(unfit) => Self::Unfit(unfit),
            other => Self::Rotation(other.into()),
        }
    }
}

impl From<CommitError> for AdoptionError {
    fn from(error: CommitError) -> Self {
        CaError::from(error).into()
    }
}

/// What the owner of an offline root signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PKCS #10.
    pub der: Vec<u8>,
    pub spki_sha256: [u8; 32],
    /// When the key was made, in Unix seconds.
    pub created_at: i64,
}

/// What came of the files that bring an own authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// The mesh has it.
    Already,
    /// It was the mesh's, and was left by a rotation: it does not come back by itself.
    Left,
    /// A rotation to it has begun.
    Begun,
}

/// An issuer's key and the request for its certificate, as stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssuerRequestRecord {
    created_at: i64,
    /// SHA-256 of the public key.
    spki_sha256: [u8; 32],
    /// PKCS #10, base64.
    request: String,
    sealed_key: Sealed,
}

impl Authority {
    /// The request for the certificate of an issuer, whose key is made here and stays under seal. Until its certificate is imported,
    /// everybody who asks is given the same.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn certificate_request(&self, store: &dyn Store) -> Result<CertificateRequest, CaError> {
        loop {
            let records = self.records(store).await?;
            if let Some(entry) = &records.request {
                return IssuerRequestRecord::read(entry)?.told();
            }
            let key = profile::new_key()?;
            let request = profile::requested_issuer(self.trust_domain())?.serialize_request(&key)?;
            let record = IssuerRequestRecord {
                created_at: self.clock.unix_seconds(),
                spki_sha256: Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into(),
                request: BASE64.encode(request.der()),
                sealed_key: sealed(REQUEST, &key, &self.seal),
            };
            let value = serde_json::to_vec(&record).expect("strings and numbers always encode");
            let txn = Txn::new().expect_absent(REQUEST).put(REQUEST, value);
            match store.commit(records.headed(txn, &self.seal)).await {
                Ok(_) => {
                    tracing::info!(
                        event = "issuer_requested",
                        "a key for an issuer was made, whose certificate the owner of a root is to sign"
                    );
                }
                Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the signed chain of the issuer that was requested. Under another root than the mesh's a rotation to it begins; under
    /// the same one the issuer signs as soon as everybody has its revocation list.
    ///
    /// # Errors
    /// Names the field that does not fit; or a rotation is under way, no request is open, or the store fails.
    pub async fn import(
        &self,
        store: &dyn Store,
        pem: &str,
        spread: Duration,
        by: Option<String>,
    ) -> Result<(), AdoptionError> {
        let records = self.records(store).await?;
        if records.rotation()?.is_some() {
            return Err(RotationError::UnderWay.into());
        }
        let entry = records.request.as_ref().ok_or(AdoptionError::NoRequest)?;
        let request = IssuerRequestRecord::read(entry)?;
        let chain = Fitness::of(&self.settings, Below::Leaves, self.clock.now()).check(pem, CHAIN)?;
        if chain.lowest().spki_sha256 != request.spki_sha256 {
            let reason = "the first certificate is of another key than the request that is open";
            let remedy = "sign the request that `weft ca csr` prints, and bring its certificate first";
            return Err(Unfit::new(CHAIN, "subjectPublicKeyInfo", reason, remedy).into());
        }
        if chain.below_root().is_empty() {
            let remedy = "sign the request by the root, and bring both certificates";
            return Err(Unfit::new(CHAIN, "issuer", "the issuer is a root itself", remedy).into());
        }
        chain.check_beside(&records, CHAIN)?;
        let taken = |txn: Txn| txn.expect_at(REQUEST, entry.mod_revision).delete(REQUEST);
        if !records.root()?.is_of(ROOT, &chain)? {
            let key = request.issuer_key(NEXT_ROOT_ISSUER, &self.seal)?;
            let issuer = self.imported(&chain, 0, key);
            self.check_believed(&chain, CHAIN, (NEXT_ROOT_ISSUER, &issuer))?;
            let (domain, root) = (self.trust_domain(), &chain.root().certificate);
            let generation = records.root()?.generation + 1;
            let root = AuthorityRecord::of(domain, generation, RootOrigin::Offline, &[root], None);
            let plan = RotationPlan { root, issuer, spread, by, guard: None };
            return Ok(self.begin_rotation(store, &records, plan, taken).await?);
        }
        if records.next()?.is_some() {
            return Err(AdoptionError::IssuerComing);
        }
        let key = request.issuer_key(NEXT, &self.seal)?;
        let issuer = self.imported(&chain, records.issuer()?.generation + 1, key);
        self.check_believed(&chain, CHAIN, (NEXT, &issuer))?;
        let txn = taken(records.announcing(&issuer, &self.seal, &self.clock)?);
        self.commit_rotation(store, &records, txn, None).await?;
        tracing::info!(
            event = "issuer_imported",
            issuer = %chain.lowest().serial, by = by.as_deref().unwrap_or("nobody"),
            "an issuer that the owner of the root signed is brought to everybody, and signs then"
        );
        Ok(())
    }

    /// Moves the mesh to the authority that files bring, unless it has it. Any replica may do this, and one does.
    ///
    /// # Errors
    /// Names the field that does not fit; or another rotation is under way, or the store fails.
    pub async fn adopt(&self, store: &dyn Store) -> Result<Adopted, AdoptionError> {
        let Some(own) = &self.settings.own else { return Ok(Adopted::Already) };
        let records = self.records(store).await?;
        let coming = records.next_root()?;
        let is_there = records.root()?.is_of(ROOT, &own.chain)?
            || coming.map(|root| root.is_of(NEXT_ROOT, &own.chain)).transpose()?.unwrap_or_default();
        if is_there {
            return Ok(Adopted::Already);
        }
        let leaving = records.old_root()?;
        let leaves = leaving.map(|root| root.is_of(OLD_ROOT, &own.chain)).transpose()?.unwrap_or_default();
        if leaves || records.has_left(&own.chain.root().serial) {
            return Ok(Adopted::Left);
        }
        if records.rotation()?.is_some() {
            return Err(RotationError::UnderWay.into());
        }
        own.chain.check_beside(&records, &own.file)?;
        let root = own.record(NEXT_ROOT, &self.settings, records.root()?.generation + 1, &self.seal);
        let issuer = self.coming_issuer(&root)?;
        self.check_believed(&own.chain, &own.file, (NEXT_ROOT_ISSUER, &issuer))?;
        let by = Some("--ca-cert".to_owned());
        let plan = RotationPlan { root, issuer, spread: DEFAULT_SPREAD, by, guard: None };
        self.begin_rotation(store, &records, plan, |txn| txn).await?;
        Ok(Adopted::Begun)
    }

    fn imported(&self, chain: &FitChain, generation: u64, key: Sealed) -> AuthorityRecord {
        let (domain, origin) = (self.trust_domain(), RootOrigin::default());
        AuthorityRecord::of(domain, generation, origin, &chain.below_root(), Some(key))
    }

    fn check_believed(
        &self,
        chain: &FitChain,
        what: &str,
        (name, issuer): (&str, &AuthorityRecord),
    ) -> Result<(), CaError> {
        check_believed(&self.settings, &self.seal, &self.clock, (chain, what), (name, issuer))
    }
}

/// What a mesh that has this root already signs its next issuer by, where the files say so; none where it does.
pub(super) fn replacing_signer(
    records: &CaRecords,
    settings: &AuthoritySettings,
    seal: &SealKey,
    clock: &Clock,
) -> Result<Option<Txn>, CaError> {
    let (Some(own), root) = (&settings.own, records.root()?) else { return Ok(None) };
    if !root.is_of(ROOT, &own.chain)? || records.rotation()?.is_some() {
        return Ok(None);
    }
    let mut new = own.record(ROOT, settings, root.generation, seal);
    if root.signs() && new.is_same(&root) {
        return Ok(None);
    }
    new.vouched.clone_from(&root.vouched);
    check_founding(&new, own, settings, seal, clock)?;
    tracing::info!(event = "issuer_signer_replaced", root = %own.chain.root().serial, "issuers are signed as --ca-cert says");
    Ok(Some(records.guarded().put(ROOT, new.encode())))
}

/// Whether what an issuer below an own root signs would be believed.
pub(super) fn check_founding(
    root: &AuthorityRecord,
    own: &OwnAuthority,
    settings: &AuthoritySettings,
    seal: &SealKey,
    clock: &Clock,
) -> Result<(), CaError> {
    let life = settings.issuer_life;
    let issuer = AuthorityRecord::new_issuer(ISSUER, (ROOT, root), 0, life, seal, clock)?;
    check_believed(settings, seal, clock, (&own.chain, &own.file), (ISSUER, &issuer))
}

fn check_believed(
    settings: &AuthoritySettings,
    seal: &SealKey,
    clock: &Clock,
    (chain, what): (&FitChain, &str),
    (name, issuer): (&str, &AuthorityRecord),
) -> Result<(), CaError> {
    let unwritable = |_| {
        let reason =
            "its name cannot be written again: an attribute stands in it twice, or together with another";
        Unfit::new(what, "subject", reason, "have it signed with a plain name, such as CN=… and O=…")
    };
    let root = &chain.root().certificate;
    let signing = issuer.signing(name, root.clone(), seal).map_err(|error| match error {
        CaError::Encode(error) => CaError::Unfit(unwritable(error)),
        other => other,
    })?;
    match prove(&signing, settings, root, None, clock.now())? {
        Ok(()) => Ok(()),
        Err(error) => Err(chain.unbelieved(what, &error).into()),
    }
}

impl IssuerRequestRecord {
    fn read(entry: &Entry) -> Result<Self, CaError> {
        read_json(entry)
    }

    fn told(self) -> Result<CertificateRequest, CaError> {
        let unreadable = |error: base64::DecodeError| CaError::CorruptRecord {
            record: REQUEST.to_owned(),
            reason: error.to_string(),
        };
        let der = BASE64.decode(&self.request).map_err(unreadable)?;
        Ok(CertificateRequest { der, spki_sha256: self.spki_sha256, created_at: self.created_at })
    }

    /// The key, sealed for the record of the issuer.
    fn issuer_key(&self, name: &str, seal: &SealKey) -> Result<Sealed, CaError> {
        Ok(seal.seal(name, &seal.open(REQUEST, &self.sealed_key)?))
    }
}

#[cfg(test)]
mod tests;
