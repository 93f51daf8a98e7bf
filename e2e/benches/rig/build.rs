//! Builds of weft-proxy that take part.

use std::path::PathBuf;
use std::str::FromStr;

use weft_e2e::harness::ours;

/// A build of weft-proxy, by the name that it has in tables.
#[derive(Debug, Clone)]
pub struct Build {
    /// What its rows are called.
    pub name: String,
    /// The program.
    pub program: PathBuf,
}

impl Build {
    /// The one of this profile.
    pub fn this() -> anyhow::Result<Self> {
        Ok(Self { name: "weft-proxy".to_owned(), program: ours("weft-proxy")? })
    }
}

impl FromStr for Build {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("is not NAME=PATH")?;
        let program = std::fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { name: name.to_owned(), program })
    }
}
