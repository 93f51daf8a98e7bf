//! A client of the REST API, as `weft` and tests use it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;

use crate::Host;
use crate::rest::{
    ApplyResult, AuthorityStatus, EdgeList, LoginCode, NewToken, Object, ObjectList, Problem, ProxyList,
    ProxyStatus, RequestList, RevokedProxy, TokenList, TokenRequest,
};

mod access;
mod changes;
mod failure;
mod operation;
mod taps;
mod watch;

pub use access::AuditPart;
pub use changes::{DeleteOptions, HistoryPart, RollbackOptions};
pub use taps::{TapFeed, TapNews, TapQuery};
pub use watch::{ObjectEvent, ObjectEvents};

/// An answer that is not whole after this time will not come. Waiting for proxies comes on top of it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A large set of documents takes its time to be checked and written.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client says of itself that was not told what it is part of.
const USER_AGENT: &str = concat!("weft-api/", env!("CARGO_PKG_VERSION"));
/// Answers larger than this are refused: 64 MiB.
const MAX_ANSWER: usize = 64 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the API cannot be read.
    #[error("{0:?} is not the address of an API: write it as http://HOST:PORT")]
    Address(String),
    /// The operator's token would be read by everybody on the way.
    #[error("the operator's token is not sent to {0} in plain text: use https://{0} and --ca FILE")]
    Plaintext(String),
    /// There was no answer: what stands in the way, and what to do.
    #[error("{0}")]
    Unreachable(String),
    /// There was none in time.
    #[error("no answer from the control plane at {api} within {} s: is --api right? --timeout waits longer", .limit.as_secs_f64())]
    TimedOut {
        /// Where it was sought.
        api: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The control plane refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not what the API promises.
    #[error(
        "{api} gave an answer that is none of the API's: {reason}; is that the REST API (7400 unless told otherwise), and is --api right?"
    )]
    Garbled {
        /// The URL of the API that was asked.
        api: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connection to one API, with a bearer token.
#[derive(Clone, Debug)]
pub struct ApiClient {
    api: String,
    uri: Uri,
    has_roots: bool,
    token: String,
    user_agent: String,
    /// In place of the usual limits of an answer.
    timeout: Option<Duration>,
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl ApiClient {
    /// Addresses an API, `http://HOST:PORT` or `https://HOST:PORT`; `roots` verify the latter.
    ///
    /// # Errors
    /// When the address is not a URL of that form, or the token would travel to another machine in plain text.
    pub fn try_new(api: &str, token: &str, roots: &[CertificateDer<'static>]) -> Result<Self, ClientError> {
        let api = api.trim_end_matches('/').to_owned();
        let uri: Uri = api.parse().map_err(|_| ClientError::Address(api.clone()))?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(ClientError::Address(api));
        }
        if let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host())
            && !host.parse::<Host>().is_ok_and(|host| host.is_loopback())
        {
            return Err(ClientError::Plaintext(uri.authority().map_or(String::new(), ToString::to_string)));
        }
        let mut store = rustls::RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ClientError::Garbled { api: api.clone(), reason: error.to_string() })?
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            api,
            uri,
            has_roots: !roots.is_empty(),
            token: token.to_owned(),
            user_agent: USER_AGENT.to_owned(),
            timeout: None,
            pool,
        })
    }

    /// Says of itself what program it is part of, `NAME/VERSION`: the history tells it of each change.
    #[must_use]
    pub fn with_user_agent(self, user_agent: &str) -> Self {
        Self { user_agent: user_agent.to_owned(), ..self }
    }

    /// Waits so long for an answer, beside what a call is asked to wait for; by default 10 s, and 30 s where documents are
    /// checked or written.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Where the API is.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Applies YAML or JSON documents as one transaction.
    ///
    /// # Errors
    /// [`ClientError::Refused`] lists every violation; nothing was written then.
    pub async fn apply(&self, documents: &str, options: &ApplyOptions) -> Result<ApplyResult, ClientError> {
        let mut query = Vec::new();
        if options.dry_run {
            query.push("dryRun=true".to_owned());
        }
        if let Some(wait) = &options.wait {
            query.push(format!("wait={wait}"));
        }
        if let Some(source) = &options.source {
            query.push(format!("source={}", encode(source)));
        }
        if let Some(revision) = options.if_revision {
            query.push(format!("ifRevision={revision}"));
        }
        if let Some(selector) = &options.prune {
            query.push(format!("prune={}", encode(selector)));
        }
        if let Some(message) = &options.message {
            query.push(format!("message={}", encode(message)));
        }
        let path = format!("/v1/apply?{}", query.join("&"));
        let limit = self.limit(APPLY_TIMEOUT) + options.wait.as_deref().map_or(Duration::ZERO, wait);
        let call = self.answer(Method::POST, &path, "application/yaml", documents.to_owned());
        self.within(limit, call).await
    }

    /// Lists objects of a kind, all pages; `namespace` narrows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(&self, kind: &str, namespace: Option<&str>) -> Result<ObjectList, ClientError> {
        self.list_labelled(kind, namespace, None).await
    }

    /// The same, of those whose labels a selector takes: `app=web,tier in (front,back)`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list_labelled(
        &self,
        kind: &str,
        namespace: Option<&str>,
        selector: Option<&str>,
    ) -> Result<ObjectList, ClientError> {
        let mut all = ObjectList::default();
        loop {
            let mut path = format!("/v1/{kind}?");
            if let Some(namespace) = namespace {
                path.push_str(&format!("namespace={}&", encode(namespace)));
            }
            if let Some(selector) = selector {
                path.push_str(&format!("labelSelector={}&", encode(selector)));
            }
            if let Some(next) = &all.next {
                path.push_str(&format!("continue={}", encode(next)));
            }
            let page: ObjectList = self.get(&path).await?;
            all.items.extend(page.items);
            all.revision = page.revision;
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    }

    /// Reads one object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn object(&self, kind: &str, namespace: &str, name: &str) -> Result<Object, ClientError> {
        self.get(&object_path(kind, namespace, name)).await
    }

    /// Reads one object, whose status names every proxy that it counts.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn object_with_proxies(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Object, ClientError> {
        self.get(&format!("{}?proxies=true", object_path(kind, namespace, name))).await
    }

    /// Reads one object with all that its status can say: every proxy that it counts, and who set each value that holds.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn described_object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Object, ClientError> {
        self.get(&format!("{}?proxies=true&effective=true", object_path(kind, namespace, name))).await
    }

    /// Deletes one object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<ApplyResult, ClientError> {
        self.delete_with(kind, namespace, name, &DeleteOptions::default()).await
    }

    /// Lists proxies.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn proxies(&self) -> Result<ProxyList, ClientError> {
        self.get("/v1/proxies").await
    }

    /// One proxy, `NAMESPACE/WORKLOAD`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn proxy(&self, id: &str) -> Result<ProxyStatus, ClientError> {
        self.get(&format!("/v1/proxies/{}", encode(id))).await
    }

    /// The configuration that a proxy was sent, as JSON, secrets redacted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn proxy_config(&self, id: &str) -> Result<serde_json::Value, ClientError> {
        self.get(&format!("/v1/proxies/{}/config", encode(id))).await
    }

    /// Takes a workload out of the mesh, and puts its certificates on a revocation list.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_proxy(&self, id: &str) -> Result<RevokedProxy, ClientError> {
        let path = format!("/v1/proxies/{}/revoke", encode(id));
        self.call(Method::POST, &path, "application/json", String::new()).await
    }

    /// The state of the certificate authority.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ca(&self) -> Result<AuthorityStatus, ClientError> {
        self.get("/v1/ca").await
    }

    /// The whole state of the mesh as a backup, piece by piece. Whether it is whole is for who reads it to see.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn backup(&self) -> Result<BodyPieces, ClientError> {
        self.pieces("/v1/backup").await
    }

    /// An answer that comes piece by piece.
    async fn pieces(&self, path: &str) -> Result<BodyPieces, ClientError> {
        let request = self.request(Method::GET, path, "application/json", String::new())?;
        let asking = async { self.pool.request(request).await.map_err(|error| self.unreachable(&error)) };
        let answer = self.within(self.limit(APPLY_TIMEOUT), asking).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await?);
        }
        Ok(BodyPieces { client: self.clone(), body: answer.into_body() })
    }

    /// Lists edges of the mesh with their traffic.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn edges(&self) -> Result<EdgeList, ClientError> {
        self.get("/v1/edges").await
    }

    /// The same, told apart by `subset`, `route` or `version`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn edges_by(&self, by: &str) -> Result<EdgeList, ClientError> {
        self.get(&format!("/v1/edges?by={}", encode(by))).await
    }

    /// What is known of one request that failed or was refused, by its `x-request-id`: its hops in their order.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn request_by_id(&self, id: &str) -> Result<RequestList, ClientError> {
        self.get(&format!("/v1/requests/{}", encode(id))).await
    }

    /// Requests that failed or were refused lately, the newest first; of a calling and a called service where they are given.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn requests(
        &self,
        source: Option<&str>,
        destination: Option<&str>,
    ) -> Result<RequestList, ClientError> {
        let given = [("source", source), ("destination", destination)];
        let given = given.map(|(name, value)| (name, value.map(str::to_owned)));
        self.get(&format!("/v1/requests?{}", query(given))).await
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<NewToken, ClientError> {
        let body = serde_json::to_string(request).map_err(|error| self.garbled(&error))?;
        self.call(Method::POST, "/v1/tokens", "application/json", body).await
    }

    /// Lists join tokens.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        self.get("/v1/tokens").await
    }

    /// Revokes a join token.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/v1/tokens/{}", encode(id));
        let _: serde_json::Value =
            self.call(Method::DELETE, &path, "application/json", String::new()).await?;
        Ok(())
    }

    /// A code that signs one browser in, once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn login_code(&self) -> Result<LoginCode, ClientError> {
        self.call(Method::POST, "/v1/login-codes", "application/json", String::new()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, "application/json", String::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Result<T, ClientError> {
        self.within(self.limit(TIMEOUT), self.answer(method, path, content_type, body)).await
    }

    /// How long an answer may take that usually has `usual`.
    fn limit(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let late = |_| ClientError::TimedOut { api: self.api.clone(), limit };
        tokio::time::timeout(limit, answer).await.map_err(late)?
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Result<T, ClientError> {
        let request = self.request(method, path, content_type, body)?;
        let answer = self.pool.request(request).await.map_err(|error| self.unreachable(&error))?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await?);
        }
        let body = self.whole(answer).await?;
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|error| self.garbled(&error))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.api))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, &self.user_agent)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.garbled(&error))
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|error| self.garbled(error.as_ref()))?.to_bytes())
    }

    async fn refused(&self, answer: Response<Incoming>) -> Result<ClientError, ClientError> {
        let status = answer.status();
        let body = self.whole(answer).await?;
        Ok(ClientError::Refused(Box::new(read_problem(status, &body))))
    }

    fn garbled(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Garbled { api: self.api.clone(), reason: failure::innermost(error) }
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Unreachable(failure::explain(&self.uri, error, self.has_roots))
    }
}

/// An answer that comes piece by piece.
#[derive(Debug)]
pub struct BodyPieces {
    client: ApiClient,
    body: Incoming,
}

impl BodyPieces {
    /// The next piece; none when the answer has ended.
    ///
    /// # Errors
    /// When it is cut, or pauses for longer than an answer may.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Self { client, body } = self;
        loop {
            let frame = async { Ok(body.frame().await) };
            let Some(frame) = client.within(client.limit(TIMEOUT), frame).await? else { return Ok(None) };
            let frame = frame.map_err(|error| client.garbled(&error))?;
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// What an apply is asked to do beside writing; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Say what would happen and write nothing.
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change, or after this long (`30s`).
    pub wait: Option<String>,
    /// Where the documents come from, for error messages.
    pub source: Option<String>,
    /// Refuse ([`CHANGED_MEANWHILE`](crate::rest::CHANGED_MEANWHILE)) when this is not the newest revision; 0 is that of
    /// a mesh that never held a policy.
    pub if_revision: Option<u64>,
    /// Why, in one line; the history tells it.
    pub message: Option<String>,
    /// Delete all objects whose labels this selector takes and that are not among the documents.
    pub prune: Option<String>,
}

fn object_path(kind: &str, namespace: &str, name: &str) -> String {
    format!("/v1/namespaces/{}/{}/{}", encode(namespace), encode(kind), encode(name))
}

fn read_problem(status: StatusCode, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        Problem::new(status.as_u16(), "unexpected", status.canonical_reason().unwrap_or("Error"), text)
    })
}

/// How long the server was asked to wait; what it would refuse anyway counts as a minute.
fn wait(text: &str) -> Duration {
    humantime::parse_duration(text).unwrap_or(Duration::from_secs(60))
}

/// What is not one of RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The parameters that are given, as a query.
fn query<const N: usize>(parameters: [(&str, Option<String>); N]) -> String {
    let given =
        parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(&value?))));
    given.collect::<Vec<_>>().join("&")
}

/// Percent-encodes one path segment or query value.
fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_travel_as_one_path_segment() {
        assert_eq!(encode("shop/web-1"), "shop%2Fweb-1");
    }

    #[tokio::test]
    async fn says_where_nobody_answered() {
        let client = ApiClient::try_new("http://127.0.0.1:1", "t", &[]).unwrap();
        let error = client.proxies().await.unwrap_err().to_string();
        assert!(error.contains("nothing listens on 127.0.0.1:1"), "{error}");
    }

    #[tokio::test]
    async fn says_when_tls_is_sought_where_there_is_none() {
        let (address, _server) = answering("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        let client = ApiClient::try_new(&format!("https://{address}"), "t", &[]).unwrap();
        let error = client.proxies().await.unwrap_err().to_string();
        assert!(error.contains(&format!("use http://{address}")), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_on_an_api_that_accepts_and_never_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let error = ApiClient::try_new(&api, "t", &[]).unwrap().proxies().await.unwrap_err().to_string();
        assert!(error.contains("within 10 s") && error.contains(&api), "{error}");
    }

    #[test]
    fn token_is_not_sent_to_another_machine_in_plain_text() {
        for api in ["http://10.0.0.1:7400", "http://mesh.example:7400", "http://[2001:db8::1]:7400"] {
            let error = ApiClient::try_new(api, "t", &[]).unwrap_err().to_string();
            assert!(error.contains(&api.replace("http", "https")), "{error}");
        }
        for api in
            ["http://localhost:7400", "http://127.9.9.9:7400", "http://[::1]:7400", "https://10.0.0.1:7400"]
        {
            ApiClient::try_new(api, "t", &[]).unwrap();
        }
    }

    /// Answers each connection with the same bytes.
    async fn answering(bytes: &'static str) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(bytes.as_bytes()).await;
            }
        });
        (address, server)
    }

    #[test]
    fn address_without_scheme_is_refused() {
        assert!(ApiClient::try_new("localhost:7400", "t", &[]).is_err());
    }
}
