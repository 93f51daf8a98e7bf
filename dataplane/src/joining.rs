//! How a workload joins the mesh: with the identity of an earlier join, or with a token.
//!
//! ```text
//! prepare   flags, token, directory: everything that can be wrong on this machine      tells nobody anything
//! verified  an identity of an earlier join beside a token: is it still taken?          asks, and changes nothing
//!    │      (the caller binds its addresses here)
//! join      calls the control plane, again and again while the control plane is away   uses the token up
//! ```
//!
//! An identity of an earlier join comes first; a token beside it is for the case that the control plane does not take it any
//! more, because the workload was revoked or replaced.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::join::ProxyType;
use weft_api::supervisor::{ServiceState, Supervisor};
use weft_api::{Backoff, ControlPlanes, JoinToken};

use crate::args::{UsageError, WorkloadArgs};
use crate::declare::{Declaration, NoRoute};
use crate::identity::channel::Credentials;
use crate::identity::files::FilesError;
use crate::identity::join::{ControlPlaneClient, IssueError, join};
use crate::identity::replicas::Replicas;
use crate::identity::verify::spki_sha256;
use crate::identity::{Identity, IdentityDir, Membership};
use crate::reserve::OwnListeners;

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How long a start with a kept identity waits for a control plane to say that it does not take it any more.
const QUESTION: Duration = Duration::from_secs(2);

/// A workload that is in the mesh.
#[derive(Debug)]
pub struct JoinedIdentity {
    /// What the token decided.
    pub membership: Membership,
    /// Its certificate and key.
    pub identity: Identity,
    /// Where they are kept.
    pub directory: IdentityDir,
    pub replicas: Replicas,
}

/// Why a workload cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The command line is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The identity's files cannot be used.
    #[error("error: --identity-dir {0}")]
    Files(#[from] FilesError),
    /// The control plane says no.
    #[error("joining failed: {0}")]
    Join(#[from] IssueError),
    /// There is no identity yet.
    #[error("there is no identity in {0} yet")]
    NotYet(String),
    /// There is an identity, and it is too old to be renewed.
    #[error("the identity in {0} has expired; join again with a new token (--join-file FILE or WEFT_JOIN)")]
    Expired(String),
}

/// A workload that can join, as far as this machine is concerned.
#[derive(Debug)]
pub struct PreparedJoin {
    directory: IdentityDir,
    method: JoinMethod,
}

#[derive(Debug)]
enum JoinMethod {
    /// By the identity of an earlier join, or by a token if that is refused.
    Kept(Box<(Membership, Identity)>, Option<Box<TokenJoin>>),
    Join(Box<TokenJoin>),
}

#[derive(Debug)]
struct TokenJoin {
    token: JoinToken,
    control_planes: ControlPlanes,
    declaration: Declaration,
}

/// Checks everything that a start needs on this machine.
///
/// # Errors
/// When a flag is wrong, the identity's directory cannot be used, or there is neither a usable identity nor a token.
pub fn prepare(args: &WorkloadArgs, proxy: ProxyType) -> Result<PreparedJoin, JoinError> {
    let directory = IdentityDir::open(&args.identity_dir)?;
    // A token's file is often removed once it was used.
    let used_up = args.token.is_gone() && directory.is_joined();
    let token = if used_up { None } else { args.token.read()? };
    if let Some((membership, identity)) = known(&directory, token.as_ref())? {
        is_meant(&membership, args, token.as_ref())?;
        let membership = with_address(membership, args.control_plane.as_ref());
        let again = token.map(|token| join_by(args, proxy, token)).transpose()?;
        return Ok(PreparedJoin {
            directory,
            method: JoinMethod::Kept(Box::new((membership, identity)), again),
        });
    }
    let token = token.ok_or_else(|| UsageError::Flag {
        flag: "--join-file",
        reason: format!(
            "there is no identity in {}; give a token by --join-file FILE or WEFT_JOIN (weft token create --service \
             NAMESPACE/SERVICE), or an Envoy bootstrap with -c",
            args.identity_dir.display()
        ),
    })?;
    Ok(PreparedJoin { directory, method: JoinMethod::Join(join_by(args, proxy, token)?) })
}

fn join_by(args: &WorkloadArgs, proxy: ProxyType, token: JoinToken) -> Result<Box<TokenJoin>, UsageError> {
    let control_planes = args.control_plane.clone().unwrap_or_else(|| token.control_planes.clone());
    let declaration = Declaration::try_new(args, proxy, token.service.as_ref())?;
    Ok(Box::new(TokenJoin { token, control_planes, declaration }))
}

/// Whether a directory holds an identity that holds: for those who wait for a join.
///
/// # Errors
/// When there is none yet, it cannot be read, or it has expired.
pub fn check_joined(directory: &Path) -> Result<(), JoinError> {
    let shown = directory.display().to_string();
    // Opening makes one that is missing, and whoever only looks must not.
    if !directory.is_dir() {
        return Err(JoinError::NotYet(shown));
    }
    match IdentityDir::open(directory)?.load()? {
        None => Err(JoinError::NotYet(shown)),
        Some((_, identity)) if identity.not_after() <= SystemTime::now() => Err(JoinError::Expired(shown)),
        Some(_) => Ok(()),
    }
}

impl PreparedJoin {
    /// Asks the control plane whether it still takes the identity of an earlier join, where there is a token for the case
    /// that it does not. Without an answer the identity stands.
    pub async fn verified(self) -> Self {
        let JoinMethod::Kept(kept, Some(join)) = self.method else { return self };
        let method = match refusal(&kept.0, &kept.1).await {
            None => JoinMethod::Kept(kept, Some(join)),
            Some(refusal) => {
                tracing::warn!(
                    event = "identity_rejected",
                    %refusal,
                    "the identity found is not taken any more; joining again"
                );
                JoinMethod::Join(join)
            }
        };
        Self { directory: self.directory, method }
    }

    /// Where the sidecar will listen; `None` where an earlier version did not keep it.
    pub async fn listeners(&self) -> Option<OwnListeners> {
        match &self.method {
            JoinMethod::Kept(kept, _) => kept.0.listeners.clone(),
            JoinMethod::Join(join) => {
                let address = join.declaration.address(&join.control_planes).await;
                // Without a route its own address is not known yet; the join waits for one.
                let address = address.unwrap_or_else(|_| std::net::Ipv4Addr::LOCALHOST.into());
                Some(join.declaration.listeners(address))
            }
        }
    }

    /// Joins; keeps trying while the control plane is away, and tells the supervisor why. `None` when `stop` was cancelled
    /// meanwhile.
    ///
    /// # Errors
    /// When the join is refused.
    pub async fn join(
        self,
        stop: &CancellationToken,
        supervisor: &Supervisor,
    ) -> Result<Option<JoinedIdentity>, JoinError> {
        let directory = self.directory;
        match self.method {
            JoinMethod::Kept(kept, _) => {
                let (membership, identity) = *kept;
                let replicas = Replicas::new(&membership.control_plane);
                Ok(Some(JoinedIdentity { membership, identity, directory, replicas }))
            }
            JoinMethod::Join(join) => {
                let replicas = Replicas::new(&join.control_planes);
                let joined = join.until_joined(&replicas, stop, supervisor).await?;
                let Some((membership, identity)) = joined else { return Ok(None) };
                directory.forget_roots()?;
                directory.store(&identity)?;
                directory.note_roots([join.token.root_spki_sha256])?;
                directory.store_membership(&membership)?;
                tracing::info!(
                    event = "identity_joined",
                    workload = %membership.workload, identity = %identity.spiffe(),
                    "joined"
                );
                Ok(Some(JoinedIdentity { membership, identity, directory, replicas }))
            }
        }
    }
}

/// Why the control plane does not take an identity any more. None when it does, or cannot be asked now.
async fn refusal(membership: &Membership, identity: &Identity) -> Option<IssueError> {
    let (_sender, identity) = watch::channel(Arc::new(identity.clone()));
    let credentials = Credentials::Joined { identity, trust_domain: membership.trust_domain.clone() };
    let control_plane = ControlPlaneClient::new(Replicas::new(&membership.control_plane), credentials);
    let asked = tokio::time::timeout(QUESTION, control_plane.is_taken()).await;
    // Removed or replaced. Any other answer may be a store that was restored, and what is kept serves on.
    asked.ok()?.err().filter(|error| matches!(error, IssueError::Denied(_)))
}

impl TokenJoin {
    async fn until_joined(
        &self,
        replicas: &Replicas,
        stop: &CancellationToken,
        supervisor: &Supervisor,
    ) -> Result<Option<(Membership, Identity)>, JoinError> {
        let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        supervisor.tell(ServiceState::Waiting(&format!("joins at {}", self.control_planes)));
        loop {
            let error = match Box::pin(stop.run_until_cancelled(self.once(replicas))).await {
                None => return Ok(None),
                Some(Ok(joined)) => return Ok(Some(joined)),
                Some(Err(NotJoined::Refused(error))) => return Err(error.into()),
                Some(Err(NotJoined::Later(reason))) => reason,
            };
            let pause = retry.next_wait();
            tracing::warn!(event = "join_waits", %error, ?pause, "cannot join yet");
            supervisor.tell(ServiceState::Waiting(&format!("cannot join yet: {error}")));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(None);
            }
        }
    }

    async fn once(&self, replicas: &Replicas) -> Result<(Membership, Identity), NotJoined> {
        let address = self.declaration.address(&self.control_planes).await?;
        let joined = join(&self.token, replicas, self.declaration.workload(address)).await?;
        let membership = Membership {
            control_plane: self.control_planes.clone(),
            trust_domain: joined.trust_domain,
            service: joined.service,
            workload: joined.workload,
            listeners: Some(self.declaration.listeners(address)),
        };
        Ok((membership, joined.identity))
    }
}

enum NotJoined {
    /// Asking again may help.
    Later(String),
    Refused(IssueError),
}

impl From<NoRoute> for NotJoined {
    fn from(error: NoRoute) -> Self {
        Self::Later(error.to_string())
    }
}

impl From<IssueError> for NotJoined {
    fn from(error: IssueError) -> Self {
        if error.is_transient() { Self::Later(error.to_string()) } else { Self::Refused(error) }
    }
}

/// The identity of an earlier join, if it still serves. One that has expired, or belongs to another mesh than the
/// token's, is replaced where there is a token.
fn known(
    directory: &IdentityDir,
    token: Option<&JoinToken>,
) -> Result<Option<(Membership, Identity)>, JoinError> {
    let loaded = match directory.load() {
        Ok(loaded) => loaded,
        Err(error) if token.is_some() => {
            tracing::warn!(event = "identity_rejected", %error, "joining again");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let Some((membership, identity)) = loaded else { return Ok(None) };
    let same_mesh = match token {
        None => true,
        Some(token) => {
            let is_pinned = |root| spki_sha256(root) == Some(token.root_spki_sha256);
            identity.bundle().iter().any(is_pinned) || directory.is_known_by(&token.root_spki_sha256)?
        }
    };
    let expired = identity.not_after() <= SystemTime::now();
    match (same_mesh && !expired, token) {
        (true, _) => Ok(Some((membership, identity))),
        (false, Some(_)) => {
            tracing::info!(
                event = "identity_rejected",
                expired,
                same_mesh,
                "the identity found is not used; joining again"
            );
            Ok(None)
        }
        (false, None) => Err(JoinError::Expired(directory.path("identity.pem").display().to_string())),
    }
}

/// An identity that was kept is used whatever the other flags say; one of somebody else is a mistake, most often two
/// workloads with the same directory.
fn is_meant(
    membership: &Membership,
    args: &WorkloadArgs,
    token: Option<&JoinToken>,
) -> Result<(), UsageError> {
    let kept =
        format!("holds the identity of workload {} of service {}", membership.workload, membership.service);
    let other = match (&args.name, token.and_then(|token| token.service.as_ref())) {
        (_, Some(service)) if *service != membership.service => format!("the token is for {service}"),
        (Some(name), _) if *name != *membership.workload.name.as_str() => format!("--name is {name}"),
        _ => return Ok(()),
    };
    let directory = args.identity_dir.display();
    let reason = format!("{directory} {kept}, and {other}: give another directory, or remove this one");
    Err(UsageError::Flag { flag: "--identity-dir", reason })
}

fn with_address(mut membership: Membership, given: Option<&ControlPlanes>) -> Membership {
    if let Some(given) = given {
        membership.control_plane.clone_from(given);
    }
    membership
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use crate::identity::testing::Authority;

    fn args(directory: &Path, more: &[&str]) -> WorkloadArgs {
        let directory = directory.to_str().unwrap();
        let given = ["weft-proxy", "run", "--identity-dir", directory, "--name", "web-1"];
        match Args::try_read(given.iter().chain(more).copied()).unwrap().command {
            Command::Run(run) => run.workload,
            Command::Join(_) | Command::Health(_) => unreachable!("run was given"),
        }
    }

    fn joined(directory: &Path) -> Identity {
        let files = IdentityDir::open(directory).unwrap();
        let identity =
            Authority::new().identity("spiffe://mesh.local/ns/shop/svc/web", Duration::from_secs(600));
        files.store(&identity).unwrap();
        files
            .store_membership(&Membership {
                control_plane: "127.0.0.1:7401".parse().unwrap(),
                trust_domain: "mesh.local".parse().unwrap(),
                service: "shop/web".parse().unwrap(),
                workload: "shop/web-1".parse().unwrap(),
                listeners: None,
            })
            .unwrap();
        identity
    }

    #[test]
    fn a_directory_is_looked_into_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("none");
        assert!(matches!(check_joined(&missing), Err(JoinError::NotYet(_))));
        assert!(!missing.exists());
        joined(directory.path());
        check_joined(directory.path()).unwrap();
    }

    #[test]
    fn without_identity_and_token_the_missing_flag_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = prepare(&args(directory.path(), &[]), ProxyType::Weft).unwrap_err();
        assert!(matches!(error, JoinError::Usage(_)));
        assert!(error.to_string().contains("--join-file"), "{error}");
    }

    #[tokio::test]
    async fn an_identity_of_an_earlier_join_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let identity = joined(directory.path());
        let given = args(directory.path(), &["--control-plane", "127.0.0.9:1,127.0.0.8:1"]);
        let prepared = prepare(&given, ProxyType::Weft).unwrap();
        let (stop, nobody) = (CancellationToken::new(), Supervisor::default());
        let joined = Box::pin(prepared.join(&stop, &nobody)).await.unwrap().unwrap();
        assert_eq!(joined.membership.control_plane.to_string(), "127.0.0.9:1,127.0.0.8:1");
        assert_eq!(joined.identity.serial(), identity.serial());
    }

    #[test]
    fn identity_of_somebody_else_is_not_taken_for_ones_own() {
        let directory = tempfile::tempdir().unwrap();
        joined(directory.path());
        let mut other = args(directory.path(), &[]);
        other.name = Some("web-2".to_owned());
        let refused = prepare(&other, ProxyType::Weft).unwrap_err().to_string();
        assert!(["--identity-dir", "web-1", "web-2"].iter().all(|part| refused.contains(part)), "{refused}");
    }

    #[test]
    fn file_of_a_token_may_be_gone_once_it_was_used() {
        let directory = tempfile::tempdir().unwrap();
        let gone = args(directory.path(), &["--join-file", "/nowhere/token"]);
        let error = prepare(&gone, ProxyType::Weft).unwrap_err().to_string();
        assert!(error.contains("/nowhere/token"), "{error}");
        joined(directory.path());
        prepare(&gone, ProxyType::Weft).unwrap();
    }

    #[test]
    fn directory_that_cannot_keep_an_identity_is_found_before_the_join() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = prepare(&args(&file, &[]), ProxyType::Weft).unwrap_err().to_string();
        assert!(error.contains("--identity-dir") && error.contains("file"), "{error}");
    }
}
