//! What a replica finds wrong with itself: its store, its certificates, where it listens, who of the others answers.
//!
//! It is computed when somebody asks, within two seconds: what does not answer by then does not answer.

use std::time::Duration;

use futures::future::join_all;
use time::OffsetDateTime;
use weft_api::rest::CheckSeverity::{Failure, Warning};
use weft_api::rest::RootOrigin;
use weft_store::{FollowHealth, StoreCondition};

use super::code::CheckCode;
use super::concern::Concern;
use crate::api::state::Api;
use crate::ca::{CaError, SealError};
use crate::private_file;
use crate::replicas::traffic::reach;

/// How long the store, another replica or a public address may take to answer.
const LIMIT: Duration = Duration::from_millis(1500);
/// The oldest etcd without known faults that lose watch events.
const OLDEST_ETCD: (u64, u64, u64) = (3, 5, 33);
/// What etcd's file may have where nobody says otherwise.
const DEFAULT_QUOTA: u64 = 2 << 30;
/// A disk with less than this is nearly full, and with less than that as good as full.
const LITTLE_ROOM: u64 = 512 << 20;
const NO_ROOM: u64 = 64 << 20;
/// How much longer than leaves live a stage of a root's rotation may take, in seconds.
const HELD: i64 = 300;

/// All that this replica finds.
pub async fn find(api: &Api) -> Vec<Concern> {
    let (store, public, others) = tokio::join!(of_the_store(api), of_public(api), of_others(api));
    let mut found: Vec<Concern> = store.into_iter().chain(public).chain(others).collect();
    found.extend(of_chain(api));
    found.extend(of_rotation(api).await);
    found.extend(of_listeners(api));
    found.extend(of_seal(api).await);
    let held_back = api.reconciler.published().borrow().held_back;
    if held_back > 0 {
        found.push(
            Concern::of_the_mesh(CheckCode::ExpiryHeldBack, Failure, name(api))
                .says(format!(
                    "more than a third of the mesh lost its streams at once: {held_back} workloads keep their endpoints though \
                     nobody hears of them"
                ))
                .remedy("see why they cannot reach the control plane (weft proxy list); `weft delete workload` takes out those that are gone"),
        );
    }
    found
}

fn name(api: &Api) -> String {
    format!("control plane {}", api.own.address)
}

async fn of_the_store(api: &Api) -> Vec<Concern> {
    let asked = tokio::time::timeout(LIMIT, api.store.condition());
    let reading = tokio::time::timeout(LIMIT, api.store.get("mesh/root"));
    let (condition, read) = tokio::join!(asked, reading);
    let mut found = Vec::new();
    let stale = match &*api.own.admin.store.borrow() {
        FollowHealth::Live => None,
        FollowHealth::Stale { since, reason } => {
            Some(format!("for {} s: {reason}", since.elapsed().as_secs()))
        }
    };
    let silent = match read {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} ms", LIMIT.as_millis())),
    };
    if let Some(why) = silent.or(stale) {
        found.push(
            Concern::of_the_mesh(CheckCode::StoreAway, Failure, name(api))
                .says(format!("its store does not answer, {why}; proxies keep what they have, and nothing can be changed"))
                .remedy("bring etcd back, or see into --etcd and its TLS flags; with the embedded store, look at the disk"),
        );
    }
    if let Ok(Ok(Some(condition))) = condition {
        found.extend(of_etcd(&condition));
    }
    found.extend(of_the_disk(api));
    found
}

fn of_etcd(condition: &StoreCondition) -> Vec<Concern> {
    let mut found = Vec::new();
    if let Some(version) = super::version::parse(&condition.version)
        && version < OLDEST_ETCD
    {
        found.push(
            Concern::of_the_mesh(CheckCode::EtcdVersion, Warning, "etcd")
                .says(format!(
                    "etcd is {}; before 3.5.33 it may lose events of watches, which are read again every five minutes",
                    condition.version
                ))
                .remedy("run etcd 3.5.33 or newer, best 3.6.14 or newer, one member after the other"),
        );
    }
    for alarm in condition.alarms.iter().flatten() {
        found.push(
            Concern::of_the_mesh(CheckCode::EtcdAlarm, Failure, "etcd")
                .says(format!("etcd raises {alarm}: it takes no writes"))
                .remedy("make room (etcdctl compact REVISION, etcdctl defrag), then etcdctl alarm disarm"),
        );
    }
    let quota = condition.quota.unwrap_or(DEFAULT_QUOTA);
    if condition.bytes > quota / 5 * 4 {
        let of = if condition.quota.is_some() { "its quota" } else { "the usual quota" };
        found.push(
            Concern::of_the_mesh(CheckCode::StoreRoom, Warning, "etcd")
                .says(format!(
                    "etcd's file has {} MiB, over 80 % of {of} of {} MiB; at its end etcd takes no writes",
                    condition.bytes >> 20,
                    quota >> 20
                ))
                .remedy("etcdctl defrag, or a larger --quota-backend-bytes"),
        );
    }
    found
}

fn of_the_disk(api: &Api) -> Option<Concern> {
    let directory = api.own.data_dir.as_ref()?;
    let disk = rustix::fs::statvfs(directory).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let severity = if free < NO_ROOM { Failure } else { Warning };
    (free < LITTLE_ROOM).then(|| {
        Concern::of_the_mesh(CheckCode::StoreRoom, severity, name(api))
            .says(format!("{} MiB are left where the store is, {}", free >> 20, directory.display()))
            .remedy("make room on that disk, or move --data-dir to a larger one")
    })
}

fn of_chain(api: &Api) -> Vec<Concern> {
    let (state, now) = (api.authority.state(), api.clock.now());
    let issuer = &state.signing.issuer;
    let origin = state.origin_of(&state.elder.serial);
    let root = of_root(now, state.elder.not_after, state.rotation.is_some(), origin);
    let ends = (issuer.not_before, issuer.not_after);
    let issuer = if state.signs_issuers { of_issuer(now, ends) } else { of_offline_issuer(now, ends) };
    root.into_iter().chain(issuer).collect()
}

fn of_root(
    now: OffsetDateTime,
    end: OffsetDateTime,
    is_rotating: bool,
    origin: RootOrigin,
) -> Option<Concern> {
    let left = end - now;
    let severity = if left <= time::Duration::days(7) { Failure } else { Warning };
    let remedy = match (is_rotating, origin) {
        (true, _) => {
            "weft ca status says what its replacement waits for: bring those back, or revoke them (weft proxy revoke)"
        }
        (false, RootOrigin::Mesh) => {
            "weft ca rotate replaces it; it should have begun by itself at two thirds of its life: look for duty_failed in the logs of the control planes"
        }
        (false, RootOrigin::Files) => {
            "start a control plane with --ca-cert and --ca-key of another root of your own, or let the mesh make one: weft ca rotate"
        }
        (false, RootOrigin::Offline) => {
            "sign what weft ca csr prints by another root of your own and weft ca import the chain, or let the mesh make one: weft ca rotate"
        }
    };
    (left <= time::Duration::days(30)).then(|| {
        Concern::of_the_mesh(CheckCode::RootEnds, severity, "")
            .says(format!("the root ends {}; nothing that leads to it is trusted after that", in_days(left)))
            .remedy(remedy)
    })
}

/// What holds a stage of a rotation that should be over: nobody may hold one for longer than leaves live.
async fn of_rotation(api: &Api) -> Option<Concern> {
    let rotation = api.authority.rotation()?;
    let waits = api.rotations.waits(&rotation).await.ok()?;
    let first = waits.first()?;
    let longest = api.authority.leaf_life().whole_seconds() + i64::from(rotation.spread);
    (api.clock.unix_seconds() - rotation.stage_since > longest + HELD).then(|| {
        Concern::of_the_mesh(CheckCode::RootRotationHeld, Warning, "")
            .says(format!(
                "the root's replacement waits for {}: {} {}",
                waits.len(),
                first.who,
                first.reason.words()
            ))
            .remedy("weft ca status names them; bring them back or revoke them (weft proxy revoke), or undo it (weft ca rotate --abort)")
    })
}

fn of_issuer(now: OffsetDateTime, (start, end): (OffsetDateTime, OffsetDateTime)) -> Option<Concern> {
    let (life, left) = (end - start, end - now);
    // The leader renews it at half its life, and tries on until that is done.
    let severity = if left <= life / 10 { Failure } else { Warning };
    (left <= life / 10 * 3).then(|| {
        Concern::of_the_mesh(CheckCode::IssuerEnds, severity, "")
            .says(format!(
                "the issuer ends {} and was not renewed at half its life; no leaf outlives it",
                in_days(left)
            ))
            .remedy("look for duty_failed in the logs of the control planes: the store, or a proxy without the newest bundle (weft proxy list), keeps it back")
    })
}

/// An issuer that the owner of an offline root signed: nobody here renews it.
fn of_offline_issuer(now: OffsetDateTime, (start, end): (OffsetDateTime, OffsetDateTime)) -> Option<Concern> {
    let (life, left) = (end - start, end - now);
    let (soon, late) = (time::Duration::days(30).min(life / 3), time::Duration::days(7).min(life / 10));
    let severity = if left <= late { Failure } else { Warning };
    (left <= soon).then(|| {
        Concern::of_the_mesh(CheckCode::IssuerEnds, severity, "")
            .says(format!(
                "the issuer ends {}, and the key of its root is with its owner; no leaf outlives it",
                in_days(left)
            ))
            .remedy("weft ca csr > issuer.csr, have it signed by the same root, weft ca import FILE")
    })
}

fn in_days(left: time::Duration) -> String {
    if left.is_negative() {
        return format!("{} h ago", -left.whole_hours());
    }
    match left.whole_days() {
        0 => format!("in {} min", left.whole_minutes()),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

fn of_listeners(api: &Api) -> Vec<Concern> {
    let mut found = Vec::new();
    let admin = api.own.admin_listen;
    if !admin.ip().is_loopback() {
        found.push(
            Concern::of_the_mesh(CheckCode::AdminExposed, Warning, name(api))
                .says(format!("/dump and /metrics answer on {admin} whoever reaches it, without a token"))
                .remedy(format!(
                    "--admin-listen 127.0.0.1:{}; --metrics-listen is for a Prometheus elsewhere",
                    admin.port()
                )),
        );
    }
    let file = &api.own.seal_key;
    let trouble = match private_file::read(file) {
        Ok(Some(_)) => return found,
        Ok(None) => (
            format!("{} is gone: this replica does not start again without it", file.display()),
            "put it back, from another replica or a backup".to_owned(),
        ),
        Err(error) => {
            let remedy = match &error {
                private_file::PrivateFileError::Exposed { path, .. } => {
                    format!("chmod 600 {}", path.display())
                }
                private_file::PrivateFileError::Io { path, .. } => {
                    format!("make {} readable for the control plane", path.display())
                }
            };
            (format!("the seal key cannot be used at the next start: {error}"), remedy)
        }
    };
    found
        .push(Concern::of_the_mesh(CheckCode::SealKey, Failure, name(api)).says(trouble.0).remedy(trouble.1));
    found
}

/// Whether the authority's records are the newest, and which keys they are sealed with.
async fn of_seal(api: &Api) -> Vec<Concern> {
    let file = api.own.seal_key.display();
    let used = match tokio::time::timeout(LIMIT, api.authority.seal_use(api.store.as_ref())).await {
        Ok(Ok(used)) => used,
        // A store that is away is told by itself.
        Err(_) | Ok(Err(CaError::Read(_))) => return Vec::new(),
        Ok(Err(error)) => {
            let (code, remedy) = match &error {
                CaError::Seal(SealError::NotHeld { .. } | SealError::DoesNotOpen { .. }) => {
                    (CheckCode::SealKey, format!("see into {file}: another replica or a backup has the lines that it lacks"))
                }
                _ => (
                    CheckCode::AuthorityRecords,
                    "see who else can write to the store; certificates are issued on from memory, so restore the newest backup before \
                     control planes are restarted"
                        .to_owned(),
                ),
            };
            return vec![
                Concern::of_the_mesh(code, Failure, name(api)).says(error.to_string()).remedy(remedy),
            ];
        }
    };
    let others = used.keys.iter().filter(|(key, _)| **key != used.sealing);
    let concern = |(key, records): (&crate::ca::SealKeyId, &usize)| {
        let concern = Concern::of_the_mesh(CheckCode::SealKey, Warning, name(api));
        if *records > 0 {
            concern
                .says(format!(
                    "{records} records of the authority are sealed with the key {key}, and {} is newer",
                    used.sealing
                ))
                .remedy("weft ca reseal")
        } else {
            concern
                .says(format!("no record needs the seal key {key} any more"))
                .remedy(format!("leave only the first line in {file}, here and on the other replicas; backups that were taken before need the old key"))
        }
    };
    others.map(concern).collect()
}

/// Whether a control plane answers where tokens send workloads to.
async fn of_public(api: &Api) -> Vec<Concern> {
    let is_used = !api.reconciler.streams().await.unwrap_or_default().is_empty();
    let asked = api.public.iter().map(|address| async move {
        let error = reach(&api.authority, address, LIMIT).await.err()?;
        // A machine may be unable to reach itself by the way that others take: proxies that are here say that there is one.
        let severity = if is_used { Warning } else { Failure };
        Some(
            Concern::of_the_mesh(CheckCode::PublicUnreachable, severity, name(api))
                .says(format!(
                    "tokens send workloads to {address}, and no control plane answers there: {error}"
                ))
                .remedy(format!(
                    "start it, let it through the firewall, or leave {address} out of --public (--advertise)"
                )),
        )
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether the other replicas answer this one.
async fn of_others(api: &Api) -> Vec<Concern> {
    let Some(others) = &api.own.others else { return Vec::new() };
    let asked = others.known().into_values().map(|address| async move {
        let error = reach(&api.authority, &address, LIMIT).await.err()?;
        Some(
            Concern::of_the_mesh(CheckCode::ReplicaUnreachable, Failure, name(api))
                .says(format!(
                    "control plane {address} does not answer this one: {error}; what its proxies tell is missing here"
                ))
                .remedy("let the replicas through to each other's xDS port; --advertise says where one is reached"),
        )
    });
    join_all(asked).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use time::Duration as Span;

    use super::*;

    #[test]
    fn root_is_told_of_a_month_before_its_end_and_fails_a_week_before() {
        let now = OffsetDateTime::UNIX_EPOCH + Span::days(20_000);
        let root = |days, origin| of_root(now, now + Span::days(days), false, origin);
        let found = |days| root(days, RootOrigin::Mesh).map(|found| found.finding.severity);
        assert_eq!(
            [31, 30, 8, 7, -1].map(found),
            [None, Some(Warning), Some(Warning), Some(Failure), Some(Failure)]
        );
    }

    #[test]
    fn root_that_the_mesh_did_not_make_is_its_owners_to_replace() {
        let now = OffsetDateTime::UNIX_EPOCH + Span::days(20_000);
        let remedy = |origin| {
            let found = of_root(now, now + Span::days(20), false, origin).unwrap();
            found.finding.remedy.unwrap_or_default()
        };
        assert!(remedy(RootOrigin::Files).contains("--ca-cert"));
        assert!(remedy(RootOrigin::Offline).contains("weft ca import"));
    }

    #[test]
    fn issuer_below_an_offline_root_is_told_of_a_month_before_its_end() {
        let start = OffsetDateTime::UNIX_EPOCH + Span::days(20_000);
        let found = |left: i64| {
            let end = start + Span::days(365);
            let found = of_offline_issuer(end - Span::days(left), (start, end))?;
            assert!(found.finding.remedy.unwrap_or_default().contains("weft ca csr"));
            Some(found.finding.severity)
        };
        assert_eq!(
            [31, 30, 8, 7, 1].map(found),
            [None, Some(Warning), Some(Warning), Some(Failure), Some(Failure)]
        );
    }

    #[test]
    fn issuer_of_any_life_is_told_of_when_it_was_not_renewed_in_time() {
        let start = OffsetDateTime::UNIX_EPOCH + Span::days(20_000);
        for life in [Span::days(30), Span::minutes(1)] {
            let found = |tenths: i32| {
                let now = start + life * tenths / 10;
                of_issuer(now, (start, start + life)).map(|found| found.finding.severity)
            };
            assert_eq!([5, 6, 7, 8, 9].map(found), [None, None, Some(Warning), Some(Warning), Some(Failure)]);
        }
    }
}
