//! How a binary writes its own log.

use clap::ValueEnum;

/// How the lines of a binary's own log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of text for each event, for people to read.
    Text,
    /// A JSON object on a line for each event, for programs that collect logs.
    Json,
}
