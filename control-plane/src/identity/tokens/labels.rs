//! Which labels a joiner may declare.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use weft_api::text::shorten;

/// `KEY=VALUE`, `KEY=PREFIX*` or `KEY=*`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelPattern {
    key: String,
    value: String,
    any_suffix: bool,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a label pattern; write KEY=VALUE, KEY=PREFIX* or KEY=*")]
pub struct InvalidPattern(String);

impl LabelPattern {
    /// Whether a label may be declared.
    #[must_use]
    pub fn permits(&self, key: &str, value: &str) -> bool {
        key == self.key && if self.any_suffix { value.starts_with(&self.value) } else { value == self.value }
    }
}

impl FromStr for LabelPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let invalid = || InvalidPattern(shorten(text));
        let (key, value) = text.split_once('=').ok_or_else(invalid)?;
        let (value, any_suffix) = value.strip_suffix('*').map_or((value, false), |prefix| (prefix, true));
        if !is_label_key(key) || !is_label_value(value) {
            return Err(invalid());
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), any_suffix })
    }
}

impl fmt::Display for LabelPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}{}", self.key, self.value, if self.any_suffix { "*" } else { "" })
    }
}

impl TryFrom<String> for LabelPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<LabelPattern> for String {
    fn from(pattern: LabelPattern) -> Self {
        pattern.to_string()
    }
}

/// Whether a text can be the key of a label: as in Kubernetes, an optional prefix with `/`.
#[must_use]
pub fn is_label_key(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// Whether a text can be the value of a label.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(pattern: &str, key: &str, value: &str) -> bool {
        pattern.parse::<LabelPattern>().unwrap().permits(key, value)
    }

    #[test]
    fn pattern_permits_exact_prefix_or_any_value_of_its_key() {
        assert!(permits("version=v1", "version", "v1"));
        assert!(!permits("version=v1", "version", "v10"));
        assert!(permits("version=v1*", "version", "v10"));
        assert!(!permits("version=v1*", "version", "v2"));
        assert!(permits("version=*", "version", ""));
        assert!(!permits("version=*", "versions", "v1"));
    }

    #[test]
    fn star_elsewhere_and_missing_parts_are_refused() {
        for text in ["version", "=v1", "ver*=v1", "version=*v1", "version=a b", ""] {
            assert!(text.parse::<LabelPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn pattern_reads_back_what_it_writes() {
        for text in ["version=*", "app.example/track=can*", "tier=web"] {
            assert_eq!(text.parse::<LabelPattern>().unwrap().to_string(), text);
        }
    }
}
