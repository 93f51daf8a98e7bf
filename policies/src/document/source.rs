//! Where a document and each of its fields stand in a text.

use std::sync::Arc;

use weft_api::rest::{Severity, Violation};

use super::tree::Tree;
use crate::finding::{Finding, Path};

/// A place in a text, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line of the text, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
}

/// Where a document was read.
#[derive(Debug, Clone)]
pub struct DocumentSource {
    name: Arc<str>,
    index: usize,
    tree: Arc<Tree>,
}

impl DocumentSource {
    pub(super) fn new(name: Arc<str>, index: usize, tree: Tree) -> Self {
        Self { name, index, tree: Arc::new(tree) }
    }

    /// The file, or `request`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which document of the source, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where the value at `path` begins; the nearest place above it when it is not written.
    #[must_use]
    pub fn position(&self, path: &Path) -> Position {
        self.tree.find(path).value
    }

    /// `SOURCE:LINE:COLUMN` of the value at `path`.
    #[must_use]
    pub fn place(&self, path: &Path) -> String {
        let Position { line, column } = self.position(path);
        format!("{}:{line}:{column}", self.name)
    }

    /// The violation that refuses the document for `finding`.
    #[must_use]
    pub fn violation(&self, finding: &Finding, object: &str) -> Violation {
        let found = self.tree.find(&finding.path);
        let at = if finding.code.points_at_key() || !found.exact { found.key } else { found.value };
        Violation {
            source: self.name.to_string(),
            document: self.index,
            line: at.line,
            column: at.column,
            ..unplaced(finding, object)
        }
    }
}

/// A violation of an object whose text is not at hand.
pub(crate) fn unplaced(finding: &Finding, object: &str) -> Violation {
    let message = match &finding.value {
        Some(value) if !finding.message.contains(value.as_str()) => {
            format!("{}, got {value:?}", finding.message)
        }
        _ => finding.message.clone(),
    };
    Violation {
        code: finding.code.as_str().to_owned(),
        path: finding.path.to_string(),
        message,
        hint: finding.hint.clone(),
        severity: if finding.code.is_warning() { Severity::Warning } else { Severity::Error },
        object: object.to_owned(),
        ..Violation::default()
    }
}
