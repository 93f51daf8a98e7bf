//! Joining, renewing and leaving: the calls of the join protocol.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{
    JoinRequest, JoinResponse, LeaveRequest, RenewRequest, ReportRequest, ReturnRequest, Workload,
};
use weft_api::names::InvalidName;
use weft_api::{Backoff, JoinToken, ServiceId, SpiffeId, TrustDomain, WorkloadId};

use super::channel::{Credentials, channel};
use super::key::{KeyError, new_key, signing_request};
use super::replicas::Replicas;
use super::verify::spki_sha256;
use super::{Identity, IdentityError};

/// One call takes at most this long.
const CALL_LIMIT: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The control plane knows the workload, and does not take it any more, or never will.
    #[error("the control plane refuses: {0}")]
    Denied(String),
    /// The control plane answered no; asking again changes nothing.
    #[error("the control plane refuses: {0}")]
    Refused(String),
    /// It cannot be reached, or is busy; ask again later.
    #[error("the control plane cannot be reached: {0}")]
    Unavailable(String),
    /// Its answer cannot be used.
    #[error("the control plane's answer cannot be used: {0}")]
    Identity(#[from] IdentityError),
    /// Its answer holds a wrong name.
    #[error("the control plane's answer cannot be used: {0}")]
    Name(#[from] InvalidName),
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl IssueError {
    /// Whether asking again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<Status> for IssueError {
    fn from(status: Status) -> Self {
        let source = |status: &Status| {
            let mut text = status.message().to_owned();
            let mut cause = std::error::Error::source(status);
            while let Some(error) = cause {
                let part = error.to_string();
                if !text.contains(&part) {
                    text = format!("{text}: {part}");
                }
                cause = error.source();
            }
            text
        };
        match status.code() {
            Code::PermissionDenied => Self::Denied(source(&status)),
            Code::InvalidArgument
            | Code::Unauthenticated
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Refused(source(&status)),
            _ => Self::Unavailable(source(&status)),
        }
    }
}

/// What a join gave.
#[derive(Debug)]
pub struct JoinOutcome {
    pub trust_domain: TrustDomain,
    /// The service that the token named.
    pub service: ServiceId,
    pub workload: WorkloadId,
    pub identity: Identity,
}

/// Joins with a token: makes a key, has it signed, and learns who this workload is.
///
/// # Errors
/// When the control plane cannot be reached or refuses, or its answer is wrong.
pub async fn join(
    token: &JoinToken,
    replicas: &Replicas,
    workload: Workload,
) -> Result<JoinOutcome, IssueError> {
    let channel = channel(replicas, Credentials::Pinned(token.root_spki_sha256));
    let key = new_key()?;
    let is_client = workload.client;
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: signing_request(&key)?,
        workload: Some(workload),
    };
    let call = async { JoinServiceClient::new(channel).join(request).await };
    let answer = limited(replicas, call).await?.into_inner();
    if is_client && !answer.client {
        return Err(IssueError::Refused(
            "its version knows no --client and would tell peers of this workload; use a newer one, or leave the flag out"
                .to_owned(),
        ));
    }
    joined(answer, key.serialize_der())
}

fn joined(answer: JoinResponse, key: Vec<u8>) -> Result<JoinOutcome, IssueError> {
    let trust_domain = TrustDomain::try_new(&answer.trust_domain)?;
    let service = ServiceId::try_new(&answer.namespace, &answer.service)?;
    let workload = WorkloadId::try_new(&answer.namespace, &answer.workload)?;
    let chain = certificates(answer.certificate_chain_der);
    let identity = Identity::try_new(chain, key, certificates(answer.bundle_der))?;
    let expected = SpiffeId::service(&trust_domain, &service);
    if *identity.spiffe() != expected {
        return Err(IdentityError::Names(format!("{} and not {expected}", identity.spiffe())).into());
    }
    Ok(JoinOutcome { trust_domain, service, workload, identity })
}

fn certificates(der: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    der.into_iter().map(CertificateDer::from).collect()
}

/// A replica that cannot answer now is left for another at the next call.
async fn limited<T>(
    replicas: &Replicas,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, IssueError> {
    let answer = match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(IssueError::from),
        Err(_) => Err(IssueError::Unavailable(format!("no answer within {} s", CALL_LIMIT.as_secs()))),
    };
    if answer.as_ref().is_err_and(IssueError::is_transient) {
        replicas.skip();
    }
    answer
}

/// What the control plane says to a report.
#[derive(Debug)]
pub struct ReportAnswer {
    /// The roots to trust from now on, where they are others than before.
    pub bundle: Option<Vec<CertificateDer<'static>>>,
    /// Within which time the certificate is to be renewed, where that does not wait for its own time.
    pub renew_within: Option<Duration>,
    /// When to report again.
    pub again: Duration,
}

/// Who signs a new key for an identity that exists. A trait so that rotation is tested without a control plane.
pub trait Issuer {
    /// Tells which roots an identity trusts.
    fn report(&self, identity: &Identity) -> impl Future<Output = Result<ReportAnswer, IssueError>>;

    /// Has a signing request signed; answers chain and bundle.
    fn issue(
        &self,
        csr: Vec<u8>,
    ) -> impl Future<Output = Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), IssueError>>;
}

/// The control plane, spoken to with the identity of the moment.
#[derive(Debug, Clone)]
pub struct ControlPlaneClient {
    replicas: Replicas,
    credentials: Credentials,
}

impl ControlPlaneClient {
    /// The control plane, at any of its replicas.
    #[must_use]
    pub fn new(replicas: Replicas, credentials: Credentials) -> Self {
        Self { replicas, credentials }
    }

    // A channel for each call: calls are hours apart, and a new connection uses the newest identity.
    fn client(&self) -> JoinServiceClient<Channel> {
        JoinServiceClient::new(channel(&self.replicas, self.credentials.clone()))
    }

    /// Says goodbye: the workload is drained at once.
    ///
    /// # Errors
    /// When the control plane cannot be reached or does not know the workload.
    pub async fn leave(&self) -> Result<(), IssueError> {
        let mut client = self.client();
        limited(&self.replicas, async { client.leave(LeaveRequest {}).await }).await?;
        Ok(())
    }

    /// Takes an earlier goodbye back: until then a workload that starts again with a kept identity gets no requests.
    /// Keeps trying while the control plane is away, until `stop`: a goodbye that is said then is not to be taken back.
    pub async fn come_back(self, stop: CancellationToken) {
        let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match stop.run_until_cancelled(self.say(ReturnRequest::default())).await {
                None | Some(Ok(())) => return,
                Some(Err(error)) if error.is_transient() => {
                    tracing::debug!(%error, "the control plane does not know yet that this workload is back");
                }
                Some(Err(error)) => {
                    tracing::error!(
                        event = "return_refused",
                        %error,
                        "the control plane does not take this workload back: stop it, remove its --identity-dir, and start \
                         it with a new token"
                    );
                    return;
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(retry.next_wait())).await.is_none() {
                return;
            }
        }
    }

    /// Asks whether this workload is still taken, and changes nothing.
    ///
    /// # Errors
    /// When it is refused, or the control plane cannot be reached.
    pub async fn is_taken(&self) -> Result<(), IssueError> {
        self.say(ReturnRequest { only_ask: true }).await
    }

    async fn say(&self, request: ReturnRequest) -> Result<(), IssueError> {
        let mut client = self.client();
        limited(&self.replicas, async { client.r#return(request).await }).await?;
        Ok(())
    }
}

impl Issuer for ControlPlaneClient {
    async fn report(&self, identity: &Identity) -> Result<ReportAnswer, IssueError> {
        let trusted = identity.bundle().iter().filter_map(spki_sha256);
        let request = ReportRequest { trusted_root_spki_sha256: trusted.map(|hash| hash.to_vec()).collect() };
        let mut client = self.client();
        let answer = limited(&self.replicas, async { client.report(request).await }).await?.into_inner();
        Ok(ReportAnswer {
            bundle: Some(certificates(answer.bundle_der)).filter(|roots| !roots.is_empty()),
            renew_within: answer.renew_within_seconds.map(|left| Duration::from_secs(left.into())),
            again: Duration::from_secs(answer.report_after_seconds.max(1).into()),
        })
    }

    async fn issue(
        &self,
        csr: Vec<u8>,
    ) -> Result<(Vec<CertificateDer<'static>>, Vec<CertificateDer<'static>>), IssueError> {
        let mut client = self.client();
        let answer = limited(&self.replicas, async { client.renew(RenewRequest { csr_der: csr }).await })
            .await?
            .into_inner();
        Ok((certificates(answer.certificate_chain_der), certificates(answer.bundle_der)))
    }
}

/// A new key and certificate for the same identity.
///
/// # Errors
/// When the issuer refuses or cannot be reached, or the answer is for somebody else.
pub async fn renew(issuer: &impl Issuer, current: &Identity) -> Result<Identity, IssueError> {
    let key = new_key()?;
    let (chain, bundle) = issuer.issue(signing_request(&key)?).await?;
    let renewed = Identity::try_new(chain, key.serialize_der(), bundle)?;
    if renewed.spiffe() != current.spiffe() {
        let names = format!("{} and not {}", renewed.spiffe(), current.spiffe());
        return Err(IdentityError::Names(names).into());
    }
    Ok(renewed)
}
