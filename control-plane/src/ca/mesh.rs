//! The mesh's own records: made once by whoever comes first, renewed by the leader, followed by everyone.
//!
//! ```text
//! mesh/root            the root
//! mesh/issuer          the issuer that signs now
//! mesh/next            the one after it: its list is in every bundle before it signs its first leaf
//! mesh/issuers/SERIAL  those before: they sign nothing but their lists
//! mesh/crls/SERIAL     the revocation list of each
//! ```

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
use weft_api::{Backoff, TrustDomain};
use weft_store::{CommitError, Entry, Leadership, Store, StoreExt, Txn};

use super::chain::SigningChain;
use super::crl::{self, RevocationList};
use super::seal::{SealError, SealKey, Sealed};
use super::{Authority, AuthoritySettings, BACKDATE, CaError, ROOT_LIFE, Serial, profile};
use crate::clock::Clock;

const FORMAT: u32 = 1;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// An issuer with less life than this signs nothing.
const LEAST_LEFT: time::Duration = time::Duration::minutes(10);
const PREFIX: &str = "mesh/";
const ROOT: &str = "mesh/root";
const ISSUER: &str = "mesh/issuer";
const NEXT: &str = "mesh/next";
const RETIRED: &str = "mesh/issuers/";

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
        if let Some(records) = CaRecords::read(store).await? {
            records.check_mesh(&settings.trust_domain)?;
            // A key made now would open nothing, so none is made for a mesh that exists.
            let seal = SealKey::load(seal_key)?.ok_or_else(|| SealError::Missing(seal_key.to_owned()))?;
            let chain = records.open_chain(&seal)?;
            let now = clock.now();
            if chain.root.not_after <= now {
                return Err(CaError::RootOver(chain.root.not_after));
            }
            // No leader is needed for either: the guard lets one of those that start through.
            let least = LEAST_LEFT.min(settings.issuer_life / 4);
            let txn = if chain.issuer.not_after - now < least && chain.root.not_after - now >= least {
                let (root, life) = (records.root()?, settings.issuer_life);
                let record = new_issuer(ISSUER, &root, chain.generation + 1, life, &seal, &clock)?;
                records.replacing_issuer(&record, &seal, &clock)?
            } else if records.list_of(&chain.issuer.serial).is_none() {
                records.first_list(store, &seal, &clock).await?
            } else {
                let lists = records.lists()?;
                return Authority::try_new(settings, clock, seal, chain, lists);
            };
            match store.commit(txn).await {
                Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let seal = SealKey::load_or_create(seal_key)?;
        let txn = creation(&settings, &seal, &clock)?;
        match store.commit(txn).await {
            Ok(_) => tracing::info!(
                event = "mesh_created",
                trust_domain = %settings.trust_domain,
                "created the mesh"
            ),
            Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => {
                tracing::info!(
                    event = "mesh_created_elsewhere",
                    "another control plane created the mesh at the same moment, or the store did not confirm; reading it"
                );
            }
            Err(error) => return Err(error.into()),
        }
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

/// How far the renewal of the issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The issuer is in the first half of its life.
    NotDue,
    /// A new one was made. Its list is in the bundle now, and it signs nothing yet.
    Announced,
    /// Not everybody has the new one's list yet.
    Waiting,
    /// The new one signs from now on.
    Renewed,
}

impl Authority {
    /// Makes a new issuer when half of the old one's life is over, and lets it sign once `is_acknowledged`: every proxy has
    /// the bundle with its list, or its own leaf has ended. At three quarters it signs all the same. The leader calls this;
    /// the writes are fenced.
    ///
    /// # Errors
    /// When the store fails, leadership was lost, or a key does not open.
    pub async fn renew_issuer(
        &self,
        store: &dyn Store,
        leader: &Leadership,
        is_acknowledged: bool,
    ) -> Result<Renewal, CaError> {
        let issuer = self.chain().issuer.clone();
        let (start, now) = (issuer.not_before + BACKDATE, self.clock.now());
        let life = issuer.not_after - start;
        if now < start + life / 2 {
            return Ok(Renewal::NotDue);
        }
        let records = CaRecords::read(store).await?.ok_or_else(|| missing(ROOT))?;
        records.check_mesh(self.trust_domain())?;
        let (root, old) = (records.root()?, records.issuer()?);
        let is_late = now >= start + life * 3 / 4;
        let (txn, renewal) = match records.next()? {
            Some(next) if is_late || (is_acknowledged && self.has_list_of(&next)?) => {
                if !is_acknowledged {
                    tracing::warn!(
                        event = "issuer_promoted_early",
                        "the new issuer signs now, though not every proxy has acknowledged its revocation list"
                    );
                }
                (records.promoting(&next, &self.seal)?, Renewal::Renewed)
            }
            Some(_) => return Ok(Renewal::Waiting),
            None => {
                let record = new_issuer(
                    NEXT,
                    &root,
                    old.generation + 1,
                    self.settings.issuer_life,
                    &self.seal,
                    &self.clock,
                )?;
                (records.announcing(&record, &self.seal, &self.clock)?, Renewal::Announced)
            }
        };
        store.commit(txn.guard(leader.guard())).await?;
        self.reload(store).await?;
        tracing::info!(
            event = "issuer_renewed",
            generation = old.generation + 1,
            ?renewal,
            "renewing the issuer"
        );
        Ok(renewal)
    }

    fn has_list_of(&self, next: &AuthorityRecord) -> Result<bool, CaError> {
        let serial = super::ValidCertificate::try_from_der(next.certificate_der(NEXT)?)?.serial;
        Ok(self.lists().iter().any(|list| list.issuer == serial))
    }

    /// Adds to a transaction what puts these leaves on their issuers' lists. Leaves that have ended leave a list when it is
    /// written anew. None when everything stands there already.
    ///
    /// # Errors
    /// When the store fails or a key does not open.
    pub async fn listing(
        &self,
        store: &dyn Store,
        txn: Txn,
        leaves: &[(Serial, Serial)],
    ) -> Result<(Txn, bool), CaError> {
        let records = CaRecords::read(store).await?.ok_or_else(|| missing(ROOT))?;
        let (mut txn, mut is_changed) = (txn, false);
        for entry in &records.lists {
            let list = RevocationList::decode(entry)?;
            let wanted: std::collections::BTreeSet<Serial> = leaves
                .iter()
                .filter(|(issuer, _)| *issuer == list.issuer)
                .map(|(_, leaf)| leaf.clone())
                .collect();
            if wanted.is_subset(&list.revoked) {
                continue;
            }
            let (certificate, key) = records.issuer_of(&list.issuer, &self.seal)?;
            let next = list.next(&certificate, key, self.clock.now(), wanted)?;
            let key = RevocationList::key(&list.issuer);
            txn = txn.expect_at(key.as_str(), entry.mod_revision).put(key, next.encode());
            is_changed = true;
        }
        let known = |issuer: &Serial| records.list_of(issuer).is_some();
        for (issuer, leaf) in leaves.iter().filter(|(issuer, _)| !known(issuer)) {
            tracing::warn!(
                event = "leaf_not_listed",
                %leaf, %issuer,
                "its issuer has no revocation list any more: the leaf passes at peers until its end"
            );
        }
        Ok((txn, is_changed))
    }

    /// Removes issuers that have ended, and their lists. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune_issuers(&self, store: &dyn Store, leader: &Leadership) -> Result<usize, CaError> {
        let records = CaRecords::read(store).await?.ok_or_else(|| missing(ROOT))?;
        let now = self.clock.now().unix_timestamp();
        let mut ended = 0;
        for entry in &records.lists {
            let list = RevocationList::decode(entry)?;
            if list.issuer_ends_at < now {
                let retired = format!("{RETIRED}{}", list.issuer);
                store.commit(Txn::new().guard(leader.guard()).delete(&entry.key).delete(retired)).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// Takes the newest issuer and the lists from the store. An older issuer than ours is left alone.
    ///
    /// # Errors
    /// When the store fails or the record does not open.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), CaError> {
        let records = CaRecords::read(store).await?.ok_or_else(|| missing(ROOT))?;
        records.check_mesh(self.trust_domain())?;
        let newest = records.open_chain(&self.seal)?;
        self.chain.send_if_modified(|chain| {
            let newer = newest.generation > chain.generation;
            if newer {
                *chain = Arc::new(newest);
            }
            newer
        });
        let newest = records.lists()?;
        self.lists.send_if_modified(|lists| {
            let differs = **lists != newest;
            if differs {
                *lists = Arc::new(newest);
            }
            differs
        });
        Ok(())
    }
}

/// Takes every new issuer and list as soon as it is stored, whoever made it. The task ends with `shutdown`.
pub fn spawn_follow(authority: Arc<Authority>, store: Arc<dyn Store>, shutdown: CancellationToken) {
    tokio::spawn(async move {
        let mut changes = store.follow(PREFIX);
        loop {
            tokio::select! {
                change = changes.next() => if change.is_none() { return },
                () = shutdown.cancelled() => return,
            }
            let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
            while let Err(error) = authority.reload(store.as_ref()).await {
                tracing::warn!(
                    event = "issuer_not_read",
                    %error,
                    "cannot read the issuer; the one we have signs on"
                );
                tokio::select! {
                    () = tokio::time::sleep(retry.next_wait()) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    });
}

struct CaRecords {
    root: Entry,
    issuer: Entry,
    next: Option<Entry>,
    retired: Vec<Entry>,
    lists: Vec<Entry>,
}

impl CaRecords {
    /// All of them, at one revision; `None` when there is no mesh yet.
    async fn read(store: &dyn Store) -> Result<Option<Self>, CaError> {
        let entries = store.list_all(PREFIX).await?.entries;
        let find = |key: &str| entries.iter().find(|entry| entry.key.as_str() == key).cloned();
        match (find(ROOT), find(ISSUER)) {
            (Some(root), Some(issuer)) => {
                let below = |prefix: &str| {
                    entries.iter().filter(|entry| entry.key.as_str().starts_with(prefix)).cloned().collect()
                };
                Ok(Some(Self {
                    root,
                    issuer,
                    next: find(NEXT),
                    retired: below(RETIRED),
                    lists: below(crl::PREFIX),
                }))
            }
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

    fn next(&self) -> Result<Option<AuthorityRecord>, CaError> {
        self.next.as_ref().map(decode).transpose()
    }

    fn lists(&self) -> Result<Vec<RevocationList>, CaError> {
        self.lists.iter().map(RevocationList::decode).collect()
    }

    fn list_of(&self, issuer: &Serial) -> Option<&Entry> {
        let key = RevocationList::key(issuer);
        self.lists.iter().find(|entry| entry.key.as_str() == key)
    }

    /// Certificate and key of an issuer, whether it signs now, later or no more.
    fn issuer_of(
        &self,
        serial: &Serial,
        seal: &SealKey,
    ) -> Result<(CertificateDer<'static>, KeyPair), CaError> {
        for entry in [&self.issuer].into_iter().chain(&self.next).chain(&self.retired) {
            let record = decode(entry)?;
            let certificate = record.certificate_der(&entry.key)?;
            if super::ValidCertificate::try_from_der(certificate.clone())?.serial == *serial {
                return Ok((certificate, record.open_key(&entry.key, seal)?));
            }
        }
        Err(missing(&format!("{RETIRED}{serial}")))
    }

    /// Nothing of what is decided here has changed meanwhile.
    fn guarded(&self) -> Txn {
        let txn =
            Txn::new().expect_at(ROOT, self.root.mod_revision).expect_at(ISSUER, self.issuer.mod_revision);
        match &self.next {
            Some(next) => txn.expect_at(NEXT, next.mod_revision),
            None => txn.expect_absent(NEXT),
        }
    }

    /// Puts a new issuer in the place of one that is over, with its list.
    fn replacing_issuer(
        &self,
        record: &AuthorityRecord,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Txn, CaError> {
        let (key, list) = record.first_list(ISSUER, seal, clock)?;
        Ok(self.guarded().delete(NEXT).put(ISSUER, encode(record)).put(key, list.encode()))
    }

    /// Puts a new issuer beside the one that signs, with its list.
    fn announcing(&self, record: &AuthorityRecord, seal: &SealKey, clock: &Clock) -> Result<Txn, CaError> {
        let (key, list) = record.first_list(NEXT, seal, clock)?;
        Ok(self.guarded().put(NEXT, encode(record)).put(key, list.encode()))
    }

    /// Lets the next issuer sign, and keeps the one before for its list.
    fn promoting(&self, next: &AuthorityRecord, seal: &SealKey) -> Result<Txn, CaError> {
        let old = self.issuer()?;
        let retired = format!(
            "{RETIRED}{}",
            super::ValidCertificate::try_from_der(old.certificate_der(ISSUER)?)?.serial
        );
        let (promoted, old) = (next.moved(NEXT, ISSUER, seal)?, old.moved(ISSUER, &retired, seal)?);
        Ok(self.guarded().delete(NEXT).put(ISSUER, encode(&promoted)).put(retired, encode(&old)))
    }

    /// The first list of a mesh that was made before there were lists. Leaves of issuers whose keys were not kept may live:
    /// until the last of them has ended, the list is not in force.
    async fn first_list(&self, store: &dyn Store, seal: &SealKey, clock: &Clock) -> Result<Txn, CaError> {
        let (key, mut list) = self.issuer()?.first_list(ISSUER, seal, clock)?;
        let leaves = store.list_all(super::ledger::PREFIX).await?.entries;
        let leaves =
            leaves.iter().filter_map(|entry| serde_json::from_slice::<super::LedgerEntry>(&entry.value).ok());
        let foreign =
            leaves.filter(|leaf| self.list_of(&leaf.issuer).is_none() && leaf.issuer != list.issuer);
        list.in_force_from = foreign.map(|leaf| leaf.expires_at).max().unwrap_or_default();
        Ok(self.guarded().expect_absent(key.as_str()).put(key, list.encode()))
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

    /// The same under another name: what is sealed is bound to the name of its record.
    fn moved(&self, from: &str, to: &str, seal: &SealKey) -> Result<Self, CaError> {
        let key = seal.open(from, &self.sealed_key)?;
        Ok(Self {
            format: self.format,
            trust_domain: self.trust_domain.clone(),
            generation: self.generation,
            certificate: self.certificate.clone(),
            sealed_key: seal.seal(to, &key),
        })
    }

    /// The empty list of this issuer, and under which key it is stored.
    fn first_list(
        &self,
        name: &str,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<(String, RevocationList), CaError> {
        let list =
            RevocationList::empty(&self.certificate_der(name)?, self.open_key(name, seal)?, clock.now())?;
        Ok((RevocationList::key(&list.issuer), list))
    }

    fn open_key(&self, record: &str, seal: &SealKey) -> Result<KeyPair, CaError> {
        let der = seal.open(record, &self.sealed_key)?;
        Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_slice()))?)
    }
}

fn creation(settings: &AuthoritySettings, seal: &SealKey, clock: &Clock) -> Result<Txn, CaError> {
    let trust_domain = &settings.trust_domain;
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
    let issuer = new_issuer(ISSUER, &root, 1, settings.issuer_life, seal, clock)?;
    let (key, list) = issuer.first_list(ISSUER, seal, clock)?;
    Ok(Txn::new()
        .expect_absent(ROOT)
        .expect_absent(ISSUER)
        .put(ROOT, encode(&root))
        .put(ISSUER, encode(&issuer))
        .put(key, list.encode()))
}

fn new_issuer(
    name: &str,
    root: &AuthorityRecord,
    generation: u64,
    life: time::Duration,
    seal: &SealKey,
    clock: &Clock,
) -> Result<AuthorityRecord, CaError> {
    let certificate = root.certificate_der(ROOT)?;
    let root_end = super::ValidCertificate::try_from_der(certificate.clone())?.not_after;
    let signer = Issuer::from_ca_cert_der(&certificate, root.open_key(ROOT, seal)?)?;
    let key = profile::new_key()?;
    let validity = profile::Validity::starting(clock.now(), life, Some(root_end));
    let certificate = profile::issuer(&root.trust_domain, validity)?.signed_by(&key, &signer)?;
    Ok(AuthorityRecord {
        format: FORMAT,
        trust_domain: root.trust_domain.clone(),
        generation,
        certificate: BASE64.encode(certificate.der()),
        sealed_key: seal.seal(name, &zeroize::Zeroizing::new(key.serialize_der())),
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
