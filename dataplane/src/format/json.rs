//! JSON formats.

use std::fmt::Write as _;

use super::command::CommandOperator;
use super::context::FormatContext;
use super::parse::{FormatError, parts};
use super::part::{FormatPart, render_parts};

/// A JSON value with commands in its strings. Members are sorted by name.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Object(Vec<(Box<str>, Node)>),
    List(Vec<Node>),
    CommandOperator(CommandOperator),
    Text(Vec<FormatPart>),
    Number(f64),
    Bool(bool),
    Null,
}

impl Node {
    /// An object; its members are sorted here.
    pub(crate) fn object(mut members: Vec<(Box<str>, Self)>) -> Self {
        members.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Object(members)
    }

    /// A string, with commands in it or one itself.
    ///
    /// # Errors
    /// A command that is unknown or cut off.
    pub(crate) fn string(text: &str) -> Result<Self, FormatError> {
        let mut parts = parts(text)?;
        Ok(match parts.pop() {
            Some(FormatPart::CommandOperator(command)) if parts.is_empty() => Self::CommandOperator(command),
            last => {
                parts.extend(last);
                Self::Text(parts)
            }
        })
    }

    /// Appends the value as JSON.
    pub(super) fn render(&self, at: &FormatContext<'_>, omit_empty: bool, out: &mut String) {
        match self {
            Self::Object(members) => {
                out.push('{');
                let start = out.len();
                for (name, node) in members {
                    let before = out.len();
                    if before > start {
                        out.push(',');
                    }
                    write_string(name, out);
                    out.push(':');
                    let value = out.len();
                    node.render(at, omit_empty, out);
                    if omit_empty && &out[value..] == "null" {
                        out.truncate(before);
                    }
                }
                out.push('}');
            }
            Self::List(nodes) => {
                out.push('[');
                for (i, node) in nodes.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    node.render(at, omit_empty, out);
                }
                out.push(']');
            }
            Self::CommandOperator(command) => render_command(command, at, out),
            Self::Text(parts) => {
                let mut text = String::new();
                render_parts(parts, at, if omit_empty { "" } else { "-" }, &mut text);
                write_string(&text, out);
            }
            Self::Number(number) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "{number}");
            }
            Self::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
            Self::Null => out.push_str("null"),
        }
    }
}

fn render_command(command: &CommandOperator, at: &FormatContext<'_>, out: &mut String) {
    if let Some(number) = command.number(at) {
        let _ = write!(out, "{number}");
        return;
    }
    let mut text = String::new();
    if command.write(at, &mut text) {
        command.truncate(&mut text, 0);
        write_string(&text, out);
    } else {
        out.push_str("null");
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
