//! Signing a browser in and out.

use axum::extract::State;
use axum::{Extension, RequestExt as _};
use weft_api::rest::{BrowserSession, LoginCode, SessionChange, SessionMode, SignIn};

use super::access::{ApiCaller, source};
use super::answer::{NoStore, SignedOut};
use super::error::{ApiError, Refuses};
use super::extract::{BrowserRequest, JsonBody, SignInRequest};
use super::problem_code::ProblemCode;
use super::state::Api;
use crate::identity::holders::TokenHolder;
use crate::identity::sessions::{CODE_LIFE, Found, LIFE};
use crate::metrics::Limit;

/// `POST /v1/session`: a token or a code for a session.
pub async fn sign_in(
    State(api): State<Api>,
    SignInRequest(request): SignInRequest,
) -> Result<NoStore<BrowserSession>, ApiError> {
    api.browsers.check_page(&request)?;
    let (source, cookie_name) = (source(&request), api.browsers.cookie_name(&request));
    if let Err(wait) = api.browsers.admit(source) {
        api.metrics.limited(Limit::BadSignInsOfASource);
        let detail = format!("too many sign-ins from here failed; try again in {} s", wait.as_secs() + 1);
        return Err(ApiError::new(ProblemCode::TooMany, detail));
    }
    let Some(holder) = holder(&api, request.extract().await).await? else {
        api.browsers.note_bad(source);
        let detail = "this token, or this link, signs nobody in; a link is good once, for a minute";
        return Err(ApiError::new(ProblemCode::Unauthenticated, detail));
    };
    let started = api.browsers.sessions.start(holder);
    if started.displaced {
        api.metrics.limited(Limit::BrowserSessions);
    }
    let source = source.map(|source| source.to_string()).unwrap_or_default();
    tracing::info!(event = "sign_in", source, "a browser was signed in to the page");
    let mode = SessionMode::ReadOnly;
    let session = BrowserSession { key: Some(started.key), mode, expires_at: after(&api, LIFE) };
    let cookie = cookie(&api, &cookie_name, &started.cookie, LIFE.as_secs());
    Ok(NoStore::new(session).with_cookie(cookie))
}

async fn holder(
    api: &Api,
    body: Result<JsonBody<SignIn>, ApiError>,
) -> Result<Option<TokenHolder>, ApiError> {
    match body {
        Ok(JsonBody(SignIn { token: Some(token), code: None })) => Ok(api.holders.identify(&token).await?),
        Ok(JsonBody(SignIn { token: None, code: Some(code) })) => Ok(api.browsers.sessions.redeem(&code)),
        Err(error) if error.status() != ProblemCode::BadRequest.status().as_u16() => Err(error),
        // What was sent may hold a secret, so that nothing of it is said again.
        Ok(_) | Err(_) => Err(ApiError::bad_request("send {\"token\": TOKEN}, or {\"code\": CODE}")),
    }
}

/// `GET /v1/session`
pub async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<NoStore<BrowserSession>, Refuses<404>> {
    let Found { mode, left, .. } = browser(caller)?;
    Ok(NoStore::new(BrowserSession { key: None, mode, expires_at: after(&api, left) }))
}

/// `PATCH /v1/session`: reads only, or may change.
pub async fn change(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    JsonBody(SessionChange { mode }): JsonBody<SessionChange>,
) -> Result<NoStore<BrowserSession>, Refuses<404>> {
    let Found { cookie, left, .. } = browser(caller)?;
    if !api.browsers.sessions.set_mode(cookie, mode) {
        return Err(ApiError::new(ProblemCode::Unauthenticated, "this session has ended").into());
    }
    tracing::info!(event = "session_mode_changed", ?mode, "a browser's session changes what it may do");
    Ok(NoStore::new(BrowserSession { key: None, mode, expires_at: after(&api, left) }))
}

/// `DELETE /v1/session`: signs out.
pub async fn end(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    BrowserRequest(request): BrowserRequest,
) -> Result<SignedOut, Refuses<404>> {
    let found = browser(caller)?;
    api.browsers.sessions.end(found.cookie);
    let name = api.browsers.cookie_name(&request);
    Ok(SignedOut { cookie: cookie(&api, &name, "", 0) })
}

/// `POST /v1/login-codes`: a code that signs one browser in. For whoever has the token: a session makes no others.
pub async fn make_code(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<NoStore<LoginCode>, ApiError> {
    let ApiCaller::Token(holder) = caller else {
        let detail = "a session signs no other browser in; use a token";
        return Err(ApiError::new(ProblemCode::TokenNeeded, detail));
    };
    let code = api.browsers.sessions.make_code(holder);
    Ok(NoStore::new(LoginCode { code, expires_at: after(&api, CODE_LIFE) }))
}

fn browser(caller: ApiCaller) -> Result<Found, ApiError> {
    match caller {
        ApiCaller::Browser(found) => Ok(found),
        ApiCaller::Token(_) => Err(no_browser()),
    }
}

fn no_browser() -> ApiError {
    ApiError::missing("there is no session: this call carries a token")
}

fn after(api: &Api, time: std::time::Duration) -> i64 {
    api.clock.unix_seconds().saturating_add_unsigned(time.as_secs())
}

fn cookie(api: &Api, name: &str, value: &str, max_age: u64) -> String {
    let secure = if api.browsers.is_secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}")
}
