//! The bootstrap file of an Envoy's owner: read, checked, and shown with what was added.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde_yaml::Value;
use similar::TextDiff;

use super::merge::{self, Plan};

/// A file of somebody who has an Envoy already.
#[derive(Debug)]
pub struct OwnBootstrap {
    path: PathBuf,
    bootstrap: Value,
}

impl OwnBootstrap {
    /// Reads it, YAML or JSON. What is written for Envoy goes to `written`, which must be another file.
    ///
    /// # Errors
    /// When it cannot be read, is neither YAML nor JSON, or is the file that is to be written.
    pub fn read(path: &Path, written: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| shown.to_string())?;
        let is_same =
            fs::canonicalize(written).is_ok_and(|written| Some(written) == fs::canonicalize(path).ok());
        ensure!(!is_same, "{shown} would be written over: give --out another directory");
        let bootstrap =
            serde_yaml::from_str(&text).with_context(|| format!("{shown} is no YAML and no JSON"))?;
        Ok(Self { path: path.to_owned(), bootstrap })
    }

    /// Checks that everything can be added. Done before the join, which uses a token up.
    ///
    /// # Errors
    /// When something is in the way: all of it, each by its path.
    pub fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        let conflicts = merge::conflicts(&self.bootstrap, plan);
        if conflicts.is_empty() {
            return Ok(());
        }
        let lines: String = conflicts.iter().map(|conflict| format!("\n  {conflict}")).collect();
        let (path, count) = (self.path.display(), conflicts.len());
        bail!(
            "{path} is in the way of what is to be added; nothing was joined or written: {count} conflict(s){lines}"
        );
    }

    /// The bootstrap with what is added, and the difference for people. Both sides of it are written by the same hand, so
    /// that it shows what was added and not how the owner likes to write YAML.
    pub fn with(&self, added: Value, written: &Path) -> anyhow::Result<(Value, String)> {
        let merged = merge::merge(self.bootstrap.clone(), added);
        let (before, after) = (serde_yaml::to_string(&self.bootstrap)?, serde_yaml::to_string(&merged)?);
        let diff = TextDiff::from_lines(before.as_str(), after.as_str())
            .unified_diff()
            .header(&self.path.display().to_string(), &written.display().to_string())
            .to_string();
        Ok((merged, diff))
    }
}
