//! A filter chain as connections hold it: its content changes under them, its identity does not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::route::RouteConfig;
use crate::runtime::{FilterChain, HttpManager, Listener, RouteSource, Runtime, Terminal, TrustChange};

/// One filter chain of one listener.
#[derive(Debug)]
pub(crate) struct ChainState {
    view: RefCell<Rc<ChainView>>,
    /// What its connections have not been asked yet.
    trust: Cell<TrustChange>,
}

/// What the chain says now.
#[derive(Debug)]
pub(crate) struct ChainView {
    pub(crate) listener: Arc<Listener>,
    pub(crate) chain: Arc<FilterChain>,
    /// The connection manager's routes; `None` where they are named and have not come.
    pub(crate) routes: Option<Arc<RouteConfig>>,
}

impl ChainView {
    fn new(listener: &Arc<Listener>, chain: &Arc<FilterChain>, runtime: &Runtime) -> Rc<Self> {
        let routes = match &chain.terminal {
            Terminal::Http(manager) => match &manager.routes {
                RouteSource::Inline(routes) => Some(routes.clone()),
                RouteSource::Rds(name) => runtime.routes.get(name).cloned(),
            },
            Terminal::Tcp(_) => None,
        };
        Rc::new(Self { listener: listener.clone(), chain: chain.clone(), routes })
    }

    /// The connection manager, where the chain ends in one.
    pub(crate) fn manager(&self) -> Option<&HttpManager> {
        match &self.chain.terminal {
            Terminal::Http(manager) => Some(manager),
            Terminal::Tcp(_) => None,
        }
    }
}

impl ChainState {
    pub(crate) fn new(listener: &Arc<Listener>, chain: &Arc<FilterChain>, runtime: &Runtime) -> Rc<Self> {
        let view = RefCell::new(ChainView::new(listener, chain, runtime));
        Rc::new(Self { view, trust: Cell::default() })
    }

    pub(crate) fn update(&self, listener: &Arc<Listener>, chain: &Arc<FilterChain>, runtime: &Runtime) {
        let before = self.view.replace(ChainView::new(listener, chain, runtime));
        if let (Some(before), Some(now)) = (&before.chain.tls, &chain.tls)
            && !Arc::ptr_eq(before, now)
        {
            self.trust.set(self.trust.get().max(now.change_since(before)));
        }
    }

    /// Whether clients that were let in have to be looked at again.
    pub(crate) fn trust_change(&self) -> TrustChange {
        self.trust.get()
    }

    /// They were.
    pub(crate) fn trust_settled(&self) {
        self.trust.set(TrustChange::Nothing);
    }

    pub(crate) fn view(&self) -> Rc<ChainView> {
        self.view.borrow().clone()
    }

    pub(crate) fn identity(&self) -> u64 {
        self.view.borrow().chain.identity
    }
}
