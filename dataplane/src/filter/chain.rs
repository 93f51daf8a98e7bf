//! Runs the filters of a connection manager, one after the other.

use super::request::{Flow, Request};
use super::{Filter, HttpFilter, Override, dynamic_forward_proxy};
use crate::engine::reply::Reply;

/// Passes a request through the filters in order.
///
/// # Errors
/// The answer of a filter that does not let it through.
pub(crate) async fn on_request(filters: &[HttpFilter], request: &mut Request<'_>) -> Result<(), Box<Reply>> {
    request.choose_member();
    for HttpFilter { name, filter } in filters {
        let special = request.override_of(name);
        if matches!(special, Some(Override::Disabled)) {
            continue;
        }
        let flow = match filter {
            Filter::Rbac(rbac) => rbac.on_request(request, special),
            // Large and rare: a request that waits for nothing does not carry it around.
            Filter::DynamicForwardProxy => Box::pin(dynamic_forward_proxy::on_request(request)).await,
        };
        match flow {
            Flow::Continue => {}
            Flow::Reply(reply) => return Err(reply),
        }
    }
    Ok(())
}
