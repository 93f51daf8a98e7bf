//! Who is let in: programs by a token in each call, an operator's or a principal's, browsers by a session that began with one.
//!
//! A browser sends what it has to whoever asks, so that its calls are looked at more closely than those of programs:
//!
//! | what is asked of a call with a cookie | against |
//! | --- | --- |
//! | the session's key in a header, which only this origin's page has | another site that has the browser ask here; a program on another port of this machine, which is sent the cookie too |
//! | `Origin` and `Sec-Fetch-Site`, where they are sent, say that the page is from here | the same, once more |
//! | on loopback, the host is an address, `localhost`, or a name of this control plane | a name that its owner has pointed here |
//! | a session of mode `Changes` for all that writes | a slip, and a page that somebody left open |

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use weft_api::rest::SessionMode;
use weft_api::{LogThrottle, Name};
use weft_policies::kinds::role::effect::Rights;
use weft_xds::transport::buckets::{Buckets, Rate};

use super::error::ApiError;
use super::host;
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::state::Api;
use crate::ca::ServerName;
use crate::identity::holders::TokenHolder;
use crate::identity::sessions::{Found, Sessions};
use crate::metrics::Limit;
use crate::source::SourceAddress;

/// The page's half of a session.
pub const KEY_HEADER: &str = "x-weft-session-key";
/// Sign-ins that fail, of one source.
const BAD_SIGN_INS: Rate = Rate { per_second: 0.5, burst: 10.0 };

/// Who makes a call; an extension of each request that was let in.
#[derive(Clone, Debug)]
pub enum ApiCaller {
    /// Whoever carries a token.
    Token(TokenHolder),
    /// A browser that was signed in.
    Browser(Found),
}

impl ApiCaller {
    /// Whose token it is, or began with.
    pub fn holder(&self) -> &TokenHolder {
        match self {
            Self::Token(holder) => holder,
            Self::Browser(found) => &found.holder,
        }
    }
}

impl fmt::Display for ApiCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.holder() {
            TokenHolder::Operator(operator) => write!(f, "operator of token {operator}")?,
            TokenHolder::Principal(principal) => write!(f, "{}", principal.name)?,
        }
        match self {
            Self::Token(_) => Ok(()),
            Self::Browser(_) => f.write_str(", in a browser"),
        }
    }
}

/// What is known of browsers.
#[derive(Debug)]
pub struct Browsers {
    pub sessions: Sessions,
    /// Whether they come over TLS.
    pub is_secure: bool,
    names: Arc<[ServerName]>,
    // A lock because any connection asks; held for a map look-up.
    bad: Mutex<Buckets<SourceAddress>>,
    said: LogThrottle<SourceAddress>,
}

impl Browsers {
    pub fn new(is_secure: bool, names: Arc<[ServerName]>) -> Self {
        let bad = Mutex::new(Buckets::new(BAD_SIGN_INS, Instant::now().into_std()));
        Self { sessions: Sessions::default(), is_secure, names, bad, said: LogThrottle::default() }
    }

    /// The cookie of this API. Browsers keep one jar for all ports of a host, so its name has the port.
    pub fn cookie_name(&self, request: &Request) -> String {
        let port = host::authority(request).and_then(|authority| authority.port_u16());
        let port = port.map(|port| format!("-{port}")).unwrap_or_default();
        if self.is_secure { format!("__Host-weft{port}") } else { format!("weft{port}") }
    }

    /// Refuses what a browser sends for somebody else's page.
    pub fn check_page(&self, request: &Request) -> Result<(), ApiError> {
        let authority = host::authority(request);
        // Over TLS a name that is not in the certificate gets no connection.
        let is_here = authority.as_ref().is_some_and(|named| host::is_ours(named.host(), &self.names));
        if !self.is_secure && !is_here {
            let detail =
                "this host is not one of this control plane's; ask by address, or name it with --xds-name";
            return Err(ApiError::new(ProblemCode::WrongHost, detail));
        }
        let scheme = if self.is_secure { "https" } else { "http" };
        let own = authority.map(|authority| format!("{scheme}://{authority}"));
        let headers = request.headers();
        let is_other = headers.get(header::ORIGIN).is_some_and(|origin| {
            own.as_ref().is_none_or(|own| !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()))
        });
        let is_cross = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
        if is_other || is_cross {
            let detail = "the page that asks is from another origin";
            return Err(ApiError::new(ProblemCode::CrossOrigin, detail));
        }
        Ok(())
    }

    /// Whether a source may try to sign in now.
    pub fn admit(&self, source: Option<SourceAddress>) -> Result<(), Duration> {
        let Some(source) = source else { return Ok(()) };
        self.bad().look(&source, Instant::now().into_std())
    }

    /// Counts a sign-in that failed against its source.
    pub fn note_bad(&self, source: Option<SourceAddress>) {
        let Some(source) = source else { return };
        // What is below nothing is not counted.
        let _ = self.bad().take(source, Instant::now().into_std());
        if let Some(unsaid) = self.said.speaks(source) {
            tracing::warn!(event = "sign_in_refused", %source, unsaid, "a sign-in to the page was refused");
        }
    }

    fn bad(&self) -> std::sync::MutexGuard<'_, Buckets<SourceAddress>> {
        self.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a request comes from.
pub fn source(request: &Request) -> Option<SourceAddress> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|source| source.0.ip().into())
}

/// Lets through whoever carries a token, and browsers that were signed in with one; says who it is, and what they may do.
pub async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.headers().get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(ApiError::bad_request("there are several Authorization headers: send one"));
    }
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    let caller = match bearer {
        Some(token) => match api.holders.identify(token).await? {
            Some(holder) => ApiCaller::Token(holder),
            None => return Err(unauthenticated("this token is not known here")),
        },
        None => {
            let found = browser(&api, &request)?;
            if !api.holders.knows(&found.holder).await? {
                api.browsers.sessions.end(found.cookie);
                return Err(unauthenticated(
                    "the token that this session began with is not accepted any more",
                ));
            }
            ApiCaller::Browser(found)
        }
    };
    let rights = rights(&api, caller.holder()).await?;
    request.extensions_mut().insert(CallerRights(Arc::new(rights)));
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

/// What the holder of a token may do now: a binding that was deleted gives nothing from the next call on.
async fn rights(api: &Api, holder: &TokenHolder) -> Result<Rights, ApiError> {
    let TokenHolder::Principal(principal) = holder else { return Ok(Rights::All) };
    if let Err(wait) = api.pace.take(&principal.name) {
        api.metrics.limited(Limit::CallsOfAPrincipal);
        let detail = format!("{} calls too often; try again in {} s", principal.name, wait.as_secs() + 1);
        return Err(ApiError::new(ProblemCode::TooMany, detail));
    }
    let (_, set) = api.newest().await?;
    Ok(holder.rights(&set))
}

/// How often one principal may call.
const CALLS: Rate = Rate { per_second: 50.0, burst: 200.0 };

/// The calls of principals, of whom none may take the control plane from the others.
#[derive(Debug)]
pub struct CallPace {
    // A lock because any connection asks; held for a map look-up. As many as there are principals.
    calls: Mutex<Buckets<Name>>,
}

impl Default for CallPace {
    fn default() -> Self {
        Self { calls: Mutex::new(Buckets::new(CALLS, Instant::now().into_std())) }
    }
}

impl CallPace {
    fn take(&self, principal: &Name) -> Result<(), Duration> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.take(principal.clone(), Instant::now().into_std())
    }
}

/// The session of a request, which may do what it asks for.
fn browser(api: &Api, request: &Request) -> Result<Found, ApiError> {
    let name = api.browsers.cookie_name(request);
    let Some(cookie) = cookie(request.headers(), &name) else {
        return Err(unauthenticated(
            "send `Authorization: Bearer TOKEN`; the token is in operator.token in the control plane's data directory",
        ));
    };
    api.browsers.check_page(request)?;
    let key = request.headers().get(KEY_HEADER).and_then(|key| key.to_str().ok()).unwrap_or_default();
    let Some(found) = api.browsers.sessions.find(cookie, key) else {
        return Err(unauthenticated("this session has ended, or is another replica's: sign in again"));
    };
    if found.mode == SessionMode::ReadOnly && !only_reads(request.method(), request.uri()) {
        let detail = "this session reads only: enable changes first";
        return Err(ApiError::new(ProblemCode::ReadOnly, detail));
    }
    Ok(found)
}

fn unauthenticated(detail: &str) -> ApiError {
    ApiError::new(ProblemCode::Unauthenticated, detail)
}

/// The value of a cookie, in whichever of the headers it is.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(given, _)| *given == name).map(|(_, value)| value)
}

/// What changes nothing of the mesh: reading, trying out, and what concerns the session itself.
fn only_reads(method: &Method, uri: &Uri) -> bool {
    match (method, uri.path()) {
        (&Method::GET | &Method::HEAD, _)
        | (_, "/v1/session")
        | (&Method::POST, "/v1/diff" | "/v1/explain") => true,
        (&Method::POST, "/v1/apply" | "/v1/rollback") => {
            let pairs = uri.query().unwrap_or_default().split('&');
            let tries = pairs.filter(|pair| *pair == "dryRun=true").count();
            // Written in any other way, it may be read in any other way.
            let said = uri.query().unwrap_or_default().to_ascii_lowercase();
            tries == 1 && said.matches("dryrun").count() == 1 && !said.contains('%')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request {
        let request = Request::get("/v1/edges");
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(Body::empty())
            .unwrap()
    }

    fn browsers(is_secure: bool) -> Browsers {
        Browsers::new(is_secure, Arc::new([ServerName::Dns("cp.example.com".to_owned())]))
    }

    #[tokio::test]
    async fn pages_of_others_are_turned_away() {
        let own = [
            ("host", "127.0.0.1:7400"),
            ("origin", "http://127.0.0.1:7400"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert!(browsers(false).check_page(&request(&own)).is_ok());
        assert!(browsers(false).check_page(&request(&own[..1])).is_ok());
        for wrong in [
            [("host", "127.0.0.1:7400"), ("origin", "http://127.0.0.1:3000")],
            [("host", "127.0.0.1:7400"), ("origin", "https://127.0.0.1:7400")],
            [("host", "127.0.0.1:7400"), ("origin", "null")],
            [("host", "127.0.0.1:7400"), ("sec-fetch-site", "same-site")],
            [("host", "127.0.0.1:7400"), ("sec-fetch-site", "cross-site")],
            [("host", "evil.test:7400"), ("origin", "http://evil.test:7400")],
        ] {
            assert!(browsers(false).check_page(&request(&wrong)).is_err(), "{wrong:?}");
        }
        let named = [("host", "mesh.example.org"), ("origin", "https://mesh.example.org")];
        assert!(
            browsers(true).check_page(&request(&named)).is_ok(),
            "its certificate says whose name that is"
        );
    }

    #[tokio::test]
    async fn each_port_has_a_cookie_of_its_own() {
        let name = |is_secure, host| browsers(is_secure).cookie_name(&request(&[("host", host)]));
        assert_eq!(name(false, "127.0.0.1:7400"), "weft-7400");
        assert_eq!(name(true, "cp.example.com"), "__Host-weft");
        let sent = request(&[("cookie", "a=b; weft-7401=other"), ("cookie", "weft-7400=own")]);
        assert_eq!(cookie(sent.headers(), "weft-7400"), Some("own"));
        assert_eq!(cookie(sent.headers(), "weft-740"), None);
    }

    #[test]
    fn session_that_reads_only_may_try_and_not_write() {
        let reads = |method: Method, uri: &str| only_reads(&method, &uri.parse().unwrap());
        assert!(reads(Method::GET, "/v1/edges") && reads(Method::DELETE, "/v1/session"));
        assert!(reads(Method::POST, "/v1/diff") && !reads(Method::PUT, "/v1/diff"));
        assert!(reads(Method::POST, "/v1/explain"));
        assert!(
            reads(Method::POST, "/v1/apply?dryRun=true")
                && reads(Method::POST, "/v1/apply?source=x&dryRun=true")
                && reads(Method::POST, "/v1/rollback?dryRun=true")
        );
        for uri in [
            "/v1/apply",
            "/v1/apply?dryRun=false",
            "/v1/apply?dryRun=true&dryRun=false",
            "/v1/apply?dryRun=true&dryRu%6e=false",
            "/v1/apply?xdryRun=true",
            "/v1/rollback",
            "/v1/rollback?dryRun=false",
            "/v1/tokens",
            "/v1/tokens?dryRun=true",
            "/v1/session/",
        ] {
            assert!(!reads(Method::POST, uri), "{uri}");
        }
        assert!(!reads(Method::DELETE, "/v1/tokens/x"));
    }

    #[tokio::test(start_paused = true)]
    async fn source_that_fails_too_often_waits() {
        let browsers = browsers(false);
        let source = Some(SourceAddress::from(std::net::IpAddr::from([192, 0, 2, 1])));
        for _ in 0..10 {
            assert!(browsers.admit(source).is_ok());
            browsers.note_bad(source);
        }
        assert!(browsers.admit(source).is_err());
        assert!(browsers.admit(Some(std::net::IpAddr::from([192, 0, 2, 2]).into())).is_ok());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(browsers.admit(source).is_ok());
    }
}
