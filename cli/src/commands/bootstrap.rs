//! `weft proxy bootstrap --envoy`: joins for a stock Envoy and writes what it needs to be a sidecar, or what an Envoy with a
//! bootstrap of its own needs beside that.
//!
//! The join itself, and every renewal, is `weft-proxy join`: the key is made there and stays in its files.

mod envoy;
mod merge;
mod own;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use weft_api::client::ApiClient;
use weft_api::flags::{JOIN_VARIABLE, UsageError};
use weft_api::rest::TokenRequest;
use weft_api::{ControlPlanes, JoinToken, ServiceId, TrustDomain, WorkloadId};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use self::merge::{EnvoyTakes, Plan};
use self::own::OwnBootstrap;
use crate::args::BootstrapArgs;
use crate::output::{self, out, outln};
use crate::up::binaries;

/// Joins with the token that is given, else with one that is made for `--service`, else by the identity of an earlier run;
/// `client` is asked for only where a token is to be made.
pub async fn run(
    client: impl FnOnce() -> anyhow::Result<ApiClient>,
    args: BootstrapArgs,
) -> anyhow::Result<ExitCode> {
    let own = args.merge.as_deref().map(|path| OwnBootstrap::read(path, &args.out.join(FILE))).transpose()?;
    let given = args.token.read()?;
    if let Some(token) = &given {
        is_for(token, args.service.as_ref())?;
    }
    let earlier = Membership::read(&args.out).ok();
    if let Some(own) = &own {
        let of_token = given.as_ref().and_then(|token| token.service.as_ref());
        own.check(&plan(&args, of_token.or(args.service.as_ref()), earlier.as_ref()))?;
    }
    let token = match (given, &args.service) {
        (Some(token), _) => Some(token.to_string()),
        (None, Some(service)) => Some(make_token(&client()?, service, &args).await?),
        (None, None) if earlier.is_some() => None,
        (None, None) => {
            let reason =
                "say which service the workload belongs to, or give a token by --join-file or WEFT_JOIN";
            return Err(UsageError::Flag { flag: "--service", reason: reason.to_owned() }.into());
        }
    };
    let file = write(token.as_deref(), &args, own.as_ref()).await?;
    let dir = args.out.display();
    let until = expiry(&args.out.join("identity.pem"))?;
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    if args.keep {
        outln!("{} written. Start Envoy with it; this process keeps its identity fresh.", file.display());
        let mut keeping = std::process::Command::new(binaries::find("weft-proxy")?);
        keeping.args(["join", "--keep", "--identity-dir"]).arg(&args.out).env_remove(JOIN_VARIABLE);
        // In the place of this process, so that signals find it.
        return Err(keeping.exec()).context("weft-proxy join --keep");
    }
    outln!("{} written. Start Envoy, and beside it what keeps its identity fresh:", file.display());
    outln!("  envoy -c {}", file.display());
    outln!("  weft-proxy join --keep --identity-dir {dir}");
    outln!(
        "Without the second the certificate ends at {}, in {}, and Envoy is out of the mesh.",
        humantime::format_rfc3339_seconds(until),
        output::span(left)
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether a token is for the service that is asked for, if one is.
pub fn is_for(token: &JoinToken, service: Option<&ServiceId>) -> Result<(), UsageError> {
    match (&token.service, service) {
        (Some(of_token), Some(wanted)) if of_token != wanted => Err(UsageError::Flag {
            flag: "--service",
            reason: format!(
                "the token is for {of_token}, not for {wanted}; leave the flag out, or use another token"
            ),
        }),
        _ => Ok(()),
    }
}

/// A token for one workload of a service.
async fn make_token(client: &ApiClient, service: &ServiceId, args: &BootstrapArgs) -> anyhow::Result<String> {
    let request = TokenRequest {
        service: service.to_string(),
        allow_labels: args.labels.clone(),
        ..TokenRequest::default()
    };
    Ok(client.create_token(&request).await?.token)
}

/// What is written for Envoy, in the directory of its identity.
const FILE: &str = "envoy.yaml";

/// Joins and writes `envoy.yaml`; returns its path. Says what was added to the owner's bootstrap, where there is one.
pub async fn write(
    token: Option<&str>,
    args: &BootstrapArgs,
    own: Option<&OwnBootstrap>,
) -> anyhow::Result<PathBuf> {
    join(args, token).await?;
    let membership = Membership::read(&args.out)?;
    let out = fs::canonicalize(&args.out).with_context(|| args.out.display().to_string())?;
    let file = out.join(FILE);
    let text = match own {
        None => serde_yaml::to_string(&envoy::bootstrap(args, &membership, &out))?,
        Some(own) => {
            let added = envoy::additions(args, &membership, &out, takes(args));
            let (merged, difference) = own.with(serde_yaml::to_value(added)?, &file)?;
            out!("{difference}");
            serde_yaml::to_string(&merged)?
        }
    };
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

fn takes(args: &BootstrapArgs) -> EnvoyTakes {
    if args.clusters_only { EnvoyTakes::Clusters } else { EnvoyTakes::Everything }
}

/// What is known before the join of what is going to be added.
fn plan(args: &BootstrapArgs, service: Option<&ServiceId>, earlier: Option<&Membership>) -> Plan {
    let named = args.name.clone().zip(service);
    let id = named.map(|(name, service)| WorkloadId::new(service.namespace.clone(), name));
    let inbound = (!args.is_client()).then_some(("--inbound", args.inbound));
    // What cannot be read is refused by the join.
    let bind =
        |upstream: &String| Some(("--upstream", upstream.rsplit_once('=')?.1.parse::<SocketAddr>().ok()?));
    Plan {
        takes: takes(args),
        checks_health: !args.is_client(),
        id: earlier.map(|earlier| earlier.workload.clone()).or(id),
        listeners: inbound
            .into_iter()
            .chain([("--outbound", args.outbound)])
            .chain(args.upstreams.iter().filter_map(bind))
            .collect(),
    }
}

/// What the join decided, as `weft-proxy join` leaves it in `workload.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    control_plane: ControlPlanes,
    trust_domain: TrustDomain,
    /// Whose member the workload is.
    pub service: ServiceId,
    /// What it is called.
    pub workload: WorkloadId,
}

impl Membership {
    /// Reads it from an identity's directory.
    pub fn read(identity: &Path) -> anyhow::Result<Self> {
        let path = identity.join("workload.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}

async fn join(args: &BootstrapArgs, token: Option<&str>) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new(binaries::find("weft-proxy")?);
    command.arg("join").env_remove("WEFT_JOIN_FILE").env_remove(JOIN_VARIABLE);
    command.envs(token.map(|token| (JOIN_VARIABLE, token)));
    command.arg("--identity-dir").arg(&args.out);
    if args.is_client() {
        command.arg("--client");
    } else {
        command.arg("--inbound").arg(args.inbound.to_string());
    }
    command.arg("--outbound").arg(args.outbound.to_string());
    command.arg("--admin-listen").arg(args.admin_listen.to_string());
    let optional = [
        ("--name", args.name.as_ref().map(ToString::to_string)),
        ("--address", args.address.map(|address| address.to_string())),
        ("--locality", args.locality.clone()),
        ("--access-log-dir", args.access_log_dir.as_ref().map(|dir| dir.display().to_string())),
        ("--control-plane", args.control_plane.as_ref().map(ToString::to_string)),
    ];
    for (flag, value) in optional {
        command.args(value.map(|value| format!("{flag}={value}")));
    }
    for (flag, values) in
        [("--app-port", &args.app_ports), ("--label", &args.labels), ("--upstream", &args.upstreams)]
    {
        command.args(values.iter().map(|value| format!("{flag}={value}")));
    }
    // It says itself what it waits for, and why it is refused.
    let status = command.status().await.context("weft-proxy join")?;
    if !status.success() {
        bail!("the join failed");
    }
    Ok(())
}

fn expiry(path: &Path) -> anyhow::Result<SystemTime> {
    let leaf = CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?;
    let (_, leaf) = X509Certificate::from_der(&leaf).with_context(|| path.display().to_string())?;
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}
