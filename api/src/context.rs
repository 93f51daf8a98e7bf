//! What an operator needs to talk to a control plane, in one file: `operator.context` beside the control plane, and what
//! `weft login` keeps of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name of the file in the control plane's data directory.
pub const CONTEXT_FILE: &str = "operator.context";

/// An API, what it is recognised by, and the operator's token for it. These belong together: the token is sent nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// `https://HOST:PORT`; plain HTTP on loopback only.
    pub api: String,
    /// The mesh's roots (PEM) that an https API is verified against.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub roots: String,
    /// The bearer token that the API knows its operator by: a secret.
    pub token: String,
}

// It holds a secret: it never shows in logs.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("api", &self.api).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_form_hides_the_token() {
        let context = Context {
            api: "https://a:1".to_owned(),
            roots: String::new(),
            token: "weftop.secret".to_owned(),
        };
        assert!(!format!("{context:?}").contains("secret"));
    }
}
