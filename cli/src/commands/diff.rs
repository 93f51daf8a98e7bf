//! What changes in documents, field by field.

use serde_json::Value;
use weft_api::rest::{DocumentDiff, FieldDiff, Outcome};

use crate::output::Palette;

/// What stands on one line with its path.
const SHORT: usize = 72;

/// Each document with a sign before it, and below it the fields that differ.
pub fn documents(documents: &[DocumentDiff], palette: Palette) -> String {
    let mut text = String::new();
    for document in documents {
        let name = format!("{} {}/{}", document.kind, document.namespace, document.name);
        let line = match document.outcome {
            Outcome::Created => palette.added(&format!("+ {name}")),
            Outcome::Deleted => palette.removed(&format!("- {name}")),
            Outcome::Updated => palette.changed(&format!("~ {name}")),
            Outcome::Unchanged => format!("  {name}"),
        };
        text.push_str(&format!("{line}\n"));
        for field in &document.fields {
            text.push_str(&self::field(field, palette));
        }
    }
    text
}

fn field(field: &FieldDiff, palette: Palette) -> String {
    let path = &field.path;
    match (&field.before, &field.after) {
        (Some(before), Some(after)) => {
            let line = format!("{path}: {before} -> {after}");
            if line.chars().count() <= SHORT {
                return format!("    {}\n", palette.changed(&line));
            }
            removed(path, before, palette) + &added(path, after, palette)
        }
        (Some(before), None) => removed(path, before, palette),
        (None, Some(after)) => added(path, after, palette),
        (None, None) => String::new(),
    }
}

fn removed(path: &str, value: &Value, palette: Palette) -> String {
    format!("    {}\n", palette.removed(&format!("- {path}: {value}")))
}

fn added(path: &str, value: &Value, palette: Palette) -> String {
    format!("    {}\n", palette.added(&format!("+ {path}: {value}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_stand_below_their_document() {
        let field = |path: &str, before: Option<Value>, after: Option<Value>| FieldDiff {
            path: path.to_owned(),
            before,
            after,
        };
        let document = DocumentDiff {
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            outcome: Outcome::Updated,
            before: None,
            after: None,
            fields: vec![
                field("spec.weight", Some(json!(10)), Some(json!(20))),
                field("spec.gone", Some(json!("x")), None),
            ],
        };
        assert_eq!(
            documents(std::slice::from_ref(&document), Palette::Plain),
            "~ HTTPRoute shop/cart\n    spec.weight: 10 -> 20\n    - spec.gone: \"x\"\n"
        );
        let coloured = documents(&[document], Palette::Coloured);
        assert!(coloured.contains("\u{1b}[31m- spec.gone"), "{coloured:?}");
    }
}
