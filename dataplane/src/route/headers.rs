//! Headers that are added and removed.

#![expect(deprecated, reason = "configurations that use the old forms mean the same")]

use envoy_types::pb::envoy::config::core::v3 as wire;
use http::{HeaderMap, HeaderName, HeaderValue};
use wire::header_value_option::HeaderAppendAction;

use crate::format::{Context, Format};
use crate::rejection::{Rejection, Within as _};

/// `*_headers_to_add` and `*_headers_to_remove` of one level.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps {
    remove: Vec<HeaderName>,
    add: Vec<Addition>,
    dynamic: usize,
}

#[derive(Clone, Debug)]
struct Addition {
    name: HeaderName,
    value: Value,
    action: HeaderAppendAction,
    keep_empty: bool,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(HeaderValue),
    Made(Format),
}

/// Values that were made for one message, in the order of the operations. Empty, and free, where all are fixed.
#[derive(Debug, Default)]
pub struct Evaluated(Vec<Option<HeaderValue>>);

impl HeaderOps {
    /// Decodes additions and removals.
    ///
    /// # Errors
    /// A name or value that is no header, a pseudo header or `host`, or a command that is unknown.
    pub fn decode(add: &[wire::HeaderValueOption], remove: &[String]) -> Result<Self, Rejection> {
        let add = add
            .iter()
            .map(|option| addition(option).within(|| format!("headers_to_add[{}]", key(option))))
            .collect::<Result<Vec<_>, _>>()?;
        let remove = remove
            .iter()
            .map(|name| header_name(name).within(|| "headers_to_remove"))
            .collect::<Result<Vec<_>, _>>()?;
        let dynamic = add.iter().filter(|addition| matches!(addition.value, Value::Made(_))).count();
        Ok(Self { remove, add, dynamic })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Makes the values that depend on the message, before the message is changed.
    pub fn evaluate(&self, context: &Context<'_>) -> Evaluated {
        if self.dynamic == 0 {
            return Evaluated::default();
        }
        let made = self.add.iter().filter_map(|addition| match &addition.value {
            Value::Fixed(_) => None,
            Value::Made(format) => Some(HeaderValue::from_str(&format.render_header(context)).ok()),
        });
        Evaluated(made.collect())
    }

    /// Removes, then adds.
    pub fn apply(&self, headers: &mut HeaderMap, evaluated: Evaluated) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut made = evaluated.0.into_iter();
        for addition in &self.add {
            let value = match &addition.value {
                Value::Fixed(value) => Some(value.clone()),
                Value::Made(_) => made.next().flatten(),
            };
            if let Some(value) = value.filter(|value| addition.keep_empty || !value.is_empty()) {
                addition.apply(headers, value);
            }
        }
    }
}

impl Addition {
    fn apply(&self, headers: &mut HeaderMap, value: HeaderValue) {
        match self.action {
            HeaderAppendAction::AppendIfExistsOrAdd => {
                headers.append(&self.name, value);
            }
            HeaderAppendAction::AddIfAbsent => {
                headers.entry(&self.name).or_insert(value);
            }
            HeaderAppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(&self.name, value);
            }
            HeaderAppendAction::OverwriteIfExists => {
                if headers.contains_key(&self.name) {
                    headers.insert(&self.name, value);
                }
            }
        }
    }
}

fn key(option: &wire::HeaderValueOption) -> &str {
    option.header.as_ref().map_or("", |header| &header.key)
}

fn addition(option: &wire::HeaderValueOption) -> Result<Addition, Rejection> {
    let header = option.header.as_ref().ok_or_else(|| Rejection::new("header", "is missing"))?;
    let mut action = HeaderAppendAction::try_from(option.append_action)
        .map_err(|_| Rejection::new("append_action", "is unknown"))?;
    if option.append.as_ref().is_some_and(|append| !append.value) {
        action = HeaderAppendAction::OverwriteIfExistsOrAdd;
    }
    let fixed = |bytes: &[u8]| {
        HeaderValue::from_bytes(bytes).map_err(|_| Rejection::new("value", "cannot be the value of a header"))
    };
    let value = if !header.raw_value.is_empty() {
        Value::Fixed(fixed(&header.raw_value)?)
    } else if header.value.contains('%') {
        let format =
            Format::parse(&header.value).map_err(|error| Rejection::new("value", error.to_string()))?;
        match format.as_literal() {
            Some(literal) => Value::Fixed(fixed(literal.as_bytes())?),
            None => Value::Made(format),
        }
    } else {
        Value::Fixed(fixed(header.value.as_bytes())?)
    };
    Ok(Addition { name: header_name(&header.key)?, value, action, keep_empty: option.keep_empty_value })
}

fn header_name(name: &str) -> Result<HeaderName, Rejection> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(Rejection::new(name, "pseudo headers and host may not be changed this way"));
    }
    HeaderName::try_from(name)
        .map_err(|_| Rejection::new("key", format!("{name:?} is not the name of a header")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(key: &str, value: &str, action: HeaderAppendAction) -> wire::HeaderValueOption {
        let header = wire::HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
        wire::HeaderValueOption { header: Some(header), append_action: action as i32, ..Default::default() }
    }

    fn applied(action: HeaderAppendAction, before: &[&str]) -> Vec<String> {
        let ops = HeaderOps::decode(&[option("x-a", "new", action)], &[]).unwrap();
        let mut headers = HeaderMap::new();
        for value in before {
            headers.append("x-a", value.parse().unwrap());
        }
        ops.apply(&mut headers, ops.evaluate(&Context::default()));
        headers.get_all("x-a").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_append_action_treats_a_header_that_exists_its_own_way() {
        use HeaderAppendAction as A;
        assert_eq!(applied(A::AppendIfExistsOrAdd, &["old"]), ["old", "new"]);
        assert_eq!(applied(A::AddIfAbsent, &["old"]), ["old"]);
        assert_eq!(applied(A::AddIfAbsent, &[]), ["new"]);
        assert_eq!(applied(A::OverwriteIfExistsOrAdd, &["a", "b"]), ["new"]);
        assert_eq!(applied(A::OverwriteIfExists, &[]), Vec::<String>::new());
        assert_eq!(applied(A::OverwriteIfExists, &["old"]), ["new"]);
    }

    #[test]
    fn removal_comes_before_addition() {
        let ops = HeaderOps::decode(
            &[option("x-a", "%%new", HeaderAppendAction::AppendIfExistsOrAdd)],
            &["x-a".into()],
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", "old".parse().unwrap());
        ops.apply(&mut headers, Evaluated::default());
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["%new"]);
    }

    #[test]
    fn host_and_pseudo_headers_are_refused() {
        for name in [":path", "Host", "sp ace"] {
            assert!(HeaderOps::decode(&[option(name, "v", HeaderAppendAction::AddIfAbsent)], &[]).is_err());
        }
    }

    #[test]
    fn a_value_that_stays_empty_is_left_out_unless_kept() {
        let mut empty = option("x-a", "%REQ(X-NONE)%", HeaderAppendAction::OverwriteIfExistsOrAdd);
        let mut headers = HeaderMap::new();
        let ops = HeaderOps::decode(std::slice::from_ref(&empty), &[]).unwrap();
        ops.apply(&mut headers, ops.evaluate(&Context::default()));
        assert!(headers.is_empty());
        empty.keep_empty_value = true;
        let ops = HeaderOps::decode(&[empty], &[]).unwrap();
        ops.apply(&mut headers, ops.evaluate(&Context::default()));
        assert_eq!(headers["x-a"], "");
    }
}
