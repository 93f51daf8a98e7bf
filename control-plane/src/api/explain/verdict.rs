//! What both sides together say.

use weft_api::rest::{ExplainResult, ExplainVerdict, ExplainedCluster};

/// What each cluster of the routes says: true where the request passes there.
fn outcomes(result: &ExplainResult) -> Vec<Option<bool>> {
    let clusters =
        result.routes.iter().flat_map(|route| &route.clusters).filter(|cluster| cluster.weight > 0);
    let of_cluster = |cluster: &ExplainedCluster| {
        if cluster.missing.is_some() {
            return None;
        }
        let port = result.ports.iter().find(|port| {
            Some(&port.service) == cluster.service.as_ref() && Some(&port.port) == cluster.port.as_ref()
        });
        // Out of the mesh nobody judges.
        port.map_or(Some(true), |port| port.allowed)
    };
    clusters.map(of_cluster).collect()
}

/// What becomes of the request, from what both sides say.
pub fn verdict(result: &ExplainResult) -> ExplainVerdict {
    let outcomes = outcomes(result);
    let answers = result.answer.is_some() || result.routes.iter().any(|route| route.answer.is_some());
    if result.answer.is_some() {
        ExplainVerdict::Answered
    } else if outcomes.is_empty() {
        if answers { ExplainVerdict::Answered } else { ExplainVerdict::Depends }
    } else if answers {
        ExplainVerdict::Depends
    } else if outcomes.iter().all(|one| *one == Some(true)) {
        ExplainVerdict::Passes
    } else if outcomes.iter().all(|one| *one == Some(false)) {
        ExplainVerdict::Refused
    } else if result.routes.iter().flat_map(|route| &route.clusters).all(|cluster| cluster.missing.is_some())
    {
        ExplainVerdict::Answered
    } else {
        ExplainVerdict::Depends
    }
}

/// The same in a sentence.
pub fn summary(result: &ExplainResult) -> String {
    let to = result.destination.as_deref().unwrap_or(&result.authority);
    let refuses = || result.ports.iter().find(|port| port.allowed == Some(false));
    match (result.verdict, &result.answer) {
        (ExplainVerdict::Answered, Some(answer)) => match (answer.status, &answer.location) {
            (Some(status), Some(location)) => format!("redirected with {status} to {location}"),
            (Some(status), None) => {
                format!("answered with {status} by the caller's sidecar: {}", answer.reason)
            }
            (None, _) => answer.reason.clone(),
        },
        (ExplainVerdict::Answered, None) => {
            let status =
                result.routes.iter().flat_map(|route| &route.clusters).find_map(|cluster| cluster.missing);
            match status {
                Some(status) => format!(
                    "answered with {status} by the caller's sidecar: nothing is there that could take it"
                ),
                None => "answered by the caller's sidecar".to_owned(),
            }
        }
        (ExplainVerdict::Passes, _) if result.destination.is_none() => {
            format!("forwarded to {to}, out of the mesh, unless that is an address of the machine itself")
        }
        (ExplainVerdict::Passes, _) => format!("passes to {to}"),
        (ExplainVerdict::Refused, _) => match refuses() {
            Some(port) => format!("refused by {}:{}: {}", port.service, port.port, port.reason),
            None => format!("refused by {to}"),
        },
        (ExplainVerdict::Depends, _) if result.method.is_some() => {
            match result.ports.iter().find(|port| port.allowed.is_none()) {
                Some(port) => format!("at {}:{} {}", port.service, port.port, port.reason),
                None => "it depends on the cluster that is chosen, by weight".to_owned(),
            }
        }
        (ExplainVerdict::Depends, _) => "it depends on the request".to_owned(),
    }
}
