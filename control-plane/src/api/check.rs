//! What is wrong with the mesh, as far as control planes know it: `weft check` and the page ask.
//!
//! ```text
//! GET /v1/check ─▶ own::find        store, certificates, listeners, other replicas; each replica of itself
//!               ├▶ mesh::of_one     each proxy, as the replica knows it that it is connected to
//!               ├▶ mesh::of_applications
//!               └▶ policies         services, policies, tokens
//! ```
//!
//! What is not seen is told as not known, never as well. Nothing here changes anything, or waits for a proxy.

mod code;
pub mod concern;
pub mod mesh;
pub mod own;
mod policies;
mod version;

use std::collections::{BTreeMap, HashSet};

use axum::Json;
use axum::extract::State;
use weft_api::WorkloadId;
use weft_api::rest::CheckSeverity::{Failure, Warning};
use weft_api::rest::{CheckResult, ProxyStatus, Sync};
use weft_policies::kinds::role::ApiKind;

use code::{CheckArea, CheckCode};
use concern::{Concern, ToldFindings};
use mesh::{Around, SocketsOf};

use super::error::ApiError;
use super::own::OwnReplica;
use super::proxies;
use super::replica::{OtherReplica, ReplicaQuestion, ask_others, with_those_of_others};
use super::rights::CallerRights;
use super::state::Api;
use crate::identity::tokens::TokenRecord;
use crate::reconciler::MeshSnapshot;

/// How far clocks may be apart: certificates begin two minutes before they are issued.
const CLOCKS_APART_MS: u64 = 30_000;
/// How long an answer may have been on its way: the others are asked for so long.
const ON_THE_WAY_MS: u64 = 4_000;

/// `GET /v1/check`
pub async fn check(State(api): State<Api>, rights: CallerRights) -> Result<Json<CheckResult>, ApiError> {
    let (own, others, tokens) =
        tokio::join!(own::find(&api), ask_others(&api, ReplicaQuestion::Check), api.tokens.list());
    // That the store does not answer is a finding of its own.
    let tokens: Vec<TokenRecord> = tokens.unwrap_or_default();
    let snapshot = proxies::snapshot(&api).await?;
    let proxies = with_those_of_others(proxies::all(&api).await?, &others);
    let concerns = of_mesh(&api, &snapshot, &proxies, &others, &tokens);
    let complete = rights.may_read(ApiKind::Proxy, "");
    let mut told = ToldFindings::default();
    told.take(own.into_iter().chain(concerns).collect(), &rights);
    if complete {
        let theirs = others.iter().filter_map(|other| other.report.as_ref().ok());
        told.take_own(theirs.flat_map(|report| report.findings.clone()).collect());
        told.add_what_is_well(&looked_at(&api, &snapshot, &proxies, &others, &tokens));
    }
    let told = told.finish();
    Ok(Json(CheckResult {
        findings: told.findings,
        omitted: told.omitted,
        complete,
        version: OwnReplica::VERSION.to_owned(),
        now: api.clock.unix_millis(),
    }))
}

fn of_mesh(
    api: &Api,
    snapshot: &MeshSnapshot,
    proxies: &[ProxyStatus],
    others: &[OtherReplica],
    tokens: &[TokenRecord],
) -> Vec<Concern> {
    let around = Around { snapshot, now: api.clock.unix_seconds() };
    let reports = others.iter().filter_map(|other| other.report.as_ref().ok());
    let sockets: SocketsOf = reports.flat_map(|report| report.sockets.clone()).collect();
    let mut found: Vec<Concern> = proxies.iter().flat_map(|proxy| mesh::of_one(&around, proxy)).collect();
    let members = policies::members(&around);
    let ids: HashSet<WorkloadId> = members.values().flatten().map(|state| state.id.clone()).collect();
    found.extend(mesh::of_applications(api, &around, proxies, &sockets, &ids));
    found.extend(policies::of_services(&around, &members));
    found.extend(policies::of_policies(&snapshot.published.set));
    found.extend(policies::of_tokens(around.now, tokens));
    found.extend(of_replicas(api, others));
    found
}

/// Versions and clocks of the other replicas.
fn of_replicas(api: &Api, others: &[OtherReplica]) -> Vec<Concern> {
    let mut found = Vec::new();
    let now = api.clock.unix_millis();
    for other in others {
        // One that does not answer at all is found by `own`.
        let place = format!("control plane {}", other.address);
        let Ok(report) = &other.report else { continue };
        if report.version != OwnReplica::VERSION {
            found.push(
                Concern::of_the_mesh(CheckCode::ReplicaVersion, Warning, &*place)
                    .says(format!(
                        "it is {}, and control plane {} is {}",
                        report.version,
                        api.own.address,
                        OwnReplica::VERSION
                    ))
                    .remedy("go on with the upgrade (docs/tasks/upgrade.md) until all are of one version"),
            );
        }
        let apart = now.abs_diff(report.now);
        if apart > CLOCKS_APART_MS + ON_THE_WAY_MS {
            let behind = if report.now < now { "behind" } else { "ahead of" };
            found.push(
                Concern::of_the_mesh(CheckCode::ReplicaClock, Failure, &*place)
                    .says(format!(
                        "its clock is {} {behind} that of control plane {}: certificates that one issues are refused by who \
                         goes by the other",
                        mesh::span(i64::try_from(apart / 1000).unwrap_or(i64::MAX)),
                        api.own.address
                    ))
                    .remedy("set the clocks of both machines by NTP"),
            );
        }
    }
    found
}

/// What was looked at in each area, in a few words.
fn looked_at(
    api: &Api,
    snapshot: &MeshSnapshot,
    proxies: &[ProxyStatus],
    others: &[OtherReplica],
    tokens: &[TokenRecord],
) -> BTreeMap<CheckArea, String> {
    let connected = proxies.iter().filter(|proxy| proxy.sync != Sync::Disconnected).count();
    let replicas = counted(others.len() + 1, "control plane");
    let set = &snapshot.published.set;
    let chain = api.authority.chain();
    let days = |end: time::OffsetDateTime| (end - api.clock.now()).whole_days();
    let store = if api.own.data_dir.is_some() { "the embedded store answers" } else { "etcd answers" };
    let reach =
        if api.own.api.ip().is_loopback() { "this machine only" } else { "other machines too, by TLS" };
    [
        (CheckArea::Versions, format!("{replicas} and {} fit together", counted(connected, "proxy"))),
        (CheckArea::Clocks, format!("{replicas} and {} agree", counted(connected, "proxy"))),
        (CheckArea::Store, format!("{store}, and has room")),
        (
            CheckArea::Certificates,
            format!(
                "the root has {} days left, the issuer {}, and leaves are renewed in time",
                days(chain.root.not_after),
                days(chain.issuer.not_after)
            ),
        ),
        (CheckArea::Listeners, format!("a control plane answers at {}; the API is for {reach}", api.public)),
        (CheckArea::Replicas, format!("all answer: {replicas}")),
        (CheckArea::Proxies, format!("{} connected and in sync", counted(connected, "proxy"))),
        (CheckArea::Applications, "each answers its sidecar, and listens on loopback alone".to_owned()),
        (
            CheckArea::Services,
            format!("{} have members that take requests", counted(set.services().count(), "service")),
        ),
        (CheckArea::Policies, format!("{} that name what is there", counted(set.len(), "document"))),
        (
            CheckArea::Tokens,
            format!("{}, and none of a long life ends within a day", counted(tokens.len(), "join token")),
        ),
    ]
    .into()
}

fn counted(count: usize, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}
