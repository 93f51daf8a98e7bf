//! A comment on an item says more than its name.

use regex::Regex;

use crate::nothing_in;
use crate::source;

/// What people read to use or to change a part.
const READ: [&str; 5] = ["api/", "cli/src/", "control-plane/", "dataplane/", "policies/src/"];
/// What clap prints is short.
const PRINTED: [&str; 4] =
    ["cli/src/args", "control-plane/src/args", "dataplane/src/args", "dataplane/src/main.rs"];

#[test]
fn a_short_comment_names_a_unit_or_a_term() {
    let sayings = Regex::new(r"[`0-9…]|\b[A-Z]{2,}\b|(?i:\b(bytes|percent|(milli)?seconds)\b)").unwrap();
    let mut found = Vec::new();
    for file in source::rust() {
        let is_read = READ.iter().any(|start| file.path.starts_with(start));
        if !is_read || PRINTED.iter().any(|start| file.path.starts_with(start)) {
            continue;
        }
        let lines: Vec<&str> = file.production().lines().map(str::trim_start).collect();
        for (index, line) in lines.iter().enumerate() {
            let goes_on = |at: Option<&&str>| at.is_some_and(|other| other.starts_with("///"));
            let Some(said) = line.strip_prefix("/// ") else { continue };
            if goes_on(lines.get(index + 1)) || index.checked_sub(1).is_some_and(|at| goes_on(lines.get(at)))
            {
                continue;
            }
            if said.split_whitespace().count() <= 3 && !sayings.is_match(said) {
                found.push(format!("{}:{}: {said}", file.path, index + 1));
            }
        }
    }
    nothing_in(&found, "say the unit, when it is absent, or who sets it, or leave the comment away:");
}
