//! Files that proxies write on their own machines.

use std::fmt;
use std::str::FromStr;

use super::{InvalidValue, text_value};

const LONGEST: usize = 100;

/// Name of a file within a directory that a proxy's owner chose. It leads nowhere else: it has no slash, and begins with a
/// letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFileName(String);

impl fmt::Display for LogFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogFileName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if is_plain && begins_well && text.len() <= LONGEST {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidValue::new(format!(
            "not the name of a file in a directory: use at most {LONGEST} letters, digits, '-', '_' and '.', such as access.log"
        )))
    }
}

text_value!(LogFileName, "LogFileName", "log-file", "name of a file, such as access.log");
