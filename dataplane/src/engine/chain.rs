//! A filter chain as connections hold it: its content changes under them, its identity and its kind do not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::route::RouteConfig;
use crate::runtime::{
    FilterChain, HttpManager, Listener, RouteSource, Runtime, TcpProxy, Terminal, TrustChange,
};

/// One filter chain of one listener.
#[derive(Debug)]
pub(crate) struct ChainState {
    view: RefCell<Rc<ChainView>>,
    /// What serves its connections.
    pub(crate) terminal: TerminalState,
    /// What its connections have not been asked yet.
    trust: Cell<TrustChange>,
}

/// What the chain says now.
#[derive(Debug)]
pub(crate) struct ChainView {
    pub(crate) listener: Arc<Listener>,
    pub(crate) chain: Arc<FilterChain>,
}

/// The filter that ends the chain.
#[derive(Debug)]
pub(crate) enum TerminalState {
    Http(Rc<HttpTerminal>),
    Tcp(RefCell<Arc<TcpProxy>>),
}

/// A connection manager, as its connections hold it.
#[derive(Debug)]
pub(crate) struct HttpTerminal {
    view: RefCell<Rc<HttpView>>,
}

/// What a connection manager says now; a request keeps what it began with.
#[derive(Debug)]
pub(crate) struct HttpView {
    pub(crate) manager: Arc<HttpManager>,
    /// Without any route where they are named and have not come.
    pub(crate) routes: Arc<RouteConfig>,
}

impl HttpView {
    fn new(manager: &Arc<HttpManager>, runtime: &Runtime) -> Rc<Self> {
        let routes = match &manager.routes {
            RouteSource::Inline(routes) => routes.clone(),
            RouteSource::Rds(name) => {
                runtime.routes.get(name).map(|routes| Arc::clone(routes)).unwrap_or_default()
            }
        };
        Rc::new(Self { manager: manager.clone(), routes })
    }
}

impl HttpTerminal {
    pub(crate) fn view(&self) -> Rc<HttpView> {
        self.view.borrow().clone()
    }
}

impl TerminalState {
    fn new(terminal: &Terminal, runtime: &Runtime) -> Self {
        match terminal {
            Terminal::Http(manager) => {
                let view = RefCell::new(HttpView::new(manager, runtime));
                Self::Http(Rc::new(HttpTerminal { view }))
            }
            Terminal::Tcp(proxy) => Self::Tcp(RefCell::new(proxy.clone())),
        }
    }

    /// Takes over the same filter with other content; `None` where it is another one.
    fn update(&self, terminal: &Terminal, runtime: &Runtime) -> Option<()> {
        match (self, terminal) {
            (Self::Http(http), Terminal::Http(manager)) => {
                *http.view.borrow_mut() = HttpView::new(manager, runtime);
            }
            (Self::Tcp(known), Terminal::Tcp(proxy)) => *known.borrow_mut() = proxy.clone(),
            (Self::Http(_), Terminal::Tcp(_)) | (Self::Tcp(_), Terminal::Http(_)) => return None,
        }
        Some(())
    }
}

impl ChainState {
    pub(crate) fn new(listener: &Arc<Listener>, chain: &Arc<FilterChain>, runtime: &Runtime) -> Rc<Self> {
        let view = ChainView { listener: listener.clone(), chain: chain.clone() };
        Rc::new(Self {
            view: RefCell::new(Rc::new(view)),
            terminal: TerminalState::new(&chain.terminal, runtime),
            trust: Cell::default(),
        })
    }

    /// Takes over `chain` where it is this one with other content: `None` where it is another chain.
    pub(crate) fn update(
        &self,
        listener: &Arc<Listener>,
        chain: &Arc<FilterChain>,
        runtime: &Runtime,
    ) -> Option<()> {
        if self.identity() != chain.identity {
            return None;
        }
        self.terminal.update(&chain.terminal, runtime)?;
        let view = ChainView { listener: listener.clone(), chain: chain.clone() };
        let before = self.view.replace(Rc::new(view));
        if let (Some(before), Some(now)) = (&before.chain.tls, &chain.tls)
            && !Arc::ptr_eq(before, now)
        {
            self.trust.set(self.trust.get().max(now.change_since(before)));
        }
        Some(())
    }

    /// Whether clients that were let in have to be looked at again.
    pub(crate) fn trust_change(&self) -> TrustChange {
        self.trust.get()
    }

    /// All clients that were let in have been looked at again since the trust changed.
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
