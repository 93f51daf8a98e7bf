//! Others take the first rule of a list that matches, Weft the most specific one: where that may be another.

use std::cmp::Reverse;

use serde_json::Value;

use super::input::InputNode;

/// Where a match stands among others here. Lower goes first.
type MatchPlace = (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>);

/// Notes at each rule that one behind it in the list is taken before it here.
pub fn note_order(rules: &[(Value, InputNode<'_>)]) {
    for (index, (rule, node)) in rules.iter().enumerate() {
        let sooner = rules[index + 1..].iter().position(|(later, _)| is_sooner(later, rule));
        if let Some(behind) = sooner {
            node.differs(format!(
                "the first match wins there, the most specific one here: rule {} is taken before this one where both match",
                index + behind + 2
            ));
        }
    }
}

fn is_sooner(later: &Value, rule: &Value) -> bool {
    let (later, rule) = (matches(later), matches(rule));
    later.iter().any(|one| rule.iter().any(|other| place(one) < place(other) && may_overlap(one, other)))
}

fn matches(rule: &Value) -> Vec<Value> {
    let written = rule["matches"].as_array().cloned().unwrap_or_default();
    if written.is_empty() { vec![Value::Null] } else { written }
}

fn path(one: &Value) -> (&str, &str) {
    (one["path"]["type"].as_str().unwrap_or("PathPrefix"), one["path"]["value"].as_str().unwrap_or("/"))
}

fn place(one: &Value) -> MatchPlace {
    let count = |field: &str| Reverse(one[field].as_array().map_or(0, Vec::len));
    let (kind, length) = match path(one) {
        ("Exact", _) => (0, 0),
        ("RegularExpression", _) => (1, 0),
        (_, prefix) => (2, prefix.trim_end_matches('/').len()),
    };
    (kind, Reverse(length), one["method"].is_null(), count("headers"), count("queryParams"))
}

fn may_overlap(one: &Value, other: &Value) -> bool {
    if let (Some(one), Some(other)) = (one["method"].as_str(), other["method"].as_str())
        && one != other
    {
        return false;
    }
    let is_below = |path: &str, prefix: &str| path.starts_with(prefix.trim_end_matches('/'));
    match (path(one), path(other)) {
        (("RegularExpression", _), _) | (_, ("RegularExpression", _)) => true,
        (("Exact", one), ("Exact", other)) => one == other,
        (("Exact", one), (_, other)) => is_below(one, other),
        ((_, one), ("Exact", other)) => is_below(other, one),
        ((_, one), (_, other)) => is_below(one, other) || is_below(other, one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_rules_that_may_take_the_same_are_compared() {
        let prefix = |value: &str| json!({"matches": [{"path": {"type": "PathPrefix", "value": value}}]});
        let exact = |value: &str| json!({"matches": [{"path": {"type": "Exact", "value": value}}]});
        assert!(is_sooner(&prefix("/a/b"), &prefix("/a")));
        assert!(!is_sooner(&prefix("/a"), &prefix("/a/b")));
        assert!(!is_sooner(&prefix("/longer"), &prefix("/a")), "they share nothing");
        assert!(is_sooner(&exact("/a/b"), &json!({})));
        assert!(!is_sooner(&json!({}), &json!({})));
        let header = json!({"matches": [{"headers": [{"name": "a", "value": "b"}]}]});
        assert!(is_sooner(&header, &json!({})));
    }
}
