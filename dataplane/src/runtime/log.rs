//! Access logs as data.

use std::path::PathBuf;
use std::sync::Arc;

use crate::format::{AccessLogFilter, Format};

/// One access log: what is written, where, and which requests.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: LogSink,
    /// How a line looks.
    pub format: Arc<Format>,
    /// Which requests or connections are logged; all without one.
    pub filter: Option<AccessLogFilter>,
}

/// Where an access log's lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogSink {
    /// A file, opened for append. Lines are dropped and counted where it cannot keep up.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
