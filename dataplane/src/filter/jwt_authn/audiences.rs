//! Whom tokens are for.

use std::collections::BTreeSet;

/// One of these; none of them is anybody.
#[derive(Debug, Default)]
pub(super) struct Audiences(BTreeSet<Box<str>>);

impl Audiences {
    pub(super) fn new(given: &[String]) -> Self {
        Self(given.iter().map(|audience| bare(audience).into()).collect())
    }

    pub(super) fn allow(&self, of_token: &[Box<str>]) -> bool {
        self.0.is_empty() || of_token.iter().any(|audience| self.0.contains(bare(audience)))
    }
}

/// As in Envoy, neither `http://` nor a slash at the end tell audiences apart.
fn bare(audience: &str) -> &str {
    let scheme = audience.strip_prefix("http://").or_else(|| audience.strip_prefix("https://"));
    let rest = scheme.unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_audiences_is_enough_and_schemes_do_not_count() {
        let audiences = Audiences::new(&["https://api.test/".to_owned(), "b".to_owned()]);
        let allowed = |one: &str| audiences.allow(&["other".into(), one.into()]);
        assert!(allowed("api.test") && allowed("http://api.test") && allowed("b"));
        assert!(!allowed("api.test/x") && !allowed("B") && !audiences.allow(&[]));
        assert!(Audiences::default().allow(&[]));
    }
}
