//! How a workload enters the mesh: with the identity of an earlier join, or with a token.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use weft_api::JoinToken;
use weft_api::join::{ProxyType, Upstream, Workload};

use crate::args::{UsageError, WorkloadArgs};
use crate::identity::files::FilesError;
use crate::identity::join::{IssueError, join};
use crate::identity::verify::spki_sha256;
use crate::identity::{Identity, IdentityDir, Membership};

const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A workload that is in the mesh.
#[derive(Debug)]
pub struct Entered {
    /// What the token decided.
    pub membership: Membership,
    /// Its certificate and key.
    pub identity: Identity,
    /// Where they are kept.
    pub directory: IdentityDir,
}

/// Why a workload cannot enter.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The command line is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The identity's files cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The control plane says no.
    #[error("joining failed: {0}")]
    Join(#[from] IssueError),
    /// There is an identity, and it is too old to be renewed.
    #[error("the identity in {0} has expired; join again with --join TOKEN")]
    Expired(String),
}

/// Enters; keeps trying while the control plane is away. `None` when `stop` was cancelled meanwhile.
///
/// # Errors
/// When there is neither a usable identity nor a token, or the join is refused.
pub async fn enter(
    args: &WorkloadArgs,
    proxy: ProxyType,
    stop: &CancellationToken,
) -> Result<Option<Entered>, EnterError> {
    let token = match &args.join {
        Some(text) => Some(text.trim().parse::<JoinToken>().map_err(|error| flag("--join", &error))?),
        None => None,
    };
    let directory = IdentityDir::open(&args.identity_dir)?;
    if let Some((membership, identity)) = known(&directory, token.as_ref())? {
        let membership = with_address(membership, args.control_plane.as_deref());
        return Ok(Some(Entered { membership, identity, directory }));
    }
    let token = token.ok_or_else(|| UsageError::Flag {
        flag: "--join",
        reason: format!(
            "there is no identity in {}; give a token (weft token create --service NAMESPACE/SERVICE), or an \
             Envoy bootstrap with -c",
            args.identity_dir.display()
        ),
    })?;
    let control_plane = args.control_plane.clone().unwrap_or_else(|| token.control_plane.clone());
    let workload = describe(args, proxy, &control_plane)?;
    let mut wait = FIRST_RETRY;
    loop {
        let joined = join(&token, &control_plane, workload.clone());
        match stop.run_until_cancelled(joined).await {
            None => return Ok(None),
            Some(Ok((membership, identity))) => {
                directory.store(&identity)?;
                directory.store_membership(&membership)?;
                tracing::info!(workload = %membership.workload, identity = %identity.spiffe(), "joined");
                return Ok(Some(Entered { membership, identity, directory }));
            }
            Some(Err(error)) if error.is_transient() => {
                wait = (wait * 2).min(LONGEST_RETRY);
                let pause = rand::rng().random_range(FIRST_RETRY..=wait);
                tracing::warn!(%error, ?pause, "cannot join yet");
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return Ok(None);
                }
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

fn flag(flag: &'static str, error: &dyn std::error::Error) -> UsageError {
    UsageError::Flag { flag, reason: error.to_string() }
}

/// The identity of an earlier join, if it still serves. One that has expired, or belongs to another mesh than the
/// token's, is replaced where there is a token.
fn known(
    directory: &IdentityDir,
    token: Option<&JoinToken>,
) -> Result<Option<(Membership, Identity)>, EnterError> {
    let loaded = match directory.load() {
        Ok(loaded) => loaded,
        Err(error) if token.is_some() => {
            tracing::warn!(%error, "joining again");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let Some((membership, identity)) = loaded else { return Ok(None) };
    let same_mesh = token.is_none_or(|token| {
        identity.bundle().iter().any(|root| spki_sha256(root) == Some(token.root_spki_sha256))
    });
    let expired = identity.not_after() <= SystemTime::now();
    match (same_mesh && !expired, token) {
        (true, _) => Ok(Some((membership, identity))),
        (false, Some(_)) => {
            tracing::info!(expired, same_mesh, "the identity found is not used; joining again");
            Ok(None)
        }
        (false, None) => Err(EnterError::Expired(directory.path("identity.pem").display().to_string())),
    }
}

fn with_address(mut membership: Membership, given: Option<&str>) -> Membership {
    if let Some(given) = given {
        given.clone_into(&mut membership.control_plane);
    }
    membership
}

/// What this workload says about itself.
fn describe(args: &WorkloadArgs, proxy: ProxyType, control_plane: &str) -> Result<Workload, UsageError> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    weft_api::Name::try_new(&name).map_err(|error| flag("--name", &error))?;
    let address = match args.address {
        Some(address) => address,
        None => facing(control_plane).ok_or_else(|| UsageError::Flag {
            flag: "--address",
            reason: "no address faces the control plane; say which one others reach this workload on"
                .to_owned(),
        })?,
    };
    let upstream = |given: &crate::args::UpstreamBinding| Upstream {
        service: given.service.to_string(),
        port: given.port.clone(),
        bind: given.listen.to_string(),
    };
    let locality = args.locality.as_ref();
    Ok(Workload {
        name,
        address: address.to_string(),
        app_ports: args.app_ports.iter().map(|port| (port.name.clone(), port.port.into())).collect(),
        labels: args.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
        region: locality.map(|locality| locality.region.clone()).unwrap_or_default(),
        zone: locality.map(|locality| locality.zone.clone()).unwrap_or_default(),
        upstreams: args.upstreams.iter().map(upstream).collect(),
        proxy_type: proxy.into(),
        inbound: args.inbound.to_string(),
        outbound: args.outbound.to_string(),
    })
}

/// The first label of the host's name, made a valid name.
fn host_name() -> Result<String, UsageError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let label = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let label: String =
        label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let label = label.trim_matches('-').to_owned();
    if label.is_empty() {
        let reason = "the host has no name; give one".to_owned();
        return Err(UsageError::Flag { flag: "--name", reason });
    }
    Ok(label)
}

/// The local address of the route to the control plane. Nothing is sent.
fn facing(control_plane: &str) -> Option<IpAddr> {
    use std::net::{ToSocketAddrs as _, UdpSocket};
    let target: SocketAddr = control_plane.to_socket_addrs().ok()?.next()?;
    let any: IpAddr = if target.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use crate::identity::testing::Authority;

    fn args(directory: &std::path::Path, more: &[&str]) -> WorkloadArgs {
        let directory = directory.to_str().unwrap();
        let given = ["weft-proxy", "run", "--identity-dir", directory, "--name", "web-1"];
        match Args::try_read(given.iter().chain(more).copied()).unwrap().command {
            Command::Run(run) => run.workload,
            Command::Join(_) => unreachable!("run was given"),
        }
    }

    #[tokio::test]
    async fn without_identity_and_token_the_missing_flag_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let given = args(directory.path(), &[]);
        let error = Box::pin(enter(&given, ProxyType::Weft, &CancellationToken::new())).await.unwrap_err();
        assert!(matches!(error, EnterError::Usage(_)));
        assert!(error.to_string().contains("--join"), "{error}");
    }

    #[tokio::test]
    async fn an_identity_of_an_earlier_join_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let files = IdentityDir::open(directory.path()).unwrap();
        let identity =
            Authority::new().identity("spiffe://mesh.local/ns/shop/svc/web", Duration::from_secs(600));
        files.store(&identity).unwrap();
        files
            .store_membership(&Membership {
                control_plane: "127.0.0.1:7401".to_owned(),
                trust_domain: "mesh.local".parse().unwrap(),
                service: "shop/web".parse().unwrap(),
                workload: "shop/web-1".parse().unwrap(),
            })
            .unwrap();
        let given = args(directory.path(), &["--control-plane", "127.0.0.9:1"]);
        let stop = CancellationToken::new();
        let entering = Box::pin(enter(&given, ProxyType::Weft, &stop));
        let entered = entering.await.unwrap().unwrap();
        assert_eq!(entered.membership.control_plane, "127.0.0.9:1");
        assert_eq!(entered.identity.serial(), identity.serial());
    }

    #[test]
    fn a_workload_declares_what_the_flags_say() {
        let directory = tempfile::tempdir().unwrap();
        let given = args(
            directory.path(),
            &[
                "--app-port",
                "http=8080",
                "--label",
                "version=v2",
                "--locality",
                "eu/a",
                "--upstream",
                "shop/db:tcp=127.0.0.1:5432",
            ],
        );
        let workload = describe(&given, ProxyType::Weft, "127.0.0.1:7401").unwrap();
        assert_eq!(workload.name, "web-1");
        assert_eq!(workload.address, "127.0.0.1");
        assert_eq!(workload.app_ports["http"], 8080);
        assert_eq!(workload.labels["version"], "v2");
        assert_eq!((workload.region.as_str(), workload.zone.as_str()), ("eu", "a"));
        assert_eq!(workload.upstreams[0].service, "shop/db");
    }
}
