//! Names of DNS clusters, resolved off the workers and delivered as endpoints.
//!
//! Each name that some cluster needs has one task, which looks it up at the cluster's refresh rate and reports
//! changes. A failed look-up keeps the last addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookupFamily {
    /// IPv6 if there is any, else IPv4.
    Auto,
    V4Only,
    V6Only,
    /// IPv4 if there is any, else IPv6.
    V4Preferred,
    All,
}

impl LookupFamily {
    /// The addresses that count of those that were found, each once.
    #[must_use]
    pub fn choose(self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        found.sort_unstable();
        found.dedup();
        let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
        let or = |first: Vec<_>, second: Vec<_>| if first.is_empty() { second } else { first };
        match self {
            Self::Auto => or(v6, v4),
            Self::V4Only => v4,
            Self::V6Only => v6,
            Self::V4Preferred => or(v4, v6),
            Self::All => v6.into_iter().chain(v4).collect(),
        }
    }
}

/// A name to look up, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lookup {
    pub name: Arc<str>,
    /// The port that its addresses get.
    pub port: u16,
    pub family: LookupFamily,
    /// Only the first address counts.
    pub logical: bool,
    /// How often to ask.
    pub refresh: Duration,
}

/// What a look-up gave; no addresses when it failed and none were known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupResult {
    pub question: Lookup,
    /// The addresses, in order.
    pub addresses: Vec<SocketAddr>,
}

/// The tasks that look names up.
#[derive(Debug)]
pub struct Resolver {
    running: HashMap<Lookup, AbortHandle>,
    answers: mpsc::Sender<LookupResult>,
}

impl Resolver {
    /// A resolver that reports to `answers`.
    #[must_use]
    pub fn new(answers: mpsc::Sender<LookupResult>) -> Self {
        Self { running: HashMap::new(), answers }
    }

    /// Looks a name up from now on.
    pub fn ask(&mut self, question: Lookup) {
        let answers = &self.answers;
        self.running.entry(question).or_insert_with_key(|question| {
            tokio::task::spawn(look_up(question.clone(), answers.clone())).abort_handle()
        });
    }

    /// Looks it up no longer.
    pub fn cease(&mut self, question: &Lookup) {
        if let Some(task) = self.running.remove(question) {
            task.abort();
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

async fn look_up(question: Lookup, answers: mpsc::Sender<LookupResult>) {
    let mut last: Option<Vec<SocketAddr>> = None;
    loop {
        let found = tokio::net::lookup_host((&*question.name, question.port)).await;
        let addresses = match found {
            Ok(found) => choose(found.collect(), &question),
            Err(error) => {
                tracing::warn!(
                    event = "name_not_resolved",
                    name = &*question.name, %error,
                    "the name cannot be resolved"
                );
                last.clone().unwrap_or_default()
            }
        };
        if last.as_ref() != Some(&addresses) {
            last = Some(addresses.clone());
            if answers.send(LookupResult { question: question.clone(), addresses }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(question.refresh).await;
    }
}

fn choose(found: Vec<SocketAddr>, question: &Lookup) -> Vec<SocketAddr> {
    let mut chosen = question.family.choose(found);
    if question.logical {
        chosen.truncate(1);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(family: LookupFamily, logical: bool) -> Lookup {
        Lookup { name: "localhost".into(), port: 80, family, logical, refresh: Duration::from_secs(5) }
    }

    fn both() -> Vec<SocketAddr> {
        ["[::1]:80", "127.0.0.2:80", "127.0.0.1:80", "127.0.0.1:80"].map(|a| a.parse().unwrap()).to_vec()
    }

    #[test]
    fn the_family_decides_which_addresses_count() {
        let chosen = |family| choose(both(), &question(family, false)).len();
        assert_eq!(chosen(LookupFamily::Auto), 1);
        assert_eq!(chosen(LookupFamily::V4Only), 2);
        assert_eq!(chosen(LookupFamily::V6Only), 1);
        assert_eq!(chosen(LookupFamily::V4Preferred), 2);
        assert_eq!(chosen(LookupFamily::All), 3);
    }

    #[test]
    fn a_logical_cluster_has_one_address() {
        assert_eq!(choose(both(), &question(LookupFamily::V4Only, true)), ["127.0.0.1:80".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_reported_once() {
        let (sender, mut answers) = mpsc::channel(1);
        let mut resolver = Resolver::new(sender);
        let question = question(LookupFamily::V4Only, false);
        resolver.ask(question.clone());
        resolver.ask(question.clone());
        let answer = answers.recv().await.unwrap();
        assert_eq!(answer.question, question);
        assert_eq!(answer.addresses, ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(resolver.running.len(), 1);
        resolver.cease(&question);
        assert!(resolver.running.is_empty());
    }
}
