//! What routes of App Mesh ask of requests.

use serde_json::{Value, json};

use crate::import::input::InputNode;

/// The match of a route for HTTP; nothing where a condition cannot be carried.
pub(super) fn http(written: &InputNode<'_>) -> Option<Value> {
    let mut one = json!({});
    if let Some(prefix) = written.get("prefix") {
        let text = prefix.text()?;
        if text != "/" {
            prefix.differs(format!("is compared by whole elements here: {text} does not match {text}x"));
        }
        one["path"] = json!({"type": "PathPrefix", "value": text});
    }
    if let Some(exact) = written.at(&["path", "exact"]) {
        one["path"] = json!({"type": "Exact", "value": exact.text()?});
    }
    if let Some(regex) = written.at(&["path", "regex"]) {
        one["path"] = json!({"type": "RegularExpression", "value": regex.text()?});
    }
    if let Some(method) = written.get("method") {
        one["method"] = json!(method.text()?);
    }
    if let Some(scheme) = written.get("scheme") {
        scheme.not_carried("requests are not told apart by scheme");
        return None;
    }
    for (list, field) in [("headers", "headers"), ("queryParameters", "queryParams")] {
        let tests = tests(&written.list(list))?;
        if !tests.is_empty() {
            one[field] = json!(tests);
        }
    }
    Some(one)
}

/// The match of a route for gRPC.
pub(super) fn grpc(written: &InputNode<'_>) -> Option<Value> {
    let mut one = json!({});
    for (field, to) in [("serviceName", "service"), ("methodName", "method")] {
        if let Some(name) = written.get(field) {
            one["method"][to] = json!(name.text()?);
        }
    }
    let tests = tests(&written.list("metadata"))?;
    if !tests.is_empty() {
        one["headers"] = json!(tests);
    }
    Some(one)
}

fn tests(nodes: &[InputNode<'_>]) -> Option<Vec<Value>> {
    nodes.iter().map(test).collect()
}

fn test(node: &InputNode<'_>) -> Option<Value> {
    let name = node.get("name")?.text()?;
    if let Some(invert) = node.get("invert")
        && invert.flag() == Some(true)
    {
        node.not_carried("a condition cannot be turned round");
        return None;
    }
    let Some(test) = node.get("match") else {
        return Some(json!({"name": name, "type": "RegularExpression", "value": ".*"}));
    };
    let of = |field: &str| test.get(field).and_then(|value| value.scalar());
    if let Some(value) = of("exact") {
        return Some(json!({"name": name, "value": value}));
    }
    let expression = if let Some(value) = of("prefix") {
        format!("{}.*", regex::escape(&value))
    } else if let Some(value) = of("suffix") {
        format!(".*{}", regex::escape(&value))
    } else if let Some(value) = of("regex") {
        value
    } else {
        node.not_carried("no such condition is known");
        return None;
    };
    Some(json!({"name": name, "type": "RegularExpression", "value": expression}))
}
