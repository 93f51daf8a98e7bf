//! What sources declare with a comment: variants of enums, and how they are written when they travel.

use regex::Regex;

use crate::page::root;

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The variants of an enum with their comments, in order.
pub fn variants(text: &str, name: &str) -> Vec<(String, String)> {
    let start = text.find(&format!("pub enum {name} {{")).unwrap_or_else(|| panic!("no enum {name}"));
    let body = text[start..].split("\n}").next().unwrap_or_default();
    let variant = Regex::new(r"^    (\w+)(?:[({].*)?,$").expect("a pattern");
    let (mut found, mut comment) = (Vec::new(), String::new());
    for line in body.lines() {
        if let Some(words) = line.trim().strip_prefix("///") {
            comment.push_str(words);
        } else if let Some(named) = variant.captures(line) {
            found.push((named[1].to_owned(), std::mem::take(&mut comment).trim().to_owned()));
        }
    }
    assert!(!found.is_empty(), "{name} has no variants that can be read");
    found
}

/// How a variant is written, as `Self::VARIANT => "TEXT"` says it behind `mark`.
pub fn written(text: &str, mark: &str, variant: &str) -> String {
    let start = text.find(mark).unwrap_or_else(|| panic!("no {mark:?}"));
    let arm = Regex::new(&format!(r#"Self::{variant} => "(\w+)""#)).expect("a pattern");
    arm.captures(&text[start..]).unwrap_or_else(|| panic!("{variant} is not written"))[1].to_owned()
}
