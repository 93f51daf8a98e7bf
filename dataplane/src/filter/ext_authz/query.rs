//! Parameters of a query, changed as Envoy changes them.

use std::collections::BTreeMap;

/// What becomes of the parameters of a request's query.
#[derive(Debug, Default)]
pub(in super::super) struct QueryChanges {
    pub(super) set: Vec<(String, String)>,
    /// Done behind `set`.
    pub(super) remove: Vec<String>,
}

impl QueryChanges {
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    /// The path with the changed query. As in Envoy the parameters are in the order of their keys then, each has a value,
    /// and none is encoded anew.
    pub(super) fn applied(&self, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parameters = BTreeMap::<&str, Vec<&str>>::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parameters.entry(key).or_default().push(value);
        }
        for (key, value) in &self.set {
            parameters.insert(key, vec![value]);
        }
        for key in &self.remove {
            parameters.remove(&**key);
        }
        let each = parameters.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
        let query: Vec<String> = each.map(|(key, value)| format!("{key}={value}")).collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_set_and_removed_by_their_keys() {
        let changes = QueryChanges { set: vec![("set".into(), "new".into())], remove: vec!["rm".into()] };
        for (before, after) in [
            ("/ok?rm=1&set=old&x=%20y&rm=2&k", "/ok?k=&set=new&x=%20y"),
            ("/ok?b=2&a=1&b=1&set=1&set=2", "/ok?a=1&b=2&b=1&set=new"),
            ("/ok", "/ok?set=new"),
        ] {
            assert_eq!(changes.applied(before), after);
        }
        let removes = QueryChanges { set: Vec::new(), remove: vec!["rm".into()] };
        assert_eq!(removes.applied("/ok?rm=1"), "/ok");
    }
}
