//! One worker's state of one cluster: whose turn it is, and the connections to each endpoint.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::cluster_info::ClusterInfo;
use super::pool::ConnectionPool;
use crate::balance::{ActiveRequest, Picker, PreviousHosts};
use crate::runtime::{Cluster, Endpoint};

/// A cluster as one worker sees it. It outlives changes of its configuration.
#[derive(Debug)]
pub(crate) struct ClusterState {
    view: RefCell<Rc<ClusterView>>,
    balancer: RefCell<Picker>,
}

/// A cluster's configuration with the pools of its endpoints, in the order of the endpoints.
#[derive(Debug)]
pub(crate) struct ClusterView {
    pub(crate) config: Rc<ClusterInfo>,
    pools: Vec<Rc<ConnectionPool>>,
}

/// The endpoint that a request goes to.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) view: Rc<ClusterView>,
    pub(crate) index: usize,
    _active: ActiveRequest,
}

impl Picked {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.view.config.endpoints.list[self.index]
    }

    pub(crate) fn pool(&self) -> &Rc<ConnectionPool> {
        &self.view.pools[self.index]
    }
}

impl ClusterState {
    pub(crate) fn new(config: Arc<Cluster>, seed: u64) -> Rc<Self> {
        let balancer = Picker::new(config.balancing, config.endpoints.clone(), config.outliers.clone(), seed);
        let pools = pools(&config, &[]);
        Rc::new(Self {
            view: RefCell::new(Rc::new(ClusterView { config: ClusterInfo::new(config), pools })),
            balancer: RefCell::new(balancer),
        })
    }

    /// Takes over a changed configuration. Pools of endpoints that stay are kept where nothing else changed.
    pub(crate) fn update(&self, config: Arc<Cluster>) {
        let old = self.view();
        if old.config.is(&config) {
            return;
        }
        let keep: &[Rc<ConnectionPool>] =
            if old.config.identity == config.identity { &old.pools } else { &[] };
        let pools = pools(&config, keep);
        let gone = |pool: &&Rc<ConnectionPool>| !pools.iter().any(|kept| Rc::ptr_eq(kept, pool));
        old.pools.iter().filter(gone).for_each(|pool| pool.retire());
        self.balancer.borrow_mut().update(
            config.balancing,
            config.endpoints.clone(),
            config.outliers.clone(),
        );
        *self.view.borrow_mut() = Rc::new(ClusterView { config: ClusterInfo::new(config), pools });
    }

    /// Ends all pooled connections: the cluster is gone.
    pub(crate) fn retire(&self) {
        self.view().pools.iter().for_each(|pool| pool.retire());
    }

    pub(crate) fn view(&self) -> Rc<ClusterView> {
        self.view.borrow().clone()
    }

    /// The next endpoint for a request of this hash, and not one of an earlier try where the attempts to avoid those suffice.
    pub(crate) fn pick(&self, hash: Option<u64>, previous: PreviousHosts<'_>) -> Option<Picked> {
        let view = self.view();
        let mut balancer = self.balancer.borrow_mut();
        let index = balancer.pick_avoiding(hash, previous)?;
        let active = balancer.begin(index);
        Some(Picked { view, index, _active: active })
    }

    /// Picks made in panic since the last call.
    pub(crate) fn take_panics(&self) -> u64 {
        self.balancer.borrow_mut().take_panics()
    }
}

fn pools(config: &Cluster, known: &[Rc<ConnectionPool>]) -> Vec<Rc<ConnectionPool>> {
    let by_address: std::collections::HashMap<_, &Rc<ConnectionPool>> =
        known.iter().map(|pool| (pool.address, pool)).collect();
    config
        .endpoints
        .list
        .iter()
        .map(|endpoint| match by_address.get(&endpoint.address) {
            Some(pool) if pool.fits(endpoint.address, endpoint.transport) => Rc::clone(pool),
            Some(_) | None => ConnectionPool::new(endpoint.address, endpoint.transport),
        })
        .collect()
}
