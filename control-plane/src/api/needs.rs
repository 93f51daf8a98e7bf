//! What a call needs: which right, and whether it is recorded.
//!
//! Each route of the API is given its need where it is declared, so that none is without one. What a need cannot say, because it
//! depends on what the call is about, the handler asks of [`CallerRights`]; a refusal by either is answered and recorded alike.

use std::fmt;
use std::sync::Arc;

use aide::axum::routing::ApiMethodRouter;
use axum::RequestExt as _;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use weft_api::Name;
use weft_api::rest::{AuditOutcome, AuditRecord};
use weft_policies::kinds::Kind;
use weft_policies::kinds::role::effect::Rights;
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::access::{ApiCaller, source};
use super::author::client_of;
use super::error::{ApiError, Forbidden};
use super::rights::{AuditDetail, CallerRights, forbidden};
use super::state::Api;
use crate::identity::holders::TokenHolder;

/// What a call needs beside a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is about the caller, or tells what all may know.
    Nothing,
    Operator,
    /// A right in one namespace at least; the handler leaves out what is in others.
    Somewhere(RoleVerb, ApiKind),
    /// A right in all namespaces: for what is of none.
    Everywhere(RoleVerb, ApiKind),
    /// A right for the kind that the path names, in one namespace at least.
    SomewhereOfKind(RoleVerb),
    /// A right for the object that the path names.
    Object(RoleVerb),
    /// Whatever the documents are: the change is looked at as a whole, where it is made.
    EachDocument,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Needs no right."),
            Self::Operator => f.write_str("Needs an operator's token."),
            Self::Somewhere(verb, kind) => write!(f, "Needs {verb} of {kind} in one namespace at least."),
            Self::Everywhere(verb, kind) => write!(f, "Needs {verb} of {kind} in all namespaces."),
            Self::SomewhereOfKind(verb) => write!(f, "Needs {verb} of the kind in one namespace at least."),
            Self::Object(verb) => write!(f, "Needs {verb} of the kind in the namespace."),
            Self::EachDocument => f.write_str("Needs Write, or Delete, of each document that it changes."),
        }
    }
}

/// Where a call is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    No,
    /// Among the records, when it was carried out.
    Yes,
    /// Where it made a revision, and not otherwise.
    Revision,
}

/// The method of a path, for those who have what they need.
pub fn needs(
    api: &Api,
    need: Need,
    recorded: Recorded,
    method: ApiMethodRouter<Api>,
) -> ApiMethodRouter<Api> {
    let check =
        move |State(api): State<Api>, request: Request, next: Next| call(api, need, recorded, request, next);
    method.route_layer(from_fn_with_state(api.clone(), check))
}

async fn call(api: Api, need: Need, recorded: Recorded, mut request: Request, next: Next) -> Response {
    let Some(mut record) = begin(&request) else {
        return ApiError::unavailable("this call was not authenticated").into_response();
    };
    let allowed = check(need, &mut request).await;
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    if let Some(Forbidden(about)) = response.extensions_mut().remove() {
        record.about = about;
        refused(&api, record).await;
        return response;
    }
    let detail = response.extensions_mut().remove::<AuditDetail>();
    let is_done = response.status().is_success();
    if is_done
        && match recorded {
            Recorded::No => false,
            Recorded::Yes => true,
            Recorded::Revision => detail.is_some(),
        }
    {
        let AuditDetail { about, revision } = detail.unwrap_or_default();
        write(&api, AuditRecord { about, revision, ..record }).await;
    }
    response
}

/// A record of this call as far as it is known at its beginning.
fn begin(request: &Request) -> Option<AuditRecord> {
    let caller = request.extensions().get::<ApiCaller>()?;
    Some(AuditRecord {
        who: caller.holder().to_string(),
        client: client_of(caller, request.headers()),
        from: source(request).map(|source| source.to_string()).unwrap_or_default(),
        call: format!("{} {}", request.method(), request.uri().path()),
        count: 1,
        ..AuditRecord::default()
    })
}

/// What somebody tries again and again is one record a minute, with its number.
async fn refused(api: &Api, record: AuditRecord) {
    let key = (record.who.clone(), record.about.clone());
    if let Some(unsaid) = api.refusals.speaks(key) {
        tracing::warn!(
            event = "call_refused",
            who = record.who,
            call = record.call,
            missing = record.about,
            unsaid,
            "a call was refused: a right is missing"
        );
        write(api, AuditRecord { outcome: AuditOutcome::Refused, count: unsaid + 1, ..record }).await;
    }
}

/// The call was carried out, whatever becomes of its record.
async fn write(api: &Api, record: AuditRecord) {
    let (who, call) = (record.who.clone(), record.call.clone());
    if let Err(error) = api.audit.write(record).await {
        api.metrics.limited(crate::metrics::Limit::AuditRecords);
        tracing::error!(event = "call_not_recorded", %error, who, call, "a call could not be recorded");
    }
}

async fn check(need: Need, request: &mut Request) -> Result<(), ApiError> {
    let CallerRights(rights) = request.extract_parts().await?;
    match need {
        Need::Nothing | Need::EachDocument => Ok(()),
        Need::Operator if *rights == Rights::All => Ok(()),
        Need::Operator => Err(forbidden("this takes the operator's token")),
        Need::Everywhere(verb, kind) => Ok(rights.demand(verb, kind, None)?),
        Need::Somewhere(verb, kind) => somewhere(&rights, verb, kind),
        Need::SomewhereOfKind(verb) => match kind_in_path(request).await {
            Some(kind) => somewhere(&rights, verb, ApiKind::Document(kind)),
            // Which kinds there are is no secret.
            None => Ok(()),
        },
        Need::Object(verb) => {
            let (kind, namespace) = (kind_in_path(request).await, param(request, "namespace").await);
            match (kind, namespace.map(|text| Name::try_new(&text))) {
                (Some(kind), Some(Ok(namespace))) => {
                    Ok(rights.demand(verb, ApiKind::Document(kind), Some(&namespace))?)
                }
                // The handler says what is wrong with the path.
                (None, _) | (_, None | Some(Err(_))) => Ok(()),
            }
        }
    }
}

fn somewhere(rights: &Rights, verb: RoleVerb, kind: ApiKind) -> Result<(), ApiError> {
    if rights.may_somewhere(verb, kind) {
        return Ok(());
    }
    Err(forbidden(format!("no role of yours allows {verb} {kind}")))
}

async fn kind_in_path(request: &mut Request) -> Option<Kind> {
    Kind::named(&param(request, "kinds").await?)
}

async fn param(request: &mut Request, name: &str) -> Option<String> {
    let params = request.extract_parts::<RawPathParams>().await.ok()?;
    params.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// What a caller may do whose call goes on; nothing more once the token is not accepted. While the store is away, what is
/// served last says it.
pub async fn rights_now(api: &Api, holder: &TokenHolder) -> Option<CallerRights> {
    if !api.holders.knows(holder).await.unwrap_or(true) {
        return None;
    }
    let rights = holder.rights(&api.reconciler.published().borrow().set);
    Some(CallerRights(Arc::new(rights)))
}
