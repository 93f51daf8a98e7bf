//! Values that hold, each with who set it, as `explain` and `describe` write them.

use serde_json::Value;
use weft_api::rest::ExplainedValue;

/// What a line may be wide, for people.
pub const WIDTH: usize = 80;

/// A line, continued below itself where it is too wide.
pub fn wrapped(head: &str, value: &str) -> String {
    let indent = head.chars().count();
    let (mut text, mut width) = (head.to_owned(), indent);
    for (index, word) in value.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && width + 1 + length > WIDTH {
            text.truncate(text.trim_end().len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            width = indent;
        } else if index > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text + "\n"
}

/// Values in columns, those that somebody set first.
pub fn values(values: &[ExplainedValue]) -> String {
    let width = values.iter().map(|one| one.field.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for one in values {
        let value = match &one.value {
            Value::String(text) if text == "0s" => "no limit".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items =
                    items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                items.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let origin = match (&one.origin, &one.level) {
            (Some(origin), Some(level)) => format!("{origin} ({level})"),
            (Some(origin), None) => origin.clone(),
            (None, _) => "built in".to_owned(),
        };
        text.push_str(&wrapped(&format!("  {:<width$}  ", one.field), &format!("{value}  {origin}")));
    }
    text
}
