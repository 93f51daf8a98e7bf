//! Why a resource is refused, and which of its fields were passed over.
//!
//! The rule: a field whose absence would weaken security or change the meaning of the configuration refuses the
//! resource by name; a field that is cosmetic or about speed is accepted and listed. Every decoder takes a
//! [`Notes`] to list the latter, and answers a [`Rejection`] for the former.

/// A resource, or a part of it, that this proxy must not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Rejection {
    /// Path of the field below the resource, such as `virtual_hosts[web].routes[2].match.headers[0]`.
    pub field: String,
    /// What is wrong with it and what to do.
    pub reason: String,
}

impl Rejection {
    /// A rejection of `field` for `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// A rejection of a field that is known and not implemented.
    pub fn unsupported(field: impl Into<String>) -> Self {
        Self::new(
            field,
            "not supported by this proxy; remove it, ignoring it would change what the resource means",
        )
    }

    /// The same rejection seen from the parent `at`.
    #[must_use]
    pub fn within(self, at: impl AsRef<str>) -> Self {
        let at = at.as_ref();
        let field = match (at.is_empty(), self.field.is_empty()) {
            (true, _) => self.field,
            (false, true) => at.to_owned(),
            (false, false) => format!("{at}.{}", self.field),
        };
        Self { field, reason: self.reason }
    }
}

/// Adds the parent's path to the rejection inside a result.
pub trait Within<T> {
    /// Puts `at` before the field of the rejection; `at` is only computed on failure.
    fn within<S: AsRef<str>>(self, at: impl FnOnce() -> S) -> Result<T, Rejection>;
}

impl<T> Within<T> for Result<T, Rejection> {
    fn within<S: AsRef<str>>(self, at: impl FnOnce() -> S) -> Self {
        self.map_err(|rejection| rejection.within(at()))
    }
}

/// Fields that were accepted and have no effect, to be reported in `/config_dump` and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes(Vec<String>);

impl Notes {
    /// Lists `field` when `present`, once.
    pub fn ignored(&mut self, present: impl Into<FieldPresence>, field: &str) {
        if present.into().0 && !self.0.iter().any(|known| known == field) {
            self.0.push(field.to_owned());
        }
    }

    /// The ignored fields in the order they were met.
    pub fn fields(&self) -> &[String] {
        &self.0
    }
}

/// Whether a protobuf field is set.
#[derive(Clone, Copy, Debug)]
pub struct FieldPresence(pub bool);

impl From<bool> for FieldPresence {
    fn from(set: bool) -> Self {
        Self(set)
    }
}

impl<T> From<&Option<T>> for FieldPresence {
    fn from(field: &Option<T>) -> Self {
        Self(field.is_some())
    }
}

impl<T> From<&Vec<T>> for FieldPresence {
    fn from(field: &Vec<T>) -> Self {
        Self(!field.is_empty())
    }
}

impl From<&String> for FieldPresence {
    fn from(field: &String) -> Self {
        Self(!field.is_empty())
    }
}

/// Refuses `field` when it is set.
///
/// # Errors
/// The field is present.
pub fn refuse(present: impl Into<FieldPresence>, field: &str) -> Result<(), Rejection> {
    if present.into().0 { Err(Rejection::unsupported(field)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_whole_path_of_a_refused_field() {
        let inner: Result<(), Rejection> = refuse(true, "cors");
        let outer = inner.within(|| "routes[1]").within(|| "virtual_hosts[web]").unwrap_err();
        assert_eq!(outer.field, "virtual_hosts[web].routes[1].cors");
    }

    #[test]
    fn lists_an_ignored_field_once() {
        let mut notes = Notes::default();
        notes.ignored(&Some(1), "decorator");
        notes.ignored(&Some(2), "decorator");
        notes.ignored(&None::<u8>, "tracing");
        assert_eq!(notes.fields(), ["decorator"]);
    }
}
