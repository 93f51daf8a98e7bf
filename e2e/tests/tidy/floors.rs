//! Within a crate a file uses what lies below it: rooms of the control plane, floors of the proxy's engine.
//!
//! What a row may use is the rows below it, and itself.

use std::collections::BTreeMap;

use crate::circles::imports;
use crate::nothing_in;

/// The rooms of `control-plane/src`, from the top, as ARCHITECTURE.md has them.
const CONTROL_PLANE: &[&[&str]] = &[
    &["main", "lib"],
    &["server", "backup"],
    &["api"],
    &["xds", "join"],
    &["replicas"],
    &["reconciler"],
    &["identity"],
    &["presence"],
    &["policy", "edges", "requests", "taps"],
    &["listener"],
    &["tls"],
    &["ca"],
    &["args", "clock", "metrics", "private_file", "source", "store_error", "store_location"],
];

/// The floors of `dataplane/src/engine`, from the top, as its first page has them. What stands in none of them is the
/// ground: it may be used by all, and uses none of them.
const ENGINE: &[&[&str]] = &[
    &["worker"],
    &["listen", "serve", "tcp"],
    &["connection_manager", "prepare"],
    &["router", "response_head", "local_reply", "request_context"],
    &[
        "active_stream",
        "response_body",
        "stream_end",
        "stream_info",
        "span",
        "record",
        "forwarded",
        "tcp_log",
    ],
    &["http_connection"],
    &["otlp_exporter", "unary", "async_client"],
    &["clusters", "cluster", "pool", "dynamic", "ejection", "reach", "round_trip"],
    &["local", "trust", "handshake"],
];

#[test]
fn rooms_of_the_control_plane_use_those_below_them() {
    nothing_in(&upward("control-plane/src", &[], CONTROL_PLANE), "a room is used from below:");
}

#[test]
fn floors_of_the_engine_use_those_below_them() {
    nothing_in(&upward("dataplane/src", &["engine"], ENGINE), "a floor is used from below:");
}

/// Imports that lead upwards, as `FROM -> TO`.
fn upward(root: &str, within: &[&str], rows: &[&[&str]]) -> Vec<String> {
    let row_of: BTreeMap<&str, usize> =
        rows.iter().enumerate().flat_map(|(row, rooms)| rooms.iter().map(move |room| (*room, row))).collect();
    let room = |module: &[String]| {
        let inner = module
            .strip_prefix(within.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>().as_slice())?;
        inner.first().cloned()
    };
    let mut found = Vec::new();
    let mut looked_at = 0;
    for (from, to) in imports(root) {
        let (Some(user), Some(used)) = (room(&from), room(&to)) else { continue };
        looked_at += 1;
        let (user_row, used_row) = (row_of.get(&*user), row_of.get(&*used));
        let is_upward = match (user_row, used_row) {
            (Some(user), Some(used)) => used < user,
            // The ground uses no floor.
            (None, Some(_)) => true,
            (Some(_), None) | (None, None) => false,
        };
        if is_upward {
            found.push(format!("{} -> {}", from.join("/"), to.join("/")));
        }
    }
    assert!(looked_at > 50, "only {looked_at} imports were found in {root}");
    found
}
