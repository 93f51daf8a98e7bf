//! Durations as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{InvalidValue, text_value};

/// A length of time written as `250ms`, `10s`, `1h` or several of those in a row (`1m30s`), as Gateway API does
/// (GEP-2257: at most four parts of at most five digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timespan(Duration);

const RULE: &str = "not a duration: write a number and a unit, such as 250ms, 10s, 5m or 1h";

const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Timespan {
    /// A span of so many seconds, of any length: the rules are for text.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of so many milliseconds, of any length: the rules are for text.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// No time at all; where that has a meaning, it is "no limit".
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Timespan> for Duration {
    fn from(span: Timespan) -> Self {
        span.0
    }
}

impl fmt::Display for Timespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl FromStr for Timespan {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new(RULE);
        let mut rest = text;
        let mut total = Duration::ZERO;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return Err(invalid());
            }
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| invalid())?;
            let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = after.split_at(letters);
            total += match unit {
                "ms" => Duration::from_millis(number),
                "s" => Duration::from_secs(number),
                "m" => Duration::from_secs(number * 60),
                "h" => Duration::from_secs(number * 3600),
                _ => return Err(invalid()),
            };
            rest = after;
            if rest.is_empty() {
                return Ok(Self(total));
            }
        }
        Err(invalid())
    }
}

text_value!(Timespan, "Timespan", "timespan", "a duration: 250ms, 10s, 5m, 1h");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_same_length() {
        for (text, milliseconds, written) in [
            ("250ms", 250, "250ms"),
            ("10s", 10_000, "10s"),
            ("1h", 3_600_000, "1h"),
            ("90s", 90_000, "1m30s"),
            ("1h30m10s5ms", 5_410_005, "1h30m10s5ms"),
            ("0s", 0, "0s"),
        ] {
            let span: Timespan = text.parse().unwrap();
            assert_eq!(span.get().as_millis(), milliseconds, "{text}");
            assert_eq!(span.to_string(), written);
        }
    }

    #[test]
    fn refuses_what_has_no_unit_or_too_many_digits() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "123456s", "1d", "1s1s1s1s1s", "10sx", "１s"] {
            assert!(text.parse::<Timespan>().is_err(), "{text}");
        }
    }
}
