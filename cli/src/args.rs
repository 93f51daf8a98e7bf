//! Command line of `weft`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use weft_api::flags::TokenSource;
use weft_policies::kinds::Kind;

use crate::contexts::ContextName;

mod explain;
mod run;

pub use explain::Explain;
pub use run::{Run, SidecarFlags};

/// The Weft service mesh, from the command line.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, max_term_width = 100)]
pub struct Args {
    /// YAML file with any of these flags, written without the dashes
    #[arg(long, global = true, env = "WEFT_CONFIG", value_name = "FILE", hide = true)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub access: Access,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the API is and how to be let in.
#[derive(Debug, Clone, ClapArgs)]
pub struct Access {
    /// Address of the API, of each replica; http://127.0.0.1:7400, or what ./weft-data/api.url says, by default
    #[arg(long, global = true, env = "WEFT_API", value_name = "URL[,URL…]")]
    pub api: Option<String>,
    /// File with the operator token; WEFT_TOKEN holds the token itself; else ./weft-data/operator.token
    #[arg(long, global = true, env = "WEFT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Roots that an https API is verified against (PEM): the control plane's ca.pem; else ./weft-data/ca.pem
    #[arg(long, global = true, env = "WEFT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Context of an earlier `weft login`, whatever else is found
    #[arg(long, global = true, env = "WEFT_CONTEXT", value_name = "NAME")]
    pub context: Option<ContextName>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a local mesh: control plane, demo services, sidecars, load; Ctrl-C ends it
    Up(Up),
    /// Watch the mesh: traffic, proxies, what fails; on a terminal with keys, else a line for each change
    Top,
    /// Run an application beside its sidecar, in the mesh of a control plane
    Run(Box<Run>),
    /// Run several applications in a mesh of their own, with nothing prepared; Ctrl-C ends it
    Dev(Dev),
    /// Keep what this machine needs to talk to a control plane
    Login(Login),
    /// Control planes that this machine has logged in to
    Context(ContextArgs),
    /// Apply YAML documents as one transaction
    Apply(Apply),
    /// Show objects
    Get(Get),
    /// Say what an apply would change: documents, proxies, whose requests are refused
    Diff(Diff),
    /// What was changed, by whom and why
    History(HistoryArgs),
    /// Make the policies what they were after an earlier revision, as a new change
    Rollback(Rollback),
    /// Say what would become of a request, or why requests failed or were refused
    Explain(Explain),
    /// Show requests as they end; Ctrl-C ends it
    Tap(Tap),
    /// Delete an object
    Delete(Delete),
    /// Say what is wrong with documents, without a control plane
    Validate(Validate),
    /// Tokens that workloads join with
    Token(Token),
    /// Proxies: who is connected and what each took
    Proxy(ProxyArgs),
    /// People and programs with tokens of their own; Roles say what each may do
    Operator(Operator),
    /// Who did what: calls that changed something, and those that were refused
    Audit(Audit),
    /// A link to the page that shows the mesh; it signs one browser in, within a minute
    Ui(Ui),
    /// Write a completion script
    Completion {
        /// For this shell
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    Wide,
    Yaml,
    Json,
}

#[derive(Debug, ClapArgs)]
pub struct Up {
    /// Directory of the mesh's data; made when it is missing
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR", default_value = "./weft-data")]
    pub data_dir: PathBuf,
    /// The stock Envoy; sought in .venv and on PATH by default. Without one, all sidecars are weft-proxy
    #[arg(long, env = "WEFT_ENVOY", value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// End after so long; for scripts
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<std::time::Duration>,
}

#[derive(Debug, ClapArgs)]
pub struct Dev {
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
    /// Each application: NAME:PORT[/PROTOCOL] COMMAND ARG…, and `--` before the next. PROTOCOL is HTTP (the default),
    /// HTTP2, GRPC, TCP or TLS. Other `--` belong to the application
    #[arg(last = true, required = true, value_name = "NAME:PORT[/PROTOCOL] COMMAND")]
    pub words: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
pub struct Login {
    /// The control plane's operator.context; else --api, --token-file and --ca say it, or ./weft-data
    pub file: Option<PathBuf>,
    /// Name of the context; the host of the API by default
    #[arg(long)]
    pub name: Option<ContextName>,
}

#[derive(Debug, ClapArgs)]
pub struct Ui {
    /// Open it, with $BROWSER or xdg-open. For a moment the link stands among this machine's processes
    #[arg(long)]
    pub open: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ContextArgs {
    #[command(subcommand)]
    pub command: ContextCommand,
}

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts, without their tokens
    List(ListArgs),
    /// Use that one from now on
    Use {
        /// As `weft context list` shows it
        name: ContextName,
    },
    /// Forget one, and its token with it
    Remove {
        /// As `weft context list` shows it
        name: ContextName,
    },
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft apply -f policies/ --dry-run
  weft apply -f policies/ --wait -m 'canary to 50 %'
  weft apply -f shop/ --prune -l app=shop")]
pub struct Apply {
    /// File, directory (read recursively), or - for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<String>,
    /// Say what would happen and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only on a new mesh: one that ever held a policy stays as it is, which is no failure
    #[arg(long)]
    pub if_new: bool,
    /// Return when every connected proxy concerned has the change
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", require_equals = true)]
    pub wait: Option<String>,
    /// Delete all objects with the labels of -l that are in none of the files
    #[arg(long, requires = "selector")]
    pub prune: bool,
    /// Labels of what is pruned: `app=web`, `tier in (front,back)`, `!legacy`
    #[arg(short = 'l', long, value_name = "SELECTOR", requires = "prune")]
    pub selector: Option<String>,
    /// Why, in one line: `weft history` tells it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft validate -f policies/
  cat cart.yaml | weft validate -f -")]
pub struct Validate {
    /// File, directory (read recursively), or - for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<String>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Ends with 2 where something would change, 0 where nothing would, 1 where it would be refused.

Examples:
  weft diff -f policies/
  weft diff -f cart.yaml -o json | jq '.edges[] | select(.effect == \"Refused\")'"
)]
pub struct Diff {
    /// File, directory (read recursively), or - for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    pub files: Vec<String>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft history
  weft history httproute cart -n shop
  weft history --revision 12")]
pub struct HistoryArgs {
    /// Only changes of objects of this kind
    pub kind: Option<Kind>,
    /// Only changes of the object of this name: NAME, or NAMESPACE/NAME
    pub name: Option<String>,
    /// Only changes in this namespace
    #[arg(short, long, env = "WEFT_NAMESPACE")]
    pub namespace: Option<String>,
    /// How many changes at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Only changes before this revision
    #[arg(long, value_name = "REVISION")]
    pub before: Option<u64>,
    /// This change alone, with what it changed in each document
    #[arg(long, value_name = "REVISION", conflicts_with_all = ["kind", "name", "namespace", "before"])]
    pub revision: Option<u64>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft rollback --to 12 --dry-run
  weft rollback --to 12 --wait -m 'the canary fails'")]
pub struct Rollback {
    /// The policies as they were after this revision; `weft history` lists them
    #[arg(long, value_name = "REVISION")]
    pub to: u64,
    /// Say what would happen and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", require_equals = true)]
    pub wait: Option<String>,
    /// Why, in one line: `weft history` tells it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft get services
  weft get httproute cart -n shop
  weft get svc shop/cart -o json
  weft get httproutes -n shop -w
  weft get wl -l 'version in (v1,v2)'")]
pub struct Get {
    /// Kind: singular, plural or short name; or `edges`, `proxies`
    pub kind: String,
    /// NAME, or NAMESPACE/NAME; of edges a service that calls or is called
    pub name: Option<String>,
    /// Namespace; all for a list, `default` for one object
    #[arg(short, long, env = "WEFT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Only objects with these labels: `app=web`, `tier in (front,back)`, `!legacy`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "name")]
    pub selector: Option<String>,
    /// Stay, and show each change as it comes
    #[arg(short, long, conflicts_with_all = ["name", "selector"])]
    pub watch: bool,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct Tap {
    /// Calls from this service, [NAMESPACE/]SERVICE; `-` for any
    #[arg(allow_hyphen_values = true)]
    pub from: String,
    /// Calls to this service; `-` for any
    #[arg(allow_hyphen_values = true)]
    pub to: String,
    /// Namespace of services that are named without one
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// With this method
    #[arg(long)]
    pub method: Option<String>,
    /// Whose path begins so
    #[arg(long, value_name = "PREFIX")]
    pub path: Option<String>,
    /// Answered so: 503, or 5xx
    #[arg(long)]
    pub status: Option<String>,
    /// What failed or was refused
    #[arg(long)]
    pub failed: bool,
    /// Show this header of request and response; may be repeated
    #[arg(long = "header", value_name = "NAME", value_delimiter = ',')]
    pub headers: Vec<String>,
    /// `wide` shows all that is known of each; `json` one document a line
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft delete svc cart -n shop --dry-run
  weft delete svc shop/cart --wait")]
pub struct Delete {
    /// Kind: singular, plural or short name
    pub kind: Kind,
    /// NAME, or NAMESPACE/NAME
    pub name: String,
    /// Say what would happen and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", require_equals = true)]
    pub wait: Option<String>,
    /// Do not ask, on a terminal, before something is deleted that others use
    #[arg(short, long)]
    pub yes: bool,
    /// Why, in one line: `weft history` tells it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Its namespace
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct Token {
    #[command(subcommand)]
    pub command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create(TokenCreate),
    /// List tokens, without their secrets
    List(ListArgs),
    /// Make a token worthless
    Revoke(TokenRevoke),
}

#[derive(Debug, ClapArgs)]
pub struct TokenCreate {
    /// Service of the joiners; may be repeated where --out is a directory
    #[arg(long = "service", value_name = "NAMESPACE/SERVICE", required = true, value_delimiter = ',')]
    pub services: Vec<String>,
    /// Life of the token
    #[arg(long, default_value = "10m")]
    pub ttl: String,
    /// How often it may be used
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// Write the token to this file, mode 0600, for `weft-proxy --join-file`; of several services, to
    /// NAMESPACE.SERVICE.token in this directory
    #[arg(long, value_name = "FILE|DIR")]
    pub out: Option<PathBuf>,
    /// Label that joiners may declare, for instance `version=*`
    #[arg(long = "allow-label", value_name = "KEY=VALUE")]
    pub allow_labels: Vec<String>,
    /// Address, or range of addresses, that joiners may say they are on; any by default
    #[arg(long = "allow-address", value_name = "CIDR")]
    pub allow_addresses: Vec<String>,
    /// Joiners may say that no proxy stands beside them: peers then reach them in plain text
    #[arg(long)]
    pub allow_no_proxy: bool,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct Operator {
    #[command(subcommand)]
    pub command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make a principal; its token is shown once
    Create(OperatorCreate),
    /// Another token, in place of the one before
    Rotate(OperatorCreate),
    /// List principals and their roles
    List(ListArgs),
    /// Remove a principal: its token opens nothing any more
    Revoke(OperatorName),
    /// What the token in use may do
    Whoami(ListArgs),
}

#[derive(Debug, ClapArgs)]
pub struct OperatorCreate {
    /// Name of the principal, as RoleBindings name it
    pub name: String,
    /// Write the token to this file, mode 0600, for --token-file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct OperatorName {
    /// Name of the principal
    pub name: String,
}

#[derive(Debug, ClapArgs)]
pub struct Audit {
    /// Only calls of this principal, or of `operator`
    #[arg(long, value_name = "NAME")]
    pub who: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Only calls before this moment, in milliseconds since 1970
    #[arg(long, value_name = "MILLISECONDS")]
    pub before: Option<u64>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct TokenRevoke {
    /// As `weft token list` shows it
    pub id: String,
}

#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct ProxyArgs {
    #[command(subcommand)]
    pub command: ProxyCommand,
}

#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// Who is connected and in sync
    List(ListArgs),
    /// What one proxy was sent, took and refused
    Status(ProxyStatusArgs),
    /// The configuration one proxy was sent, secrets redacted
    Config(ProxyStatusArgs),
    /// Take a workload out of the mesh at once, its certificates included; it may join again with a new token
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
