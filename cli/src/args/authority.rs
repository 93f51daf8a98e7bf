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
    /// Print a request for the certificate of the mesh's issuer, for the owner of an offline root to sign
    #[command(
        after_help = "The key is made and kept by the mesh. Until the certificate is imported, the request is the same whenever it is asked for.

Examples:
  weft ca csr > issuer.csr
  weft ca csr -o json | jq .spkiSha256"
    )]
    Csr(CaCsr),
    /// Take the signed certificate of the issuer, with its chain up to the root: the mesh moves to that root, stage by stage
    #[command(
        after_help = "The file holds the certificate that was made of `weft ca csr`, then the one that signed it, up to and with the root (PEM). Below \
the root that the mesh has, the new issuer takes the place of the old one, and no root is replaced.

Examples:
  weft ca import chain.pem --spread 10m"
    )]
    Import(CaImport),
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
pub struct CaCsr {
    /// How it is printed; as PEM unless said
    #[arg(short, long, default_value = "table")]
    pub output: OutputFormat,
}

#[derive(Debug, ClapArgs)]
pub struct CaImport {
    /// Certificates (PEM), the issuer's first and the root last; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Return when the mesh has moved, or say after this time what it waits for; 48h unless said
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "48h", require_equals = true, value_parser = humantime::parse_duration)]
    pub wait: Option<Duration>,
    /// How long the workloads' renewals are spread over; an hour unless said
    #[arg(long, value_name = "DURATION")]
    pub spread: Option<String>,
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
