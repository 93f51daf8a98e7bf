//! The `date` field of responses (RFC 9110, section 6.6.1), written once a second.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime};

use http::header::HeaderValue;
use time::OffsetDateTime;

/// A worker's newest `date`.
#[derive(Debug)]
pub(super) struct Date {
    /// From then on it is another.
    ends: Cell<SystemTime>,
    value: RefCell<HeaderValue>,
}

impl Date {
    pub(super) fn new() -> Self {
        Self { ends: Cell::new(SystemTime::UNIX_EPOCH), value: RefCell::new(HeaderValue::from_static("")) }
    }

    /// As it is now.
    pub(super) fn value(&self) -> HeaderValue {
        let at = SystemTime::now();
        // A clock that was set back by more than the second that is counted here is followed as well.
        let left = self.ends.get().duration_since(at).unwrap_or_default();
        if left.is_zero() || left > Duration::from_secs(1) {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.ends.set(SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs() + 1));
            if let Ok(value) = HeaderValue::try_from(written(at)) {
                *self.value.borrow_mut() = value;
            }
        }
        self.value.borrow().clone()
    }
}

fn written(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    let (hour, minute, second) = at.to_hms();
    format!("{weekday:.3}, {:02} {month:.3} {:04} {hour:02}:{minute:02}:{second:02} GMT", at.day(), at.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_the_standard_has_it() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(written(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn is_there_from_the_first_call_on() {
        let date = Date::new();
        assert_eq!(date.value().len(), 29);
        assert_eq!(date.value().len(), 29);
    }
}
