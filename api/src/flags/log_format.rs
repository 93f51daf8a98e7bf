//! How a binary writes its own log.

use clap::ValueEnum;

/// How the lines of a binary's own log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
