//! A cluster's configuration as one worker holds it.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::breaker::Breaker;
use crate::runtime::Cluster;

/// The configuration behind a reference count of the worker's own. Each request takes several references, and a count
/// that all workers share would travel between processors.
#[derive(Debug)]
pub(crate) struct ClusterInfo(Arc<Cluster>);

impl ClusterInfo {
    pub(crate) fn new(config: Arc<Cluster>) -> Rc<Self> {
        Rc::new(Self(config))
    }

    /// Whether this is the same configuration, not one that says the same.
    pub(crate) fn is(&self, config: &Arc<Cluster>) -> bool {
        Arc::ptr_eq(&self.0, config)
    }
}

impl Deref for ClusterInfo {
    type Target = Cluster;

    #[inline]
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

/// A cluster's circuit breaker, reached through the worker's own reference count.
#[derive(Debug, Clone)]
pub(crate) enum BreakerOf {
    Default(Rc<ClusterInfo>),
    High(Rc<ClusterInfo>),
}

impl Deref for BreakerOf {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        match self {
            Self::Default(cluster) => &cluster.breaker,
            Self::High(cluster) => &cluster.high_breaker,
        }
    }
}
