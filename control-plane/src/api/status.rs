//! What became of objects: conditions, and which proxies have them.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use weft_api::rest::{ConditionStatus, Object, ObjectStatus, ProxyCounts, StatusCondition};
use weft_policies::kinds::role::ApiKind;
use weft_policies::set::PolicyKey;
use weft_policies::{Policy, PolicySet};

use super::rights::CallerRights;
use super::state::Api;
use crate::replicas::acknowledgements::{NamedProxies, PolicyVersion};

/// Laggards that a list names of each object; one object names more.
pub const NAMED_IN_LISTS: usize = 3;
/// Laggards that one object names.
pub const NAMED_OF_ONE: usize = 100;

/// Puts the status into those objects that documents describe.
pub async fn add<'a>(
    api: &Api,
    rights: &CallerRights,
    set: &PolicySet,
    objects: impl IntoIterator<Item = (PolicyKey, &'a mut Object)>,
    named: NamedProxies,
) {
    let described = objects.into_iter().filter_map(|(key, object)| Some((set.get(&key)?, key, object)));
    let mut described: Vec<(&Policy, PolicyKey, &mut Object)> = described.collect();
    let versions: Vec<PolicyVersion> = described
        .iter()
        .filter(|(policy, ..)| !policy.shapes().is_empty())
        .map(|(policy, key, _)| PolicyVersion { key: key.clone(), revision: revision_of(policy) })
        .collect();
    let now = api.clock.now().format(&Rfc3339).unwrap_or_default();
    let mut counts = api.acknowledgements.of(&versions, named).await.into_iter();
    for (policy, key, object) in &mut described {
        let mut proxies = if policy.shapes().is_empty() { None } else { counts.next() };
        let mut conditions = conditions(policy, key, set, proxies.as_ref());
        api.condition_times.note(set, (key, policy.metadata().uid.as_deref()), &now, &mut conditions);
        if let Some(proxies) = &mut proxies {
            leave_out(proxies, rights);
        }
        let observed_generation = policy.metadata().generation;
        let status = ObjectStatus { observed_generation, conditions, proxies, effective: Vec::new() };
        object.status = Some(beside(object.status.take(), &status));
    }
}

/// What a kind tells of its own stays.
fn beside(own: Option<Value>, status: &ObjectStatus) -> Value {
    let mut all = json!(status);
    if let (Some(Value::Object(own)), Some(all)) = (own, all.as_object_mut()) {
        all.extend(own);
    }
    all
}

/// The revision that an object was changed by last.
fn revision_of(policy: &Policy) -> u64 {
    policy.metadata().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Names that the caller may not look at elsewhere; numbers stay.
fn leave_out(proxies: &mut ProxyCounts, rights: &CallerRights) {
    let is_seen = |id: &String| rights.may_read_of(ApiKind::Proxy, id);
    proxies.laggards.retain(|laggard| is_seen(&laggard.proxy));
    proxies.acknowledged.retain(is_seen);
    proxies.absent.retain(is_seen);
}

fn conditions(
    policy: &Policy,
    key: &PolicyKey,
    set: &PolicySet,
    proxies: Option<&ProxyCounts>,
) -> Vec<StatusCondition> {
    let found = set.found_in(key);
    let (conflicts, rest): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.code == "conflict");
    let unresolved = rest.into_iter().filter(|one| is_reference(&one.code));
    let words = |found: Vec<weft_api::rest::Violation>| {
        let words: Vec<String> = found.iter().map(|one| format!("{}: {}", one.path, one.message)).collect();
        words.join("; ")
    };
    let mut accepted = hold("Accepted", ["Accepted", "Conflicted"], words(conflicts));
    if accepted.status == ConditionStatus::True {
        // What stands in the set was taken when it was written first.
        accepted.last_transition_time.clone_from(&policy.metadata().created_at);
    }
    let resolved = hold("ResolvedRefs", ["ResolvedRefs", "RefNotFound"], words(unresolved.collect()));
    let mut conditions = vec![accepted, resolved];
    conditions.extend(proxies.map(programmed));
    for condition in &mut conditions {
        condition.observed_generation = policy.metadata().generation;
    }
    conditions
}

/// Whether a finding is of something that is named and not there.
fn is_reference(code: &str) -> bool {
    matches!(code, "missing_reference" | "unknown_port" | "unknown_subset" | "unknown_section")
}

/// One that holds unless there is something to say against it.
fn hold(kind: &str, [holds, fails]: [&str; 2], against: String) -> StatusCondition {
    let (status, reason) =
        if against.is_empty() { (ConditionStatus::True, holds) } else { (ConditionStatus::False, fails) };
    StatusCondition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message: against,
        ..StatusCondition::default()
    }
}

fn programmed(proxies: &ProxyCounts) -> StatusCondition {
    let ProxyCounts { targeted, acked, pending, nacked, laggards, unheard, .. } = proxies;
    let (status, reason, message) = if *nacked > 0 {
        let who = laggards.iter().find_map(|one| Some(format!("{}: {}", one.proxy, one.error.as_ref()?)));
        let who = who.map(|who| format!("; {who}")).unwrap_or_default();
        (ConditionStatus::False, "Refused", format!("{nacked} of {targeted} proxies refused it{who}"))
    } else if *pending > 0 {
        (ConditionStatus::False, "Pending", format!("{pending} of {targeted} proxies have not answered yet"))
    } else if *unheard > 0 {
        let message = format!("{unheard} control planes were not heard; their proxies are not counted");
        (ConditionStatus::Unknown, "Unheard", message)
    } else if *targeted == 0 {
        (ConditionStatus::Unknown, "NoProxies", "no connected proxy is concerned".to_owned())
    } else {
        (ConditionStatus::True, "Programmed", format!("{acked} of {targeted} proxies have it"))
    };
    StatusCondition {
        kind: "Programmed".to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        ..StatusCondition::default()
    }
}

#[cfg(test)]
mod tests {
    use weft_api::rest::Laggard;

    use super::*;

    fn reason(counts: &ProxyCounts) -> (ConditionStatus, String, String) {
        let condition = programmed(counts);
        (condition.status, condition.reason, condition.message)
    }

    #[test]
    fn condition_names_who_refused_before_who_waits() {
        let refused = Laggard { proxy: "shop/web-1".to_owned(), error: Some("a: bad".to_owned()) };
        let counts = ProxyCounts {
            targeted: 3,
            acked: 1,
            pending: 1,
            nacked: 1,
            laggards: vec![refused],
            ..ProxyCounts::default()
        };
        let (status, why, message) = reason(&counts);
        assert_eq!((status, &*why), (ConditionStatus::False, "Refused"));
        assert_eq!(message, "1 of 3 proxies refused it; shop/web-1: a: bad");
        let waits = ProxyCounts { targeted: 2, acked: 1, pending: 1, ..ProxyCounts::default() };
        assert_eq!(reason(&waits).1, "Pending");
        assert_eq!(reason(&ProxyCounts::default()).1, "NoProxies");
        let all = ProxyCounts { targeted: 2, acked: 2, ..ProxyCounts::default() };
        assert_eq!(reason(&all).0, ConditionStatus::True);
        let half = ProxyCounts { targeted: 2, acked: 2, unheard: 1, ..ProxyCounts::default() };
        assert_eq!(reason(&half).0, ConditionStatus::Unknown, "what was not heard is not vouched for");
    }
}
