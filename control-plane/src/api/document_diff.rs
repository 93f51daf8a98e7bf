//! Which fields of a document say something else.

use serde_json::{Map, Value, json};
use weft_api::rest::{FieldDiff, Object};

/// The fields that people write and that differ, in the order of the document.
#[must_use]
pub fn fields(before: &Object, after: &Object) -> Vec<FieldDiff> {
    let mut found = Vec::new();
    compare("", Some(&written(before)), Some(&written(after)), &mut found);
    found
}

/// What people write of an object: what the server keeps is its own affair.
fn written(object: &Object) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations"] {
        if let Some(value) = object.metadata.get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    json!({"apiVersion": object.api_version, "metadata": metadata, "spec": object.spec})
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldDiff>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let only_new = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(only_new) {
                compare(&join(path, key), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => compare_lists(path, old, new, found),
        (before, after) => {
            found.push(FieldDiff { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
        }
    }
}

/// What begins and ends a list alike is passed over, so that an element put in at the front is one difference. Indices
/// before and after are not the same behind it: those of an element that went are the old ones, all others the new ones.
fn compare_lists(path: &str, old: &[Value], new: &[Value], found: &mut Vec<FieldDiff>) {
    let alike = |pairs: &mut dyn Iterator<Item = (&Value, &Value)>| pairs.take_while(|(a, b)| a == b).count();
    let first = alike(&mut old.iter().zip(new));
    let (old_rest, new_rest) = (&old[first..], &new[first..]);
    let last = alike(&mut old_rest.iter().rev().zip(new_rest.iter().rev()));
    let (old_rest, new_rest) = (&old_rest[..old_rest.len() - last], &new_rest[..new_rest.len() - last]);
    for index in 0..old_rest.len().max(new_rest.len()) {
        let path = format!("{path}[{}]", first + index);
        compare(&path, old_rest.get(index), new_rest.get(index), found);
    }
}

/// A key that would read as something else, as those of labels may, is quoted.
fn join(path: &str, key: &str) -> String {
    let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (path.is_empty(), is_plain) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[{key:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(metadata: Value, spec: Value) -> Object {
        Object { metadata, spec, ..Object::default() }
    }

    fn paths(before: Value, after: Value) -> Vec<String> {
        let found = fields(&object(json!({}), before), &object(json!({}), after));
        found.into_iter().map(|field| field.path).collect()
    }

    #[test]
    fn fields_are_told_by_the_deepest_path_that_differs() {
        let before = object(
            json!({"generation": 1, "labels": {"weft.dev/tier": "a"}}),
            json!({"rules": [{"weight": 90}, {"weight": 10}], "gone": 1}),
        );
        let after = object(
            json!({"generation": 2, "labels": {"weft.dev/tier": "b"}}),
            json!({"rules": [{"weight": 90}, {"weight": 20}], "come": {"x": 1}}),
        );
        let found = fields(&before, &after);
        let told: Vec<_> = found.iter().map(|one| (one.path.as_str(), &one.before, &one.after)).collect();
        assert_eq!(
            told,
            [
                ("metadata.labels[\"weft.dev/tier\"]", &Some(json!("a")), &Some(json!("b"))),
                ("spec.gone", &Some(json!(1)), &None),
                ("spec.rules[1].weight", &Some(json!(10)), &Some(json!(20))),
                ("spec.come", &None, &Some(json!({"x": 1}))),
            ]
        );
    }

    #[test]
    fn an_element_put_in_or_taken_out_is_one_difference() {
        assert_eq!(paths(json!({"l": ["a", "b"]}), json!({"l": ["new", "a", "b"]})), ["spec.l[0]"]);
        assert_eq!(paths(json!({"l": ["a", "b", "c"]}), json!({"l": ["a", "c"]})), ["spec.l[1]"]);
        assert_eq!(paths(json!({"l": ["a"]}), json!({"l": ["a"]})), Vec::<String>::new());
    }
}
