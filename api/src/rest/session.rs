//! Sessions of browsers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What signs a browser in: one of the two.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["token"]}, {"required": ["code"]}]))]
pub struct SignIn {
    /// An operator's token, or that of a principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub token: Option<String>,
    /// A code of `POST /v1/login-codes`, which is good once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub code: Option<String>,
}

/// What a session may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum SessionMode {
    /// Look, and try out what would be refused.
    #[default]
    ReadOnly,
    /// Everything that an operator may.
    Changes,
}

/// A browser's session, whose cookie no script can read.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Session")]
pub struct BrowserSession {
    /// The page sends it along with each call, as `X-Weft-Session-Key`: the cookie alone opens nothing. Only the answer to a
    /// sign-in has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it may do.
    pub mode: SessionMode,
    /// Seconds since 1970 when it ends.
    pub expires_at: i64,
}

/// Changes what a session may do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionChange {
    /// What the session may do from now on.
    pub mode: SessionMode,
}

/// Signs one browser in, once.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginCode {
    /// Belongs behind `/ui/login#`.
    pub code: String,
    /// Seconds since 1970 from when on it is no good any more.
    pub expires_at: i64,
}

// What opens something is never printed.

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BrowserSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrowserSession").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LoginCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginCode").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
