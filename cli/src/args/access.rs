//! Of the commands about who may do what: this machine, operators, workloads that join.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{ListArgs, OutputFormat};
use crate::contexts::ContextName;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft login weft-data/operator.context
  weft login weft-data/operator.context --name here")]
pub struct Login {
    /// The control plane's operator.context; else --api, --token-file and --ca say it, or ./weft-data
    pub file: Option<PathBuf>,
    /// Name of the context; the host of the API by default
    #[arg(long)]
    pub name: Option<ContextName>,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft ui")]
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
    #[command(after_help = "Examples:
  weft context list")]
    List(ListArgs),
    /// Use that one from now on
    #[command(after_help = "Examples:
  weft context use here")]
    Use {
        /// As `weft context list` shows it
        name: ContextName,
    },
    /// Forget one, and its token with it
    #[command(after_help = "Examples:
  weft context remove here")]
    Remove {
        /// As `weft context list` shows it
        name: ContextName,
    },
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
    #[command(after_help = "Examples:
  weft token list
  weft token list -o name")]
    List(ListArgs),
    /// Make a token worthless
    Revoke(TokenRevoke),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft token create --service shop/cart
  weft token create --service shop/cart,shop/web --ttl 1h --uses 3 --out tokens/
  weft token create --service shop/cart --allow-label 'version=*' --out cart.token
  weft token create --service shop/orders --ahead")]
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
    /// The Service is applied later; without this, a service that does not exist is refused
    #[arg(long)]
    pub ahead: bool,
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
    #[command(after_help = "Examples:
  weft operator create alice --out alice.token")]
    Create(OperatorCreate),
    /// Another token, in place of the one before; of `operator`, for the operators of this control plane
    #[command(
        after_help = "The name `operator` stands for whoever has the control plane's own token: operator.token and
operator.context beside it are written again; who has copies elsewhere has to be given the new ones.

Examples:
  weft operator rotate alice --out alice.token
  weft operator rotate operator > /dev/null"
    )]
    Rotate(OperatorCreate),
    /// List principals and their roles
    #[command(after_help = "Examples:
  weft operator list")]
    List(ListArgs),
    /// Remove a principal: its token opens nothing any more
    Revoke(OperatorName),
    /// What the token in use may do
    #[command(after_help = "Examples:
  weft operator whoami")]
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
#[command(after_help = "Examples:
  weft operator revoke alice")]
pub struct OperatorName {
    /// Name of the principal
    pub name: String,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft audit
  weft audit --who operator --limit 5 -o json")]
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
#[command(after_help = "Examples:
  weft token revoke ID")]
pub struct TokenRevoke {
    /// As `weft token list` shows it
    pub id: String,
}
