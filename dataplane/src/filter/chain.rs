//! Runs the filters of a connection manager, one after the other.

use http::HeaderMap;
use weft_routing::matcher::RequestHead;

use super::request::{Flow, Request, Response, override_of};
use super::state::FilterState;
use super::{Filter, HttpFilter, Override, cors, dynamic_forward_proxy, ext_authz, local_rate_limit};
use crate::engine::active_stream::ActiveStream;
use crate::engine::body::Transforms;
use crate::engine::reply::Reply;

/// Passes a request through the filters in order.
///
/// # Errors
/// The answer of a filter that does not let it through.
pub(crate) async fn on_request(filters: &[HttpFilter], request: &mut Request<'_>) -> Result<(), Box<Reply>> {
    request.choose_member();
    for (place, HttpFilter { name, filter }) in filters.iter().enumerate() {
        request.place = place;
        let special = override_of(request.view, request.stream, name);
        if matches!(special, Some(Override::Disabled)) {
            continue;
        }
        let flow = match filter {
            Filter::Rbac(rbac) => rbac.on_request(request, special),
            // Large and rare: a request that waits for nothing does not carry it around.
            Filter::DynamicForwardProxy => Box::pin(dynamic_forward_proxy::on_request(request)).await,
            Filter::HeaderMutation(mutation) => mutation.on_request(name, request),
            Filter::Fault(fault) => match fault.on_request(request, special) {
                Some(injection) => Box::pin(injection.run(request)).await,
                None => Flow::Continue,
            },
            Filter::LocalRateLimit(limit) => local_rate_limit::run::on_request(limit, request, special),
            Filter::Cors(cors) => cors.on_request(name, request),
            Filter::Buffer(buffer) => match buffer.applies(request, special) {
                Some(buffer) => Box::pin(buffer.on_request(request)).await,
                None => Flow::Continue,
            },
            Filter::ExtAuthz(authz) => Box::pin(authz.on_request(name, request, special)).await,
            Filter::Compressor(compressor) => compressor.on_request(request, special),
            Filter::JwtAuthn(authn) => Box::pin(authn.on_request(request, special)).await,
        };
        match flow {
            Flow::Continue => {}
            Flow::RouteAgain => Box::pin(route_again(request)).await?,
            Flow::Reply(reply) => return Err(reply),
        }
    }
    Ok(())
}

/// Chooses the route anew, by the head as it is now. Overrides are those of the new route from here on.
async fn route_again(request: &mut Request<'_>) -> Result<(), Box<Reply>> {
    request.choose_route();
    // A host that was found is one of the cluster to which the route before led.
    if request.stream.host.take().is_some()
        && let Flow::Reply(reply) = dynamic_forward_proxy::on_request(request).await
    {
        return Err(reply);
    }
    Ok(())
}

/// Passes the head of a response back through the filters, an answer of our own as well. As in Envoy, filters that the
/// request did not come to see it too. Answers what they do with the content behind it, where there is any.
pub(crate) fn on_response(
    stream: &mut ActiveStream,
    request: &RequestHead<'_>,
    headers: &mut HeaderMap,
    has_content: bool,
) -> Transforms {
    let mut transforms = Transforms::new();
    if !stream.view.manager.filters.see_responses() {
        return transforms;
    }
    let view = stream.view.clone();
    for (place, HttpFilter { name, filter }) in view.manager.filters.before_router().iter().enumerate().rev()
    {
        let special = override_of(&view, stream, name);
        // A filter that the route before left to see the request sees its response, whatever the new route says.
        let remembers = || stream.filters.iter().any(|one| one.place == place);
        if matches!(special, Some(Override::Disabled)) && !remembers() {
            continue;
        }
        let transforms = &mut transforms;
        let response =
            &mut Response { headers, request, has_content, transforms, stream, view: &view, place };
        match filter {
            Filter::Rbac(_)
            | Filter::DynamicForwardProxy
            | Filter::Fault(_)
            | Filter::Buffer(_)
            | Filter::JwtAuthn(_) => {}
            Filter::HeaderMutation(mutation) => mutation.on_response(name, response),
            Filter::LocalRateLimit(_) => local_rate_limit::run::on_response(response),
            Filter::Cors(_) => cors::run::on_response(response),
            Filter::ExtAuthz(_) => ext_authz::run::on_response(response),
            Filter::Compressor(compressor) => compressor.on_response(response, special),
        }
    }
    transforms
}

/// Passes the trailers of a response back through the filters.
pub(crate) fn on_trailers(stream: &mut ActiveStream, trailers: &mut HeaderMap) {
    for one in &mut stream.filters {
        match &mut one.state {
            FilterState::Trailers(changes) => changes.apply(trailers),
            FilterState::AcceptEncoding(_)
            | FilterState::Cors(_)
            | FilterState::ExtAuthz(_)
            | FilterState::Fault(_)
            | FilterState::RateLimit(_) => {}
        }
    }
}
