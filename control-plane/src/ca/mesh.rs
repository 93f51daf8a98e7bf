//! The mesh's own records: made once by whoever comes first, renewed by the leader, followed by everyone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt as _;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use weft_api::TrustDomain;
use weft_store::{CommitError, Entry, Leadership, Store, Txn};

use super::chain::SigningChain;
use super::seal::{SealError, SealKey, Sealed};
use super::{Authority, AuthoritySettings, CaError, ISSUER_LIFE, ROOT_LIFE, profile};
use crate::clock::Clock;

const FORMAT: u32 = 1;
const RELOAD_RETRY: Duration = Duration::from_secs(5);
/// An issuer with less life than this signs nothing.
const LEAST_LEFT: time::Duration = time::Duration::minutes(10);
const PREFIX: &str = "mesh/";
const ROOT: &str = "mesh/root";
const ISSUER: &str = "mesh/issuer";

/// What `mesh/root` and `mesh/issuer` hold, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityRecord {
    format: u32,
    trust_domain: TrustDomain,
    generation: u64,
    /// DER, base64.
    certificate: String,
    sealed_key: Sealed,
}

/// Opens the mesh in the store, or creates it: of two control planes that start first at once, one wins and the
/// other reads. An issuer that ended while no control plane ran is replaced here, since nothing can be served before.
///
/// # Errors
/// When the store fails, holds another mesh or one whose root is over, or its keys do not open with the seal key.
pub async fn open(
    store: &dyn Store,
    settings: AuthoritySettings,
    seal_key: &Path,
    clock: Clock,
) -> Result<Authority, CaError> {
    loop {
        if let Some(records) = Records::read(store).await? {
            records.check_mesh(&settings.trust_domain)?;
            // A key made now would open nothing, so none is made for a mesh that exists.
            let seal = SealKey::load(seal_key)?.ok_or_else(|| SealError::Missing(seal_key.to_owned()))?;
            let chain = records.open_chain(&seal)?;
            let now = clock.now();
            if chain.root.not_after <= now {
                return Err(CaError::RootOver(chain.root.not_after));
            }
            if chain.issuer.not_after - now >= LEAST_LEFT || chain.root.not_after - now < LEAST_LEFT {
                return Authority::try_new(settings, clock, seal, chain);
            }
            let record = new_issuer(&records.root()?, chain.generation + 1, &seal, &clock)?;
            // No leader is needed: the guard lets one of those that start through.
            let txn = records.replacing_issuer(&record);
            match store.commit(txn).await {
                Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let seal = SealKey::load_or_create(seal_key)?;
        let txn = creation(&settings.trust_domain, &seal, &clock)?;
        match store.commit(txn).await {
            Ok(_) => tracing::info!(trust_domain = %settings.trust_domain, "created the mesh"),
            Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => {
                tracing::info!(
                    "another control plane created the mesh at the same moment, or the store did not confirm; reading it"
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a new issuer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The issuer is in the first half of its life.
    NotDue,
    /// A new one signs from now on.
    Renewed,
}

impl Authority {
    /// Makes a new issuer when half of the old one's life is over. The leader calls this; the write is fenced.
    ///
    /// # Errors
    /// When the store fails, leadership was lost, or the root's key does not open.
    pub async fn renew_issuer(&self, store: &dyn Store, leader: &Leadership) -> Result<Renewal, CaError> {
        let issuer = &self.chain().issuer;
        let life = issuer.not_after - issuer.not_before;
        if self.clock.now() < issuer.not_before + life / 2 {
            return Ok(Renewal::NotDue);
        }
        let records = Records::read(store).await?.ok_or_else(|| missing(ROOT))?;
        records.check_mesh(self.trust_domain())?;
        let (root, old) = (records.root()?, records.issuer()?);
        let record = new_issuer(&root, old.generation + 1, &self.seal, &self.clock)?;
        store.commit(records.replacing_issuer(&record).fenced_by(leader)).await?;
        self.reload(store).await?;
        tracing::info!(generation = old.generation + 1, "renewed the issuer");
        Ok(Renewal::Renewed)
    }

    /// Takes the newest issuer from the store. An older one than ours is left alone.
    ///
    /// # Errors
    /// When the store fails or the record does not open.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), CaError> {
        let records = Records::read(store).await?.ok_or_else(|| missing(ROOT))?;
        records.check_mesh(self.trust_domain())?;
        let newest = records.open_chain(&self.seal)?;
        self.chain.send_if_modified(|chain| {
            let newer = newest.generation > chain.generation;
            if newer {
                *chain = Arc::new(newest);
            }
            newer
        });
        Ok(())
    }
}

/// Takes every new issuer as soon as it is stored, whoever made it. The task ends with `shutdown`.
pub fn spawn_follow(authority: Arc<Authority>, store: Arc<dyn Store>, shutdown: CancellationToken) {
    tokio::spawn(async move {
        let mut changes = store.follow(ISSUER);
        loop {
            tokio::select! {
                change = changes.next() => if change.is_none() { return },
                () = shutdown.cancelled() => return,
            }
            while let Err(error) = authority.reload(store.as_ref()).await {
                tracing::warn!(%error, "cannot read the issuer; the one we have signs on");
                tokio::select! {
                    () = tokio::time::sleep(RELOAD_RETRY) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    });
}

struct Records {
    root: Entry,
    issuer: Entry,
}

impl Records {
    /// Both, at one revision; `None` when there is no mesh yet.
    async fn read(store: &dyn Store) -> Result<Option<Self>, CaError> {
        let entries = store.list_all(PREFIX).await?.entries;
        let find = |key: &str| entries.iter().find(|entry| entry.key.as_str() == key).cloned();
        match (find(ROOT), find(ISSUER)) {
            (Some(root), Some(issuer)) => Ok(Some(Self { root, issuer })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(missing(ROOT)),
            (Some(_), None) => Err(missing(ISSUER)),
        }
    }

    fn root(&self) -> Result<AuthorityRecord, CaError> {
        decode(&self.root)
    }

    fn issuer(&self) -> Result<AuthorityRecord, CaError> {
        decode(&self.issuer)
    }

    fn check_mesh(&self, wanted: &TrustDomain) -> Result<(), CaError> {
        let stored = self.root()?.trust_domain;
        if stored == *wanted { Ok(()) } else { Err(CaError::OtherMesh { stored, wanted: wanted.clone() }) }
    }

    /// Puts a new issuer in the old one's place, if nobody else has done so.
    fn replacing_issuer(&self, record: &AuthorityRecord) -> Txn {
        Txn::new()
            .expect_at(ROOT, self.root.mod_revision)
            .expect_at(ISSUER, self.issuer.mod_revision)
            .put(ISSUER, encode(record))
    }

    fn open_chain(&self, seal: &SealKey) -> Result<SigningChain, CaError> {
        let (root, issuer) = (self.root()?, self.issuer()?);
        let key = issuer.open_key(ISSUER, seal)?;
        SigningChain::try_new(
            root.certificate_der(ROOT)?,
            issuer.certificate_der(ISSUER)?,
            key,
            issuer.generation,
        )
    }
}

impl AuthorityRecord {
    fn certificate_der(&self, record: &str) -> Result<CertificateDer<'static>, CaError> {
        let der = BASE64.decode(&self.certificate).map_err(|error| corrupt(record, error.to_string()))?;
        Ok(CertificateDer::from(der))
    }

    fn open_key(&self, record: &str, seal: &SealKey) -> Result<KeyPair, CaError> {
        let der = seal.open(record, &self.sealed_key)?;
        Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_slice()))?)
    }
}

fn creation(trust_domain: &TrustDomain, seal: &SealKey, clock: &Clock) -> Result<Txn, CaError> {
    let key = profile::new_key()?;
    let validity = profile::Validity::starting(clock.now(), ROOT_LIFE, None);
    let certificate = profile::root(trust_domain, validity)?.self_signed(&key)?;
    let root = AuthorityRecord {
        format: FORMAT,
        trust_domain: trust_domain.clone(),
        generation: 1,
        certificate: BASE64.encode(certificate.der()),
        sealed_key: seal.seal(ROOT, &zeroize::Zeroizing::new(key.serialize_der())),
    };
    let issuer = new_issuer(&root, 1, seal, clock)?;
    Ok(Txn::new()
        .expect_absent(ROOT)
        .expect_absent(ISSUER)
        .put(ROOT, encode(&root))
        .put(ISSUER, encode(&issuer)))
}

fn new_issuer(
    root: &AuthorityRecord,
    generation: u64,
    seal: &SealKey,
    clock: &Clock,
) -> Result<AuthorityRecord, CaError> {
    let certificate = root.certificate_der(ROOT)?;
    let root_end = super::Held::try_from_der(certificate.clone())?.not_after;
    let signer = Issuer::from_ca_cert_der(&certificate, root.open_key(ROOT, seal)?)?;
    let key = profile::new_key()?;
    let validity = profile::Validity::starting(clock.now(), ISSUER_LIFE, Some(root_end));
    let certificate = profile::issuer(&root.trust_domain, validity)?.signed_by(&key, &signer)?;
    Ok(AuthorityRecord {
        format: FORMAT,
        trust_domain: root.trust_domain.clone(),
        generation,
        certificate: BASE64.encode(certificate.der()),
        sealed_key: seal.seal(ISSUER, &zeroize::Zeroizing::new(key.serialize_der())),
    })
}

fn encode(record: &AuthorityRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings and numbers always encode")
}

fn decode(entry: &Entry) -> Result<AuthorityRecord, CaError> {
    let record: AuthorityRecord =
        serde_json::from_slice(&entry.value).map_err(|error| corrupt(&entry.key, error.to_string()))?;
    if record.format == FORMAT {
        Ok(record)
    } else {
        Err(corrupt(&entry.key, format!("format {} is not known, only {FORMAT}", record.format)))
    }
}

fn missing(record: &str) -> CaError {
    corrupt(record, "it is missing".to_owned())
}

fn corrupt(record: &str, reason: String) -> CaError {
    CaError::CorruptRecord { record: record.to_owned(), reason }
}
