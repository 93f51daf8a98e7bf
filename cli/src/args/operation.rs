//! Flags of the verbs that run a mesh: `check`, `drain`, `debug`, `version`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::{DeliveryFlags, OutputFormat};

#[derive(Debug, ClapArgs)]
#[command(after_help = "Ends with 1 where something fails; a warning, and what is not known, is no failure.

Examples:
  weft check
  weft check --quiet
  weft check -o json | jq '.findings[] | select(.severity == \"Failure\")'")]
pub struct CheckArgs {
    /// Leave out what is well
    #[arg(short, long)]
    pub quiet: bool,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "With --wait it ends when nobody sends the workload anything new.

Examples:
  weft drain shop/catalog-v2 --wait
  weft drain catalog-v2 -n shop --force
  weft drain shop/catalog-v2 --undo")]
pub struct DrainArgs {
    /// NAMESPACE/WORKLOAD, or WORKLOAD
    pub id: String,
    /// Namespace of a WORKLOAD
    #[arg(short, long, env = "WEFT_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Let it have requests again
    #[arg(long, conflicts_with = "force")]
    pub undo: bool,
    /// Also where no other healthy instance of one of its services is left
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub delivery: DeliveryFlags,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft version
  weft version -o json | jq -r .server.version")]
pub struct VersionArgs {
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct DebugArgs {
    #[command(subcommand)]
    pub command: DebugCommand,
}

#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Write what somebody needs who is to help: versions, findings, configurations, logs, without secrets
    Bundle(BundleArgs),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft debug bundle
  weft debug bundle --out mesh.tar.gz && tar -tzf mesh.tar.gz")]
pub struct BundleArgs {
    /// The file to make, mode 0600; never one that exists. weft-debug-SECONDS.tar.gz by default
    #[arg(short, long, value_name = "FILE.tar.gz")]
    pub out: Option<PathBuf>,
}
