//! Label selectors as people type them: `app=web,tier in (front, back),!legacy`.
//!
//! The syntax and its meaning are those of Kubernetes: all requirements must hold, and `!=` and `notin` hold of an object
//! without the label too.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::metadata::check_labels;

/// Requirements on labels; all of them must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelQuery(Vec<LabelRequirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelRequirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A label selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "at character {at}: {reason}; write KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY or !KEY, with commas between"
)]
pub struct InvalidLabelQuery {
    /// Which character, from 1.
    at: usize,
    reason: String,
}

impl LabelQuery {
    /// Whether an object with these labels is asked for.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            LabelRequirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            LabelRequirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            LabelRequirement::Exists(key) => labels.contains_key(key),
            LabelRequirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for LabelQuery {
    type Err = InvalidLabelQuery;

    fn from_str(text: &str) -> Result<Self, InvalidLabelQuery> {
        let mut rest = Unread { text, at: 0 };
        let mut requirements = vec![rest.requirement()?];
        while rest.take(",") {
            requirements.push(rest.requirement()?);
        }
        if rest.text[rest.at..].trim().is_empty() {
            Ok(Self(requirements))
        } else {
            Err(rest.unfit("a comma is expected before the next requirement"))
        }
    }
}

/// What of a selector has not been read.
struct Unread<'a> {
    text: &'a str,
    /// Byte from which on.
    at: usize,
}

impl<'a> Unread<'a> {
    fn requirement(&mut self) -> Result<LabelRequirement, InvalidLabelQuery> {
        if self.take("!") {
            return Ok(LabelRequirement::DoesNotExist(self.key()?));
        }
        let key = self.key()?;
        if self.take("!=") {
            return Ok(LabelRequirement::NotIn(key, vec![self.value()?]));
        }
        if self.take("==") || self.take("=") {
            return Ok(LabelRequirement::In(key, vec![self.value()?]));
        }
        let before = self.at;
        match self.word() {
            "in" => Ok(LabelRequirement::In(key, self.values()?)),
            "notin" => Ok(LabelRequirement::NotIn(key, self.values()?)),
            "" => Ok(LabelRequirement::Exists(key)),
            other => {
                let reason = format!("{other:?} is no operator");
                self.at = before;
                Err(self.unfit(&reason))
            }
        }
    }

    fn values(&mut self) -> Result<Vec<String>, InvalidLabelQuery> {
        if !self.take("(") {
            return Err(self.unfit("a list of values in parentheses is expected"));
        }
        let mut values = vec![self.value()?];
        while self.take(",") {
            values.push(self.value()?);
        }
        if self.take(")") { Ok(values) } else { Err(self.unfit("the list of values does not end")) }
    }

    fn key(&mut self) -> Result<String, InvalidLabelQuery> {
        let before = self.at;
        let key = self.word().to_owned();
        if key.is_empty() {
            return Err(self.unfit("the key of a label is expected"));
        }
        self.check(before, &key, "")?;
        Ok(key)
    }

    /// It may be empty, as the value of a label may.
    fn value(&mut self) -> Result<String, InvalidLabelQuery> {
        let before = self.at;
        let value = self.word().to_owned();
        self.check(before, "key", &value)?;
        Ok(value)
    }

    /// Refuses what no object can have.
    fn check(&mut self, before: usize, key: &str, value: &str) -> Result<(), InvalidLabelQuery> {
        let mut found = crate::finding::Findings::default();
        check_labels(&BTreeMap::from([(key.to_owned(), value.to_owned())]), &mut found);
        let Some(finding) = found.into_vec().into_iter().next() else { return Ok(()) };
        self.at = before;
        Err(self.unfit(&finding.message))
    }

    /// The characters of a key or a value that come next.
    fn word(&mut self) -> &'a str {
        self.skip_blanks();
        let rest = &self.text[self.at..];
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '=' | '!' | '(' | ')');
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn take(&mut self, wanted: &str) -> bool {
        self.skip_blanks();
        let is_next = self.text[self.at..].starts_with(wanted);
        if is_next {
            self.at += wanted.len();
        }
        is_next
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn unfit(&mut self, reason: &str) -> InvalidLabelQuery {
        self.skip_blanks();
        let at = self.text[..self.at].chars().count() + 1;
        InvalidLabelQuery { at, reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(query: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        query.parse::<LabelQuery>().unwrap_or_else(|error| panic!("{query}: {error}")).matches(&labels)
    }

    #[test]
    fn each_operator_means_what_it_says() {
        let web = [("app", "web"), ("tier", "front")];
        for query in [
            "app=web",
            "app==web",
            "app = web",
            "app=web,tier=front",
            "app!=cart",
            "app in (cart, web)",
            "app notin (cart,db)",
            "app",
            "!legacy",
            " app in (web) , !legacy",
            "other!=x",
            "other notin (x)",
            "weft.dev/x!=",
        ] {
            assert!(fits(query, &web), "{query}");
        }
        for query in [
            "app=cart",
            "app!=web",
            "app in (cart)",
            "app notin (web,cart)",
            "legacy",
            "!app",
            "other=x",
            "app=",
            "app=web,tier=back",
        ] {
            assert!(!fits(query, &web), "{query}");
        }
        assert!(fits("empty=", &[("empty", "")]));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (query, at) in [
            ("", 1),
            ("==!!", 1),
            ("app=web,", 9),
            (",app", 1),
            ("app in web", 8),
            ("app in (web", 12),
            ("app in (web) tier", 14),
            ("app between (a)", 5),
            ("app=we b", 8),
            ("app=w%", 5),
            ("\u{fc}=1", 1),
            ("a=1,\u{fc}=1", 5),
            ("app=a=b", 6),
            ("app in ()x", 10),
        ] {
            let error = query.parse::<LabelQuery>().unwrap_err();
            assert_eq!(error.at, at, "{query}: {error}");
        }
    }
}
