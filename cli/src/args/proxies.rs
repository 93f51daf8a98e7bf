//! Of `weft proxy`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use weft_api::flags::TokenSource;

use super::{ListArgs, OutputFormat};

#[derive(Debug, ClapArgs)]
pub struct ProxyArgs {
    #[command(subcommand)]
    pub command: ProxyCommand,
}

#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// Who is connected and in sync
    #[command(after_help = "Examples:
  weft proxy list
  weft proxy list -o wide")]
    List(ListArgs),
    /// What one proxy was sent, took and refused
    #[command(after_help = "Examples:
  weft proxy status shop/cart-v1
  weft proxy status cart-v1 -n shop -o json")]
    Status(ProxyStatusArgs),
    /// The configuration one proxy was sent, secrets redacted
    #[command(after_help = "Examples:
  weft proxy config shop/cart-v1 -o json | jq keys")]
    Config(ProxyStatusArgs),
    /// Take a workload out of the mesh at once, its certificates included; it may join again with a new token
    #[command(after_help = "Examples:
  weft proxy revoke shop/cart-v1")]
    Revoke(ProxyStatusArgs),
    /// Join and write what a stock Envoy needs to be a sidecar
    Bootstrap(Box<BootstrapArgs>),
}

#[derive(Debug, ClapArgs)]
pub struct ProxyStatusArgs {
    /// NAMESPACE/WORKLOAD, or WORKLOAD
    pub id: String,
    /// Namespace of a WORKLOAD
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Examples:
  weft proxy bootstrap --envoy --service shop/cart --app-port http=8080 --out cart-9/
  weft proxy bootstrap --envoy --join-file cart.token --merge envoy.yaml --client --out cart-8/")]
pub struct BootstrapArgs {
    /// For a stock Envoy
    #[arg(long, required = true)]
    pub envoy: bool,
    /// Service that the workload belongs to; a token is made for it, unless one is given
    #[arg(long, value_name = "NAMESPACE/SERVICE")]
    pub service: Option<weft_api::ServiceId>,
    /// A token that was made elsewhere, in place of an operator's.
    #[command(flatten)]
    pub token: TokenSource,
    /// Name of the workload; SERVICE-HOSTNAME by default
    #[arg(long)]
    pub name: Option<weft_api::Name>,
    /// Directory for envoy.yaml and the identity
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// An Envoy bootstrap (YAML or JSON) to add to, and to leave as it is otherwise; what is added is shown
    #[arg(long, value_name = "FILE", conflicts_with = "admin_listen")]
    pub merge: Option<PathBuf>,
    /// Take clusters and endpoints only, and no listeners; such a workload is a --client
    #[arg(long, requires = "merge", conflicts_with_all = ["app_ports", "inbound", "outbound", "upstreams"])]
    pub clusters_only: bool,
    /// Only call others: peers are never told of this workload, and it has no listener for them
    #[arg(long, conflicts_with_all = ["app_ports", "inbound"])]
    pub client: bool,
    /// Address that others reach this workload on; that of the route to the control plane by default
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Where the listener for other workloads binds
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:15006")]
    pub inbound: SocketAddr,
    /// Where the listener for the application's requests binds
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15001")]
    pub outbound: SocketAddr,
    /// Where the application listens, for each service port
    #[arg(long = "app-port", value_name = "NAME=PORT")]
    pub app_ports: Vec<String>,
    /// Label of the workload
    #[arg(long = "label", value_name = "K=V")]
    pub labels: Vec<String>,
    /// Region and zone of the workload
    #[arg(long, value_name = "REGION/ZONE")]
    pub locality: Option<String>,
    /// TCP service that gets a local port
    #[arg(long = "upstream", value_name = "NS/SERVICE:PORT=IP:PORT")]
    pub upstreams: Vec<String>,
    /// Directory that Envoy writes access logs with sink File into; standard output takes them by default
    #[arg(long, value_name = "DIR")]
    pub access_log_dir: Option<PathBuf>,
    /// Envoy's admin endpoint
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub admin_listen: SocketAddr,
    /// Where xDS is, each replica; the token says it by default
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT…]")]
    pub control_plane: Option<weft_api::ControlPlanes>,
    /// Stay, and keep the identity fresh, as `weft-proxy join --keep` does
    #[arg(long)]
    pub keep: bool,
}

impl BootstrapArgs {
    /// Whether the workload only calls others: without listeners of the mesh nobody can call it.
    pub fn is_client(&self) -> bool {
        self.client || self.clusters_only
    }
}
