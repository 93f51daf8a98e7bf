//! The control plane as one, whichever of its replicas are there.
//!
//! Every replica takes every change and knows what all share, so the first that answers is asked. What a replica knows
//! alone, the proxies that are connected to it and their traffic, is asked of all and put together.

use std::collections::BTreeMap;

use futures::future::join_all;
use weft_api::client::{ApplyOptions, Client, ClientError};
use weft_api::rest::{
    ApplyResult, CHANGED_MEANWHILE, Edge, EdgeList, ProxyList, ProxyStatus, Sync, WaitResult,
};

/// A client of each replica, one at least.
pub struct Replicas {
    each: Vec<Client>,
}

impl Replicas {
    /// # Panics
    /// Without any.
    pub fn new(each: Vec<Client>) -> Self {
        assert!(!each.is_empty(), "a control plane has a replica");
        Self { each }
    }

    /// Asks one replica after the other until one answers.
    pub async fn any<T>(
        &self,
        call: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.any_at(call).await.map(|(_, answer)| answer)
    }

    /// The same, with the position of who answered.
    async fn any_at<T>(
        &self,
        call: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> Result<(usize, T), ClientError> {
        let mut silent = None;
        for (index, client) in self.each.iter().enumerate() {
            match call(client).await {
                Err(error) if is_silence(&error) => silent = silent.or(Some(error)),
                answer => return answer.map(|answer| (index, answer)),
            }
        }
        Err(silent.expect("there is a replica"))
    }

    /// Asks all at once. Those that do not answer are named on standard error, unless none does.
    async fn all<T>(
        &self,
        call: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> Result<Vec<T>, ClientError> {
        let answers = join_all(self.each.iter().map(|client| call(client))).await;
        let (mut heard, mut silent) = (Vec::new(), None);
        for answer in answers {
            match answer {
                Ok(answer) => heard.push(answer),
                Err(error) if is_silence(&error) => silent = silent.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match silent {
            Some(error) if heard.is_empty() => return Err(error),
            Some(error) => eprintln!("warning: {error}; the others answer for their proxies"),
            None => {}
        }
        Ok(heard)
    }

    /// Traffic of the whole mesh.
    pub async fn edges(&self) -> Result<EdgeList, ClientError> {
        Ok(together(self.all(async |client: &Client| client.edges().await).await?))
    }

    /// All proxies, each as the replica that it is connected to knows it.
    pub async fn proxies(&self) -> Result<ProxyList, ClientError> {
        let lists = self.all(async |client: &Client| client.proxies().await).await?;
        let revision = lists.iter().map(|list| list.revision).max().unwrap_or_default();
        let mut by_id: BTreeMap<String, ProxyStatus> = BTreeMap::new();
        for proxy in lists.into_iter().flat_map(|list| list.items) {
            match by_id.get_mut(&proxy.id) {
                Some(known) if known.sync == Sync::Disconnected => *known = proxy,
                Some(_) => {}
                None => drop(by_id.insert(proxy.id.clone(), proxy)),
            }
        }
        Ok(ProxyList { items: by_id.into_values().collect(), revision })
    }

    /// One proxy, as the replica that it is connected to knows it.
    pub async fn proxy(&self, id: &str) -> Result<ProxyStatus, ClientError> {
        let found = self.all(async |client: &Client| client.proxy(id).await).await?;
        let connected = found.iter().position(|proxy| proxy.sync != Sync::Disconnected);
        Ok(found.into_iter().nth(connected.unwrap_or_default()).expect("one answered"))
    }

    /// Applies by one replica. A wait is for the proxies of all of them.
    pub async fn apply(&self, text: &str, options: &ApplyOptions) -> Result<ApplyResult, ClientError> {
        let apply = async |client: &Client| client.apply(text, options).await;
        let (at, mut result) = self.any_at(apply).await?;
        let Some(wait) = &mut result.wait else { return Ok(result) };
        // The same once more changes nothing, and waits for others; where something came after, it would undo that.
        let again = ApplyOptions { if_revision: Some(result.revision), ..options.clone() };
        let others = self.each.iter().enumerate().filter(|(index, _)| *index != at);
        let others = others.map(|(_, client)| client.apply(text, &again));
        for answer in join_all(others).await {
            match answer {
                Ok(other) => add(wait, other.wait.unwrap_or_default()),
                Err(ClientError::Refused(problem)) if problem.code == CHANGED_MEANWHILE => {
                    eprintln!(
                        "warning: a later change came before every replica had this one: {}",
                        problem.detail
                    );
                }
                Err(error) if is_silence(&error) => {
                    eprintln!("warning: {error}; its proxies are not counted");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(result)
    }
}

/// Whether another replica may do better.
fn is_silence(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::TimedOut { .. } => true,
        ClientError::Address(_)
        | ClientError::Plaintext(_)
        | ClientError::Refused(_)
        | ClientError::Garbled { .. } => false,
    }
}

fn add(wait: &mut WaitResult, other: WaitResult) {
    wait.targeted += other.targeted;
    wait.acked += other.acked;
    wait.laggards.extend(other.laggards);
}

/// One edge from what the callers at each replica say of it.
fn together(lists: Vec<EdgeList>) -> EdgeList {
    let mut edges: BTreeMap<_, Edge> = BTreeMap::new();
    for edge in lists.into_iter().flat_map(|list| list.items) {
        let key = (edge.source.clone(), edge.destination.clone(), edge.port.clone(), edge.subset.clone());
        match edges.get_mut(&key) {
            Some(known) => join(known, &edge),
            None => drop(edges.insert(key, edge)),
        }
    }
    EdgeList { items: edges.into_values().collect() }
}

fn join(known: &mut Edge, other: &Edge) {
    let mean = |one: Option<f64>, two: Option<f64>| match (one, two) {
        (Some(one), Some(two)) if known.rate + other.rate > 0.0 => {
            Some((one * known.rate + two * other.rate) / (known.rate + other.rate))
        }
        (one, two) => one.or(two),
    };
    // Quantiles cannot be added; the slower ones are true of all but too few.
    let slower = |one: Option<f64>, two: Option<f64>| one.into_iter().chain(two).reduce(f64::max);
    *known = Edge {
        rate: known.rate + other.rate,
        success: mean(known.success, other.success),
        denied: mean(known.denied, other.denied),
        p50_ms: slower(known.p50_ms, other.p50_ms),
        p99_ms: slower(known.p99_ms, other.p99_ms),
        mtls: known.mtls && other.mtls,
        window_seconds: known.window_seconds.max(other.window_seconds),
        ..known.clone()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(destination: &str, rate: f64, success: f64, p99_ms: f64) -> Edge {
        Edge {
            source: "shop/web".to_owned(),
            destination: destination.to_owned(),
            port: "http".to_owned(),
            rate,
            success: Some(success),
            p99_ms: Some(p99_ms),
            mtls: true,
            ..Edge::default()
        }
    }

    #[test]
    fn callers_at_two_replicas_make_one_edge() {
        let one =
            EdgeList { items: vec![edge("shop/cart", 30.0, 1.0, 4.0), edge("shop/zoo", 1.0, 1.0, 1.0)] };
        let two = EdgeList { items: vec![edge("shop/cart", 10.0, 0.6, 9.0)] };
        let all = together(vec![one, two]).items;
        let [cart, zoo] = &all[..] else { panic!("{all:?}") };
        assert_eq!((cart.destination.as_str(), zoo.destination.as_str()), ("shop/cart", "shop/zoo"));
        assert!((cart.rate - 40.0).abs() < 1e-9 && (cart.success.unwrap() - 0.9).abs() < 1e-9, "{cart:?}");
        assert_eq!((cart.p99_ms, cart.denied, cart.mtls), (Some(9.0), None, true));
    }

    #[tokio::test]
    async fn replica_that_is_away_is_passed_over_and_nobody_at_all_is_an_error() {
        // Nobody listens on port 1, so that each is asked and none answers.
        let away = Client::try_new("http://127.0.0.1:1", "t", &[]).unwrap();
        let replicas = Replicas::new(vec![away.clone(), away]);
        let asked = std::cell::Cell::new(0);
        let answer = replicas.any(async |client: &Client| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 { Ok("here") } else { client.proxies().await.map(|_| "there") }
        });
        assert_eq!(answer.await.unwrap(), "here");
        assert!(replicas.proxies().await.is_err());
    }
}
