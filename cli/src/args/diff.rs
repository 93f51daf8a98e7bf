//! `weft diff`.

use clap::{ArgGroup, Args as ClapArgs};

use super::OutputFormat;

#[derive(Debug, ClapArgs)]
#[command(
    group = ArgGroup::new("change").required(true),
    after_help = "Ends with 2 where something would change, 0 where nothing would, 1 where it would be refused.

Examples:
  weft diff -f policies/
  weft diff --to 11
  weft diff -f cart.yaml -o json | jq '.edges[] | select(.effect == \"Refused\")'"
)]
pub struct Diff {
    /// File, directory (read recursively), or - for standard input
    #[arg(short, long = "file", value_name = "FILE|DIR|-", group = "change")]
    pub files: Vec<String>,
    /// What going back to this revision would change, in place of files
    #[arg(long, value_name = "REVISION", group = "change")]
    pub to: Option<u64>,
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
