//! Envoy's dynamic metadata: what filters found out about a request, for those behind them to judge by.

use std::collections::BTreeMap;

use crate::matcher::{StringMatch, UndecidedAs};

/// Fields by their names.
pub type MetadataFields = BTreeMap<Box<str>, MetadataValue>;

/// A value of JSON, as `google.protobuf.Value` has it: every number is a double.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    List(Vec<MetadataValue>),
    Struct(MetadataFields),
}

impl MetadataValue {
    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// What stands at a path of fields.
#[must_use]
pub fn at_path<'a>(fields: &'a MetadataFields, path: &[Box<str>]) -> Option<&'a MetadataValue> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(fields.get(first)?, |value, name| match value {
        MetadataValue::Struct(fields) => fields.get(name),
        MetadataValue::Null
        | MetadataValue::Bool(_)
        | MetadataValue::Number(_)
        | MetadataValue::Text(_)
        | MetadataValue::List(_) => None,
    })
}

/// What is known of one request, by the names of the filters that found it out.
#[derive(Clone, Debug, Default)]
pub struct DynamicMetadata(BTreeMap<&'static str, MetadataFields>);

impl DynamicMetadata {
    /// Sets a field of what a filter found out.
    pub fn set(&mut self, filter: &'static str, name: Box<str>, value: MetadataValue) {
        self.0.entry(filter).or_default().insert(name, value);
    }

    fn get(&self, filter: &str, path: &[Box<str>]) -> Option<&MetadataValue> {
        at_path(self.0.get(filter)?, path)
    }
}

/// What is known of a request's metadata by who asks.
#[derive(Clone, Copy, Debug)]
pub enum KnownMetadata<'a> {
    /// All of it; `None` where no filter found anything out.
    All(Option<&'a DynamicMetadata>),
    /// Nothing: each matcher is taken to say this. Who asks with both answers finds out whether it matters.
    Assumed(bool),
}

/// `MetadataMatcher`.
#[derive(Clone, Debug)]
pub(crate) struct MetadataMatch {
    pub(crate) filter: Box<str>,
    pub(crate) path: Vec<Box<str>>,
    pub(crate) value: ValueMatch,
    pub(crate) invert: bool,
}

impl MetadataMatch {
    pub(crate) fn matches(&self, known: KnownMetadata<'_>) -> bool {
        match known {
            KnownMetadata::Assumed(answer) => answer,
            KnownMetadata::All(metadata) => {
                let value = metadata.and_then(|metadata| metadata.get(&self.filter, &self.path));
                self.value.matches(value) != self.invert
            }
        }
    }
}

/// `ValueMatcher`. What is not there matches none of them, but for `Present(false)`.
#[derive(Clone, Debug)]
pub(crate) enum ValueMatch {
    Null,
    Bool(bool),
    Number(f64),
    Range(std::ops::Range<f64>),
    Text(StringMatch),
    Present(bool),
    /// One of a list's elements matches.
    AnyElement(Box<ValueMatch>),
    AnyOf(Vec<ValueMatch>),
}

impl ValueMatch {
    #[expect(clippy::float_cmp, reason = "Envoy compares for equality, and claims are whole numbers")]
    fn matches(&self, value: Option<&MetadataValue>) -> bool {
        match (self, value) {
            (Self::Present(wanted), value) => value.is_some() == *wanted,
            (Self::AnyOf(matchers), value) => matchers.iter().any(|matcher| matcher.matches(value)),
            (Self::Null, Some(MetadataValue::Null)) => true,
            (Self::Bool(wanted), Some(MetadataValue::Bool(given))) => wanted == given,
            (Self::Number(wanted), Some(MetadataValue::Number(given))) => wanted == given,
            (Self::Range(range), Some(MetadataValue::Number(given))) => range.contains(given),
            (Self::Text(text), Some(MetadataValue::Text(given))) => {
                text.matches(given.as_bytes(), UndecidedAs::Miss)
            }
            (Self::AnyElement(matcher), Some(MetadataValue::List(elements))) => {
                elements.iter().any(|element| matcher.matches(Some(element)))
            }
            (
                Self::Null
                | Self::Bool(_)
                | Self::Number(_)
                | Self::Range(_)
                | Self::Text(_)
                | Self::AnyElement(_),
                _,
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> MetadataValue {
        MetadataValue::Text(text.into())
    }

    fn known() -> DynamicMetadata {
        let fields = [
            ("sub", text("alice")),
            ("admin", MetadataValue::Bool(true)),
            ("level", MetadataValue::Number(3.0)),
            ("nothing", MetadataValue::Null),
            ("groups", MetadataValue::List(vec![text("a"), text("b")])),
            ("realm", MetadataValue::Struct([("role".into(), text("reader"))].into())),
        ];
        let mut known = DynamicMetadata::default();
        let fields = fields.map(|(name, value)| (Box::<str>::from(name), value));
        known.set("jwt", "payload".into(), MetadataValue::Struct(fields.into()));
        known
    }

    fn at(path: &[&str], value: ValueMatch) -> MetadataMatch {
        let path = ["payload"].iter().chain(path).map(|name| Box::<str>::from(*name)).collect();
        MetadataMatch { filter: "jwt".into(), path, value, invert: false }
    }

    fn exact(value: &str) -> ValueMatch {
        ValueMatch::Text(StringMatch::exact(value))
    }

    #[test]
    fn values_match_by_their_kinds_and_along_their_paths() {
        let known = known();
        let any = |value| ValueMatch::AnyElement(Box::new(value));
        for (path, value, wanted) in [
            (&["sub"][..], exact("alice"), true),
            (&["sub"], exact("bob"), false),
            (&["sub"], any(exact("alice")), false),
            (&["admin"], ValueMatch::Bool(true), true),
            (&["admin"], exact("true"), false),
            (&["level"], ValueMatch::Number(3.0), true),
            (&["level"], ValueMatch::Range(3.0..4.0), true),
            (&["level"], ValueMatch::Range(2.0..3.0), false),
            (&["nothing"], ValueMatch::Null, true),
            (&["nothing"], ValueMatch::Present(true), true),
            (&["missing"], ValueMatch::Null, false),
            (&["missing"], ValueMatch::Present(true), false),
            (&["missing"], ValueMatch::Present(false), true),
            (&["groups"], any(exact("b")), true),
            (&["groups"], exact("a"), false),
            (&["groups"], ValueMatch::AnyOf(vec![exact("b"), any(exact("b"))]), true),
            (&["realm", "role"], exact("reader"), true),
            (&["realm"], exact("reader"), false),
            (&["sub", "role"], exact("reader"), false),
        ] {
            let matcher = at(path, value);
            assert_eq!(matcher.matches(KnownMetadata::All(Some(&known))), wanted, "{matcher:?}");
            let inverted = MetadataMatch { invert: true, ..matcher };
            assert_eq!(inverted.matches(KnownMetadata::All(Some(&known))), !wanted, "{inverted:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_what_is_assumed() {
        let matcher = at(&["sub"], exact("alice"));
        assert!(matcher.matches(KnownMetadata::Assumed(true)));
        assert!(!matcher.matches(KnownMetadata::Assumed(false)));
        assert!(!matcher.matches(KnownMetadata::All(None)));
    }
}
