//! Command line of `weft-control-plane`, and what it means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use weft_api::TrustDomain;
use weft_api::flags::LogFormat;

/// Name of the seal key's file in the data directory.
pub const SEAL_KEY: &str = "seal.key";

/// The control plane of the Weft service mesh: policies in, xDS out, and the mesh's certificate authority.
#[derive(Debug, Clone, Parser)]
#[command(name = "weft-control-plane", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<CliCommand>,
    /// YAML file with any of these flags, written without the dashes
    #[arg(long, env = "WEFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Level of the log, or a filter such as `info,weft_control_plane=debug`
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How the log on standard error is written; text for a terminal and JSON otherwise by default
    #[arg(long, env = "WEFT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Embedded store, CA key file and operator token; made with mode 0700
    #[arg(long, global = true, env = "WEFT_DATA_DIR", value_name = "DIR", default_value = "./weft-data")]
    pub data_dir: PathBuf,
    /// Use etcd in place of the embedded store
    #[arg(long, global = true, env = "WEFT_ETCD", value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// Prefix of all keys in etcd
    #[arg(long, global = true, env = "WEFT_ETCD_PREFIX", value_name = "PREFIX", default_value = "/weft/")]
    pub etcd_prefix: String,
    /// Roots that etcd's certificate is verified against (PEM)
    #[arg(long, global = true, env = "WEFT_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate for etcd (PEM)
    #[arg(long, global = true, env = "WEFT_ETCD_CERT", value_name = "FILE", requires = "etcd_key")]
    pub etcd_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM)
    #[arg(long, global = true, env = "WEFT_ETCD_KEY", value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// User for etcd; the password comes from WEFT_ETCD_PASSWORD
    #[arg(long, global = true, env = "WEFT_ETCD_USER", value_name = "NAME", requires = "etcd_password")]
    pub etcd_user: Option<String>,
    /// Password of the etcd user; prefer the environment variable
    #[arg(long, global = true, env = "WEFT_ETCD_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub etcd_password: Option<String>,
    /// REST API: plain HTTP on loopback, TLS anywhere else
    #[arg(long, env = "WEFT_API_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7400")]
    pub api_listen: SocketAddr,
    /// Certificate of the REST API in place of the mesh's own (PEM)
    #[arg(long, env = "WEFT_API_CERT", value_name = "FILE", requires = "api_key")]
    pub api_cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(long, env = "WEFT_API_KEY", value_name = "FILE", requires = "api_cert")]
    pub api_key: Option<PathBuf>,
    /// xDS and join, TLS only; 127.0.0.1:7401 by default, port 7401 of all addresses with --advertise
    #[arg(long, env = "WEFT_XDS_LISTEN", value_name = "IP:PORT")]
    pub xds_listen: Option<SocketAddr>,
    /// /ready, /live, /metrics, /dump
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:7402")]
    pub admin_listen: SocketAddr,
    /// /metrics alone, for a Prometheus on another machine; whoever reaches it reads who calls whom
    #[arg(long, env = "WEFT_METRICS_LISTEN", value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Trust domain of the mesh; fixed when the mesh is created
    #[arg(long, global = true, env = "WEFT_TRUST_DOMAIN", value_name = "NAME", default_value = "mesh.local")]
    pub trust_domain: TrustDomain,
    /// Extra DNS name or IP in the server certificate
    #[arg(long = "xds-name", env = "WEFT_XDS_NAME", value_name = "NAME", value_delimiter = ',')]
    pub xds_names: Vec<String>,
    /// Key that seals CA keys at rest; replicas share it. In the data directory by default
    #[arg(long, global = true, env = "WEFT_SEAL_KEY", value_name = "FILE")]
    pub seal_key: Option<PathBuf>,
    /// An own root, or an intermediate and its chain up to the root (PEM). A mesh that has another root moves to it, stage by stage
    #[arg(long, env = "WEFT_CA_CERT", value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// Key of the first certificate in that file (PEM, mode 0600)
    #[arg(long, env = "WEFT_CA_KEY", value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// How others reach this replica; the port is that of xDS unless given
    #[arg(long, env = "WEFT_ADVERTISE", value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
    /// What tokens, bootstraps and certificates say: how workloads reach each replica. As --advertise by default
    #[arg(long, env = "WEFT_PUBLIC", value_name = "HOST:PORT", value_delimiter = ',')]
    pub public: Vec<String>,
    /// Life of workload certificates; 10 s is the least, for tests
    #[arg(long, env = "WEFT_LEAF_TTL", value_name = "DURATION", default_value = "24h", value_parser = leaf_ttl)]
    pub leaf_ttl: Duration,
    /// Life of the issuing CA below the root; 1m is the least, for tests. Leaves never outlive their issuer
    #[arg(long, env = "WEFT_ISSUER_TTL", value_name = "DURATION", default_value = "30d", value_parser = issuer_ttl)]
    pub issuer_ttl: Duration,
    /// Life of new roots; 2m is the least, for tests. A root is replaced when two thirds of its life are over
    #[arg(long, env = "WEFT_ROOT_TTL", value_name = "DURATION", default_value = "365d", value_parser = root_ttl)]
    pub root_ttl: Duration,
    /// A workload whose stream is lost for so long gets requests only when the others do not suffice
    #[arg(long, env = "WEFT_DEGRADE_AFTER", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub degrade_after: Duration,
    /// It gets no new requests
    #[arg(long, env = "WEFT_DRAIN_AFTER", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub drain_after: Duration,
    /// It is removed, and has to join again
    #[arg(long, env = "WEFT_REMOVE_AFTER", value_name = "DURATION", default_value = "6h", value_parser = duration)]
    pub remove_after: Duration,
    /// Send traces and metrics there by OTLP over gRPC
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// What `weft-control-plane` can do besides serving.
#[derive(Debug, Clone, Subcommand)]
pub enum CliCommand {
    /// Ask a control plane that runs here whether it is ready: exits 0 if so, 1 and says why if not
    Health {
        /// Its admin endpoint; as --admin-listen by default
        #[arg(long, value_name = "IP:PORT")]
        admin: Option<SocketAddr>,
    },
    /// Write the whole state of the mesh into a new file, while the control plane runs or not
    Backup {
        /// The file to make, mode 0600; never one that exists
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a backup into an empty data directory, or with --etcd below an empty prefix
    Restore {
        /// A file that `backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Move the state of the mesh from one store to another
    #[command(subcommand)]
    Store(StoreCommand),
}

/// What can be done with stores at rest.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Copy all of one store that nobody uses into another that is empty
    Copy {
        /// A data directory, or the URLs of an etcd
        #[arg(long, value_name = "DIR|URL[,URL…]")]
        from: String,
        /// The same; --etcd-prefix, --etcd-ca and the like are for whichever is an etcd
        #[arg(long, value_name = "DIR|URL[,URL…]")]
        to: String,
    },
}

impl Args {
    /// Where the key is that seals CA keys.
    #[must_use]
    pub fn seal_key(&self) -> PathBuf {
        self.seal_key.clone().unwrap_or_else(|| self.data_dir.join(SEAL_KEY))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn issuer_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_secs(60), Duration::from_secs(365 * 24 * 3600));
    if ttl < least || ttl > most {
        return Err("must be from 1m (tests only; 14d in earnest) to 365d".to_owned());
    }
    Ok(ttl)
}

fn root_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_secs(120), Duration::from_secs(3650 * 24 * 3600));
    if ttl < least || ttl > most {
        return Err("must be from 2m (tests only; 90d in earnest) to 3650d".to_owned());
    }
    Ok(ttl)
}

fn leaf_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_secs(10), Duration::from_secs(7 * 24 * 3600));
    if ttl < least || ttl > most {
        return Err("must be from 10s (tests only; 10m in earnest) to 7d".to_owned());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// What systemd starts is told by its environment alone.
    #[test]
    fn every_flag_has_its_variable() {
        for flag in Args::command().get_arguments() {
            let variable = flag.get_env().unwrap_or_default().to_string_lossy().into_owned();
            // The one of OTLP is the same everywhere.
            assert!(
                variable.starts_with("WEFT_") || variable.starts_with("OTEL_"),
                "{}: {variable:?}",
                flag.get_id()
            );
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = Args::try_parse_from(["weft-control-plane"]).unwrap();
        assert_eq!(args.api_listen.to_string(), "127.0.0.1:7400");
        assert_eq!(args.xds_listen, None, "see reach");
        assert_eq!(args.admin_listen.to_string(), "127.0.0.1:7402");
        assert_eq!(args.leaf_ttl, Duration::from_secs(24 * 3600));
        let timeouts = crate::presence::liveness::LivenessTimeouts::default();
        assert_eq!(
            (args.degrade_after, args.drain_after, args.remove_after),
            (timeouts.degrade, timeouts.drain, timeouts.remove)
        );
    }

    #[test]
    fn leaf_ttl_outside_its_limits_is_refused() {
        for ttl in ["9s", "8d", "x"] {
            let error = Args::try_parse_from(["weft-control-plane", "--leaf-ttl", ttl]).unwrap_err();
            assert!(error.to_string().contains("--leaf-ttl"), "{error}");
        }
    }
}
