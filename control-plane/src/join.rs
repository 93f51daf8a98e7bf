//! How a workload enters the mesh, keeps its certificate, and says goodbye.
//!
//! ```text
//! Join   token + CSR ─▶ token checked ─▶ name free? ─▶ one transaction: token used, workload written, leaf in the ledger
//! Renew  mTLS + CSR ──▶ the record is still this instance's ─▶ ledger ─▶ still? ─▶ leaf
//! Leave  mTLS ────────▶ the record is marked: no new requests
//! Return mTLS ────────▶ the mark is taken away: the same instance is back
//! Report mTLS ────────▶ which roots it trusts stands in the record; which it should, and when to renew, in the answer
//! ```
//!
//! The token fixes namespace and service; the joiner names its workload and declares where it is. What a certificate
//! request says of names is not read.

mod declared;
mod refusal;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use data_encoding::HEXLOWER;
use futures::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use tonic::{Code, Request, Response, Status};
use weft_api::join::join_service_server::{JoinService, JoinServiceServer};
use weft_api::join::{
    JoinRequest, JoinResponse, LeaveRequest, LeaveResponse, RenewRequest, RenewResponse, ReportRequest,
    ReportResponse, ReturnRequest, ReturnResponse,
};
use weft_api::{LogThrottle, Name, ServiceId, WorkloadId, names};
use weft_store::{CommitError, Store, Txn};
use weft_xds::transport::PeerIdentity;

pub use declared::DeclarationError;
pub use refusal::JoinRefusal;

use crate::ca::{
    Authority, CheckedCsr, IssuedLeaf, KeyOrigin, LEAVES_OF_A_NAME, Ledger, LedgerEntry, MAX_CSR_BYTES,
    RootRotation, SigningLimits,
};
use crate::clock::Clock;
use crate::identity::instances::{Instances, Member};
use crate::identity::revocation;
use crate::identity::tokens::{PresentedToken, TokenError, Tokens};
use crate::presence::workloads::{Stored, WorkloadRecord, WorkloadStore};
use crate::source::SourceAddress;

/// The largest request: a certificate request and what a workload declares.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

// Another use of the same token, or another instance of the same name, came in between; more often is no accident.
const ATTEMPTS: usize = 8;
const MAX_DNS_NAME: usize = 253;
/// Seconds between two reports of a member.
const REPORTS: i64 = 60;
/// More roots than a mesh ever has at once.
const MOST_ROOTS: usize = 16;

/// Whether the instance that has a name is there and answers within 2 s.
pub type InstanceProbe = Arc<dyn Fn(WorkloadRecord) -> BoxFuture<'static, bool> + Send + Sync>;

/// Serves the join protocol.
#[derive(Clone)]
pub struct JoinServer {
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    limits: Arc<SigningLimits>,
    tokens: Tokens,
    workloads: WorkloadStore,
    ledger: Ledger,
    clock: Clock,
    instances: Instances,
    answers: InstanceProbe,
    refused: Arc<LogThrottle<(Option<IpAddr>, Code)>>,
}

impl JoinServer {
    /// A service over these parts.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        limits: Arc<SigningLimits>,
        instances: Instances,
        answers: InstanceProbe,
        clock: Clock,
    ) -> Self {
        let tokens = Tokens::new(Arc::clone(&store), clock.clone());
        let (workloads, ledger) = (instances.workloads().clone(), instances.ledger().clone());
        let refused = Arc::default();
        Self { store, authority, limits, tokens, workloads, ledger, clock, instances, answers, refused }
    }

    /// The tonic service, with the limit on what it reads.
    #[must_use]
    pub fn into_server(self) -> JoinServiceServer<Self> {
        JoinServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    async fn admit(
        &self,
        request: &JoinRequest,
        source: Option<IpAddr>,
    ) -> Result<JoinResponse, JoinRefusal> {
        self.limits.admit_token(source.map(SourceAddress::from), &request.token_id, &request.secret)?;
        if request.csr_der.len() > MAX_CSR_BYTES {
            return Err(crate::ca::CsrError::TooLarge(request.csr_der.len()).into());
        }
        let mut limited = false;
        for _ in 0..ATTEMPTS {
            let token =
                self.tokens.present(&request.token_id, &request.secret).await.inspect_err(|error| {
                    if matches!(error, TokenError::Invalid) {
                        self.limits.note_bad_token(source.map(SourceAddress::from));
                    }
                })?;
            if !limited {
                self.limits.admit_join(&token.record().id)?;
                limited = true;
            }
            token.check_life(&self.clock)?;
            let wanted = CheckedJoin::read(request, &token, &self.authority, source)?;
            match self.enter(&wanted, &token).await {
                Ok(leaf) => return Ok(self.joined(&wanted, leaf)),
                Err(JoinRefusal::Commit(CommitError::Conflict { .. } | CommitError::Uncertain { .. })) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Err(JoinRefusal::Contended)
    }

    /// Uses the token, writes the workload and the leaf: all or nothing.
    async fn enter(&self, wanted: &CheckedJoin, token: &PresentedToken) -> Result<IssuedLeaf, JoinRefusal> {
        self.instances.check_name(&wanted.id, &wanted.service)?;
        let previous = self.workloads.find(&wanted.id).await?;
        let mut record = wanted.record(token, &self.clock);
        let mut is_repeated = false;
        if let Some(Stored { record: previous, .. }) = &previous {
            if previous.service != wanted.service {
                return Err(JoinRefusal::Taken(wanted.id.clone(), previous.service.clone()));
            }
            record.drained.clone_from(&previous.drained);
            if previous.spki_sha256 == record.spki_sha256 {
                // Whoever has the key is the same instance. An answer that was lost on the way is asked for again with
                // the same token: that is the same use.
                record.instance.clone_from(&previous.instance);
                record.awaited &= previous.awaited || previous.left_at.is_some();
                is_repeated = previous.token == record.token;
            } else if previous.left_at.is_none() && (self.answers)(previous.clone()).await {
                return Err(JoinRefusal::Alive(wanted.id.clone()));
            }
        }
        self.check_room(&wanted.id, &record.instance).await?;
        let txn = if is_repeated { Txn::new() } else { token.spend(Txn::new())? };
        let leaf = self.authority.issue_workload(&wanted.service, &wanted.id, wanted.csr.key())?;
        let entry = LedgerEntry::new(&leaf, &record.instance, record.key_origin);
        let txn = entry.put(record.put(txn, previous.map(|stored| stored.revision)));
        self.store.commit(txn).await?;
        self.ledger.issued().note(entry);
        tracing::info!(
            event = "workload_joined",
            workload = %wanted.id, service = %wanted.service, token = %record.token,
            "joined"
        );
        Ok(leaf)
    }

    /// Whether one more leaf of an instance keeps within what revoking its name can list.
    async fn check_room(&self, id: &WorkloadId, instance: &str) -> Result<(), JoinRefusal> {
        let mut live = self.ledger.issued().live(id, self.clock.unix_seconds());
        if let Some(leaves) = live.get(instance) {
            return self.limits.admit_leaf(*leaves).map_err(JoinRefusal::ManyLeaves);
        }
        if live.values().sum::<usize>() >= LEAVES_OF_A_NAME {
            // Those that were revoked stand on a list already, and take no more room.
            let revoked = revocation::revoked_instances(self.store.as_ref()).await?;
            live.retain(|instance, _| !revoked.contains(instance));
        }
        let live = live.values().sum();
        self.limits.admit_instance(live).map_err(|full| JoinRefusal::ManyInstances(id.clone(), full))
    }

    fn joined(&self, wanted: &CheckedJoin, leaf: IssuedLeaf) -> JoinResponse {
        JoinResponse {
            certificate_chain_der: der(leaf.chain),
            bundle_der: der(self.authority.bundle()),
            trust_domain: self.authority.trust_domain().to_string(),
            namespace: wanted.service.namespace.to_string(),
            service: wanted.service.name.to_string(),
            workload: wanted.id.name.to_string(),
            client: wanted.declared.client,
        }
    }

    async fn renew_for(&self, member: &Member, csr: &[u8]) -> Result<RenewResponse, JoinRefusal> {
        self.limits.admit_renewal(&member.id)?;
        let csr = CheckedCsr::try_from_der(csr)?;
        self.instances.check_current(member).await?;
        self.check_room(&member.id, &member.instance).await?;
        let leaf = self.authority.issue_workload(&member.service, &member.id, csr.key())?;
        self.ledger.append(LedgerEntry::new(&leaf, &member.instance, KeyOrigin::Workload)).await?;
        // Whoever revokes the workload lists its leaves after its record is gone. A leaf that is written down before it is
        // asked for once more is on that list, or is not handed out.
        self.instances.check_current(member).await?;
        tracing::debug!(workload = %member.id, serial = %leaf.serial, "renewed");
        Ok(RenewResponse { certificate_chain_der: der(leaf.chain), bundle_der: der(self.authority.bundle()) })
    }
}

impl JoinServer {
    /// Notes what a member trusts, where that is new, and says what it lacks.
    async fn take_report(
        &self,
        member: &Member,
        report: &ReportRequest,
    ) -> Result<ReportResponse, JoinRefusal> {
        let told = &report.trusted_root_spki_sha256;
        if told.len() > MOST_ROOTS || told.iter().any(|hash| hash.len() != 32) {
            return Err(JoinRefusal::Report);
        }
        let told: BTreeSet<String> = told.iter().map(|hash| HEXLOWER.encode(hash)).collect();
        // What was last seen may lag behind what was just written; writing the same once more changes nothing.
        let known = self.instances.record(&member.id).filter(|record| record.instance == *member.instance);
        if known.is_none_or(|record| record.trusts.as_ref() != Some(&told)) {
            self.limits.admit_mark(&member.id)?;
            self.workloads.note_trust(&member.id, &member.instance, &told).await?;
        }
        let state = self.authority.state();
        let leaf = self.ledger.issued().find(&member.serial);
        let renew_at = leaf.zip(state.rotation.as_ref()).and_then(|(leaf, rotation)| {
            let is_left = !state.issuers_below(&state.signing.root.serial).contains(&&leaf.issuer);
            rotation.renewal_of(leaf.serial.as_str(), leaf.issued_at).filter(|_| is_left)
        });
        let left = |at: i64| u32::try_from((at - self.clock.unix_seconds()).max(0)).unwrap_or(u32::MAX);
        Ok(ReportResponse {
            bundle_der: if told == state.fingerprints() { Vec::new() } else { der(self.authority.bundle()) },
            renew_within_seconds: renew_at.map(left),
            report_after_seconds: self.report_again(state.rotation.as_ref()),
        })
    }

    /// Once a minute; more often where leaves live for minutes, or a rotation is to be over soon.
    fn report_again(&self, rotation: Option<&RootRotation>) -> u32 {
        let life = self.authority.leaf_life().whole_seconds() / 20;
        let spread = rotation.map_or(i64::MAX, |rotation| i64::from(rotation.spread) / 20);
        u32::try_from(REPORTS.min(life).min(spread).max(1)).unwrap_or(1)
    }
}

#[tonic::async_trait]
impl JoinService for JoinServer {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let source = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|source| source.0.ip());
        let answer = self.admit(request.get_ref(), source).await;
        answer.map(Response::new).map_err(|refusal| {
            // A stranger asks as often as it likes; the log has one line a minute of each source and kind.
            if let Some(more) = self.refused.speaks((source, refusal.code())) {
                let token = request.get_ref().token_id.escape_debug();
                tracing::info!(event = "join_refused", %token, ?source, %refusal, more, "refused a join");
            }
            refusal.into()
        })
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let member = member(&request)?;
        let answer = self.renew_for(&member, &request.get_ref().csr_der).await;
        answer.map(Response::new).map_err(|refusal| {
            tracing::info!(event = "renewal_refused", workload = %member.id, %refusal, "refused a renewal");
            refusal.into()
        })
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        let member = member(&request)?;
        self.limits.admit_mark(&member.id).map_err(JoinRefusal::from)?;
        self.workloads.drain(&member.id, Some(&member.instance)).await.map_err(JoinRefusal::from)?;
        tracing::info!(event = "workload_left", workload = %member.id, "said goodbye");
        Ok(Response::new(LeaveResponse {}))
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Result<Response<ReturnResponse>, Status> {
        let member = member(&request)?;
        // That it is taken is what let the call through.
        if request.get_ref().only_ask {
            return Ok(Response::new(ReturnResponse {}));
        }
        self.limits.admit_mark(&member.id).map_err(JoinRefusal::from)?;
        if self.workloads.take_back(&member.id, &member.instance).await.map_err(JoinRefusal::from)? {
            tracing::info!(event = "workload_returned", workload = %member.id, "is back");
        }
        Ok(Response::new(ReturnResponse {}))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let member = member(&request)?;
        Ok(Response::new(self.take_report(&member, request.get_ref()).await?))
    }
}

impl fmt::Debug for JoinServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// What a join asks for, checked against its token.
struct CheckedJoin {
    id: WorkloadId,
    service: ServiceId,
    declared: crate::presence::workloads::Declared,
    source: Option<IpAddr>,
    csr: CheckedCsr,
}

impl CheckedJoin {
    fn read(
        request: &JoinRequest,
        token: &PresentedToken,
        authority: &Authority,
        source: Option<IpAddr>,
    ) -> Result<Self, JoinRefusal> {
        let token = token.record();
        let workload = request.workload.as_ref().ok_or(JoinRefusal::NoWorkload)?;
        let name = Name::try_new(&workload.name)?;
        let dns = names::workload_dns_san(&name, &token.service, authority.trust_domain());
        if dns.len() > MAX_DNS_NAME {
            return Err(JoinRefusal::NameTooLong(dns));
        }
        Ok(Self {
            id: WorkloadId::new(token.service.namespace.clone(), name),
            service: token.service.clone(),
            declared: declared::read(workload, token, source)?,
            source,
            csr: CheckedCsr::try_from_der(&request.csr_der)?,
        })
    }

    fn record(&self, token: &PresentedToken, clock: &Clock) -> WorkloadRecord {
        WorkloadRecord {
            id: self.id.clone(),
            service: self.service.clone(),
            declared: self.declared.clone(),
            instance: format!("i-{:016x}", rand::random::<u64>()),
            token: token.record().id.clone(),
            spki_sha256: self.csr.spki_sha256(),
            key_origin: KeyOrigin::Workload,
            joined_at: clock.unix_seconds(),
            joined_from: self.source.map(|source| source.to_canonical()),
            left_at: None,
            awaited: self.declared.is_served_by_sidecar(),
            drained: None,
            trusts: None,
        }
    }
}

/// Who calls, by a certificate that was found to count.
fn member<T>(request: &Request<T>) -> Result<Member, JoinRefusal> {
    let extensions = request.extensions();
    match (extensions.get::<Member>(), extensions.get::<PeerIdentity>()) {
        (Some(member), _) => Ok(member.clone()),
        (None, Some(_)) => Err(JoinRefusal::NotAWorkload),
        (None, None) => Err(JoinRefusal::NoCertificate),
    }
}

fn der(chain: Vec<CertificateDer<'static>>) -> Vec<Vec<u8>> {
    chain.into_iter().map(|certificate| certificate.to_vec()).collect()
}

#[cfg(test)]
mod over_tls_tests;
#[cfg(test)]
mod tests;
