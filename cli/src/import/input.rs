//! What was read, and what has become of each part of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use weft_api::rest::{Severity, Violation};
use weft_policies::document::{DocumentSource, RawDocument};
use weft_policies::finding::{Path, Step};
use weft_policies::value::Timespan;

/// The code of a note on what has no counterpart.
pub const NOT_CARRIED: &str = "not_carried";
/// The code of a note on what was carried and means something else here.
pub const DIFFERS: &str = "differs";

/// One document of another mesh. It keeps count of the values in it that somebody has read.
#[derive(Debug)]
pub struct ImportInput {
    value: Value,
    source: DocumentSource,
    /// What it is called in notes.
    object: RefCell<String>,
    read: RefCell<BTreeSet<Path>>,
    notes: RefCell<Vec<Violation>>,
}

impl ImportInput {
    pub fn new(document: RawDocument) -> Self {
        Self {
            value: document.value,
            source: document.source,
            object: RefCell::default(),
            read: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    pub fn root(&self) -> InputNode<'_> {
        InputNode { input: self, value: &self.value, path: Path::default() }
    }

    /// What it is called in notes from now on, and in what is made of it.
    pub fn call(&self, object: String) {
        *self.object.borrow_mut() = object;
    }

    /// All that was noted, and a note for each part of it that nobody has read.
    pub fn into_notes(self) -> Vec<Violation> {
        self.root().sweep();
        let mut notes = self.notes.into_inner();
        for note in &mut notes {
            note.object.clone_from(&self.object.borrow());
        }
        notes.sort_by_key(|note| (note.line, note.column));
        notes.dedup();
        notes
    }
}

/// A place in an input.
#[derive(Debug, Clone)]
pub struct InputNode<'a> {
    input: &'a ImportInput,
    value: &'a Value,
    path: Path,
}

/// Whether a value says nothing: left out and written empty are the same.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Field names are compared as JSON, YAML and Kubernetes write them alike: `MaxConnections`, `max_connections`.
fn same_name(one: &str, other: &str) -> bool {
    let plain = |text: &'_ str| -> String {
        text.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
    };
    plain(one) == plain(other)
}

impl<'a> InputNode<'a> {
    /// A field that says something.
    pub fn get(&self, name: &str) -> Option<Self> {
        let fields = self.value.as_object()?;
        let (key, value) = fields.iter().find(|(key, value)| same_name(key, name) && !is_empty(value))?;
        Some(Self { input: self.input, value, path: self.path.then(key.clone()) })
    }

    /// A field of a field.
    pub fn at(&self, names: &[&str]) -> Option<Self> {
        names.iter().try_fold(self.clone(), |node, name| node.get(name))
    }

    /// The name of this field.
    pub fn key(&self) -> Option<String> {
        match self.path.steps().last()? {
            Step::Field(name) => Some(name.to_string()),
            Step::Index(_) => None,
        }
    }

    /// The elements of a list; none of what is no list.
    pub fn items(&self) -> Vec<Self> {
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        let item = |(index, value): (usize, &'a Value)| Self {
            input: self.input,
            value,
            path: self.path.then(index),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The elements of a list that is a field.
    pub fn list(&self, name: &str) -> Vec<Self> {
        self.get(name).map(|list| list.items()).unwrap_or_default()
    }

    /// The fields of a mapping.
    pub fn fields(&self) -> Vec<(&'a str, Self)> {
        let fields = self.value.as_object().into_iter().flatten();
        let field = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Self { input: self.input, value, path: self.path.then(key.clone()) })
        };
        fields.filter(|(_, value)| !is_empty(value)).map(field).collect()
    }

    /// The text here; anything else is noted.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.not_carried("is no text");
        }
        self.mark();
        text
    }

    /// A text, a number or a word of truth, as text.
    pub fn scalar(&self) -> Option<String> {
        match self.value {
            Value::Number(number) => {
                self.mark();
                Some(number.to_string())
            }
            Value::Bool(flag) => {
                self.mark();
                Some(flag.to_string())
            }
            _ => self.text().map(str::to_owned),
        }
    }

    /// The number here, written as one or as text; anything else is noted.
    pub fn number(&self) -> Option<f64> {
        let number = self.value.as_f64().or_else(|| self.value.as_str().and_then(|text| text.parse().ok()));
        if number.is_none() {
            self.not_carried("is no number");
        }
        self.mark();
        number
    }

    /// The whole number here; anything else is noted.
    pub fn count(&self) -> Option<u32> {
        let number = self.number()?;
        if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
            self.not_carried("is no whole number");
            return None;
        }
        format!("{number:.0}").parse().ok()
    }

    /// The yes or no here; anything else is noted.
    pub fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.not_carried("is neither true nor false");
        }
        self.mark();
        flag
    }

    /// The length of time here, as Go writes one, or a number of nanoseconds.
    pub fn span(&self) -> Option<String> {
        let nanoseconds = match self.value {
            Value::Number(number) => number.as_u64().map(u128::from),
            Value::String(text) => nanoseconds(text),
            _ => None,
        };
        self.mark();
        match nanoseconds {
            Some(count) if count % 1_000_000 == 0 => {
                let milliseconds = u64::try_from(count / 1_000_000).unwrap_or(u64::MAX);
                Some(Timespan::from_millis(milliseconds).to_string())
            }
            Some(_) => {
                self.not_carried("is no whole number of milliseconds");
                None
            }
            None => {
                self.not_carried("is no length of time");
                None
            }
        }
    }

    /// All that stands here as it is.
    pub fn copied(&self) -> Value {
        self.aside();
        self.value.clone()
    }

    /// Takes all that stands here for read: it says nothing of the mesh.
    pub fn aside(&self) {
        self.leaves(&mut |leaf| {
            self.input.read.borrow_mut().insert(leaf);
        });
    }

    /// Notes that nothing here is carried, and why.
    pub fn not_carried(&self, why: impl Into<String>) {
        self.aside();
        self.note(NOT_CARRIED, why.into());
    }

    /// Notes that what was carried means something else here.
    pub fn differs(&self, how: impl Into<String>) {
        self.note(DIFFERS, how.into());
    }

    /// Object, file and line.
    pub fn origin(&self) -> String {
        format!("{}, {}", self.input.object.borrow(), self.input.source.place(&self.path))
    }

    /// A note at this place that is about what was made of it.
    pub fn refusal(&self, message: String) -> Violation {
        Violation { object: self.input.object.borrow().clone(), ..self.violation(NOT_CARRIED, message) }
    }

    fn mark(&self) {
        self.input.read.borrow_mut().insert(self.path.clone());
    }

    fn note(&self, code: &str, message: String) {
        let note = self.violation(code, message);
        self.input.notes.borrow_mut().push(note);
    }

    fn violation(&self, code: &str, message: String) -> Violation {
        let at = self.input.source.position(&self.path);
        Violation {
            code: code.to_owned(),
            path: self.path.to_string(),
            message,
            severity: Severity::Warning,
            source: self.input.source.name().to_owned(),
            document: self.input.source.index(),
            line: at.line,
            column: at.column,
            ..Violation::default()
        }
    }

    /// Visits the places of all values that say something.
    fn leaves(&self, visit: &mut impl FnMut(Path)) {
        if is_empty(self.value) {
            return;
        }
        match self.value {
            Value::Array(_) => self.items().iter().for_each(|item| item.leaves(visit)),
            Value::Object(_) => self.fields().iter().for_each(|(_, field)| field.leaves(visit)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => visit(self.path.clone()),
        }
    }

    /// Notes what nobody has read, each part as a whole.
    fn sweep(&self) {
        let (mut read, mut unread) = (0, 0);
        self.leaves(&mut |leaf| match self.input.read.borrow().contains(&leaf) {
            true => read += 1,
            false => unread += 1,
        });
        if unread == 0 {
            return;
        }
        if read == 0 {
            return self.not_carried("has no counterpart");
        }
        self.items().iter().for_each(Self::sweep);
        self.fields().iter().for_each(|(_, field)| field.sweep());
    }
}

/// What Kubernetes keeps of an object beside its name, and what tools write there for themselves. The namespace is left to
/// whoever reads the object.
pub fn set_aside_of_kubernetes(metadata: &InputNode<'_>) {
    for field in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "finalizers",
        "selfLink",
    ] {
        metadata.get(field).inspect(InputNode::aside);
    }
    let applied = metadata.at(&["annotations", "kubectl.kubernetes.io/last-applied-configuration"]);
    applied.inspect(InputNode::aside);
}

/// Reads what Go prints and takes: numbers with units in a row, `1m30s`, `1.5s`.
fn nanoseconds(text: &str) -> Option<u128> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, size) = UNITS.into_iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total += Duration::try_from_secs_f64(number * size / 1e9).ok()?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("15s", Some(15_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("250ms", Some(250_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            ("", None),
            ("5 s", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }
}
