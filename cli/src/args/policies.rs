//! Of the commands that read and change policies.

use clap::{Args as ClapArgs, ValueEnum};
use weft_policies::kinds::Kind;

use super::OutputFormat;

/// Flags of the commands that change what proxies have.
#[derive(Debug, ClapArgs)]
pub struct DeliveryFlags {
    /// Return when every connected proxy concerned has the change
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "30s", require_equals = true)]
    pub wait: Option<String>,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

/// Flags of the commands that change policies.
#[derive(Debug, ClapArgs)]
pub struct ChangeFlags {
    /// Say what would happen and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, in one line: `weft history` tells it
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    #[command(flatten)]
    pub delivery: DeliveryFlags,
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
    /// Only on a new mesh: one that ever held a policy stays as it is, which is no failure
    #[arg(long)]
    pub if_new: bool,
    /// Delete all objects with the labels of -l that are in none of the files
    #[arg(long, requires = "selector")]
    pub prune: bool,
    /// Labels of what is pruned: `app=web`, `tier in (front,back)`, `!legacy`
    #[arg(short = 'l', long, value_name = "SELECTOR", requires = "prune")]
    pub selector: Option<String>,
    #[command(flatten)]
    pub change: ChangeFlags,
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
    #[command(flatten)]
    pub change: ChangeFlags,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft get services
  weft get httproute catalog-split -n shop
  weft get svc shop/cart -o json
  weft get httproutes -n shop -w
  weft get wl -l 'version in (v1,v2)'
  weft get authorizationpolicies -o wide
  weft get edges --by route
  weft get edges shop/catalog --by version")]
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
    /// What edges are told apart by
    #[arg(long, value_enum, default_value = "subset")]
    pub by: EdgeGrouping,
    /// Stay, and show each change as it comes
    #[arg(short, long, conflicts_with_all = ["name", "selector"])]
    pub watch: bool,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft describe httproute catalog-split -n shop
  weft describe ap shop/no-payments-for-load
  weft describe svc shop/cart -o json | jq .status.proxies")]
pub struct Describe {
    /// Kind: singular, plural or short name
    pub kind: Kind,
    /// NAME, or NAMESPACE/NAME
    pub name: String,
    /// Namespace of a name without one
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// How many of its latest changes are shown
    #[arg(long, default_value_t = 5)]
    pub changes: usize,
    /// How it is printed
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
    /// Do not ask, on a terminal, before something is deleted that others use
    #[arg(short, long)]
    pub yes: bool,
    /// Its namespace
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    #[command(flatten)]
    pub change: ChangeFlags,
}

/// What edges are told apart by, beside their ends and the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EdgeGrouping {
    /// Subsets, where calls name them
    Subset,
    /// Rules of routes that requests follow
    Route,
    /// Versions of the instances that answer, whoever calls
    Version,
}
