//! Who makes a change, as the history tells it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use weft_api::text::shorten;

use super::access::ApiCaller;
use super::error::ApiError;
use super::rights::{CallerRights, forbidden};
use crate::policy::log::Authorship;

/// The most characters of a message.
const MESSAGE: usize = 1000;
/// What a browser is told as: its own name for itself tells nobody anything.
const PAGE: &str = "page";

/// Who makes a change, by which program, and what they may change.
#[derive(Debug)]
pub struct Author {
    name: String,
    client: String,
    rights: CallerRights,
}

/// A change's author with the author's reason, and what the author may change.
#[derive(Debug)]
pub struct ChangeAuthor {
    /// What the history tells.
    pub by: Authorship,
    /// What is asked before anything is changed.
    pub rights: CallerRights,
}

impl Author {
    /// With the author's reason.
    pub fn saying(self, message: String) -> ChangeAuthor {
        let Self { name, client, rights } = self;
        ChangeAuthor { by: Authorship { author: name, client, message }, rights }
    }
}

/// The program that calls, in its own words.
pub fn client_of(caller: &ApiCaller, headers: &HeaderMap) -> String {
    match caller {
        ApiCaller::Browser(_) => PAGE.to_owned(),
        ApiCaller::Token(_) => {
            // Only visible characters make a string of a header.
            let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
            agent.map(shorten).unwrap_or_default()
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Author {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let rights = CallerRights::from_request_parts(parts, state).await?;
        let caller = parts
            .extensions
            .get::<ApiCaller>()
            .ok_or_else(|| forbidden("this call was not authenticated"))?;
        Ok(Self { name: caller.holder().to_string(), client: client_of(caller, &parts.headers), rights })
    }
}

/// The reason that a caller gives. People read it on their terminals, so that it has no control characters.
pub fn read_message(message: Option<String>) -> Result<String, ApiError> {
    let message = message.unwrap_or_default();
    if message.chars().count() > MESSAGE || message.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!(
            "message: write at most {MESSAGE} characters in one line, without control characters"
        )));
    }
    Ok(message)
}
