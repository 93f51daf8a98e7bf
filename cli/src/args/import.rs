//! Of the command that reads documents of other meshes.

use clap::Args as ClapArgs;
use weft_api::Name;

use super::OutputFormat;
use crate::import::{DefaultIntention, ImportSource};

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft import consul consul/ --default-intention deny > policies.yaml
  weft import kuma kuma.yaml 2> not-carried.txt | weft validate -f -
  weft import app-mesh app-mesh.json -n shop -o json")]
pub struct ImportArgs {
    /// Whose documents they are
    pub from: ImportSource,
    /// Files, directories (read recursively), or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<String>,
    /// The namespace of what has none
    #[arg(short, long, default_value = "default", value_name = "NAMESPACE")]
    pub namespace: Name,
    /// Of Consul: what happens where no intention matches, its acl.default_policy
    #[arg(long, value_name = "ACTION")]
    pub default_intention: Option<DefaultIntention>,
    /// How it is printed; a table is YAML, with what is not carried on standard error
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
