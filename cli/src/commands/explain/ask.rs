//! `weft explain FROM TO [METHOD PATH]`: what would become of a request, before it is sent.

use std::process::ExitCode;

use anyhow::bail;
use weft_api::rest::{
    ExplainHeader, ExplainQuestion, ExplainResult, ExplainVerdict, ExplainedCluster, ExplainedPort,
    ExplainedRoute,
};

use super::super::effective::{self, wrapped};
use crate::args::Explain;
use crate::output::{self, Palette, out};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: &Explain) -> anyhow::Result<ExitCode> {
    let question = question(args)?;
    let result = replicas.any(async |client| client.explain(&question).await).await?;
    if args.output.is_table() {
        out!("{}", text(&result, Palette::of_stdout()));
    } else {
        output::print(args.output, &result, &[], Vec::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn question(args: &Explain) -> anyhow::Result<ExplainQuestion> {
    let (Some(source), Some(destination)) = (args.from.clone(), args.to.clone()) else {
        bail!("say who calls whom: weft explain NAMESPACE/SERVICE NAMESPACE/SERVICE[:PORT]");
    };
    if args.method.is_some() && args.path.is_none() {
        bail!("a request has a method and a path: weft explain {source} {destination} GET /");
    }
    let headers = args.headers.iter().map(|header| {
        let Some((name, value)) = header.split_once(':') else {
            bail!("--header {header:?}: write it as NAME:VALUE");
        };
        Ok(ExplainHeader { name: name.trim().to_owned(), value: value.trim().to_owned() })
    });
    Ok(ExplainQuestion {
        source,
        destination,
        method: args.method.clone(),
        path: args.path.clone(),
        headers: headers.collect::<anyhow::Result<_>>()?,
    })
}

/// The whole, in lines of at most eighty signs where words allow it.
fn text(result: &ExplainResult, palette: Palette) -> String {
    let mut text = String::new();
    let line = wrapped("", &result.summary);
    let line = line.trim_end();
    let line = match result.verdict {
        ExplainVerdict::Passes => palette.added(line),
        ExplainVerdict::Refused => palette.removed(line),
        ExplainVerdict::Answered | ExplainVerdict::Depends => palette.changed(line),
    };
    text.push_str(&format!("{line}\n\n"));
    let caller = &result.caller;
    let of = if caller.workloads > 1 { format!(", one of {}", caller.workloads) } else { String::new() };
    field(&mut text, "caller", &format!("{} ({}{of})", caller.workload, caller.proxy));
    field(&mut text, "identity", &caller.identity);
    let request = match (&result.method, &result.path) {
        (Some(method), Some(path)) => format!("{method} http://{}{path}", result.authority),
        (_, _) => format!("any, to http://{}", result.authority),
    };
    field(&mut text, "request", &request);
    if let Some(destination) = &result.destination {
        field(&mut text, "to", destination);
    }
    for one in &result.routes {
        text.push_str(&route(one, result.destination.is_some()));
    }
    for one in &result.ports {
        text.push_str(&port(one, palette));
    }
    text
}

fn field(text: &mut String, name: &str, value: &str) {
    text.push_str(&wrapped(&format!("{name:<10}"), value));
}

fn route(route: &ExplainedRoute, is_of_mesh: bool) -> String {
    let mut text = String::from("\n");
    let origin = match (&route.document, &route.rule) {
        (Some(document), Some(rule)) => format!("{document} rule {rule}"),
        (Some(document), None) => document.clone(),
        (None, _) if route.answer.is_some() => "the sidecar itself".to_owned(),
        (None, _) if !is_of_mesh => "none: no service has this host, and it is forwarded as it is".to_owned(),
        (None, _) => "none: all goes to the service".to_owned(),
    };
    field(&mut text, "route", &origin);
    field(&mut text, "matches", &route.matches);
    if let Some(path) = &route.rewritten_path {
        field(&mut text, "path", &format!("becomes {path}"));
    }
    if let Some(answer) = &route.answer {
        let status = answer.status.map(|status| status.to_string()).unwrap_or_default();
        let to = answer.location.as_ref().map(|location| format!(" to {location}")).unwrap_or_default();
        field(&mut text, "answer", &format!("{status}{to}: {}", answer.reason));
    }
    let total: u64 = route.clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    for cluster in &route.clusters {
        field(&mut text, "cluster", &self::cluster(cluster, total));
    }
    text + &effective::values(&route.traffic)
}

fn cluster(cluster: &ExplainedCluster, total: u64) -> String {
    let name = match (&cluster.service, &cluster.port, &cluster.subset) {
        (Some(service), Some(port), Some(subset)) => format!("{service}:{port} {subset}"),
        (Some(service), Some(port), None) => format!("{service}:{port}"),
        (_, _, _) => cluster.name.clone(),
    };
    let share = if total == 0 { 0.0 } else { f64::from(cluster.weight) * 100.0 / total as f64 };
    let behind = match (cluster.missing, cluster.endpoints) {
        (Some(status), 0) => format!("nothing is there: {status}"),
        (Some(status), _) => format!("it does not exist: {status}"),
        (None, 0) => "out of the mesh".to_owned(),
        (None, all) => format!("{} of {all} healthy", cluster.healthy),
    };
    format!("{name}  {share:.0}%  {behind}")
}

fn port(port: &ExplainedPort, palette: Palette) -> String {
    let mut text = String::from("\n");
    let member = port.workload.as_ref().map(|workload| format!(" ({workload})")).unwrap_or_default();
    field(&mut text, "at", &format!("{}:{}{member}", port.service, port.port));
    let word = match port.allowed {
        Some(true) => palette.added("allowed"),
        Some(false) => match port.status {
            Some(status) => palette.removed(&format!("refused with {status}")),
            None => palette.removed("refused"),
        },
        None => palette.changed("depends"),
    };
    text.push_str(&format!("{:<10}{word}\n", "verdict"));
    field(&mut text, "because", &port.reason);
    for rule in &port.rules {
        let asks = match &rule.depends_on[..] {
            [] => "takes each".to_owned(),
            on => format!("depends on {}", on.join(", ")),
        };
        field(&mut text, "rule", &format!("{} {} rule {}: {asks}", rule.action, rule.policy, rule.rule));
    }
    for shadow in &port.shadow {
        field(&mut text, "shadow", &format!("{shadow} would refuse it"));
    }
    let mtls = if port.mtls { "yes" } else { "no: no member has a sidecar" };
    field(&mut text, "mTLS", mtls);
    for member in &port.unguarded {
        field(&mut text, "", &format!("{member} has no sidecar, and refuses nobody"));
    }
    text + &effective::values(&port.traffic)
}

#[cfg(test)]
mod tests {
    use weft_api::rest::ExplainedValue;

    use super::super::super::effective::WIDTH;
    use super::*;

    #[test]
    fn a_refusal_is_told_first_and_fits_the_terminal() {
        let result = ExplainResult {
            verdict: ExplainVerdict::Refused,
            summary: "refused by shop/payments:http: AuthorizationPolicy shop/no-payments-for-load rule load denies it"
                .to_owned(),
            authority: "payments.shop".to_owned(),
            destination: Some("shop/payments:http".to_owned()),
            method: Some("GET".to_owned()),
            path: Some("/".to_owned()),
            routes: vec![ExplainedRoute {
                matches: "everything".to_owned(),
                clusters: vec![ExplainedCluster {
                    name: "shop/payments/http".to_owned(),
                    service: Some("shop/payments".to_owned()),
                    port: Some("http".to_owned()),
                    weight: 1,
                    endpoints: 1,
                    healthy: 1,
                    ..ExplainedCluster::default()
                }],
                traffic: vec![ExplainedValue {
                    field: "retryOn".to_owned(),
                    value: serde_json::json!(["ConnectFailure", "RefusedStream", "ResetBeforeRequest", "GatewayError"]),
                    ..ExplainedValue::default()
                }],
                ..ExplainedRoute::default()
            }],
            ports: vec![ExplainedPort {
                service: "shop/payments".to_owned(),
                port: "http".to_owned(),
                mtls: true,
                allowed: Some(false),
                status: Some(403),
                reason: "AuthorizationPolicy shop/no-payments-for-load rule load denies it, as it does with all others too"
                    .to_owned(),
                ..ExplainedPort::default()
            }],
            ..ExplainResult::default()
        };
        let text = text(&result, Palette::Plain);
        assert!(text.starts_with("refused by shop/payments:http"), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text.contains("cluster   shop/payments:http  100%  1 of 1 healthy"), "{text}");
        assert!(text.contains("verdict   refused with 403"), "{text}");
    }
}
