//! Since when conditions hold, as far as this replica has seen.
//!
//! A status is computed when it is read, and nothing is written down for it. So a change of a condition is seen by the first
//! who reads the object afterwards; and a replica that was started since, or another one, has seen it later. What is told
//! is never before the change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use weft_api::rest::{ConditionStatus, StatusCondition};
use weft_policies::PolicySet;
use weft_policies::set::PolicyKey;

/// What was seen of conditions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ConditionTimes(Arc<Mutex<HashMap<PolicyKey, SeenObject>>>);

#[derive(Debug)]
struct SeenObject {
    /// Tells an object from one of the same name before it.
    uid: Option<String>,
    /// What was seen last of each condition, and since when it is so.
    conditions: Vec<(String, ConditionStatus, Option<String>)>,
}

impl ConditionTimes {
    /// Says of each condition since when it holds. One that was not seen before holds since the moment that it says already,
    /// and without one since `now`.
    pub fn note(
        &self,
        set: &PolicySet,
        (key, uid): (&PolicyKey, Option<&str>),
        now: &str,
        conditions: &mut [StatusCondition],
    ) {
        // A lock because handlers run side by side; held for a look at the map.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = seen.get(key).is_some_and(|before| before.uid.as_deref() == uid);
        if !is_known {
            // Of each object that is there one is kept, and of those that are gone as many at most.
            if seen.len() > 2 * set.len() {
                seen.retain(|key, _| set.get(key).is_some());
            }
            seen.insert(key.clone(), SeenObject { uid: uid.map(str::to_owned), conditions: Vec::new() });
        }
        let Some(object) = seen.get_mut(key) else { return };
        for condition in conditions {
            let before = object.conditions.iter_mut().find(|(kind, ..)| *kind == condition.kind);
            match before {
                Some((_, status, since)) if *status == condition.status => {
                    condition.last_transition_time.clone_from(since);
                }
                Some((_, status, since)) => {
                    (*status, *since) = (condition.status, Some(now.to_owned()));
                    condition.last_transition_time.clone_from(since);
                }
                None => {
                    condition.last_transition_time.get_or_insert_with(|| now.to_owned());
                    let since = condition.last_transition_time.clone();
                    object.conditions.push((condition.kind.clone(), condition.status, since));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        times: &ConditionTimes,
        object: (&PolicyKey, Option<&str>),
        now: &str,
        status: ConditionStatus,
    ) -> String {
        let mut conditions =
            [StatusCondition { kind: "Programmed".to_owned(), status, ..StatusCondition::default() }];
        times.note(&PolicySet::default(), object, now, &mut conditions);
        conditions[0].last_transition_time.clone().unwrap()
    }

    #[test]
    fn condition_holds_since_it_was_seen_first_and_an_object_of_the_same_name_begins_anew() {
        use ConditionStatus::{False, True};
        let times = ConditionTimes::default();
        let key = PolicyKey::new(
            weft_policies::kinds::Kind::Service,
            "shop".parse().unwrap(),
            "web".parse().unwrap(),
        );
        let one = (&key, Some("one"));
        assert_eq!(told(&times, one, "1", True), "1");
        assert_eq!(told(&times, one, "2", True), "1");
        assert_eq!(told(&times, one, "3", False), "3");
        assert_eq!(told(&times, one, "4", False), "3");
        assert_eq!(told(&times, one, "5", True), "5");
        assert_eq!(told(&times, (&key, Some("two")), "6", True), "6");
    }

    #[test]
    fn objects_that_are_gone_are_forgotten() {
        let times = ConditionTimes::default();
        for n in 0..100 {
            let name = format!("web-{n}").parse().unwrap();
            let key = PolicyKey::new(weft_policies::kinds::Kind::Service, "shop".parse().unwrap(), name);
            told(&times, (&key, None), "1", ConditionStatus::True);
        }
        assert!(times.0.lock().unwrap().len() <= 1, "of an empty set nothing is kept but the last");
    }
}
