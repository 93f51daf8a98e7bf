//! Who may use the API, and who did.

use http::Method;

use super::{ApiClient, ClientError, encode, query};
use crate::rest::{AccessInfo, AuditList, NewPrincipal, PrincipalList, PrincipalRequest};

/// Which records of calls; by default the newest, of everybody.
#[derive(Clone, Debug, Default)]
pub struct AuditPart {
    /// How many at most; 1000 at most.
    pub limit: Option<usize>,
    /// Only calls before this moment, milliseconds since 1970.
    pub before: Option<u64>,
    /// Only calls of this principal, or of `operator`.
    pub who: Option<String>,
}

impl ApiClient {
    /// What this client's token may do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn access(&self) -> Result<AccessInfo, ClientError> {
        self.get("/v1/access").await
    }

    /// All principals, without their tokens.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn principals(&self) -> Result<PrincipalList, ClientError> {
        self.get("/v1/principals").await
    }

    /// Makes a principal. Its token is in the answer and nowhere else.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_principal(&self, name: &str) -> Result<NewPrincipal, ClientError> {
        let body = serde_json::to_string(&PrincipalRequest { name: name.to_owned() })
            .expect("a string always encodes");
        self.call(Method::POST, "/v1/principals", "application/json", body).await
    }

    /// Gives a principal another token; the one before opens nothing any more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rotate_principal(&self, name: &str) -> Result<NewPrincipal, ClientError> {
        let path = format!("/v1/principals/{}/token", encode(name));
        self.call(Method::POST, &path, "application/json", String::new()).await
    }

    /// Removes a principal.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_principal(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/v1/principals/{}", encode(name));
        let _: serde_json::Value =
            self.call(Method::DELETE, &path, "application/json", String::new()).await?;
        Ok(())
    }

    /// Who did what, the newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn audit(&self, part: &AuditPart) -> Result<AuditList, ClientError> {
        let parameters = [
            ("limit", part.limit.map(|limit| limit.to_string())),
            ("before", part.before.map(|before| before.to_string())),
            ("who", part.who.clone()),
        ];
        self.get(&format!("/v1/audit?{}", query(parameters))).await
    }
}
