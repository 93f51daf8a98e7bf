//! What a replica knows of itself beside the mesh: where it listens, what it keeps its state in, who the others are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weft_api::HostPort;

use super::admin::Admin;
use crate::metrics::LogLines;
use crate::presence::listening_applications::ListeningApplications;
use crate::replicas::traffic::OtherReplicas;

#[derive(Clone, Debug)]
pub struct OwnReplica {
    /// Its id, new at each start.
    pub id: Arc<str>,
    /// Where the others reach it.
    pub address: HostPort,
    /// Those others, where there may be any.
    pub others: Option<OtherReplicas>,
    /// Where it answers operators.
    pub api: SocketAddr,
    /// Where `/ready` and the like are.
    pub admin_listen: SocketAddr,
    /// The file of the key that seals CA keys.
    pub seal_key: PathBuf,
    /// Directory of the embedded store; none with etcd.
    pub data_dir: Option<PathBuf>,
    pub admin: Admin,
    /// Its newest log lines.
    pub log: LogLines,
    pub applications: ListeningApplications,
}

impl OwnReplica {
    /// The version of this program.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");
}
