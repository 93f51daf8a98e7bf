//! What a caller may do, as handlers ask it, and how a refusal reads.

use std::sync::Arc;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use weft_api::Name;
use weft_policies::kinds::role::effect::{MissingRight, Rights};
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::error::ApiError;
use super::problem_code::ProblemCode;

/// What a record says beside method and path; an extension of answers.
#[derive(Clone, Debug, Default)]
pub struct AuditDetail {
    /// What it was about.
    pub about: String,
    /// The revision that was made.
    pub revision: Option<u64>,
}

/// A refusal for want of a right.
pub fn forbidden(what: impl Into<String>) -> ApiError {
    ApiError::new(ProblemCode::Forbidden, what)
}

impl From<MissingRight> for ApiError {
    fn from(missing: MissingRight) -> Self {
        forbidden(format!(
            "no role of yours allows {missing}; an operator gives it by a Role and a RoleBinding (weft operator whoami shows what \
             you may)"
        ))
    }
}

/// What the caller may do.
#[derive(Clone, Debug)]
pub struct CallerRights(pub Arc<Rights>);

impl CallerRights {
    /// Allows it, or refuses the call.
    pub fn demand(&self, verb: RoleVerb, kind: ApiKind, namespace: Option<&Name>) -> Result<(), ApiError> {
        Ok(self.0.demand(verb, kind, namespace)?)
    }

    /// Whether something in a namespace may be looked at; what names none is an operator's to see.
    pub fn may_read(&self, kind: ApiKind, namespace: &str) -> bool {
        let namespace = Name::try_new(namespace).ok();
        self.0.may(RoleVerb::Read, kind, namespace.as_ref())
    }

    /// The same of something that is told as `NAMESPACE/NAME`.
    pub fn may_read_of(&self, kind: ApiKind, id: &str) -> bool {
        self.may_read(kind, id.split_once('/').map_or("", |(namespace, _)| namespace))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CallerRights {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = Extension::<Self>::from_request_parts(parts, state).await;
        found.map(|Extension(rights)| rights).map_err(|_| forbidden("this call was not authenticated"))
    }
}
