//! A control plane on free ports, and what an operator does with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use tempfile::TempDir;
use tokio::time::Instant;
use weft_api::JoinToken;
use weft_api::client::{ApiClient, ApplyOptions, ClientError};
use weft_api::log_event::EventCounts;
use weft_api::rest::{ApplyResult, Problem, ProxyStatus, TokenRequest};
use weft_control_plane::args::Args;
use weft_control_plane::clock::Clock;
use weft_control_plane::server::{self, RunningControlPlane};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// A control plane; its directory goes with the last handle on it.
pub struct Plane {
    pub running: RunningControlPlane,
    pub client: ApiClient,
    pub token: String,
    directory: Arc<TempDir>,
}

impl Plane {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), flags).await
    }

    pub async fn start_in(directory: Arc<TempDir>, flags: &[&str]) -> Self {
        Self::start_by(directory, flags, Clock::system()).await.unwrap()
    }

    /// Starts by another clock than the machine's, or says why that is refused.
    pub async fn start_by(directory: Arc<TempDir>, flags: &[&str], clock: Clock) -> anyhow::Result<Self> {
        let data = directory.path().to_str().unwrap();
        let own = ["weft-control-plane", "--data-dir", data];
        let ports =
            ["--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let args = Args::try_parse_from(own.iter().chain(&ports).chain(flags)).unwrap();
        let running = server::start(&args, clock, EventCounts::default()).await?;
        let token =
            std::fs::read_to_string(directory.path().join("operator.token")).unwrap().trim().to_owned();
        let client = ApiClient::try_new(&format!("http://{}", running.api), &token, &[]).unwrap();
        let plane = Self { running, client, token, directory };
        let mut published = plane.running.reconciler.published();
        let ready = published.wait_for(|published| published.ready);
        tokio::time::timeout(DEADLINE, ready).await.expect("ready in time").unwrap();
        Ok(plane)
    }

    pub fn directory(&self) -> Arc<TempDir> {
        Arc::clone(&self.directory)
    }

    pub fn seal_key(&self) -> PathBuf {
        Path::new(self.directory.path()).join("seal.key")
    }

    pub async fn apply(&self, documents: &str) -> ApplyResult {
        self.client.apply(documents, &ApplyOptions::default()).await.unwrap()
    }

    pub async fn apply_and_wait(&self, documents: &str, wait: &str) -> ApplyResult {
        let options = ApplyOptions { wait: Some(wait.to_owned()), ..ApplyOptions::default() };
        self.client.apply(documents, &options).await.unwrap()
    }

    pub async fn refused(&self, documents: &str) -> Problem {
        problem(self.client.apply(documents, &ApplyOptions::default()).await)
    }

    pub async fn join_token(&self, service: &str) -> JoinToken {
        let request = TokenRequest {
            service: service.to_owned(),
            uses: Some(1000),
            allow_labels: vec!["version=*".to_owned()],
            // Tests say what there is after whom they let in.
            ahead: true,
            ..TokenRequest::default()
        };
        self.client.create_token(&request).await.unwrap().token.parse().unwrap()
    }

    pub async fn status(&self, id: &str) -> Option<ProxyStatus> {
        self.client.proxies().await.unwrap().items.into_iter().find(|proxy| proxy.id == id)
    }

    /// Waits until a proxy looks like that.
    pub async fn until(&self, id: &str, what: &str, looks: impl Fn(&ProxyStatus) -> bool) -> ProxyStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.status(id).await;
            match status {
                Some(status) if looks(&status) => return status,
                status => assert!(Instant::now() < deadline, "{id} is not {what} in time: {status:#?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A call as no client of ours makes it: status, media type, body.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> (u16, String, Vec<u8>) {
        self.call(self.running.api, method, path, token, body).await
    }

    /// What the control plane counts.
    pub async fn metrics(&self) -> String {
        let (_, _, text) = self.call(self.running.admin, "GET", "/metrics", None, Vec::new()).await;
        String::from_utf8(text).unwrap()
    }

    async fn call(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> (u16, String, Vec<u8>) {
        use http_body_util::{BodyExt as _, Full};
        let mut request = http::Request::builder().method(method).uri(format!("http://{address}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        let client = hyper_util::client::legacy::Client::builder(executor).build_http();
        let answer = client.request(request).await.unwrap();
        let media =
            answer.headers().get("content-type").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = answer.status().as_u16();
        (status, media, answer.into_body().collect().await.unwrap().to_bytes().to_vec())
    }
}

pub fn problem<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    match answer {
        Err(ClientError::Refused(problem)) => *problem,
        other => panic!("this should have been refused: {other:?}"),
    }
}

/// A service with one HTTP port.
pub fn service(name: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
    )
}

/// All requests to `parent` go to `backend`.
pub fn route(parent: &str, backend: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: {parent}, namespace: shop}}\n\
         spec: {{parentRefs: [{{kind: Service, name: {parent}, port: 80}}], rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}\n---\n"
    )
}
