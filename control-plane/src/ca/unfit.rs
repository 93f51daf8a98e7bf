//! What an authority of the user's own is refused for.

/// What does not fit, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {field}: {reason}; {remedy}")]
pub struct Unfit {
    /// The file, or which certificate of the chain.
    pub what: String,
    /// As X.509 names it.
    pub field: &'static str,
    pub reason: String,
    pub remedy: String,
}

impl Unfit {
    pub(super) fn new(
        what: impl Into<String>,
        field: &'static str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), field, reason: reason.into(), remedy: remedy.into() }
    }
}
