//! Secrets as stock Envoy takes them by SDS: `identity`, its certificate with the key, and `bundle`, the roots.
//!
//! ```text
//! hold(workload) ─▶ ┌──────────────┐ ─▶ SecretUpdate { workload, identity }
//! release(workload) │ one task     │ ─▶ SecretUpdate { all, bundle }
//! root changed ───▶ └──────────────┘
//! ```
//!
//! For an Envoy with nothing beside it, the key is made here: a new one for each certificate, at 50 to 60 % of the old
//! one's life, kept in memory and nowhere else. weft-proxy makes its own keys and is not held here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret::Type,
};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::names::{BUNDLE_SECRET, IDENTITY_SECRET};
use weft_api::{Resource, ResourceKind, ServiceId, WorkloadId};
use zeroize::Zeroizing;

use crate::ca::{
    Authority, CaError, KeyOrigin, Ledger, LedgerEntry, LedgerFull, RevocationList, Serial, new_key,
    rotate_at, sleep_until,
};
use crate::clock::Clock;
use crate::presence::workloads::WorkloadRecord;

// As many as reconnect in a burst; whoever asks waits for the rest.
const QUEUE: usize = 1024;
const RETRY: Duration = Duration::from_secs(5);
/// Changes of the bundle within this long go out as one.
const SETTLE: Duration = Duration::from_secs(1);

/// A secret that is new or replaced.
#[derive(Debug, Clone)]
pub struct SecretUpdate {
    /// Whom it is for, and which instance of it; all without one.
    pub holder: Option<(WorkloadId, String)>,
    pub resource: Arc<Resource>,
}

/// Asks for identities to be held. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Secrets(mpsc::Sender<SecretsCommand>);

#[derive(Debug)]
enum SecretsCommand {
    Hold(SecretHolder),
    LetLapse(WorkloadId),
    Release(WorkloadId),
}

/// Whose identity it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SecretHolder {
    workload: WorkloadId,
    service: ServiceId,
    instance: String,
}

#[derive(Debug)]
struct HeldSecret {
    holder: SecretHolder,
    /// None while no certificate could be made.
    made: Option<MadeIdentity>,
    rotate_at: OffsetDateTime,
    /// Whether nobody is there to take the next one: this one is forgotten when it would be replaced.
    lapses: bool,
}

/// A certificate with its key, as a secret.
#[derive(Debug)]
struct MadeIdentity {
    resource: Arc<Resource>,
    serial: Serial,
    /// Unix seconds.
    issued_at: i64,
    rotate_at: OffsetDateTime,
}

#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
}

impl Secrets {
    /// Makes an identity for a workload and keeps it fresh until released. Asked again, gives the same one again.
    pub async fn hold(&self, record: &WorkloadRecord) {
        let holder = SecretHolder {
            workload: record.id.clone(),
            service: record.service.clone(),
            instance: record.instance.clone(),
        };
        // The task ends with the control plane only.
        drop(self.0.send(SecretsCommand::Hold(holder)).await);
    }

    /// Keeps a workload's identity until it would be replaced, and makes no other, unless asked again before: who is away
    /// would otherwise look alive for ever, by certificates that nobody takes.
    pub async fn let_lapse(&self, workload: &WorkloadId) {
        drop(self.0.send(SecretsCommand::LetLapse(workload.clone())).await);
    }

    /// Forgets a workload's key.
    pub async fn release(&self, workload: &WorkloadId) {
        drop(self.0.send(SecretsCommand::Release(workload.clone())).await);
    }
}

/// Starts the task. The bundle comes first, and again whenever it changes. Ends with `shutdown`.
#[must_use]
pub fn spawn(
    authority: Arc<Authority>,
    ledger: Ledger,
    clock: Clock,
    shutdown: CancellationToken,
) -> (Secrets, mpsc::Receiver<SecretUpdate>) {
    let (commands, received) = mpsc::channel(QUEUE);
    let (updates, changed) = mpsc::channel(QUEUE);
    let keeper = Keeper { authority, ledger, clock, updates, held: BTreeMap::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = keeper.run(received) => {}
            () = shutdown.cancelled() => {}
        }
    });
    (Secrets(commands), changed)
}

/// The bundle as a validation context: roots, and the revocation lists that are in force. The names to match stand in the
/// contexts that refer to it, never here. Only leaves are looked up on lists: the root signs none.
#[must_use]
pub fn bundle(roots: &[CertificateDer<'static>], lists: &[RevocationList], now: i64) -> Arc<Resource> {
    let pem_of = |label: &'static str| move |der: &[u8]| pem(label, der).to_string();
    let roots: String = roots.iter().map(|root| pem_of("CERTIFICATE")(root)).collect();
    // All or none: a verifier that has any list wants one of every issuer.
    let is_in_force = lists.iter().all(|list| list.in_force_from <= now);
    let lists: String =
        lists.iter().filter(|_| is_in_force).map(|list| pem_of("X509 CRL")(&list.der())).collect();
    let context = CertificateValidationContext {
        trusted_ca: Some(inline(roots.as_bytes())),
        only_verify_leaf_cert_crl: !lists.is_empty(),
        crl: (!lists.is_empty()).then(|| inline(lists.as_bytes())),
        ..Default::default()
    };
    resource(BUNDLE_SECRET, Type::ValidationContext(context))
}

struct Keeper {
    authority: Arc<Authority>,
    ledger: Ledger,
    clock: Clock,
    updates: mpsc::Sender<SecretUpdate>,
    held: BTreeMap<WorkloadId, HeldSecret>,
}

impl Keeper {
    async fn run(mut self, mut commands: mpsc::Receiver<SecretsCommand>) {
        let (mut state, mut lists) = (self.authority.subscribe(), self.authority.subscribe_lists());
        let mut bundle_version = None;
        let mut told_at: Option<Instant> = None;
        loop {
            let bundle = self.bundle();
            // The first change goes out at once; what follows within a second goes out together.
            let settles_at = told_at.map(|at| at + SETTLE).filter(|at| *at > Instant::now());
            let differs = bundle_version != Some(bundle.version);
            if differs && settles_at.is_none() {
                bundle_version = Some(bundle.version);
                told_at = Some(Instant::now());
                self.publish(None, bundle).await;
            }
            let settled = async {
                match settles_at.filter(|_| differs) {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let force = self.next_in_force();
            let in_force = async {
                match force {
                    Some(at) => sleep_until(&self.clock, at).await,
                    None => std::future::pending().await,
                }
            };
            let next = self.held.values().map(|held| held.rotate_at).min();
            let due = async {
                match next {
                    Some(at) => sleep_until(&self.clock, at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(SecretsCommand::Hold(holder)) => self.hold(holder).await,
                    Some(SecretsCommand::LetLapse(workload)) => {
                        if let Some(held) = self.held.get_mut(&workload) {
                            held.lapses = true;
                        }
                    }
                    Some(SecretsCommand::Release(workload)) => drop(self.held.remove(&workload)),
                    None => return,
                },
                () = due => self.rotate().await,
                Ok(()) = state.changed() => self.hurry(),
                Ok(()) = lists.changed() => {}
                () = settled => {}
                () = in_force => {}
            }
        }
    }

    fn bundle(&self) -> Arc<Resource> {
        bundle(&self.authority.bundle(), &self.authority.lists(), self.clock.unix_seconds())
    }

    /// When a list comes into force that is not yet.
    fn next_in_force(&self) -> Option<OffsetDateTime> {
        let now = self.clock.unix_seconds();
        let later =
            self.authority.lists().iter().map(|list| list.in_force_from).filter(|at| *at > now).min()?;
        OffsetDateTime::from_unix_timestamp(later).ok()
    }

    /// Brings renewals forward where leaves are to leave a root.
    fn hurry(&mut self) {
        let state = self.authority.state();
        let Some(rotation) = &state.rotation else { return };
        for held in self.held.values_mut() {
            let Some(made) = &held.made else { continue };
            let renewal = rotation.renewal_of(made.serial.as_str(), made.issued_at);
            if let Some(at) = renewal.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()) {
                held.rotate_at = held.rotate_at.min(at);
            }
        }
    }

    async fn hold(&mut self, holder: SecretHolder) {
        if let Some(held) = self.held.get_mut(&holder.workload)
            && held.holder == holder
            && let Some(made) = &held.made
        {
            held.lapses = false;
            let resource = Arc::clone(&made.resource);
            return self.publish(Some(&holder), resource).await;
        }
        self.replace(holder).await;
    }

    async fn rotate(&mut self) {
        let now = self.clock.now();
        self.held.retain(|_, held| !held.lapses || held.rotate_at > now);
        let due = self.held.values().filter(|held| held.rotate_at <= now);
        for holder in due.map(|held| held.holder.clone()).collect::<Vec<_>>() {
            self.replace(holder).await;
        }
    }

    /// A new key and certificate. When that fails the old ones serve on, and it is tried again.
    async fn replace(&mut self, holder: SecretHolder) {
        let workload = holder.workload.clone();
        match self.make(&holder) {
            Ok(made) => {
                let (resource, rotate_at) = (Arc::clone(&made.resource), made.rotate_at);
                let owner = holder.clone();
                self.held.insert(workload, HeldSecret { holder, made: Some(made), rotate_at, lapses: false });
                self.publish(Some(&owner), resource).await;
            }
            Err(error) => {
                tracing::warn!(
                    event = "identity_not_made",
                    %error, %workload,
                    "cannot make an identity; the old one serves on"
                );
                let old = self.held.remove(&workload).filter(|held| held.holder == holder);
                let made = old.and_then(|held| held.made);
                let rotate_at = self.clock.now() + RETRY;
                self.held.insert(workload, HeldSecret { holder, made, rotate_at, lapses: false });
            }
        }
    }

    fn make(&self, holder: &SecretHolder) -> Result<MadeIdentity, SecretError> {
        let key = new_key().map_err(CaError::from)?;
        let leaf = self.authority.issue_workload(&holder.service, &holder.workload, &key)?;
        self.ledger.enqueue(LedgerEntry::new(&leaf, &holder.instance, KeyOrigin::ControlPlane))?;
        let chain: String =
            leaf.chain.iter().map(|certificate| pem("CERTIFICATE", certificate).to_string()).collect();
        let key = pem("PRIVATE KEY", &Zeroizing::new(key.serialize_der()));
        let certificate = TlsCertificate {
            certificate_chain: Some(inline(chain.as_bytes())),
            private_key: Some(inline(key.as_bytes())),
            ..Default::default()
        };
        Ok(MadeIdentity {
            resource: resource(IDENTITY_SECRET, Type::TlsCertificate(certificate)),
            rotate_at: rotate_at(leaf.issued_at, leaf.not_after),
            issued_at: leaf.issued_at.unix_timestamp(),
            serial: leaf.serial,
        })
    }

    async fn publish(&self, holder: Option<&SecretHolder>, resource: Arc<Resource>) {
        let holder = holder.map(|holder| (holder.workload.clone(), holder.instance.clone()));
        drop(self.updates.send(SecretUpdate { holder, resource }).await);
    }
}

fn resource(name: &str, secret: Type) -> Arc<Resource> {
    let body = Secret { name: name.to_owned(), r#type: Some(secret) }.encode_to_vec();
    Resource::new(ResourceKind::Secret, name, body, Vec::new())
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() }
}

/// PEM (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let encoded = Zeroizing::new(BASE64.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(encoded.len() + encoded.len() / 64 + 64));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests;
