//! Flags of `weft ca`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::{ListArgs, OutputFormat};

#[derive(Debug, ClapArgs)]
pub struct CaArgs {
    #[command(subcommand)]
    pub command: CaCommand,
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Roots and issuers, what depends on each, and what a rotation waits for
    #[command(after_help = "Examples:
  weft ca status
  weft ca status -o json | jq .rotation")]
    Status(ListArgs),
    /// Replace the root, stage by stage, while the mesh goes on; done by itself at two thirds of the root's life
    #[command(
        after_help = "It takes about as long as certificates of workloads live: the old root leaves when none that leads to it is in its life. A stage \
waits for nobody whose certificate has ended. With --wait each stage is told as it begins; whoever ends the command ends the waiting, \
and not the rotation.

Examples:
  weft ca rotate --spread 10m
  weft ca rotate --abort"
    )]
    Rotate(CaRotate),
    /// Seal the authority's keys in the store with the newest seal key, the first line of the file
    #[command(
        after_help = "Put a new line of 64 hexadecimal digits before the others, into the file of each control plane (seal.key in \
--data-dir, or --seal-key), and then run this. When `weft ca status` shows that no record needs the old key any more, its line can go.

Examples:
  weft ca reseal"
    )]
    Reseal(CaReseal),
}

#[derive(Debug, ClapArgs)]
pub struct CaReseal {
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct CaRotate {
    /// Return when it is done, or say after this time what it waits for; 48h unless said
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "48h", require_equals = true, value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
    /// How long the workloads' renewals are spread over; an hour unless said
    #[arg(long, value_name = "DURATION")]
    pub spread: Option<String>,
    /// Undo the one that is under way: the old root stays
    #[arg(long, conflicts_with = "spread")]
    pub abort: bool,
    /// How it is printed
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}
