//! What people say of their documents.

use clap::ValueEnum;
use weft_api::Name;

/// Whose documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportSource {
    /// Consul's config entries, as `consul config read` prints them, or of Kubernetes
    Consul,
    /// Kuma's policies, universal or of Kubernetes
    Kuma,
    /// AWS App Mesh's objects, as `aws appmesh describe-…` prints them, or of Kubernetes
    AppMesh,
}

/// What callers may do where no intention of Consul matches: its ACL default policy, which stands in no config entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DefaultIntention {
    Allow,
    Deny,
}

/// What the inputs themselves do not tell.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The namespace of what has none.
    pub namespace: Name,
    pub default_intention: Option<DefaultIntention>,
}
