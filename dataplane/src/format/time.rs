//! Times in the forms of `strftime`, in UTC.

use std::fmt::Write as _;
use std::time::SystemTime;

use time::OffsetDateTime;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// How a time is written: Envoy's default is `2026-01-31T12:00:00.123Z`.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat(Option<Box<str>>);

impl TimeFormat {
    pub(super) fn parse(argument: &str) -> Self {
        Self((!argument.is_empty()).then(|| argument.into()))
    }

    pub(super) fn write(&self, time: SystemTime, out: &mut String) -> bool {
        let time = OffsetDateTime::from(time);
        match &self.0 {
            None => {
                let (date, clock) = (time.date(), time.time());
                let (year, month, day) = date.to_calendar_date();
                let (hour, minute, second, milli) = clock.as_hms_milli();
                let month = u8::from(month);
                write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
                    .is_ok()
            }
            Some(pattern) => strftime(pattern, time, out),
        }
    }
}

fn strftime(pattern: &str, time: OffsetDateTime, out: &mut String) -> bool {
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = match fraction(rest, time, out) {
            Some(after) => after,
            None => {
                let Some(specifier) = rest.chars().next() else {
                    out.push('%');
                    break;
                };
                if !field(specifier, time, out) {
                    out.push('%');
                    out.push(specifier);
                }
                &rest[specifier.len_utf8()..]
            }
        };
    }
    out.push_str(rest);
    true
}

/// `%f`, `%3f`, `%E3S`, `%E*S`, `%E3f`, `%Ez`: fractions of a second and the long offset.
fn fraction<'a>(rest: &'a str, time: OffsetDateTime, out: &mut String) -> Option<&'a str> {
    let nanos = format!("{:09}", time.nanosecond());
    if let Some(after) = rest.strip_prefix('f') {
        out.push_str(&nanos);
        return Some(after);
    }
    if let Some(after) = rest.strip_prefix("Ez") {
        out.push_str("+00:00");
        return Some(after);
    }
    let (extended, rest) = rest.strip_prefix('E').map_or((false, rest), |rest| (true, rest));
    let mut chars = rest.chars();
    let digits = match chars.next()? {
        '*' if extended => nanos.trim_end_matches('0').len(),
        digit => digit.to_digit(10).filter(|digits| (1..=9).contains(digits))? as usize,
    };
    match chars.next()? {
        'f' => out.push_str(&nanos[..digits]),
        'S' if extended && digits == 0 => write!(out, "{:02}", time.second()).ok()?,
        'S' if extended => write!(out, "{:02}.{}", time.second(), &nanos[..digits]).ok()?,
        _ => return None,
    }
    Some(chars.as_str())
}

fn field(specifier: char, time: OffsetDateTime, out: &mut String) -> bool {
    let month = &MONTHS[usize::from(u8::from(time.month())) - 1];
    let day = DAYS[usize::from(time.weekday().number_days_from_sunday())];
    let (year, hour) = (time.year(), time.hour());
    let month_number = u8::from(time.month());
    match specifier {
        'Y' => write!(out, "{year}"),
        'y' => write!(out, "{:02}", year.rem_euclid(100)),
        'm' => write!(out, "{month_number:02}"),
        'b' | 'h' => write!(out, "{}", &month[..3]),
        'B' => write!(out, "{month}"),
        'd' => write!(out, "{:02}", time.day()),
        'e' => write!(out, "{:2}", time.day()),
        'j' => write!(out, "{:03}", time.ordinal()),
        'a' => write!(out, "{}", &day[..3]),
        'A' => write!(out, "{day}"),
        'H' => write!(out, "{hour:02}"),
        'I' => write!(out, "{:02}", (hour + 11) % 12 + 1),
        'p' => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
        'M' => write!(out, "{:02}", time.minute()),
        'S' => write!(out, "{:02}", time.second()),
        's' => write!(out, "{}", time.unix_timestamp()),
        'F' => write!(out, "{year}-{month_number:02}-{:02}", time.day()),
        'T' => write!(out, "{hour:02}:{:02}:{:02}", time.minute(), time.second()),
        'R' => write!(out, "{hour:02}:{:02}", time.minute()),
        'D' => write!(out, "{month_number:02}/{:02}/{:02}", time.day(), year.rem_euclid(100)),
        'z' => write!(out, "+0000"),
        'Z' => write!(out, "UTC"),
        'n' => writeln!(out),
        't' => write!(out, "\t"),
        '%' => write!(out, "%"),
        _ => return false,
    }
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn written(pattern: &str) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_522_796_769, 123_456_000);
        let mut out = String::new();
        TimeFormat::parse(pattern).write(time, &mut out);
        out
    }

    #[test]
    fn writes_times_as_envoys_documentation_shows_them() {
        for (pattern, wanted) in [
            ("", "2018-04-03T23:06:09.123Z"),
            ("%Y/%m/%dT%H:%M:%S%z", "2018/04/03T23:06:09+0000"),
            ("%s", "1522796769"),
            ("%s.%3f", "1522796769.123"),
            ("%s.%6f", "1522796769.123456"),
            ("%s.%9f", "1522796769.123456000"),
            ("%f", "123456000"),
            ("%E3S|%E*S", "09.123|09.123456"),
            ("%a, %d %b %y %I:%M %p %Q%", "Tue, 03 Apr 18 11:06 PM %Q%"),
        ] {
            assert_eq!(written(pattern), wanted, "{pattern}");
        }
    }
}
