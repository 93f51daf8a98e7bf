//! A server that is asked by gRPC: `envoy.service.auth.v3.Authorization`.

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::service::auth::v3 as wire;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use wire::check_response::HttpResponse;

use super::super::request::Request;
use super::check_request::check_request;
use super::query::QueryChanges;
use super::told::{CheckBody, OF_THE_MESSAGE};
use super::{CheckStatus, Denial, ExtAuthz, GrpcService, HeadChanges, RequestChange};
use crate::engine::async_client::{Call, CallResponse};
use crate::engine::stream_info::context;
use crate::engine::unary::{self, UnaryMethod};
use crate::route::{Addition, AppendAction, HeaderOps, HeaderTemplate};

/// What the server wants of a head cannot be done.
struct Invalid;

impl GrpcService {
    /// What the server is asked about a request.
    pub(super) fn call(
        &self,
        filter: &ExtAuthz,
        name: &str,
        request: &Request<'_>,
        body: &CheckBody,
    ) -> Call {
        let mut headers = HeaderMap::new();
        let values = self.metadata.evaluate(&context(request.stream, Some(request.head()), None));
        self.metadata.apply(&mut headers, values);
        let method = UnaryMethod {
            authority: self.authority.clone(),
            path: PathAndQuery::from_static("/envoy.service.auth.v3.Authorization/Check"),
            timeout: self.timeout,
            largest: self.largest,
        };
        method.call(headers, &check_request(self, filter, name, request, body))
    }

    /// What an answer means.
    pub(super) fn verdict(&self, answer: &CallResponse, status_on_error: StatusCode) -> CheckStatus {
        let response: wire::CheckResponse = match unary::message(answer) {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(cluster = %self.cluster, %error, "no verdict on a request");
                return CheckStatus::Error(None);
            }
        };
        let refused = response.status.is_some_and(|status| status.code != 0);
        let verdict = match (refused, response.http_response) {
            (false, Some(HttpResponse::OkResponse(ok))) => changes(ok).map(CheckStatus::Ok),
            (false, Some(HttpResponse::DeniedResponse(_) | HttpResponse::ErrorResponse(_)) | None) => {
                Ok(CheckStatus::Ok(HeadChanges::default()))
            }
            (true, Some(HttpResponse::ErrorResponse(error))) => {
                denial(error, status_on_error).map(|denial| CheckStatus::Error(Some(denial)))
            }
            (true, Some(HttpResponse::DeniedResponse(denied))) => {
                denial(denied, StatusCode::FORBIDDEN).map(CheckStatus::Denied)
            }
            (true, Some(HttpResponse::OkResponse(_)) | None) => {
                Ok(CheckStatus::Denied(Denial::of(StatusCode::FORBIDDEN)))
            }
        };
        verdict.unwrap_or(CheckStatus::Invalid)
    }
}

fn denial(given: wire::DeniedHttpResponse, otherwise: StatusCode) -> Result<Denial, Invalid> {
    let code = given.status.map_or(0, |status| status.code);
    let status = match u16::try_from(code) {
        Ok(0) => otherwise,
        Ok(code @ 200..600) => StatusCode::from_u16(code).map_err(|_| Invalid)?,
        Ok(_) | Err(_) => return Err(Invalid),
    };
    // As in Envoy headers that shall be appended are left out: there is nothing to append them to.
    let set = given.headers.iter().filter(|option| !appends(option));
    let headers = set.map(field).collect::<Result<Vec<_>, _>>()?;
    let headers = headers.into_iter().filter(|(name, _)| !OF_THE_MESSAGE.contains(name)).collect();
    Ok(Denial { status, headers, body: given.body.into() })
}

fn changes(given: wire::OkHttpResponse) -> Result<HeadChanges, Invalid> {
    let mut request = Vec::with_capacity(given.headers.len());
    for option in &given.headers {
        let (name, value) = field(option)?;
        if OF_THE_MESSAGE.contains(&name) {
            return Err(Invalid);
        }
        request.push(if appends(option) {
            RequestChange::JoinIfExists(name, value)
        } else {
            RequestChange::Set(name, value)
        });
    }
    let removed = given.headers_to_remove.iter().filter_map(|name| name.parse::<HeaderName>().ok());
    let remove = removed.filter(|name| *name != HOST).collect();
    let response: Vec<Addition> =
        given.response_headers_to_add.iter().map(addition).collect::<Result<_, _>>()?;
    let set = given.query_parameters_to_set.into_iter().map(|one| (one.key, one.value)).collect();
    let query = QueryChanges { set, remove: given.query_parameters_to_remove };
    Ok(HeadChanges { request, remove, query, response: HeaderOps::new(Vec::new(), response) })
}

fn appends(option: &HeaderValueOption) -> bool {
    older_append(option) == Some(true)
}

#[expect(deprecated, reason = "of a request's headers Envoy looks at this field only")]
fn older_append(option: &HeaderValueOption) -> Option<bool> {
    option.append.as_ref().map(|append| append.value)
}

fn field(option: &HeaderValueOption) -> Result<(HeaderName, HeaderValue), Invalid> {
    let header = option.header.as_ref().ok_or(Invalid)?;
    let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    let value = HeaderValue::from_bytes(value).map_err(|_| Invalid)?;
    Ok((HeaderName::try_from(&header.key).map_err(|_| Invalid)?, value))
}

/// Headers of responses are added as their action says, unless the older field is set.
fn addition(option: &HeaderValueOption) -> Result<Addition, Invalid> {
    let (name, value) = field(option)?;
    if OF_THE_MESSAGE.contains(&name) {
        return Err(Invalid);
    }
    let by_action = match HeaderAppendAction::try_from(option.append_action) {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        Ok(HeaderAppendAction::AddIfAbsent) => AppendAction::AddIfAbsent,
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        Ok(HeaderAppendAction::OverwriteIfExists) => AppendAction::OverwriteIfExists,
        Err(_) => return Err(Invalid),
    };
    let action = match older_append(option) {
        Some(true) => AppendAction::AppendIfExistsOrAdd,
        Some(false) => AppendAction::OverwriteIfExistsOrAdd,
        None => by_action,
    };
    Ok(Addition { name, value: HeaderTemplate::Fixed(value), action, keep_empty: true })
}
