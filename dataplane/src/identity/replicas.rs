//! Which replica of the control plane is spoken to.
//!
//! All of a proxy's conversations (discovery, health, metrics, renewals) share one choice, so that they meet at one
//! replica. The first is drawn by lot, to spread a fleet; one that does not answer is left for the next, in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::Rng as _;
use weft_api::{ControlPlanes, HostPort};

/// The replicas, and the one that is used. Clones share the choice.
#[derive(Debug, Clone)]
pub struct Replicas(Arc<ReplicaList>);

#[derive(Debug)]
struct ReplicaList {
    addresses: Vec<HostPort>,
    /// Index of the one to begin with at the next connection.
    next: AtomicUsize,
}

impl Replicas {
    /// Begins with any of them.
    #[must_use]
    pub fn new(control_planes: &ControlPlanes) -> Self {
        let addresses: Vec<HostPort> = control_planes.iter().cloned().collect();
        let first = rand::rng().random_range(0..addresses.len());
        Self(Arc::new(ReplicaList { addresses, next: AtomicUsize::new(first) }))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.addresses.len()
    }

    /// The one in use answers, but is of no use: the next connection goes to another.
    pub fn skip(&self) {
        self.0.next.fetch_add(1, Ordering::Relaxed);
    }

    /// Tries one after the other until one is `reached`, and stays with that.
    ///
    /// # Errors
    /// When none is, with what each said.
    pub async fn try_each<T, F>(&self, mut reach: impl FnMut(HostPort) -> F) -> std::io::Result<T>
    where
        F: Future<Output = std::io::Result<T>>,
    {
        let mut said: Vec<String> = Vec::new();
        let mut kind = std::io::ErrorKind::Other;
        for _ in 0..self.count() {
            // Counted on before it is tried: whoever gives up waiting does not come back to the one that hung.
            let turn = self.0.next.fetch_add(1, Ordering::Relaxed);
            let address = &self.0.addresses[turn % self.count()];
            match reach(address.clone()).await {
                Ok(reached) => {
                    self.0.next.store(turn, Ordering::Relaxed);
                    return Ok(reached);
                }
                Err(error) => {
                    kind = error.kind();
                    said.push(format!("{address}: {error}"));
                }
            }
        }
        Err(std::io::Error::new(kind, said.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::io::{Error, ErrorKind};

    use super::*;

    fn three() -> Replicas {
        Replicas::new(&"a:1,b:1,c:1".parse().unwrap())
    }

    async fn reach(replicas: &Replicas, up: &[&str]) -> Result<String, String> {
        let reached = replicas.try_each(|address| async move {
            let name = address.host.to_string();
            if up.contains(&name.as_str()) {
                Ok(name)
            } else {
                Err(Error::from(ErrorKind::ConnectionRefused))
            }
        });
        reached.await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn stays_with_one_that_answers_and_leaves_one_that_does_not() {
        let replicas = three();
        let first = reach(&replicas, &["a", "b", "c"]).await.unwrap();
        for _ in 0..5 {
            assert_eq!(reach(&replicas, &["a", "b", "c"]).await.unwrap(), first);
        }
        let others: Vec<&str> = ["a", "b", "c"].into_iter().filter(|name| *name != first).collect();
        let second = reach(&replicas, &others).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(reach(&replicas, &["a", "b", "c"]).await.unwrap(), second);
        replicas.skip();
        assert_ne!(reach(&replicas, &["a", "b", "c"]).await.unwrap(), second);
    }

    #[tokio::test]
    async fn when_none_answers_each_is_named() {
        let error = reach(&three(), &[]).await.unwrap_err();
        assert!(["a:1", "b:1", "c:1"].iter().all(|address| error.contains(address)), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_not_the_first_to_be_tried_again() {
        let replicas = three();
        let hung = RefCell::new(String::new());
        let hanging = replicas.try_each(|address| {
            hung.replace(address.host.to_string());
            std::future::pending::<std::io::Result<()>>()
        });
        tokio::time::timeout(std::time::Duration::from_millis(1), hanging).await.unwrap_err();
        assert_ne!(reach(&replicas, &["a", "b", "c"]).await.unwrap(), *hung.borrow());
    }

    #[test]
    fn fleet_spreads() {
        let first = |_| {
            let replicas = three();
            replicas.0.next.load(Ordering::Relaxed)
        };
        assert_eq!((0..100).map(first).collect::<BTreeSet<_>>().len(), 3);
    }
}
