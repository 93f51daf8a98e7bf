//! The tables as words: which columns there is room for, and what stands in them.

use weft_api::rest::{Edge, EdgeProtocol, ProxyStatus};

use super::failure_group::FailureGroup;
use crate::commands::get::{EDGE_HEAD, edge_row};
use crate::commands::proxy::{PROXY_HEAD, proxy_row, reason};
use crate::output;

/// From this width on, tables say more.
const WIDE: u16 = 120;

/// A table before it is drawn. The first `flexible` columns give way where it is narrow.
pub struct Cells {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    pub flexible: usize,
}

pub fn edges(edges: &[&Edge], width: u16) -> Cells {
    let mut head = EDGE_HEAD.to_vec();
    if width >= WIDE {
        head.extend(["P90", "RETRIES", "OPEN", "SENT", "RECEIVED", "STATE"]);
    }
    let rows = edges.iter().map(|edge| {
        let mut row = edge_row(edge);
        if width >= WIDE {
            row.extend(more_of_an_edge(edge));
        }
        row
    });
    Cells { head, rows: rows.collect(), flexible: 2 }
}

fn more_of_an_edge(edge: &Edge) -> [String; 6] {
    let bytes = |rate: Option<f64>| match (edge.protocol, rate) {
        (EdgeProtocol::Tcp, Some(rate)) => format!("{}/s", size(rate)),
        (EdgeProtocol::Tcp | EdgeProtocol::Http, _) => "-".to_owned(),
    };
    [
        edge.p90_ms.map_or("-".to_owned(), |ms| format!("{ms:.1}ms")),
        format!("{:.1}/s", edge.retries),
        edge.open.to_string(),
        bytes(edge.bytes_sent),
        bytes(edge.bytes_received),
        edge.state.to_string(),
    ]
}

/// Bytes in the unit that reads well.
pub fn size(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1e3 => format!("{bytes:.0}B"),
        _ if bytes < 1e6 => format!("{:.1}kB", bytes / 1e3),
        _ => format!("{:.1}MB", bytes / 1e6),
    }
}

pub fn proxies(proxies: &[&ProxyStatus], width: u16) -> Cells {
    let mut head = PROXY_HEAD.to_vec();
    if width >= WIDE {
        head.push("REASON");
    }
    let rows = proxies.iter().map(|proxy| {
        let mut row = proxy_row(proxy);
        if width >= WIDE {
            row.push(reason(proxy).unwrap_or_default());
        }
        row
    });
    Cells { head, rows: rows.collect(), flexible: 2 }
}

pub fn failures(groups: &[&FailureGroup]) -> Cells {
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows = groups.iter().map(|group| {
        let record = &group.newest;
        vec![
            output::since(i64::try_from(record.at / 1000).unwrap_or_default()),
            format!("{}x", group.count),
            or_dash(&record.source),
            or_dash(&record.destination),
            record.status.map_or("-".to_owned(), |status| status.to_string()),
            record.reason.clone(),
        ]
    });
    Cells { head: vec!["AGO", "TIMES", "FROM", "TO", "STATUS", "REASON"], rows: rows.collect(), flexible: 0 }
}
