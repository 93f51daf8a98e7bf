//! What is wrong with keys that stand in a policy. Whether they are points of their curves, the sidecars say.

use std::collections::BTreeSet;

use serde_json::Value;

use super::JwksSource;
use crate::finding::{Code, Findings};

/// Bytes of a key set in a policy: each listener has it.
const LARGEST: usize = 32 * 1024;
/// Keys of a set, as many as sidecars try.
const MOST_KEYS: usize = 64;
/// Bytes of roots in a policy.
const LARGEST_ROOTS: usize = 64 * 1024;

impl JwksSource {
    pub(super) fn check(&self, out: &mut Findings) {
        match (&self.inline, &self.uri) {
            (Some(keys), None) => {
                if let Err((message, hint)) = check_keys(keys) {
                    out.add_at("inline", Code::InvalidValue, message).hint(hint);
                }
                for (field, is_set) in [
                    ("backendRef", self.backend_ref.is_some()),
                    ("caCertificates", self.ca_certificates.is_some()),
                ] {
                    if is_set {
                        out.add_at(field, Code::Inconsistent, "belongs to uri, not to inline keys");
                    }
                }
            }
            (None, Some(uri)) => self.check_uri(uri.is_secure(), out),
            (Some(_), Some(_)) => {
                out.add_at("uri", Code::Inconsistent, "is written beside inline: keys come from one place");
            }
            (None, None) => {
                out.add(Code::Required, "inline or uri is needed")
                    .hint("write inline: with the key set as JSON");
            }
        }
    }

    fn check_uri(&self, is_secure: bool, out: &mut Findings) {
        match (&self.backend_ref, is_secure) {
            (Some(_), true) => {
                let message = "a service of the mesh is called by mTLS already";
                out.add_at("uri", Code::Inconsistent, message).hint("write http:// beside backendRef");
            }
            (None, false) => {
                let message = "keys that come in plain text could be anybody's";
                let hint = "write https://, or backendRef with the service of the mesh that has them";
                out.add_at("uri", Code::InvalidValue, message).hint(hint);
            }
            (Some(_), false) | (None, true) => {}
        }
        let Some(roots) = &self.ca_certificates else { return };
        if self.backend_ref.is_some() {
            let message = "has no meaning beside backendRef: the mesh knows its own";
            out.add_at("caCertificates", Code::Inconsistent, message);
        } else if !roots.contains("-----BEGIN CERTIFICATE-----") || roots.contains("PRIVATE KEY") {
            out.add_at(
                "caCertificates",
                Code::InvalidValue,
                "is not one or more certificates in PEM, and nothing else",
            );
        } else if roots.len() > LARGEST_ROOTS {
            let message = format!("has more than {LARGEST_ROOTS} bytes");
            out.add_at("caCertificates", Code::TooLarge, message);
        }
    }
}

type Wrong = (String, &'static str);

fn check_keys(text: &str) -> Result<(), Wrong> {
    const HINT: &str = r#"write what the provider publishes: {"keys": [{"kty": "RSA", "n": …, "e": …}]}"#;
    if text.len() > LARGEST {
        return Err((format!("has more than {LARGEST} bytes"), "keep the keys that are in use"));
    }
    let set: Value = serde_json::from_str(text).map_err(|error| (format!("is no JSON: {error}"), HINT))?;
    let keys = set.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or_else(|| ("has no list keys, or an empty one".to_owned(), HINT))?;
    if keys.len() > MOST_KEYS {
        return Err((format!("has more than {MOST_KEYS} keys"), "keep the keys that are in use"));
    }
    let mut names = BTreeSet::new();
    for (index, key) in keys.iter().enumerate() {
        check_key(key).map_err(|(message, hint)| (format!("keys[{index}] {message}"), hint))?;
        if let Some(name) = key.get("kid").and_then(Value::as_str).filter(|name| !names.insert(*name)) {
            let message = format!("keys[{index}] has the kid {name:?} of another key");
            return Err((message, "give each key a kid of its own"));
        }
    }
    Ok(())
}

fn check_key(key: &Value) -> Result<(), Wrong> {
    let has = |name: &str| key.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if has("d") {
        let hint =
            "remove d, p, q, dp, dq and qi, and give tokens another key: this one has been told to others";
        return Err(("is a private key".to_owned(), hint));
    }
    let parts: &[&str] = match key.get("kty").and_then(Value::as_str) {
        Some("RSA") => &["n", "e"],
        Some("EC") => &["crv", "x", "y"],
        Some("OKP") => &["crv", "x"],
        Some("oct") => {
            let hint = "have the provider sign with RSA, EC or Ed25519";
            return Err(("is a secret, which everybody who may read the policy would have".to_owned(), hint));
        }
        Some(_) | None => return Err(("has no kty that is known".to_owned(), "kty is RSA, EC or OKP")),
    };
    match parts.iter().find(|part| !has(part)) {
        Some(part) => Err((format!("has no {part}"), "copy the whole key")),
        None => Ok(()),
    }
}
