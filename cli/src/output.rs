//! Printing: tables for people, YAML, JSON and names for programs.

use std::fmt;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use crate::args::OutputFormat;

/// How many spaces stand between two columns.
const GAP: u16 = 2;
/// Words that are broken into lines have so much room at least.
const LEAST: u16 = 20;
/// As a shell shows what ended because nobody reads its output.
const UNREAD: i32 = 141;

/// `print!` for whoever may stop reading: see [`write()`].
macro_rules! out {
    ($($arguments:tt)*) => { $crate::output::write(format_args!($($arguments)*)) };
}

/// `println!` for whoever may stop reading: see [`write()`].
macro_rules! outln {
    () => { $crate::output::write(format_args!("\n")) };
    ($($arguments:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($arguments)*))) };
}

pub(crate) use {out, outln};

/// Writes to standard output. Where nobody reads it any more, as behind `| head`, the program ends quietly; where it cannot be
/// written, as on a full disk, it ends and says so.
pub fn write(text: fmt::Arguments<'_>) {
    let Err(error) = std::io::stdout().lock().write_fmt(text) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(UNREAD);
    }
    eprintln!("weft: standard output: {error}");
    std::process::exit(1);
}

/// Prints a value as the format asks; a table is made by `rows` with `head` above it.
pub fn print<T: Serialize>(
    format: OutputFormat,
    value: &T,
    head: &[&str],
    rows: impl FnOnce() -> Vec<Vec<String>>,
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Json => outln!("{}", serde_json::to_string_pretty(value)?),
        OutputFormat::Yaml => out!("{}", serde_yaml::to_string(value)?),
        OutputFormat::Name => {
            let names = names(&serde_json::to_value(value)?);
            let names = names.context("nothing in this answer has a name: use -o json")?;
            names.iter().for_each(|name| outln!("{name}"));
        }
        OutputFormat::Table | OutputFormat::Wide => out!("{}", table(head, &rows())),
    }
    Ok(())
}

/// The names of what an answer lists, or of what it is.
fn names(value: &Value) -> Option<Vec<String>> {
    match value["items"].as_array().or_else(|| value["documents"].as_array()) {
        Some(items) => items.iter().map(name).collect(),
        None => name(value).map(|name| vec![name]),
    }
}

/// What other commands take it by: an object as NAMESPACE/NAME, with its kind before it where others stand beside it; an edge
/// as its two ends.
fn name(item: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_object = |value: &Value| Some(format!("{}/{}", text(&value["namespace"])?, text(&value["name"])?));
    if item["metadata"].is_object() {
        return of_object(&item["metadata"]);
    }
    if let Some(kind) = item["kind"].as_str() {
        return Some(format!("{kind} {}", of_object(item)?));
    }
    if let (Some(source), Some(destination)) = (item["source"].as_str(), item["destination"].as_str())
        && item["id"].is_null()
    {
        return Some(format!("{source} {destination}"));
    }
    let alone = ["revision", "id", "name"].iter().find(|key| !item[**key].is_null())?;
    Some(item[*alone].as_str().map_or_else(|| item[*alone].to_string(), str::to_owned))
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

/// Columns as wide as their widest cell, two spaces between. On a terminal the last one is broken into lines that fit, as long
/// as that leaves it room; names are never broken.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = std::io::stdout().is_terminal().then(crossterm::terminal::size).and_then(Result::ok);
    table_within(width.map(|(columns, _)| columns), head, rows)
}

fn table_within(width: Option<u16>, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head.iter().copied()).add_rows(rows.iter().cloned());
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let widths = table.column_max_content_widths();
    if let (Some(width), Some((_, others))) = (width, widths.split_last()) {
        let taken: u16 = others.iter().map(|width| width.saturating_add(GAP)).sum();
        if width >= taken.saturating_add(LEAST) {
            for column in table.column_iter_mut().take(others.len()) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            // What stands behind the last column is cut off again.
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(GAP));
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
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
    fn table_is_no_wider_than_the_terminal_and_loses_nothing() {
        let words = "the application does not answer on 127.0.0.1:8080 (connection refused)";
        let rows = vec![vec!["shop/catalog-1".to_owned(), words.to_owned()]];
        let text = table_within(Some(50), &["NAME", "REASON"], &rows);
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("shop/catalog-1  the application"), "{text}");
        let kept: Vec<&str> = text.lines().skip(1).flat_map(|line| line[16..].split_whitespace()).collect();
        assert_eq!(kept.join(" "), words);
    }

    #[test]
    fn names_are_what_other_commands_take() {
        use serde_json::json;
        let named = |value: Value| names(&value).map(|names| names.join(","));
        let object = json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "cart"}});
        assert_eq!(named(json!({"items": [object], "revision": 7})).unwrap(), "shop/cart");
        let applied = json!({"kind": "HTTPRoute", "namespace": "shop", "name": "a", "outcome": "Created"});
        assert_eq!(named(json!({"documents": [applied], "revision": 7})).unwrap(), "HTTPRoute shop/a");
        let edge = json!({"source": "shop/web", "destination": "shop/cart", "port": "http"});
        assert_eq!(named(json!({"items": [edge]})).unwrap(), "shop/web shop/cart");
        assert_eq!(named(json!({"items": [{"revision": 7, "at": 1}]})).unwrap(), "7");
        assert_eq!(named(json!({"items": [{"who": "operator"}]})), None);
    }

    #[test]
    fn spans_show_two_units() {
        assert_eq!(span(Duration::from_secs(59)), "59s");
        assert_eq!(span(Duration::from_secs(11_520)), "3h12m");
    }
}
