//! Signing a browser in and out.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Json, Response};
use axum::{Extension, RequestExt as _};
use weft_api::rest::{BrowserSession, LoginCode, SessionChange, SessionMode, SignIn};

use super::access::{ApiCaller, source};
use super::error::ApiError;
use super::extract::JsonText;
use super::state::Api;
use crate::identity::holders::TokenHolder;
use crate::identity::sessions::{CODE_LIFE, Found, LIFE};
use crate::metrics::Limit;

/// `POST /v1/session`: a token or a code for a session.
pub async fn sign_in(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    api.browsers.check_page(&request)?;
    let (source, cookie_name) = (source(&request), api.browsers.cookie_name(&request));
    if let Err(wait) = api.browsers.admit(source) {
        api.metrics.limited(Limit::BadSignInsOfASource);
        let detail = format!("too many sign-ins from here failed; try again in {} s", wait.as_secs() + 1);
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", detail));
    }
    let JsonText(body) = request.extract().await?;
    let Some(holder) = holder(&api, &body).await? else {
        api.browsers.note_bad(source);
        let detail = "this token, or this link, signs nobody in; a link is good once, for a minute";
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail));
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
    Ok(with_cookie(answer(&session), cookie))
}

async fn holder(api: &Api, body: &str) -> Result<Option<TokenHolder>, ApiError> {
    match serde_json::from_str(body) {
        Ok(SignIn { token: Some(token), code: None }) => Ok(api.holders.identify(&token).await?),
        Ok(SignIn { token: None, code: Some(code) }) => Ok(api.browsers.sessions.redeem(&code)),
        // What was sent may hold a secret, so that nothing of it is said again.
        Ok(_) | Err(_) => Err(ApiError::bad_request("send {\"token\": TOKEN}, or {\"code\": CODE}")),
    }
}

/// `GET /v1/session`
pub async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Response, ApiError> {
    let Found { mode, left, .. } = browser(caller)?;
    Ok(answer(&BrowserSession { key: None, mode, expires_at: after(&api, left) }))
}

/// `PATCH /v1/session`: reads only, or may change.
pub async fn change(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    JsonText(body): JsonText,
) -> Result<Response, ApiError> {
    let Found { cookie, left, .. } = browser(caller)?;
    let SessionChange { mode } = serde_json::from_str(&body)
        .map_err(|error| ApiError::bad_request(format!("the request: {error}")))?;
    if !api.browsers.sessions.set_mode(cookie, mode) {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", "this session has ended"));
    }
    tracing::info!(event = "session_mode_changed", ?mode, "a browser's session changes what it may do");
    Ok(answer(&BrowserSession { key: None, mode, expires_at: after(&api, left) }))
}

/// `DELETE /v1/session`: signs out.
pub async fn end(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let caller = request.extensions().get::<ApiCaller>().cloned();
    let found = browser(caller.ok_or_else(no_browser)?)?;
    api.browsers.sessions.end(found.cookie);
    let name = api.browsers.cookie_name(&request);
    Ok(with_cookie(StatusCode::NO_CONTENT.into_response(), cookie(&api, &name, "", 0)))
}

/// `POST /v1/login-codes`: a code that signs one browser in. For whoever has the token: a session makes no others.
pub async fn make_code(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Response, ApiError> {
    let ApiCaller::Token(holder) = caller else {
        let detail = "a session signs no other browser in; use a token";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "token_needed", detail));
    };
    let code = api.browsers.sessions.make_code(holder);
    Ok(answer(&LoginCode { code, expires_at: after(&api, CODE_LIFE) }))
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

fn answer<T: serde::Serialize>(document: &T) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(document)).into_response()
}

fn with_cookie(mut response: Response, cookie: String) -> Response {
    if let Ok(mut value) = HeaderValue::try_from(cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
