//! The smaller admin pages.

use std::time::SystemTime;

use http::StatusCode;
use regex::Regex;
use serde_json::json;

use super::query::QueryParameters;
use super::response::AdminResponse;
use crate::config_dump::{self, DumpFilter};
use crate::control::{ControlHandle, Phase};

const ENDPOINTS: [(&str, &str); 14] = [
    ("/certs", "certificates in use"),
    ("/clusters", "clusters and their endpoints (?format=json)"),
    ("/config_dump", "what is configured (?resource=, ?name_regex=, ?include_eds)"),
    (
        "/drain_listeners",
        "POST: stop listening (?graceful; ?inboundonly[&wait]: goodbye first, own calls go on)",
    ),
    ("/healthcheck/fail", "POST: /ready answers 503"),
    ("/healthcheck/ok", "POST: takes that back"),
    ("/help", "this list"),
    ("/listeners", "listeners (?format=json)"),
    ("/logging", "POST: the log's level (?level=LEVEL or ?TARGET=LEVEL)"),
    ("/quitquitquit", "POST: drain and end"),
    ("/ready", "200 when every worker serves the first complete configuration"),
    ("/server_info", "version, state, node"),
    ("/stats", "statistics (?filter=REGEX, ?usedonly, ?format=json)"),
    ("/stats/prometheus", "statistics for Prometheus"),
];

pub(super) fn help() -> AdminResponse {
    let lines = ENDPOINTS.map(|(path, what)| format!("  {path}: {what}\n"));
    AdminResponse::text(format!("admin commands are:\n{}", lines.concat()))
}

pub(super) fn ready(handle: &ControlHandle) -> AdminResponse {
    let phase = handle.phase();
    let status = if phase == Phase::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    AdminResponse::text(format!("{}\n", phase.envoy_name())).with_status(status)
}

pub(super) fn health(handle: &ControlHandle, healthy: bool) -> AdminResponse {
    handle.set_health(healthy);
    AdminResponse::text("OK\n")
}

pub(super) async fn server_info(handle: &ControlHandle) -> AdminResponse {
    let phase = handle.phase();
    let page = handle.inspect(move |state| {
        let uptime = SystemTime::now().duration_since(state.started).unwrap_or_default().as_secs();
        let node = weft_api::json::message_to_json(&state.bootstrap.node).unwrap_or_default();
        json!({
            "version": concat!("weft-proxy/", env!("CARGO_PKG_VERSION")),
            "state": phase.envoy_name(),
            "uptime_current_epoch": format!("{uptime}s"),
            "uptime_all_epochs": format!("{uptime}s"),
            "hot_restart_version": "disabled",
            "command_line_options": {
                "concurrency": state.workers,
                "config_path": state.config_path.as_ref().map(|path| path.display().to_string()),
            },
            "node": node,
        })
    });
    page.await.map_or_else(AdminResponse::gone, |value| AdminResponse::json(&value))
}

pub(super) async fn config_dump(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    let names = match query.value("name_regex").filter(|text| !text.is_empty()).map(Regex::new) {
        None => None,
        Some(Ok(regex)) => Some(regex),
        Some(Err(error)) => {
            return AdminResponse::text(format!("name_regex: {error}\n"))
                .with_status(StatusCode::BAD_REQUEST);
        }
    };
    let resource = query.value("resource").filter(|name| !name.is_empty()).map(str::to_owned);
    let selection = DumpFilter { resource, names, endpoints: query.has("include_eds") };
    let dump = handle.inspect(move |state| config_dump::render(state, &selection));
    dump.await.map_or_else(AdminResponse::gone, |value| AdminResponse::json(&value))
}

pub(super) async fn listeners(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    let listed = handle.inspect(|state| {
        let each = state.runtime.listeners.values();
        each.map(|listener| {
            (listener.name.to_string(), state.bound(&listener.name).unwrap_or(listener.address))
        })
        .collect::<Vec<_>>()
    });
    let Some(listed) = listed.await else { return AdminResponse::gone() };
    if query.value("format") == Some("json") {
        let statuses = listed.iter().map(|(name, address)| {
            let socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
            json!({ "name": name, "local_address": { "socket_address": socket } })
        });
        return AdminResponse::json(&json!({ "listener_statuses": statuses.collect::<Vec<_>>() }));
    }
    AdminResponse::text(
        listed.iter().map(|(name, address)| format!("{name}::{address}\n")).collect::<String>(),
    )
}

pub(super) fn logging(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    let mut directives = Vec::new();
    for (name, level) in query.pairs() {
        match name {
            "level" => directives.insert(0, level.to_owned()),
            "paths" => directives.extend(level.split(',').map(|pair| pair.replace(':', "="))),
            target => directives.push(format!("{target}={level}")),
        }
    }
    if directives.is_empty() {
        return AdminResponse::text(format!("active filter: {}\n", handle.log_filter()));
    }
    match handle.set_log_filter(&directives.join(",")) {
        Ok(()) => AdminResponse::text(format!("active filter: {}\n", handle.log_filter())),
        Err(error) => AdminResponse::text(format!("{error}\n")).with_status(StatusCode::BAD_REQUEST),
    }
}

pub(super) async fn drain(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    if query.has("inboundonly") {
        let handle = handle.clone();
        let drained = tokio::spawn(async move { handle.drain_inbound().await });
        if query.has("wait") {
            // It ends, or with it the process.
            let _ = drained.await;
        }
        return AdminResponse::text("OK\n");
    }
    handle.drain_listeners();
    AdminResponse::text("OK\n")
}

pub(super) fn quit(handle: &ControlHandle) -> AdminResponse {
    handle.quit();
    AdminResponse::text("OK\n")
}
