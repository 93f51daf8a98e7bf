//! The control plane as one, whichever of its replicas are there.
//!
//! Every replica takes every change and asks the others what they know alone, so the first that answers is asked.

use std::cell::RefCell;

use futures::future::join_all;
use weft_api::client::{ApiClient, ClientError};
use weft_api::rest::{CheckResult, EdgeList, ProxyList, ProxyStatus, RequestList};

use crate::progress;

/// A client of each replica, one at least.
pub struct ReplicaClients {
    each: Vec<ApiClient>,
    /// What was to be warned of and is not said yet, where somebody else says it.
    unsaid: Option<RefCell<Vec<String>>>,
}

impl ReplicaClients {
    /// # Panics
    /// Without any.
    pub fn new(each: Vec<ApiClient>) -> Self {
        assert!(!each.is_empty(), "a control plane has a replica");
        Self { each, unsaid: None }
    }

    /// The same, for whoever draws on the terminal: warnings wait for [`take_warnings`](Self::take_warnings).
    pub fn quietly(self) -> Self {
        Self { unsaid: Some(RefCell::default()), ..self }
    }

    /// The warnings since the last time.
    pub fn take_warnings(&self) -> Vec<String> {
        self.unsaid.as_ref().map(RefCell::take).unwrap_or_default()
    }

    fn warn(&self, words: String) {
        match &self.unsaid {
            Some(unsaid) => unsaid.borrow_mut().push(words),
            None => eprintln!("warning: {words}"),
        }
    }

    /// Shows that somebody is waited for, unless somebody else draws on the terminal.
    fn shown<T>(&self, whom: &'static str, work: impl Future<Output = T>) -> impl Future<Output = T> {
        let (is_quiet, work) = (self.unsaid.is_some(), Box::pin(work));
        async move { if is_quiet { work.await } else { progress::shown(whom, work).await } }
    }

    /// Asks one replica after the other until one answers.
    pub async fn any<T>(
        &self,
        call: impl AsyncFn(&ApiClient) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.any_at(call).await.map(|(_, answer)| answer)
    }

    /// The same, with the position of who answered.
    async fn any_at<T>(
        &self,
        call: impl AsyncFn(&ApiClient) -> Result<T, ClientError>,
    ) -> Result<(usize, T), ClientError> {
        let mut silent = None;
        for (index, client) in self.each.iter().enumerate() {
            match self.shown("the control plane", call(client)).await {
                Err(error) if is_silence(&error) => silent = silent.or(Some(error)),
                answer => return answer.map(|answer| (index, answer)),
            }
        }
        Err(silent.expect("there is a replica"))
    }

    /// Traffic of the whole mesh, which each replica asks of all others.
    pub async fn edges(&self) -> Result<EdgeList, ClientError> {
        let list = self.any(async |client: &ApiClient| client.edges().await).await?;
        self.warn_of_unheard(list.unheard);
        Ok(list)
    }

    /// The same, told apart by something else than subsets.
    pub async fn edges_by(&self, by: &str) -> Result<EdgeList, ClientError> {
        let list = self.any(async |client: &ApiClient| client.edges_by(by).await).await?;
        self.warn_of_unheard(list.unheard);
        Ok(list)
    }

    /// The hops of one request, which each replica asks of all others.
    pub async fn request(&self, id: &str) -> Result<RequestList, ClientError> {
        let list = self.any(async |client: &ApiClient| client.request_by_id(id).await).await?;
        self.warn_of_unheard(list.unheard);
        Ok(list)
    }

    /// Requests that failed, which each replica asks of all others; the newest first.
    pub async fn requests(
        &self,
        source: Option<&str>,
        destination: Option<&str>,
    ) -> Result<RequestList, ClientError> {
        let list = self.any(async |client: &ApiClient| client.requests(source, destination).await).await?;
        self.warn_of_unheard(list.unheard);
        Ok(list)
    }

    fn warn_of_unheard(&self, count: usize) {
        if count > 0 {
            self.warn(format!("{count} control planes were not heard; what their proxies told is missing"));
        }
    }

    /// All proxies, each as the replica that it is connected to knows it.
    pub async fn proxies(&self) -> Result<ProxyList, ClientError> {
        let list = self.any(async |client: &ApiClient| client.proxies().await).await?;
        self.warn_of_unheard(list.unheard);
        Ok(list)
    }

    /// One proxy, as the replica that it is connected to knows it.
    pub async fn proxy(&self, id: &str) -> Result<ProxyStatus, ClientError> {
        self.any(async |client: &ApiClient| client.proxy(id).await).await
    }

    /// Asks the first that answers, and says which of the others do not.
    pub async fn check(&self) -> Result<(CheckResult, Vec<ClientError>), ClientError> {
        let (at, result) = self.any_at(async |client: &ApiClient| client.check().await).await?;
        let others = self.each.iter().enumerate().filter(|(index, _)| *index != at);
        let answers = join_all(others.map(|(_, client)| client.access())).await;
        Ok((result, answers.into_iter().filter_map(Result::err).filter(is_silence).collect()))
    }
}

/// Whether another replica may do better.
pub fn is_silence(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(_) | ClientError::TimedOut { .. } => true,
        ClientError::Address(_)
        | ClientError::Plaintext(_)
        | ClientError::Refused(_)
        | ClientError::Garbled { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replica_that_is_away_is_passed_over_and_nobody_at_all_is_an_error() {
        // Nobody listens on port 1, so that each is asked and none answers.
        let away = ApiClient::try_new("http://127.0.0.1:1", "t", &[]).unwrap();
        let replicas = ReplicaClients::new(vec![away.clone(), away]);
        let asked = std::cell::Cell::new(0);
        let answer = replicas.any(async |client: &ApiClient| {
            asked.set(asked.get() + 1);
            if asked.get() == 2 { Ok("here") } else { client.proxies().await.map(|_| "there") }
        });
        assert_eq!(answer.await.unwrap(), "here");
        assert!(replicas.proxies().await.is_err());
    }
}
