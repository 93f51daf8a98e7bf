//! What is wrong with a document, found while walking it: a stable code, the path, and what to do.
//!
//! A [`Finding`] knows a path; only [`crate::document::DocumentSource`] knows where in the text that path stands and makes
//! a [`weft_api::rest::Violation`] of both.

use std::borrow::Cow;
use std::fmt;

use weft_api::text::shorten;

/// The stable code of a finding. Scripts match on its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is not YAML or JSON.
    Syntax,
    /// Beyond a limit of size or depth.
    TooLarge,
    /// A key stands twice in one mapping.
    DuplicateKey,
    /// An anchor, an alias or a tag.
    UnsupportedSyntax,
    /// A kind or an API version that does not exist.
    UnknownKind,
    /// A field that does not exist.
    UnknownField,
    /// A field that must be written is missing.
    Required,
    /// A value of the wrong type.
    WrongType,
    /// A value that is not allowed.
    InvalidValue,
    /// Something that must be unique stands twice.
    Duplicate,
    /// Fields that do not go together.
    Inconsistent,
    /// A documented field or value that this version does not enforce.
    NotSupported,
    /// The name of an object that does not exist (a warning: it may come later).
    MissingReference,
    /// A port that the service does not have.
    UnknownPort,
    /// A subset that the service does not have.
    UnknownSubset,
    /// A rule or a route that a target does not have.
    UnknownSection,
    /// A route or rule of the wrong protocol for its port.
    ProtocolMismatch,
    /// A rule that can never match (a warning).
    UnreachableRule,
    /// Two objects set one thing at one level.
    Conflict,
    /// A document of somebody else's kind, of which nothing is taken (a warning).
    LeftOut,
}

impl Code {
    /// The code as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "too_large",
            Self::DuplicateKey => "duplicate_key",
            Self::UnsupportedSyntax => "unsupported_syntax",
            Self::UnknownKind => "unknown_kind",
            Self::UnknownField => "unknown_field",
            Self::Required => "required",
            Self::WrongType => "wrong_type",
            Self::InvalidValue => "invalid_value",
            Self::Duplicate => "duplicate",
            Self::Inconsistent => "inconsistent",
            Self::NotSupported => "not_supported",
            Self::MissingReference => "missing_reference",
            Self::UnknownPort => "unknown_port",
            Self::UnknownSubset => "unknown_subset",
            Self::UnknownSection => "unknown_section",
            Self::ProtocolMismatch => "protocol_mismatch",
            Self::UnreachableRule => "unreachable_rule",
            Self::Conflict => "conflict",
            Self::LeftOut => "left_out",
        }
    }

    /// Whether people should look, and the set is taken all the same.
    #[must_use]
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::MissingReference | Self::UnreachableRule | Self::LeftOut)
    }

    /// Whether the place to point at is the key of a field, not its value.
    pub(crate) const fn points_at_key(self) -> bool {
        matches!(self, Self::UnknownField | Self::DuplicateKey | Self::NotSupported)
    }
}

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A field or a key of a map.
    Field(Cow<'static, str>),
    /// An element of a list.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(field: &'static str) -> Self {
        Self::Field(Cow::Borrowed(field))
    }
}

impl From<String> for Step {
    fn from(field: String) -> Self {
        Self::Field(Cow::Owned(field))
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Where in a document: `spec.rules[0].matches[1].path.value`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(Vec<Step>);

impl Path {
    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// This path and one more step.
    #[must_use]
    pub fn then(&self, step: impl Into<Step>) -> Self {
        let mut path = self.clone();
        path.0.push(step.into());
        path
    }

    pub(crate) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }
}

/// `steps!["spec", "rules", 0]`.
macro_rules! steps {
    ($($step:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut path = $crate::finding::Path::default();
        $(path.push($crate::finding::Step::from($step));)*
        path
    }};
}
pub(crate) use steps;

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(field) if is_plain(field) => {
                    let dot = if place == 0 { "" } else { "." };
                    write!(f, "{dot}{field}")?;
                }
                Step::Field(field) => write!(f, "[{field:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_plain(field: &str) -> bool {
    !field.is_empty() && field.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// One thing that is wrong, or unwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field that it is about.
    pub path: Path,
    /// Which rule is broken, for programs.
    pub code: Code,
    /// What is wrong, with the value.
    pub message: String,
    /// What to write instead, where that can be said.
    pub hint: Option<String>,
    /// What was written there, shortened.
    pub value: Option<String>,
}

impl Finding {
    /// A finding with no hint and no value.
    pub fn new(path: Path, code: Code, message: impl Into<String>) -> Self {
        Self { path, code, message: message.into(), hint: None, value: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With what was written, cut at 80 characters.
    #[must_use]
    pub fn value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(shorten(&value.to_string()));
        self
    }
}

/// The name of an object that does not exist, with what that means until it does.
pub(crate) fn missing(path: Path, what: &str, effect: &str) -> Finding {
    Finding::new(path, Code::MissingReference, format!("{what} does not exist")).hint(effect)
}

/// Findings of one document, gathered while walking down its paths.
#[derive(Debug, Default)]
pub struct Findings {
    at: Path,
    found: Vec<Finding>,
}

impl Findings {
    /// Walks one step down for the time of `visit`.
    pub fn at<R>(&mut self, step: impl Into<Step>, visit: impl FnOnce(&mut Self) -> R) -> R {
        self.at.push(step.into());
        let result = visit(self);
        self.at.pop();
        result
    }

    /// Visits each element of the list `field`.
    pub fn each<T>(&mut self, field: &'static str, list: &[T], mut visit: impl FnMut(&mut Self, &T)) {
        for (index, item) in list.iter().enumerate() {
            self.at(field, |out| out.at(index, |out| visit(out, item)));
        }
    }

    /// Notes a finding at the path where the walk stands; hint and value can be added to what is returned.
    pub fn add(&mut self, code: Code, message: impl Into<String>) -> Note<'_> {
        self.found.push(Finding::new(self.at.clone(), code, message));
        Note(self.found.last_mut().expect("one was just pushed"))
    }

    /// Notes a finding whose path begins where the walk stands.
    pub(crate) fn add_below(&mut self, mut finding: Finding) {
        finding.path = Path(self.at.0.iter().cloned().chain(finding.path.0).collect());
        self.found.push(finding);
    }

    /// Notes a finding one step below where the walk stands.
    pub fn add_at(&mut self, step: impl Into<Step>, code: Code, message: impl Into<String>) -> Note<'_> {
        self.found.push(Finding::new(self.at.then(step), code, message));
        Note(self.found.last_mut().expect("one was just pushed"))
    }

    /// Notes a documented field or value that this version does not enforce.
    pub fn not_supported(&mut self, step: impl Into<Step>, what: &str) -> Note<'_> {
        self.add_at(step, Code::NotSupported, format!("{what} is not supported yet"))
            .hint("remove it: it is refused so that it is never silently ignored")
    }

    /// Notes elements of a list that repeat the key of an earlier one. `key_field` is where the key stands in an
    /// element; empty when the element is the key.
    pub fn unique<T, K: Ord + fmt::Display>(
        &mut self,
        field: &'static str,
        list: &[T],
        key_field: &'static str,
        key: impl Fn(&T) -> K,
    ) {
        let mut seen = std::collections::BTreeMap::new();
        for (index, item) in list.iter().enumerate() {
            let key = key(item);
            if let Some(first) = seen.get(&key) {
                let message = format!("{key} is already used by {field}[{first}]");
                let mut path = self.at.then(field).then(index);
                if !key_field.is_empty() {
                    path.push(key_field.into());
                }
                self.found.push(Finding::new(path, Code::Duplicate, message).value(&key));
            } else {
                seen.insert(key, index);
            }
        }
    }

    /// All that was found, in the order in which the document was walked.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }

    /// How much was found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// A finding just noted.
#[derive(Debug)]
pub struct Note<'a>(&'a mut Finding);

impl Note<'_> {
    /// With what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// With what was written, cut at 80 characters.
    pub fn value(self, value: impl fmt::Display) -> Self {
        self.0.value = Some(shorten(&value.to_string()));
        self
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn a_path_quotes_keys_that_are_not_plain() {
        let path = steps!["metadata", "labels", "app.kubernetes.io/name".to_owned()];
        assert_eq!(path.to_string(), r#"metadata.labels["app.kubernetes.io/name"]"#);
        assert_eq!(steps!["spec", "rules", 0, "name"].to_string(), "spec.rules[0].name");
    }
}
