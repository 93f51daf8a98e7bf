//! Command line of `weft`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::contexts::ContextName;

mod access;
mod authority;
mod diff;
mod explain;
mod import;
mod operation;
mod policies;
mod proxies;
mod run;
mod traffic;

pub use access::{
    Audit, ContextArgs, ContextCommand, Login, Operator, OperatorCommand, OperatorCreate, OperatorName,
    Token, TokenCommand, TokenCreate, TokenRevoke, Ui,
};
pub use authority::{CaArgs, CaCommand, CaCsr, CaImport, CaReseal, CaRotate};
pub use diff::Diff;
pub use explain::Explain;
pub use import::ImportArgs;
pub use operation::{BundleArgs, CheckArgs, DebugArgs, DebugCommand, DrainArgs, VersionArgs};
pub use policies::{
    Apply, ChangeFlags, Delete, DeliveryFlags, Describe, EdgeGrouping, Get, HistoryArgs, Rollback, Validate,
};
pub use proxies::{BootstrapArgs, ProxyArgs, ProxyCommand, ProxyStatusArgs};
pub use run::{Run, SidecarFlags};
pub use traffic::Tap;

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
    /// How long one answer may take, beside what `--wait` allows; 10s by default, 30s for what is applied
    #[arg(long, global = true, env = "WEFT_TIMEOUT", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a local mesh: control plane, demo services, sidecars, load; Ctrl-C ends it
    Up(Up),
    /// Watch the mesh: traffic, proxies, what fails; on a terminal with keys, else a line for each change
    #[command(after_help = "Examples:
  weft top")]
    Top,
    /// Run an application beside its sidecar, in the mesh of a control plane
    Run(Box<Run>),
    /// Run several applications in a mesh of their own, with nothing prepared; Ctrl-C ends it
    Dev(Dev),
    /// Keep what this machine needs to talk to a control plane
    Login(Login),
    /// Control planes that this machine has logged in to
    Context(ContextArgs),
    /// Say what is wrong with the mesh, and what to do about it
    Check(CheckArgs),
    /// Apply YAML documents as one transaction
    Apply(Apply),
    /// Show objects
    Get(Get),
    /// Show one object with its status: what holds, which proxies have it, which refused it and why, its latest changes
    Describe(Describe),
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
    /// Say in documents of Weft what documents of another mesh say, and what of it cannot be said
    Import(ImportArgs),
    /// Take one workload out of balancing for everybody, or back
    Drain(DrainArgs),
    /// Tokens that workloads join with
    Token(Token),
    /// Proxies: who is connected and what each took
    Proxy(ProxyArgs),
    /// People and programs with tokens of their own; Roles say what each may do
    Operator(Operator),
    /// The mesh's certificate authority: its roots and issuers, and replacing the root
    Ca(CaArgs),
    /// Who did what: calls that changed something, and those that were refused
    Audit(Audit),
    /// A link to the page that shows the mesh; it signs one browser in, within a minute
    Ui(Ui),
    /// What helps somebody else to see what is wrong
    Debug(DebugArgs),
    /// Versions of this program, the control planes and the proxies
    Version(VersionArgs),
    /// Write a completion script
    #[command(after_help = "Examples:
  weft completion bash > weft.bash
  source <(weft completion bash)")]
    Completion {
        /// For this shell
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    Table,
    /// With more columns
    Wide,
    Yaml,
    Json,
    /// Names alone, one a line, as other commands take them
    Name,
}

impl OutputFormat {
    /// Whether it is for people.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft up
  weft up --data-dir /tmp/mesh --duration 1m")]
pub struct Up {
    /// Directory of the mesh's data; made when it is missing
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR", default_value = "./weft-data")]
    pub data_dir: PathBuf,
    /// The stock Envoy; sought in .venv and on PATH by default. Without one, all sidecars are weft-proxy
    #[arg(long, env = "WEFT_ENVOY", value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// End after so long; for scripts
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft dev -- web:8080 ./web -- cart:8081 ./cart --verbose
  weft dev -o json -- orders:50051/GRPC ./orders")]
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
pub struct ListArgs {
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
