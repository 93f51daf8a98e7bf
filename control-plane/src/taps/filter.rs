//! What a tap is asked to show.

use std::fmt;

use serde::{Deserialize, Serialize};
use weft_api::ServiceId;
use weft_api::rest::{SECRET_HEADERS, SHOWN_HEADERS};

use super::Seen;

/// Bytes of a method or of the beginning of a path.
const LONGEST_TEXT: usize = 256;

/// Which requests, and what of them beside what is always shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapFilter {
    pub source: Option<ServiceId>,
    pub destination: Option<ServiceId>,
    pub method: Option<String>,
    /// What the path begins with.
    pub path: Option<String>,
    /// The smallest and the largest status.
    pub status: Option<(u16, u16)>,
    /// What failed or was refused.
    pub only_failures: bool,
    /// In lower case, of [`SHOWN_HEADERS`].
    pub headers: Vec<String>,
}

/// A filter that cannot be, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTapFilter {
    #[error("status: {0:?} is neither a status, such as 503, nor a class of them, such as 5xx")]
    Status(String),
    #[error("method: {0:?} is no method, such as GET")]
    Method(String),
    #[error(
        "path: it is to be the beginning of a path, `/` first, without a query, of at most {LONGEST_TEXT} bytes"
    )]
    Path,
    #[error("headers: the values of {0} are secrets, and no tap shows them")]
    SecretHeader(String),
    #[error("headers: {0:?} is not shown; a tap shows {shown}", shown = SHOWN_HEADERS.join(", "))]
    OtherHeader(String),
}

impl TapFilter {
    /// Takes a status, `503`, or a class of them, `5xx`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn with_status(mut self, text: &str) -> Result<Self, InvalidTapFilter> {
        let invalid = || InvalidTapFilter::Status(text.to_owned());
        let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
        let (number, width) = class.map_or((text, 1), |class| (class, 100));
        let number: u16 = number.parse().map_err(|_| invalid())?;
        let least = number.checked_mul(width).filter(|least| (100..600).contains(least));
        let least = least.ok_or_else(invalid)?;
        self.status = Some((least, least + width - 1));
        Ok(self)
    }

    /// Takes a method, in any case.
    ///
    /// # Errors
    /// When it is none.
    pub fn with_method(mut self, text: &str) -> Result<Self, InvalidTapFilter> {
        let is_method = !text.is_empty()
            && text.len() <= LONGEST_TEXT
            && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        if !is_method {
            return Err(InvalidTapFilter::Method(text.chars().take(40).collect()));
        }
        self.method = Some(text.to_ascii_uppercase());
        Ok(self)
    }

    /// Takes the beginning of a path.
    ///
    /// # Errors
    /// When no path begins so.
    pub fn with_path(mut self, text: &str) -> Result<Self, InvalidTapFilter> {
        if !text.starts_with('/') || text.len() > LONGEST_TEXT || text.contains(['?', '#']) {
            return Err(InvalidTapFilter::Path);
        }
        self.path = Some(text.to_owned());
        Ok(self)
    }

    /// Takes names of headers.
    ///
    /// # Errors
    /// When one is not to be shown.
    pub fn with_headers<'a>(
        mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidTapFilter> {
        for name in names {
            let name = name.trim().to_ascii_lowercase();
            if SECRET_HEADERS.contains(&&*name) {
                return Err(InvalidTapFilter::SecretHeader(name));
            }
            if !SHOWN_HEADERS.contains(&&*name) {
                return Err(InvalidTapFilter::OtherHeader(name.chars().take(80).collect()));
            }
            if !self.headers.contains(&name) {
                self.headers.push(name);
            }
        }
        Ok(self)
    }

    /// Whether a request is one of those that are wanted.
    #[must_use]
    pub fn takes(&self, seen: &Seen) -> bool {
        let record = &seen.record;
        let is = |wanted: &Option<ServiceId>, is: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| is.as_deref() == Some(&*wanted.to_string()))
        };
        let status = record.status.unwrap_or(0);
        is(&self.source, &record.source)
            && is(&self.destination, &record.destination)
            && (self.method.is_none() || self.method == record.method)
            && self
                .path
                .as_ref()
                .is_none_or(|path| record.path.as_ref().is_some_and(|is| is.starts_with(path)))
            && self.status.is_none_or(|(least, most)| (least..=most).contains(&status))
            && (!self.only_failures || seen.has_failed())
    }

    /// The request with no headers but those that are asked for.
    #[must_use]
    pub fn shown(&self, seen: &Seen) -> Seen {
        let mut shown = seen.clone();
        shown.request_headers.retain(|name, _| self.headers.contains(name));
        shown.response_headers.retain(|name, _| self.headers.contains(name));
        shown
    }
}

/// As the API is asked: `source=shop/web status=500-599`; nothing where all is wanted.
impl fmt::Display for TapFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = |service: &Option<ServiceId>| service.as_ref().map(ToString::to_string);
        let words = [
            ("source", service(&self.source)),
            ("destination", service(&self.destination)),
            ("method", self.method.clone()),
            ("path", self.path.clone()),
            ("status", self.status.map(|(least, most)| format!("{least}-{most}"))),
            ("onlyFailures", self.only_failures.then(|| "true".to_owned())),
            ("headers", (!self.headers.is_empty()).then(|| self.headers.join(","))),
        ];
        let words = words.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let filter = TapFilter::default;
        assert_eq!(filter().with_status("5xx").unwrap().status, Some((500, 599)));
        assert_eq!(filter().with_status("404").unwrap().status, Some((404, 404)));
        for bad in ["", "xx", "6xx", "99", "70000", "5x", "-1", "55xx"] {
            assert_eq!(filter().with_status(bad), Err(InvalidTapFilter::Status(bad.to_owned())));
        }
        assert_eq!(filter().with_method("get").unwrap().method.as_deref(), Some("GET"));
        assert!(filter().with_method("G T").is_err() && filter().with_path("items").is_err());
        assert!(filter().with_path("/a?b").is_err());
        let said = TapFilter { source: "shop/web".parse().ok(), ..filter().with_status("5xx").unwrap() };
        assert_eq!(said.to_string(), "source=shop/web status=500-599");
        for secret in SECRET_HEADERS {
            let refused = filter().with_headers([&*secret.to_ascii_uppercase()]).unwrap_err().to_string();
            assert!(refused.contains(secret) && refused.contains("secrets"), "{refused}");
        }
        let refused = filter().with_headers(["x-mine"]).unwrap_err().to_string();
        assert!(refused.contains("\"x-mine\"") && refused.contains("user-agent"), "{refused}");
        assert!(SHOWN_HEADERS.iter().all(|shown| !SECRET_HEADERS.contains(shown)));
    }
}
