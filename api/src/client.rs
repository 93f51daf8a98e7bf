//! A client of the REST API, as `weft` and tests use it.

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;

use crate::rest::{
    ApplyResult, EdgeList, NewToken, Object, ObjectList, Problem, ProxyList, ProxyStatus, RevokedProxy,
    TokenList, TokenRequest,
};

/// Answers larger than this are refused: 64 MiB.
const MAX_ANSWER: usize = 64 << 20;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the API cannot be read.
    #[error("{0:?} is not the address of an API: write it as http://HOST:PORT")]
    Address(String),
    /// Nobody answered.
    #[error("no answer from the control plane at {api}: {reason}; is it running, and is --api right?")]
    Unreachable {
        /// Where it was sought.
        api: String,
        /// What the network said.
        reason: String,
    },
    /// The control plane refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer is not what the API promises.
    #[error("the control plane at {api} gave an answer that cannot be read: {reason}")]
    Garbled {
        /// Who answered.
        api: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connection to one API, with a bearer token.
#[derive(Clone, Debug)]
pub struct Client {
    api: String,
    token: String,
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// Addresses an API, `http://HOST:PORT` or `https://HOST:PORT`; `roots` verify the latter.
    ///
    /// # Errors
    /// When the address is not a URL of that form.
    pub fn try_new(api: &str, token: &str, roots: &[CertificateDer<'static>]) -> Result<Self, ClientError> {
        let api = api.trim_end_matches('/').to_owned();
        let uri: Uri = api.parse().map_err(|_| ClientError::Address(api.clone()))?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(ClientError::Address(api));
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
        Ok(Self { api, token: token.to_owned(), pool: Pool::builder(TokioExecutor::new()).build(connector) })
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
        let path = format!("/v1/apply?{}", query.join("&"));
        self.call(Method::POST, &path, "application/yaml", documents.to_owned()).await
    }

    /// Lists objects of a kind, all pages; `namespace` narrows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(&self, kind: &str, namespace: Option<&str>) -> Result<ObjectList, ClientError> {
        let mut all = ObjectList::default();
        loop {
            let mut path = format!("/v1/{kind}?");
            if let Some(namespace) = namespace {
                path.push_str(&format!("namespace={}&", encode(namespace)));
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

    /// Deletes one object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<ApplyResult, ClientError> {
        self.call(Method::DELETE, &object_path(kind, namespace, name), "application/json", String::new())
            .await
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
    pub async fn ca(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/ca").await
    }

    /// Lists edges of the mesh with their traffic.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn edges(&self) -> Result<EdgeList, ClientError> {
        self.get("/v1/edges").await
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
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.api))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, content_type)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.garbled(&error))?;
        let answer = self.pool.request(request).await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.garbled(error.as_ref()))?
            .to_bytes();
        if status.is_success() {
            let text: &[u8] = if body.is_empty() { b"null" } else { &body };
            return serde_json::from_slice(text).map_err(|error| self.garbled(&error));
        }
        Err(ClientError::Refused(Box::new(read_problem(status, &body))))
    }

    fn garbled(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Garbled { api: self.api.clone(), reason: chain(error) }
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Unreachable { api: self.api.clone(), reason: chain(error) }
    }
}

/// How to apply.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Say what would happen and write nothing.
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change, or after this long (`30s`).
    pub wait: Option<String>,
    /// Where the documents come from, for error messages.
    pub source: Option<String>,
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

/// The innermost cause says the most ("connection refused").
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Percent-encodes one path segment or query value.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
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
        let client = Client::try_new("http://127.0.0.1:1", "t", &[]).unwrap();
        let error = client.proxies().await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1") && error.contains("is it running"), "{error}");
    }

    #[test]
    fn address_without_scheme_is_refused() {
        assert!(Client::try_new("localhost:7400", "t", &[]).is_err());
    }
}
