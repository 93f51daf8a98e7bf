//! All that is known of the chosen row.

use ratatui::text::Line;
use weft_api::rest::{Edge, ProxyStatus};

use super::app::{App, Pane};
use super::rows::size;
use crate::commands::explain;
use crate::commands::proxy::{PROXY_HEAD, proxy_row, reason};

/// Lines about the chosen row of the table in focus.
pub fn lines(app: &App) -> Vec<Line<'static>> {
    let Some(chosen) = app.chosen(app.focus) else { return vec![Line::from("nothing is chosen")] };
    let text = match app.focus {
        Pane::Edges => of_edge(app.edges()[chosen]),
        Pane::Proxies => of_proxy(app.proxies()[chosen]),
        Pane::Failures => {
            let group = app.failures()[chosen];
            let hop = explain::hop(&group.newest);
            format!("{}x, the newest:\n{hop}\n  weft explain --request-id {}", group.count, group.newest.id)
        }
    };
    text.lines().map(|line| Line::from(line.to_owned())).collect()
}

fn of_edge(edge: &Edge) -> String {
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.2}%", share * 100.0));
    let ms = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
    let bytes = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{}/s", size(rate)));
    let subset = edge.subset.as_ref().map(|subset| format!(", subset {subset}")).unwrap_or_default();
    let lines = [
        format!("{} to {}, port {}{subset}", edge.source, edge.destination, edge.port),
        format!("state      {}, over {:.0} s", edge.state, edge.window_seconds),
        format!("rate       {:.1}/s, {} open, {:.1} retries/s", edge.rate, edge.open, edge.retries),
        format!("success    {}", share(edge.success)),
        format!("failed     {}", share(edge.failed)),
        format!("denied     {}", share(edge.denied)),
        format!("latency    p50 {}, p90 {}, p99 {}", ms(edge.p50_ms), ms(edge.p90_ms), ms(edge.p99_ms)),
        format!("bytes      sent {}, received {}", bytes(edge.bytes_sent), bytes(edge.bytes_received)),
        format!("mTLS       {}", if edge.mtls { "yes" } else { "no" }),
        String::new(),
        format!("weft explain --recent {} {}", edge.source, edge.destination),
    ];
    lines.join("\n")
}

fn of_proxy(proxy: &ProxyStatus) -> String {
    let mut lines: Vec<String> = PROXY_HEAD
        .iter()
        .zip(proxy_row(proxy))
        .map(|(head, cell)| format!("{:<12} {cell}", head.to_lowercase()))
        .collect();
    for (name, value) in [
        ("program", Some(&proxy.user_agent)),
        ("address", Some(&proxy.address)),
        ("version", proxy.version.as_ref()),
        ("zone", proxy.zone.as_ref()),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            lines.push(format!("{name:<12} {value}"));
        }
    }
    if let Some(reason) = reason(proxy) {
        lines.push(format!("{:<12} {reason}", "reason"));
    }
    for (name, status) in &proxy.types {
        lines.push(format!("{name:<12} {} sent, {} taken, {}", status.sent, status.acked, status.sync));
        for refusal in &status.refused {
            lines.push(format!("  refused {}: {}", refusal.resources.join(", "), refusal.message));
        }
    }
    lines.extend([String::new(), format!("weft proxy status {}", proxy.id)]);
    lines.join("\n")
}
