//! Headers that are added and removed.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::format::{Format, FormatContext};

/// `*_headers_to_add` and `*_headers_to_remove` of one level.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps {
    remove: Vec<HeaderName>,
    add: Vec<Addition>,
    dynamic: usize,
}

/// A header that is added.
#[derive(Clone, Debug)]
pub(crate) struct Addition {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderTemplate,
    pub(crate) action: AppendAction,
    /// `keep_empty_value`: whether an empty value is added too.
    pub(crate) keep_empty: bool,
}

/// The value of a header that is added.
#[derive(Clone, Debug)]
pub(crate) enum HeaderTemplate {
    Fixed(HeaderValue),
    /// Rendered for each message.
    Formatted(Format),
}

/// `append_action`: what happens where the header is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendAction {
    AppendIfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

/// Values that were made for one message, in the order of the operations. Empty, and free, where all are fixed.
#[derive(Debug, Default)]
pub struct Evaluated(Vec<Option<HeaderValue>>);

impl HeaderOps {
    /// Operations that remove, then add, in these orders.
    pub(crate) fn new(remove: Vec<HeaderName>, add: Vec<Addition>) -> Self {
        let dynamic =
            add.iter().filter(|addition| matches!(addition.value, HeaderTemplate::Formatted(_))).count();
        Self { remove, add, dynamic }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Makes the values that depend on the message, before the message is changed.
    pub fn evaluate(&self, context: &FormatContext<'_>) -> Evaluated {
        if self.dynamic == 0 {
            return Evaluated::default();
        }
        let made = self.add.iter().filter_map(|addition| match &addition.value {
            HeaderTemplate::Fixed(_) => None,
            HeaderTemplate::Formatted(format) => {
                Some(HeaderValue::from_str(&format.render_header(context)).ok())
            }
        });
        Evaluated(made.collect())
    }

    pub fn apply(&self, headers: &mut HeaderMap, evaluated: Evaluated) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut made = evaluated.0.into_iter();
        for addition in &self.add {
            let value = match &addition.value {
                HeaderTemplate::Fixed(value) => Some(value.clone()),
                HeaderTemplate::Formatted(_) => made.next().flatten(),
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
            AppendAction::AppendIfExistsOrAdd => {
                headers.append(&self.name, value);
            }
            AppendAction::AddIfAbsent => {
                headers.entry(&self.name).or_insert(value);
            }
            AppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(&self.name, value);
            }
            AppendAction::OverwriteIfExists => {
                if headers.contains_key(&self.name) {
                    headers.insert(&self.name, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addition(value: HeaderTemplate, action: AppendAction) -> Addition {
        Addition { name: HeaderName::from_static("x-a"), value, action, keep_empty: false }
    }

    fn applied(action: AppendAction, before: &[&str]) -> Vec<String> {
        let new = HeaderTemplate::Fixed(HeaderValue::from_static("new"));
        let ops = HeaderOps::new(Vec::new(), vec![addition(new, action)]);
        let mut headers = HeaderMap::new();
        for value in before {
            headers.append("x-a", value.parse().unwrap());
        }
        ops.apply(&mut headers, ops.evaluate(&FormatContext::default()));
        headers.get_all("x-a").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_append_action_treats_a_header_that_exists_its_own_way() {
        use AppendAction as A;
        assert_eq!(applied(A::AppendIfExistsOrAdd, &["old"]), ["old", "new"]);
        assert_eq!(applied(A::AddIfAbsent, &["old"]), ["old"]);
        assert_eq!(applied(A::AddIfAbsent, &[]), ["new"]);
        assert_eq!(applied(A::OverwriteIfExistsOrAdd, &["a", "b"]), ["new"]);
        assert_eq!(applied(A::OverwriteIfExists, &[]), Vec::<String>::new());
        assert_eq!(applied(A::OverwriteIfExists, &["old"]), ["new"]);
    }

    #[test]
    fn a_value_that_stays_empty_is_left_out_unless_kept() {
        let made = HeaderTemplate::Formatted(Format::parse("%REQ(X-NONE)%").unwrap());
        let empty = addition(made, AppendAction::OverwriteIfExistsOrAdd);
        let mut headers = HeaderMap::new();
        let ops = HeaderOps::new(Vec::new(), vec![empty.clone()]);
        ops.apply(&mut headers, ops.evaluate(&FormatContext::default()));
        assert!(headers.is_empty());
        let ops = HeaderOps::new(Vec::new(), vec![Addition { keep_empty: true, ..empty }]);
        ops.apply(&mut headers, ops.evaluate(&FormatContext::default()));
        assert_eq!(headers["x-a"], "");
    }
}
