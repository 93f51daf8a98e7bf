//! Hosts of a dynamic forward proxy: each is looked up when a request names it, and is then a cluster of its own with
//! the addresses as endpoints.
//!
//! Who asks for a host while another asks for it waits for the same answer. How many hosts are kept, and how many
//! requests wait, is bounded; beyond that a request is answered at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::sync::{Notify, Semaphore};
use weft_routing::route::without_port;

use super::clock::{now, within};
use super::cluster::ClusterState;
use super::local::Local;
use super::reply::Reply;
use crate::format::ResponseFlags;
use crate::runtime::{Cluster, DnsCache};
use crate::stats::DnsCacheStats;

/// How many names one worker asks the system for at once: each takes a thread until it answers.
const LOOKUPS: usize = 16;
/// How long a name that could not be resolved is not asked for again.
const FAILURE_LIFE: Duration = Duration::from_secs(1);

/// A host whose addresses are known.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedHost {
    /// The cluster of its addresses.
    pub(crate) cluster: Rc<ClusterState>,
    pub(crate) addresses: Rc<[SocketAddr]>,
}

/// Why a request has nowhere to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// The request names no host, or none that can be read.
    NoHost,
    /// The name has no address, or none that may be used.
    Failed,
    TooManyHosts,
    TooManyWaiting,
}

/// The hosts that requests to one cluster named, on one worker.
#[derive(Debug)]
pub(crate) struct DynamicHosts {
    hosts: RefCell<HashMap<HostKey, Rc<DynamicHost>>>,
    waiting: Cell<usize>,
    lookups: Arc<Semaphore>,
}

/// A host in lower case, and its port.
type HostKey = (Box<str>, u16);

#[derive(Debug)]
struct DynamicHost {
    answer: RefCell<Option<Resolution>>,
    /// Whether somebody asks right now.
    asking: Cell<bool>,
    asked: Notify,
    used: Cell<Instant>,
}

/// The one who asks for a host, until dropped; the others look again then.
struct Asking<'a>(&'a DynamicHost);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.set(false);
        self.0.asked.notify_waiters();
    }
}

#[derive(Debug)]
struct Resolution {
    found: Option<ResolvedHost>,
    /// Until when it is taken for granted.
    fresh_until: Instant,
}

/// One more request that waits, until dropped.
struct PendingLookup<'a>(&'a Cell<usize>);

impl Drop for PendingLookup<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Default for DynamicHosts {
    fn default() -> Self {
        Self { hosts: RefCell::default(), waiting: Cell::new(0), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl DynamicHosts {
    /// Forgets all hosts, and ends connections to them that nobody uses.
    pub(crate) fn clear(&self) {
        let hosts = std::mem::take(&mut *self.hosts.borrow_mut());
        hosts.values().for_each(|host| host.retire());
    }

    /// Finds the addresses of the host that an authority names.
    pub(crate) async fn find(
        &self,
        worker: &Rc<Local>,
        config: &Cluster,
        authority: &str,
    ) -> Result<ResolvedHost, LookupError> {
        let Some((cache, stats)) = &config.dns_cache else { return Err(LookupError::NoHost) };
        let name = parse(authority).ok_or(LookupError::NoHost)?;
        if self.waiting.get() >= cache.max_pending {
            worker.shard.inc(stats.dns_rq_pending_overflow);
            return Err(LookupError::TooManyWaiting);
        }
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = PendingLookup(&self.waiting);
        let host = self.host(worker, &name, cache, stats)?;
        host.used.set(now());
        let _asking = loop {
            if let Some(known) = host.fresh() {
                return known.ok_or(LookupError::Failed);
            }
            match host.ask() {
                Some(asking) => break asking,
                None => host.asked.notified().await,
            }
        };
        let known = host.answer.borrow().as_ref().and_then(|answer| answer.found.clone());
        let addresses = self.look_up(worker, &name, cache, stats).await;
        let life = if addresses.is_empty() { FAILURE_LIFE } else { cache.refresh };
        let found = if addresses.is_empty() {
            // A name that has just stopped to resolve keeps what it had.
            known
        } else if let Some(known) = known.filter(|known| *known.addresses == *addresses) {
            Some(known)
        } else {
            worker.shard.inc(stats.host_address_changed);
            host.retire();
            let cluster = ClusterState::new(Arc::new(config.with_addresses(&addresses)), worker.random());
            Some(ResolvedHost { cluster, addresses: addresses.into() })
        };
        *host.answer.borrow_mut() = Some(Resolution { found: found.clone(), fresh_until: now() + life });
        found.ok_or(LookupError::Failed)
    }

    fn host(
        &self,
        worker: &Local,
        name: &HostKey,
        cache: &DnsCache,
        stats: &DnsCacheStats,
    ) -> Result<Rc<DynamicHost>, LookupError> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(host) = hosts.get(name) {
            return Ok(Rc::clone(host));
        }
        if hosts.len() >= cache.max_hosts {
            let before = hosts.len();
            hosts.retain(|_, host| {
                let stays = now().saturating_duration_since(host.used.get()) < cache.host_ttl;
                if !stays {
                    host.retire();
                }
                stays
            });
            worker.shard.add(stats.host_removed, (before - hosts.len()) as u64);
        }
        if hosts.len() >= cache.max_hosts {
            worker.shard.inc(stats.host_overflow);
            return Err(LookupError::TooManyHosts);
        }
        worker.shard.inc(stats.host_added);
        let host = Rc::new(DynamicHost {
            answer: RefCell::new(None),
            asking: Cell::new(false),
            asked: Notify::new(),
            used: Cell::new(now()),
        });
        hosts.insert(name.clone(), Rc::clone(&host));
        Ok(host)
    }

    /// The addresses of a name that may be used; none where there are none, or no answer in time.
    async fn look_up(
        &self,
        worker: &Local,
        (host, port): &HostKey,
        cache: &DnsCache,
        stats: &DnsCacheStats,
    ) -> Vec<SocketAddr> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, *port)],
            Err(_) => {
                worker.shard.inc(stats.dns_query_attempt);
                let asking = ask(Arc::clone(&self.lookups), host.clone(), *port);
                match within(&worker.deadlines, Some(cache.query_timeout), asking).await {
                    Some(Ok(found)) => {
                        worker.shard.inc(stats.dns_query_success);
                        cache.family.choose(found)
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%host, %error, "the name cannot be resolved");
                        worker.shard.inc(stats.dns_query_failure);
                        Vec::new()
                    }
                    None => {
                        worker.shard.inc(stats.dns_query_timeout);
                        Vec::new()
                    }
                }
            }
        };
        let may_be_used =
            |address: &SocketAddr| !cache.denied.iter().any(|range| range.contains(address.ip()));
        found.into_iter().filter(may_be_used).collect()
    }
}

impl DynamicHost {
    /// What was found, where that is still taken for granted.
    fn fresh(&self) -> Option<Option<ResolvedHost>> {
        let answer = self.answer.borrow();
        answer.as_ref().filter(|answer| now() < answer.fresh_until).map(|answer| answer.found.clone())
    }

    /// The right to ask, unless somebody has it.
    fn ask(&self) -> Option<Asking<'_>> {
        (!self.asking.replace(true)).then(|| Asking(self))
    }

    /// Ends connections that nobody uses.
    fn retire(&self) {
        if let Some(found) = self.answer.borrow().as_ref().and_then(|answer| answer.found.as_ref()) {
            found.cluster.retire();
        }
    }
}

/// Asks the system, on a thread that may block. The permit goes with the thread: a caller who leaves does not make room
/// for another one.
async fn ask(lookups: Arc<Semaphore>, host: Box<str>, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let permit = lookups.acquire_owned().await.map_err(std::io::Error::other)?;
    tokio::task::spawn_blocking(move || {
        let found = (&*host, port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        found
    })
    .await
    .map_err(std::io::Error::other)?
}

/// Host and port of an authority; an IPv6 address may stand in brackets.
fn parse(authority: &str) -> Option<HostKey> {
    let host = without_port(authority);
    let port = match authority[host.len()..].strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None => DnsCache::DEFAULT_PORT,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name =
        |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let fits = !bare.is_empty() && bare.len() <= 253 && (is_name(bare) || bare.parse::<IpAddr>().is_ok());
    fits.then(|| (bare.to_ascii_lowercase().into(), port))
}

impl LookupError {
    /// The answer that Envoy gives.
    pub(crate) fn reply(self) -> Reply {
        let unavailable = |details: &'static str, body: &'static str| {
            Reply::new(StatusCode::SERVICE_UNAVAILABLE, details).body(body)
        };
        match self {
            Self::NoHost => {
                Reply::new(StatusCode::BAD_REQUEST, "empty_host_header").body("Empty host header")
            }
            Self::Failed => unavailable("dns_resolution_failure", "DNS resolution failure")
                .flag(ResponseFlags::DNS_FAILURE),
            Self::TooManyHosts => {
                unavailable("dns_cache_overflow", "DNS cache overflow").flag(ResponseFlags::UPSTREAM_OVERFLOW)
            }
            Self::TooManyWaiting => unavailable(
                "dynamic_forward_proxy_pending_request_overflow",
                "Dynamic forward proxy pending request overflow",
            )
            .flag(ResponseFlags::UPSTREAM_OVERFLOW),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        let name = |host: &str, port| Some((Box::from(host), port));
        assert_eq!(parse("Example.ORG"), name("example.org", 80));
        assert_eq!(parse("example.org:8080"), name("example.org", 8080));
        assert_eq!(parse("10.1.2.3:81"), name("10.1.2.3", 81));
        assert_eq!(parse("[2001:db8::1]:81"), name("2001:db8::1", 81));
        assert_eq!(parse("[2001:db8::1]"), name("2001:db8::1", 80));
    }

    #[test]
    fn what_is_no_host_is_none() {
        for authority in ["", ":80", "a b", "example.org:0", "example.org:65536", "user@host", "[::1", "a/b"]
        {
            assert_eq!(parse(authority), None, "{authority:?}");
        }
    }
}
