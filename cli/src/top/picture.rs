//! What is shown: the answers of the API at one moment.

use weft_api::client::ClientError;
use weft_api::rest::{Edge, EdgeState, ProxyStatus, Sync};

use super::failure_group::{self, FailureGroup};
use crate::replicas::ReplicaClients;

/// The mesh at one moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// Ordered by source, destination and port.
    pub edges: Vec<Edge>,
    /// Ordered by the id of their workloads.
    pub proxies: Vec<ProxyStatus>,
    /// What failed or was refused in the last ten minutes, the newest first.
    pub failures: Vec<FailureGroup>,
    /// Why this is not all, or nothing.
    pub troubles: Vec<String>,
    /// Whether the API answered.
    pub is_answered: bool,
}

/// Asks the API.
pub async fn ask(replicas: &ReplicaClients) -> Picture {
    let (edges, proxies, requests) =
        tokio::join!(replicas.edges(), replicas.proxies(), replicas.requests(None, None));
    let mut picture = Picture { is_answered: true, ..Picture::default() };
    match edges {
        Ok(list) => picture.edges = list.items,
        Err(error) => picture.fail(&error),
    }
    match proxies {
        Ok(list) => picture.proxies = list.items,
        Err(error) => picture.fail(&error),
    }
    match requests {
        Ok(list) => picture.failures = failure_group::grouped(list.items),
        Err(error) => picture.fail(&error),
    }
    picture.troubles.extend(replicas.take_warnings());
    picture
}

impl Picture {
    fn fail(&mut self, error: &ClientError) {
        self.is_answered = false;
        let words = error.to_string();
        // Three questions to an API that is away have one answer.
        if !self.troubles.contains(&words) {
            self.troubles.push(words);
        }
    }

    /// This one, or what was known before with the reason why there is nothing newer.
    pub fn after(self, before: Self) -> Self {
        if self.is_answered {
            return self;
        }
        Self { troubles: self.troubles, is_answered: false, ..before }
    }

    /// How many proxies have what they should have.
    pub fn in_sync(&self) -> usize {
        self.proxies.iter().filter(|proxy| proxy.sync == Sync::Synced).count()
    }

    /// Requests and connections a second, of all edges.
    pub fn rate(&self) -> f64 {
        self.edges.iter().map(|edge| edge.rate).sum()
    }
}

/// Whether an edge is one to look at first.
pub fn is_bad(edge: &Edge) -> bool {
    match edge.state {
        EdgeState::Failing | EdgeState::Silent => true,
        EdgeState::Flowing | EdgeState::Idle => false,
    }
}

/// Whether more than nothing of an edge is refused.
pub fn is_refused(edge: &Edge) -> bool {
    edge.denied.is_some_and(|share| share > 0.0)
}

/// Whether a proxy is one to look at first.
pub fn is_unwell(proxy: &ProxyStatus) -> bool {
    proxy.sync != Sync::Synced || !matches!(proxy.health.as_str(), "Healthy" | "Draining")
}
