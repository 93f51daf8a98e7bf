//! Who makes a change, as the history tells it.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use weft_api::text::shorten;

use super::access::ApiCaller;
use super::error::ApiError;
use crate::policy::log::Authorship;

/// The most characters of a message.
const MESSAGE: usize = 1000;
/// Whoever carries an operator's token, or was signed in with one.
const OPERATOR: &str = "operator";
/// What a browser is told as: its own name for itself tells nobody anything.
const PAGE: &str = "page";

/// Who makes a call, and by which program.
#[derive(Debug)]
pub struct Author {
    client: String,
}

impl Author {
    /// With the author's reason.
    pub fn saying(self, message: String) -> Authorship {
        Authorship { author: OPERATOR.to_owned(), client: self.client, message }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Author {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let client = match parts.extensions.get::<ApiCaller>() {
            Some(ApiCaller::Browser(_)) => PAGE.to_owned(),
            Some(ApiCaller::Token(_)) | None => {
                // Only visible characters make a string of a header.
                let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
                agent.map(shorten).unwrap_or_default()
            }
        };
        Ok(Self { client })
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
