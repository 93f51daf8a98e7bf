//! Which cluster of several a request is sent to.

use std::sync::Arc;

use http::HeaderName;

use crate::matcher::RequestHead;

/// Where a request is sent.
#[derive(Debug)]
pub enum ClusterChoice<O> {
    Named(Arc<str>),
    /// The cluster that a header names.
    Header(HeaderName),
    /// One of several, by weight.
    Weighted {
        clusters: Vec<WeightedCluster<O>>,
        /// Sum of the weights.
        total: u64,
    },
}

/// A member of `weighted_clusters`.
#[derive(Debug)]
pub struct WeightedCluster<O> {
    pub name: Arc<str>,
    /// Its part of the sum.
    pub weight: u32,
    /// What else is done to the requests that it gets.
    pub options: O,
}

/// A cluster that was chosen for one request.
#[derive(Debug)]
pub struct Chosen<'c, 'h, O> {
    /// Its name, of the configuration or of a header.
    pub name: &'h str,
    /// The member of `weighted_clusters` that was chosen.
    pub weighted: Option<&'c WeightedCluster<O>>,
}

impl<O> Clone for Chosen<'_, '_, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<O> Copy for Chosen<'_, '_, O> {}

impl<O> ClusterChoice<O> {
    /// The cluster for this request. `random` is spread evenly. `None` where the header is missing.
    #[inline]
    pub fn choose<'h, 'c: 'h>(&'c self, head: &RequestHead<'h>, random: u64) -> Option<Chosen<'c, 'h, O>> {
        match self {
            Self::Named(name) => Some(Chosen { name, weighted: None }),
            Self::Header(name) => {
                let name = head.headers.get(name)?.to_str().ok()?;
                Some(Chosen { name, weighted: None })
            }
            Self::Weighted { .. } => {
                let member = self.member(self.choose_member(random)?)?;
                Some(Chosen { name: &member.name, weighted: Some(member) })
            }
        }
    }

    /// The place of a member of `weighted_clusters`, by weight. `random` is spread evenly. `None` where nothing is weighed.
    #[inline]
    pub fn choose_member(&self, random: u64) -> Option<u32> {
        let Self::Weighted { clusters, total } = self else { return None };
        let mut at = ((u128::from(random) * u128::from(*total)) >> 64) as u64;
        let chosen = clusters.iter().position(|cluster| {
            let weight = u64::from(cluster.weight);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        });
        u32::try_from(chosen?).ok()
    }

    /// The members of `weighted_clusters`.
    #[inline]
    pub fn members(&self) -> &[WeightedCluster<O>] {
        match self {
            Self::Weighted { clusters, .. } => clusters,
            Self::Named(_) | Self::Header(_) => &[],
        }
    }

    /// The member of `weighted_clusters` at a place.
    #[inline]
    pub fn member(&self, place: u32) -> Option<&WeightedCluster<O>> {
        self.members().get(place as usize)
    }

    /// The clusters that are named.
    pub fn names(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Named(name) => vec![name],
            Self::Header(_) => Vec::new(),
            Self::Weighted { clusters, .. } => clusters.iter().map(|cluster| &cluster.name).collect(),
        }
    }
}
