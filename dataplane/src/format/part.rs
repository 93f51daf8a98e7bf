//! The pieces of a text format.

use super::command::CommandOperator;
use super::context::FormatContext;

/// A piece of a text format.
#[derive(Clone, Debug)]
pub(crate) enum FormatPart {
    Literal(Box<str>),
    CommandOperator(CommandOperator),
}

/// Appends what the pieces say; a command without a value says `absent`.
pub(super) fn render_parts(
    parts: &[FormatPart],
    context: &FormatContext<'_>,
    absent: &str,
    out: &mut String,
) {
    for part in parts {
        match part {
            FormatPart::Literal(text) => out.push_str(text),
            FormatPart::CommandOperator(command) => {
                let start = out.len();
                if command.write(context, out) {
                    command.truncate(out, start);
                } else {
                    out.push_str(absent);
                }
            }
        }
    }
}
