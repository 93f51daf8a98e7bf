//! Printing: tables for people, YAML and JSON for programs.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::args::OutputFormat;

/// Prints a value as the format asks; a table is made by `rows` with `head` above it.
pub fn print<T: Serialize>(
    format: OutputFormat,
    value: &T,
    head: &[&str],
    rows: impl FnOnce() -> Vec<Vec<String>>,
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(value)?),
        OutputFormat::Yaml => print!("{}", serde_yaml::to_string(value)?),
        OutputFormat::Table | OutputFormat::Wide => print!("{}", table(head, &rows())),
    }
    Ok(())
}

/// Whether what is printed has colours: on a terminal, unless `NO_COLOR` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    Plain,
    Coloured,
}

impl Palette {
    /// That of standard output.
    pub fn of_stdout() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !is_unwanted { Self::Coloured } else { Self::Plain }
    }

    pub fn added(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn removed(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn changed(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        }
    }
}

/// Columns as wide as their widest cell, two spaces between.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A duration in its two largest units: `3h12m`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The time of day of a moment (milliseconds since 1970), UTC.
pub fn time_of_day(moment: u64) -> String {
    let seconds = moment / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// How long ago a moment (seconds since 1970) was; `-` for none.
pub fn since(moment: i64) -> String {
    distance(moment, |now, then| now.checked_sub(then))
}

/// How far ahead a moment is.
pub fn until(moment: i64) -> String {
    distance(moment, |now, then| then.checked_sub(now))
}

/// Whether a moment is over.
pub fn is_past(moment: i64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(moment).is_ok_and(|moment| Duration::from_secs(moment) <= now)
}

fn distance(moment: i64, between: impl Fn(Duration, Duration) -> Option<Duration>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match u64::try_from(moment) {
        Ok(0) | Err(_) => "-".to_owned(),
        Ok(moment) => between(now, Duration::from_secs(moment)).map_or_else(|| "0s".to_owned(), span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let rows = vec![vec!["a".to_owned(), String::new()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["N", "VALUE"], &rows), "N     VALUE\na\nlong  x\n");
    }

    #[test]
    fn spans_show_two_units() {
        assert_eq!(span(Duration::from_secs(59)), "59s");
        assert_eq!(span(Duration::from_secs(11_520)), "3h12m");
    }
}
