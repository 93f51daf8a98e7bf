//! What is wrong with proxies and the applications behind them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use weft_api::WorkloadId;
use weft_api::cause::clock_in_words;
use weft_api::rest::CheckSeverity::{Failure, NotKnown, Ok as Well, Warning};
use weft_api::rest::{CertificateStatus, ProxyStatus, Sync};
use weft_policies::compile::{Health, WorkloadState, application_ip};
use weft_policies::kinds::role::ApiKind;

use super::code::CheckCode;
use super::concern::Concern;
use super::version::{VersionSkew, parse, skew};
use crate::api::own::OwnReplica;
use crate::api::state::Api;
use crate::reconciler::MeshSnapshot;

/// Ids that one finding names; the rest is a number.
const NAMED: usize = 5;

/// What a replica knows of one workload beside the status of its proxy.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub snapshot: &'a MeshSnapshot,
    /// Seconds since 1970.
    pub now: i64,
}

impl Around<'_> {
    fn has_left(&self, id: &WorkloadId) -> bool {
        self.snapshot.records.get(id).is_some_and(|record| record.left_at.is_some())
    }
}

fn of_proxy(code: CheckCode, severity: weft_api::rest::CheckSeverity, id: &str) -> Concern {
    Concern::of(code, severity, ApiKind::Proxy, id)
}

/// What is wrong with one proxy.
pub fn of_one(around: &Around<'_>, proxy: &ProxyStatus) -> Vec<Concern> {
    let Ok(id) = proxy.id.parse::<WorkloadId>() else { return Vec::new() };
    let mut found = Vec::new();
    if let Some(mark) = &proxy.drained {
        found.push(
            of_proxy(CheckCode::WorkloadDrained, Well, &proxy.id)
                .says(format!("{} has drained it: it gets no new requests", mark.by))
                .remedy(format!("weft drain {id} --undo")),
        );
    }
    if let Some(refused) = around.snapshot.not_granted.get(&id) {
        found.push(of_proxy(CheckCode::NameNotGranted, Failure, &proxy.id).says(refused.to_string()).remedy(
            format!(
                "join it under another --name, or name its service in spec.services of the Workload {id}"
            ),
        ));
        return found;
    }
    if around.has_left(&id) {
        return found;
    }
    if proxy.sync == Sync::Disconnected {
        found.extend(of_absence(around, &id, proxy));
        return found;
    }
    found.extend(of_certificate(around, proxy));
    found.extend(of_refusals(proxy));
    found.extend(of_clock(proxy));
    found.extend(of_version(proxy));
    if takes_no_listener(around, &id, proxy) {
        found.push(
            of_proxy(CheckCode::ProxyWithoutListener, Warning, &proxy.id)
                .says("it takes no listener from the control plane, so peers are not told of it")
                .remedy("join it with --client if it only calls; else take listeners by LDS, as `weft proxy bootstrap` writes it"),
        );
    }
    found
}

fn of_absence(around: &Around<'_>, id: &WorkloadId, proxy: &ProxyStatus) -> Option<Concern> {
    let Some(record) = around.snapshot.records.get(id) else {
        let has_sidecar = around.snapshot.workloads.get(id).is_some_and(WorkloadState::has_sidecar);
        return has_sidecar.then(|| {
            of_proxy(CheckCode::NotJoined, Warning, &proxy.id)
                .says("a Workload document describes it, and nobody has joined as it")
                .remedy(format!(
                    "start its sidecar with a token of its service, or weft delete workload {id}"
                ))
        });
    };
    let service = &record.service;
    if let Some(end) = proxy.certificate.as_ref().map(|leaf| leaf.expires_at).filter(|end| *end <= around.now)
    {
        let ago = span(around.now - end);
        return Some(
            of_proxy(CheckCode::LeafEnded, Failure, &proxy.id)
                .says(format!("it is away, and its certificate ended {ago} ago: it cannot come back by itself"))
                .remedy(format!(
                    "let it join again (weft token create --service {service}), or weft delete workload {id} if it is gone for good"
                )),
        );
    }
    let (severity, words) = match around.snapshot.workloads.get(id).map(|state| state.health) {
        // It lost its stream a moment ago, and may be on its way back.
        Some(Health::Healthy) => return None,
        Some(Health::Draining) => (Warning, ", for so long that it gets no requests any more"),
        Some(Health::Degraded | Health::Unhealthy | Health::Starting) | None => (Failure, ""),
    };
    Some(
        of_proxy(CheckCode::ProxyAway, severity, &proxy.id)
            .says(format!(
                "it has no stream and said no goodbye: it is down, or cannot reach the control plane{words}"
            ))
            .remedy(format!(
                "look at its machine and its log; weft delete workload {id} if it is gone for good"
            )),
    )
}

fn of_certificate(around: &Around<'_>, proxy: &ProxyStatus) -> Option<Concern> {
    let CertificateStatus { issued_at, expires_at, .. } = proxy.certificate.as_ref()?;
    let (life, left) = (expires_at - issued_at, expires_at - around.now);
    if left <= 0 {
        return Some(
            of_proxy(CheckCode::LeafEnded, Failure, &proxy.id)
                .says(format!("its certificate ended {} ago: peers refuse it", span(-left)))
                .remedy(format!(
                    "see its log; let it join again with a new token (weft token create --service {})",
                    proxy.service
                )),
        );
    }
    // It is renewed at 50 to 60 % of its life.
    (left < life / 5).then(|| {
        of_proxy(CheckCode::LeafNotRenewed, Warning, &proxy.id)
            .says(format!("its certificate ends in {} and was not renewed", span(left)))
            .remedy("see its log; beside an Envoy, is `weft-proxy join --keep` running?")
    })
}

fn of_refusals(proxy: &ProxyStatus) -> Vec<Concern> {
    let mut found = Vec::new();
    for (name, status) in &proxy.types {
        for refusal in &status.refused {
            let words = refusal.message.lines().next().unwrap_or_default();
            let remedy = if refusal.policies.is_empty() {
                format!("weft proxy status {} tells all of it", proxy.id)
            } else {
                format!(
                    "change {}; weft proxy status {} tells all of it",
                    refusal.policies.join(", "),
                    proxy.id
                )
            };
            found.push(
                of_proxy(CheckCode::ProxyRefuses, Failure, &proxy.id)
                    .says(format!("{name} refused {}: {}", refusal.resources.join(", "), shorten(words)))
                    .remedy(remedy),
            );
        }
        if status.held_back > 0 && status.refused.is_empty() {
            found.push(
                of_proxy(CheckCode::ProxyRefuses, Failure, &proxy.id)
                    .says(format!(
                        "{} resources of {name} are held back: what they lead to was refused",
                        status.held_back
                    ))
                    .remedy(format!("weft proxy status {} names what was refused", proxy.id)),
            );
        }
    }
    found
}

fn of_clock(proxy: &ProxyStatus) -> Option<Concern> {
    let offset = proxy.clock_offset_ms?;
    Some(
        of_proxy(CheckCode::ProxyClock, Failure, &proxy.id)
            .says(format!("{}: certificates are refused", clock_in_words(&proxy.id, offset)))
            .remedy("set its machine's clock by NTP, and the control plane's"),
    )
}

fn of_version(proxy: &ProxyStatus) -> Option<Concern> {
    let version = parse(proxy.user_agent.strip_prefix("weft-proxy ")?)?;
    let own = parse(OwnReplica::VERSION)?;
    let (what, remedy) = match skew(version, own) {
        VersionSkew::Fits => return None,
        VersionSkew::TooNew => (
            "newer than",
            "upgrade the control planes first (docs/tasks/upgrade.md), or take its version back",
        ),
        VersionSkew::TooOld => {
            ("more than one minor version older than", "upgrade it, one of a service after the other")
        }
    };
    Some(
        of_proxy(CheckCode::ProxyVersion, Warning, &proxy.id)
            .says(format!("{} is {what} the control plane, {}", proxy.user_agent, OwnReplica::VERSION))
            .remedy(remedy),
    )
}

/// An Envoy with listeners of its own, that joined as one that others call.
fn takes_no_listener(around: &Around<'_>, id: &WorkloadId, proxy: &ProxyStatus) -> bool {
    let none = proxy.types.get("LDS").is_none_or(|listeners| listeners.sent == 0);
    let is_awaited = around.snapshot.records.get(id).is_some_and(|record| record.awaited);
    none && is_awaited && !proxy.client && proxy.sync == Sync::Synced
}

/// What is wrong with the applications of workloads that are connected; `members` are those that others may call.
pub fn of_applications(
    api: &Api,
    around: &Around<'_>,
    proxies: &[ProxyStatus],
    sockets: &SocketsOf,
    members: &HashSet<WorkloadId>,
) -> Vec<Concern> {
    let (mut found, mut unseen) = (Vec::new(), Vec::new());
    for proxy in proxies.iter().filter(|proxy| proxy.sync != Sync::Disconnected && !proxy.client) {
        let Ok(id) = proxy.id.parse::<WorkloadId>() else { continue };
        let Some(state) = around.snapshot.workloads.get(&id) else { continue };
        if around.has_left(&id) {
            continue;
        }
        found.extend(of_ports(around, state));
        if !members.contains(&id) {
            continue;
        }
        let seen = api.own.applications.of(Instant::now(), &id).or_else(|| sockets.get(&proxy.id).cloned());
        match seen.filter(|seen| !seen.is_empty()) {
            Some(seen) => found.extend(exposed(&proxy.id, state, &seen)),
            None => unseen.push(proxy.id.clone()),
        }
    }
    // One for each namespace, since each may be somebody else's to look at.
    unseen.sort();
    for part in unseen.chunk_by(|one, other| one.split('/').next() == other.split('/').next()) {
        let names = part.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = part.len().saturating_sub(NAMED);
        let names = if more > 0 { format!("{names} and {more} more") } else { names };
        let mut concern = of_proxy(CheckCode::ApplicationNotSeen, NotKnown, &part[0])
            .says("where its application listens: only a weft-proxy in its network namespace sees that, once it runs")
            .remedy("ss -ltn on its machine: an application behind a sidecar listens on 127.0.0.1 alone");
        concern.finding.place = names;
        found.push(concern);
    }
    found
}

/// Where applications listen, as other replicas were told.
pub type SocketsOf = std::collections::BTreeMap<String, Vec<SocketAddr>>;

fn of_ports(around: &Around<'_>, state: &WorkloadState) -> Vec<Concern> {
    let mut found = Vec::new();
    for ((service, name), health) in &state.port_health {
        let set = &around.snapshot.published.set;
        let port = set.service(service).and_then(|service| service.spec.port(&name.parse().ok()?));
        let Some(port) = port else { continue };
        let address = SocketAddr::new(application_ip(state), state.app_port(port));
        let (severity, words) = match health {
            Health::Healthy => continue,
            Health::Starting => (Warning, "has not answered yet"),
            Health::Unhealthy | Health::Degraded | Health::Draining => {
                (Failure, "does not answer, or not as its healthCheck asks")
            }
        };
        found.push(
            of_proxy(CheckCode::ApplicationSilent, severity, &state.id.to_string())
                .says(format!("the application of {service} port {name} {words} on {address}"))
                .remedy(format!("start it there, or say where it listens: --app-port {name}=PORT")),
        );
    }
    found
}

fn exposed(id: &str, state: &WorkloadState, sockets: &[SocketAddr]) -> Vec<Concern> {
    let own = application_ip(state);
    let open = sockets.iter().filter(|socket| !socket.ip().is_loopback());
    open.map(|socket| {
        of_proxy(CheckCode::ApplicationExposed, Warning, id)
            .says(format!(
                "its application listens on {socket}: whoever reaches that passes by mutual TLS and policies"
            ))
            .remedy(format!(
                "let it listen on {own}:{} alone, or close that port in the firewall",
                socket.port()
            ))
    })
    .collect()
}

/// A refusal's words, cut: there is one line for each.
fn shorten(words: &str) -> String {
    const MOST: usize = 160;
    let cut: String = words.chars().take(MOST).collect();
    if cut.len() < words.len() { format!("{cut}…") } else { cut }
}

/// Seconds in the two largest units.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}
