//! What review would otherwise have to remember: layers, lints, sizes, names, rules with tests, documents that work.
//!
//! Each exception stands in a table with its reason, and a test fails when an exception is no longer needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot read what it checks has failed")]

mod circles;
mod comments;
mod documents;
mod events;
mod features;
mod files;
mod floors;
mod layers;
mod names;
mod rules;
mod source;

/// Fails with everything that was found, one a line.
#[track_caller]
fn nothing_in(findings: &[String], what_to_do: &str) {
    assert!(findings.is_empty(), "{what_to_do}\n  {}\n", findings.join("\n  "));
}
