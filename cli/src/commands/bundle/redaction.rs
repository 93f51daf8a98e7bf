//! What must not leave a mesh with a bundle: tokens, private keys, and values of headers, which may be somebody's secret.
//!
//! The control plane redacts the secrets that it knows. What stands here comes on top, for what people have written: it
//! knows no schema, and rather takes too much.

use regex::Regex;
use serde_json::Value;

/// In place of what was taken out.
const REDACTED: &str = "[redacted]";
/// Beside the name of a header, these say what its value is.
const VALUES: [&str; 11] = [
    "value",
    "values",
    "raw_value",
    "rawValue",
    "string_match",
    "stringMatch",
    "exact_match",
    "prefix_match",
    "suffix_match",
    "contains_match",
    "safe_regex_match",
];
/// What such a value stands beside.
const NAMES: [&str; 3] = ["name", "key", "header"];

/// Takes secrets out of text.
#[derive(Debug)]
pub struct Redaction {
    patterns: Vec<(Regex, &'static str)>,
    own_token: String,
}

impl Redaction {
    /// `own_token` is that of whoever makes the bundle.
    ///
    /// # Panics
    /// Never: the patterns are fixed.
    pub fn new(own_token: &str) -> Self {
        let pattern = |text, put| (Regex::new(text).expect("a fixed pattern"), put);
        Self {
            patterns: vec![
                // Tokens of operators, principals and joiners.
                pattern(r"weft[a-z0-9]*\.[A-Za-z0-9_-]{20,}", REDACTED),
                pattern(r"(?i)\bbearer\s+[^\s\x22,]+", "Bearer [redacted]"),
                pattern(
                    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)",
                    REDACTED,
                ),
                // The password in an address of etcd or of a collector.
                pattern(r"://[^/\s:@\x22]+:[^/\s@\x22]+@", "://[redacted]@"),
            ],
            own_token: own_token.trim().to_owned(),
        }
    }

    /// A document without values of headers, as text without tokens and keys.
    pub fn document(&self, mut value: Value) -> String {
        take_values(&mut value);
        self.text(&serde_json::to_string_pretty(&value).unwrap_or_default())
    }

    /// Text without tokens and keys.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.own_token.is_empty() {
            text = text.replace(&self.own_token, REDACTED);
        }
        for (pattern, put) in &self.patterns {
            text = pattern.replace_all(&text, *put).into_owned();
        }
        text
    }
}

/// Wherever something is named and has a value, the value goes; pseudo headers (`:path`) are no secrets.
fn take_values(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let name = NAMES.iter().find_map(|name| fields.get(*name)?.as_str());
            if name.is_some_and(|name| !name.starts_with(':')) {
                for field in VALUES {
                    if let Some(value) = fields.get_mut(field) {
                        *value = REDACTED.into();
                    }
                }
            }
            fields.values_mut().for_each(take_values);
        }
        Value::Array(items) => items.iter_mut().for_each(take_values),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_headers_go_and_names_stay() {
        let redaction = Redaction::new("");
        for document in [
            json!({"filters": [{"set": [{"name": "x-api-key", "value": "s3cr3t"}]}]}),
            json!({"request_headers_to_add": [{"header": {"key": "x-api-key", "value": "s3cr3t"}}]}),
            json!({"request_headers_to_add": [{"header": {"key": "x-api-key", "raw_value": "s3cr3t"}}]}),
            json!({"headers": [{"name": "x-api-key", "string_match": {"exact": "s3cr3t"}}]}),
            json!({"when": [{"header": "x-api-key", "values": ["s3cr3t", "other"]}]}),
        ] {
            let text = redaction.document(document);
            assert!(!text.contains("s3cr3t") && text.contains("x-api-key"), "{text}");
        }
        let path = redaction.document(json!({"name": ":path", "string_match": {"exact": "/cart"}}));
        assert!(path.contains("/cart"), "{path}");
    }

    #[test]
    fn tokens_keys_and_passwords_go_from_text() {
        let redaction = Redaction::new("an-unusual-token\n");
        let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----";
        for (secret, text) in [
            ("k3y", "weftop.k3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3yk3y".to_owned()),
            ("k3y", "weft1.k3yk3yk3yk3yk3yk3yk3yk3yk3y-_".to_owned()),
            ("an-unusual", "token=an-unusual-token".to_owned()),
            ("abc", "authorization: Bearer abc".to_owned()),
            ("MIGH", format!("{{\"key\": \"{}\"}}", key.replace('\n', "\\n"))),
            ("MIGH", key.to_owned()),
            ("pass", "https://root:pass@etcd:2379".to_owned()),
        ] {
            let left = redaction.text(&text);
            assert!(!left.contains(secret), "{left}");
        }
        let plain = "weft-control-plane 0.1.0 serves shop/web at https://10.0.0.1:7401";
        assert_eq!(redaction.text(plain), plain);
    }
}
