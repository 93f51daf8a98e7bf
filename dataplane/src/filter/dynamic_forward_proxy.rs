//! `envoy.filters.http.dynamic_forward_proxy`: the host that a request names is looked up.

use super::request::{Flow, Request};
use crate::engine::dynamic::LookupError;
use crate::route::{ClusterChoice, RouteAction};

/// Finds the host, where the request's route leads to a cluster that needs it.
pub(super) async fn on_request(request: &mut Request<'_>) -> Flow {
    let Some(found) = request.stream.found else { return Flow::Continue };
    let RouteAction::Forward(forward) = &request.view.routes.route(found).effect.action else {
        return Flow::Continue;
    };
    // A cluster that is chosen later has no host then, and the request no endpoint.
    let ClusterChoice::Named(name) = &forward.cluster else { return Flow::Continue };
    let Some(hosts) = request.snapshot.dynamic_hosts(name) else { return Flow::Continue };
    let Some(cluster) = request.snapshot.cluster(name) else { return Flow::Continue };
    let config = cluster.view().config.clone();
    let worker = request.stream.connection.worker.clone();
    match hosts.find(&worker, &config, request.head().authority).await {
        Ok(host) => {
            request.stream.host = Some(host);
            Flow::Continue
        }
        Err(error) => Flow::Reply(Box::new(LookupError::reply(error))),
    }
}
