//! The difference between two pictures in words, for logs and pipes.

use std::collections::BTreeMap;

use weft_api::rest::{Edge, ProxyStatus};

use super::picture::{Picture, is_refused};
use crate::commands::proxy::reason;

/// A line for each change.
pub fn between(before: &Picture, now: &Picture) -> Vec<String> {
    let mut lines: Vec<String> =
        now.troubles.iter().filter(|trouble| !before.troubles.contains(*trouble)).cloned().collect();
    if !now.is_answered {
        return lines;
    }
    if !before.is_answered && !before.troubles.is_empty() {
        lines.push("the control plane answers again".to_owned());
    }
    lines.extend(of_proxies(&before.proxies, &now.proxies));
    let counts = |picture: &Picture| (picture.in_sync(), picture.proxies.len());
    if counts(before) != counts(now) {
        let (synced, all) = counts(now);
        lines.push(format!("{synced} of {all} proxies in sync"));
    }
    lines.extend(of_edges(&before.edges, &now.edges));
    lines
}

fn of_proxies(before: &[ProxyStatus], now: &[ProxyStatus]) -> Vec<String> {
    let known: BTreeMap<&str, &ProxyStatus> = before.iter().map(|proxy| (proxy.id.as_str(), proxy)).collect();
    let say = |proxy: &ProxyStatus| format!("{}, {}", proxy.sync, proxy.health);
    let mut lines = Vec::new();
    for proxy in now {
        let was = known.get(proxy.id.as_str());
        if was.is_some_and(|was| say(was) == say(proxy)) {
            continue;
        }
        let from = was.map(|was| format!(" (before: {})", say(was))).unwrap_or_default();
        let why = reason(proxy).map(|reason| format!(": {reason}")).unwrap_or_default();
        lines.push(format!("proxy {} {}{from}{why}", proxy.id, say(proxy)));
    }
    let gone = before.iter().filter(|was| !now.iter().any(|proxy| proxy.id == was.id));
    lines.extend(gone.map(|was| format!("proxy {} is not there any more", was.id)));
    lines
}

fn of_edges(before: &[Edge], now: &[Edge]) -> Vec<String> {
    let same = |one: &Edge, other: &Edge| {
        (&one.source, &one.destination, &one.port, &one.subset)
            == (&other.source, &other.destination, &other.port, &other.subset)
    };
    let say = |edge: &Edge| {
        let refused = if is_refused(edge) { ", some refused" } else { "" };
        format!("{}{refused}", edge.state)
    };
    let mut lines = Vec::new();
    for edge in now {
        let was = before.iter().find(|was| same(was, edge));
        if was.is_some_and(|was| say(was) == say(edge)) {
            continue;
        }
        let from = was.map(|was| format!(" (before: {})", say(was))).unwrap_or_default();
        let subset = edge.subset.as_ref().map(|subset| format!(" {subset}")).unwrap_or_default();
        let (source, destination, port) = (&edge.source, &edge.destination, &edge.port);
        lines.push(format!(
            "edge {source} to {destination}:{port}{subset} {}{from}, {:.1}/s",
            say(edge),
            edge.rate
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use weft_api::rest::{EdgeState, Sync};

    use super::*;

    fn picture(sync: Sync, state: EdgeState) -> Picture {
        let proxy = ProxyStatus {
            id: "shop/cart-1".to_owned(),
            sync,
            health: "Healthy".to_owned(),
            ..ProxyStatus::default()
        };
        let edge = Edge {
            source: "shop/web".to_owned(),
            destination: "shop/cart".to_owned(),
            port: "http".to_owned(),
            state,
            rate: 3.0,
            ..Edge::default()
        };
        Picture { edges: vec![edge], proxies: vec![proxy], is_answered: true, ..Picture::default() }
    }

    #[test]
    fn says_what_changed_and_nothing_else() {
        let well = picture(Sync::Synced, EdgeState::Flowing);
        assert_eq!(between(&Picture::default(), &well).len(), 3);
        assert_eq!(between(&well, &well), Vec::<String>::new());
        let ill = picture(Sync::Disconnected, EdgeState::Failing);
        let lines = between(&well, &ill);
        assert!(
            lines[0].starts_with("proxy shop/cart-1 away, Healthy (before: synced, Healthy): "),
            "{lines:?}"
        );
        assert_eq!(lines[1], "0 of 1 proxies in sync");
        assert_eq!(lines[2], "edge shop/web to shop/cart:http failing (before: flowing), 3.0/s");
    }

    #[test]
    fn control_plane_that_is_away_is_said_once_and_nobody_is_gone() {
        let well = picture(Sync::Synced, EdgeState::Flowing);
        let away = Picture { troubles: vec!["nobody answers".to_owned()], ..Picture::default() };
        let away = away.after(well.clone());
        assert_eq!(between(&well, &away), ["nobody answers"]);
        assert_eq!(between(&away, &away), Vec::<String>::new());
        assert_eq!(between(&away, &well), ["the control plane answers again"]);
    }
}
