//! A filter chain as connections hold it: its content changes under them, its identity does not.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::route::RouteConfig;
use crate::runtime::{FilterChain, HttpManager, Listener, RouteSource, Runtime, Terminal};

/// One filter chain of one listener.
#[derive(Debug)]
pub(crate) struct ChainState {
    view: RefCell<Rc<ChainView>>,
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
        Rc::new(Self { view: RefCell::new(ChainView::new(listener, chain, runtime)) })
    }

    pub(crate) fn update(&self, listener: &Arc<Listener>, chain: &Arc<FilterChain>, runtime: &Runtime) {
        *self.view.borrow_mut() = ChainView::new(listener, chain, runtime);
    }

    pub(crate) fn view(&self) -> Rc<ChainView> {
        self.view.borrow().clone()
    }

    pub(crate) fn identity(&self) -> u64 {
        self.view.borrow().chain.identity
    }
}
