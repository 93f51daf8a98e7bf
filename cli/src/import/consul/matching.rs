//! Conditions on requests, as routers and intentions write them.

use serde_json::{Value, json};

use crate::import::input::InputNode;

/// What a condition on a value of a header or a parameter asks for.
pub(super) enum ValueTest {
    Exact(String),
    Expression(String),
}

impl ValueTest {
    pub(super) fn into_value(self, name: &str) -> Value {
        match self {
            Self::Exact(value) => json!({"name": name, "value": value}),
            Self::Expression(value) => json!({"name": name, "type": "RegularExpression", "value": value}),
        }
    }
}

/// The condition of a header or a parameter; nothing where Weft has no such condition, which is noted.
pub(super) fn value_test(node: &InputNode<'_>) -> Option<ValueTest> {
    if let Some(invert) = node.get("invert")
        && invert.flag() == Some(true)
    {
        node.not_carried("a condition cannot be turned round");
        return None;
    }
    let ignores_case = node.get("ignoreCase").and_then(|ignore| ignore.flag()) == Some(true);
    let of = |field: &str| node.get(field).and_then(|value| value.scalar());
    let expression = if node.get("present").and_then(|present| present.flag()) == Some(true) {
        ".*".to_owned()
    } else if let Some(value) = of("exact") {
        if !ignores_case {
            return Some(ValueTest::Exact(value));
        }
        regex::escape(&value)
    } else if let Some(value) = of("prefix") {
        format!("{}.*", regex::escape(&value))
    } else if let Some(value) = of("suffix") {
        format!(".*{}", regex::escape(&value))
    } else if let Some(value) = of("contains") {
        format!(".*{}.*", regex::escape(&value))
    } else if let Some(value) = of("regex") {
        value
    } else {
        node.not_carried("no such condition is known");
        return None;
    };
    Some(ValueTest::Expression(if ignores_case { format!("(?i){expression}") } else { expression }))
}

/// The path that a route or a permission asks for: the field, its text, and the node of it.
pub(super) fn written_path<'a>(http: &InputNode<'a>) -> Option<(&'static str, &'a str, InputNode<'a>)> {
    ["pathExact", "pathPrefix", "pathRegex"].into_iter().find_map(|field| {
        let node = http.get(field)?;
        Some((field, node.text()?, node))
    })
}

/// The methods of a route or a permission. One that Weft does not know is noted, and nothing comes of the list.
pub(super) fn methods(http: &InputNode<'_>) -> Option<Vec<String>> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let mut methods = Vec::new();
    for node in http.list("methods") {
        let method = node.text()?.to_ascii_uppercase();
        if !KNOWN.contains(&method.as_str()) {
            node.not_carried("no such method is known");
            return None;
        }
        methods.push(method);
    }
    Some(methods)
}
