//! Compares a value with the JSON Schema of its kind, and tells everything that does not fit at once.
//!
//! It knows the part of JSON Schema that our kinds use. What it lets pass, serde reads; what serde would refuse, it
//! has told before, with the path.

use serde_json::{Map, Value};

use crate::finding::{Code, Finding, Findings};
use crate::suggest::suggest;
use crate::value::check_format;

/// So many findings of one document are told; nobody reads more, and looking for them costs.
pub(crate) const FINDINGS_MAX: usize = 100;

/// Everything in `value` that does not fit `schema`.
pub(crate) fn check(value: &Value, schema: &Value) -> Vec<Finding> {
    let mut out = Findings::default();
    StructureCheck { root: schema }.visit(value, schema, &mut out);
    out.into_vec()
}

/// A value in few words.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => format!("the word {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", weft_api::text::shorten(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

struct StructureCheck<'a> {
    root: &'a Value,
}

impl<'a> StructureCheck<'a> {
    fn visit(&self, value: &Value, schema: &'a Value, out: &mut Findings) {
        if out.len() >= FINDINGS_MAX {
            return;
        }
        let schema = self.resolve(schema);
        let Value::Object(schema) = schema else { return };
        if let Some(words) = allowed_words(schema) {
            return check_word(value, &words, out);
        }
        if let Some(forms) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return self.visit_forms(value, forms, out);
        }
        if !has_type(value, schema) {
            return wrong_type(value, schema, out);
        }
        match value {
            Value::Object(fields) => self.visit_object(fields, schema, out),
            Value::Array(items) => {
                if let Some(of_items) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        out.at(index, |out| self.visit(item, of_items, out));
                    }
                }
            }
            Value::String(text) => {
                if let Some(Err(error)) =
                    schema.get("format").and_then(Value::as_str).map(|f| check_format(f, text))
                {
                    out.add(Code::InvalidValue, error.to_string()).value(text);
                }
            }
            Value::Number(_) => check_range(value, schema, out),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(&Value::Bool(true)),
            None => schema,
        }
    }

    /// One of several forms. Of a value that fits none, what is told is what keeps it from the form that it is nearest
    /// to, and where there is a choice, the form is named.
    fn visit_forms(&self, value: &Value, forms: &'a [Value], out: &mut Findings) {
        let is_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("null");
        if value.is_null() && forms.iter().any(|schema| is_null(&schema)) {
            return;
        }
        let forms: Vec<&Value> = forms.iter().filter(|schema| !is_null(schema)).collect();
        if let [only] = forms[..] {
            return self.visit(value, only, out);
        }
        let misfits = forms.into_iter().map(|form| {
            let mut found = Findings::default();
            self.visit(value, form, &mut found);
            (form, found.into_vec())
        });
        let nearest = misfits.min_by_key(|(form, found)| self.distance(value, form, found));
        let Some((form, found)) = nearest.filter(|(_, found)| !found.is_empty()) else { return };
        let form_name = name_of_form(form);
        for mut finding in found {
            finding.message = format!("as {form_name}: {}", finding.message);
            out.add_below(finding);
        }
    }

    /// How far a value is from a form. What is wrong with the value as a whole, or with a word that tells forms apart,
    /// weighs more than what is wrong with its fields, and that more than what lies deeper.
    fn distance(&self, value: &Value, form: &'a Value, found: &[Finding]) -> (usize, usize, usize) {
        let at_depth = |depth| found.iter().filter(|finding| finding.path.steps().len() == depth).count();
        (at_depth(0) + self.other_tags(value, form), at_depth(1), found.len())
    }

    /// How many fields of the value hold another word than the only one that this form has there.
    fn other_tags(&self, value: &Value, form: &'a Value) -> usize {
        let properties = self.resolve(form).get("properties").and_then(Value::as_object);
        let is_other = |(name, of_field): &(&String, &'a Value)| {
            let written = value.get(name.as_str()).and_then(Value::as_str);
            match self.resolve(of_field).as_object().and_then(allowed_words).as_deref() {
                Some([only]) => written.is_some_and(|written| written != *only),
                _ => false,
            }
        };
        properties.into_iter().flatten().filter(is_other).count()
    }

    fn visit_object(&self, fields: &Map<String, Value>, schema: &'a Map<String, Value>, out: &mut Findings) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = properties.unwrap_or(&none);
        let others = schema.get("additionalProperties");
        let of_names = schema.get("propertyNames");
        for (name, value) in fields {
            if out.len() >= FINDINGS_MAX {
                return;
            }
            if let Some(of_field) = properties.and_then(|properties| properties.get(name)) {
                out.at(name.clone(), |out| self.visit(value, of_field, out));
            } else if others == Some(&Value::Bool(false)) {
                unknown_field(name, known, fields, out);
            } else {
                out.at(name.clone(), |out| {
                    if let Some(of_names) = of_names {
                        self.visit(&Value::String(name.clone()), of_names, out);
                    }
                    if let Some(of_others) = others {
                        self.visit(value, of_others, out);
                    }
                });
            }
        }
        for name in
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !fields.contains_key(name) {
                let what = self.describe_field(properties.and_then(|properties| properties.get(name)));
                let note = out.add_at(name.to_owned(), Code::Required, format!("{name} is missing"));
                if let Some(what) = what {
                    note.hint(what);
                }
            }
        }
    }

    /// What a field is for: its words when it is one of several words, its description otherwise.
    fn describe_field(&self, schema: Option<&'a Value>) -> Option<String> {
        let schema = schema?;
        if let Some(words) = self.resolve(schema).as_object().and_then(allowed_words) {
            return Some(format!("write one of {}", words.join(", ")));
        }
        schema
            .get("description")
            .and_then(Value::as_str)
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
    }
}

/// What people call a form: its title, the name of its definition, or its type.
fn name_of_form(form: &Value) -> String {
    let text = |key: &str| form.get(key).and_then(Value::as_str);
    let definition = text("$ref").and_then(|path| path.rsplit('/').next());
    match text("title").or(definition).or_else(|| text("type")) {
        Some(name) => name.to_owned(),
        None => "one of its forms".to_owned(),
    }
}

fn unknown_field(name: &str, known: &Map<String, Value>, written: &Map<String, Value>, out: &mut Findings) {
    let message = format!("unknown field {:?}", weft_api::text::shorten(name));
    let free = known.keys().map(String::as_str).filter(|field| !written.contains_key(*field));
    let hint = match suggest(name, free) {
        Some(field) => format!("did you mean {field}?"),
        None if known.is_empty() => "it takes no fields".to_owned(),
        None => {
            format!("fields here are {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
        }
    };
    out.add_at(name.to_owned(), Code::UnknownField, message).hint(hint);
}

/// The words of an enumeration, however the schema writes it.
fn allowed_words(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    let parts = schema.get("oneOf").and_then(Value::as_array)?;
    let words: Option<Vec<Vec<&str>>> =
        parts.iter().map(|part| part.as_object().and_then(allowed_words)).collect();
    words.map(|words| words.concat())
}

fn check_word(value: &Value, words: &[&str], out: &mut Findings) {
    match value {
        Value::String(text) if words.contains(&text.as_str()) => {}
        Value::String(text) => {
            let message = format!("{:?} is not one of {}", weft_api::text::shorten(text), words.join(", "));
            let note = out.add(Code::InvalidValue, message).value(text);
            if let Some(word) = suggest(text, words.iter().copied()) {
                note.hint(format!("did you mean {word}?"));
            }
        }
        other => {
            out.add(Code::WrongType, format!("must be one of {}, not {}", words.join(", "), describe(other)));
        }
    }
}

fn wanted_types(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn has_type(value: &Value, schema: &Map<String, Value>) -> bool {
    let wanted = wanted_types(schema);
    let fits = |name: &&str| match (*name, value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => number.is_u64() || number.is_i64(),
        _ => false,
    };
    wanted.is_empty() || wanted.iter().any(fits)
}

fn wrong_type(value: &Value, schema: &Map<String, Value>, out: &mut Findings) {
    let wanted = wanted_types(schema);
    let words: Vec<&str> = wanted
        .iter()
        .filter_map(|name| match *name {
            "boolean" => Some("true or false"),
            "number" => Some("a number"),
            "integer" => Some("a whole number"),
            "string" => Some("a string"),
            "array" => Some("a list"),
            "object" => Some("a mapping"),
            _ => None,
        })
        .collect();
    let message = format!("must be {}, not {}", words.join(" or "), describe(value));
    let note = out.add(Code::WrongType, message);
    match value {
        Value::Number(_) | Value::Bool(_) if wanted.contains(&"string") => {
            note.hint(format!("write it in quotes: \"{value}\""));
        }
        Value::String(text) if wanted.contains(&"integer") && text.parse::<i64>().is_ok() => {
            note.hint(format!("write it without quotes: {text}"));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        Value::Array(_) | Value::Object(_) => {}
    }
}

fn check_range(value: &Value, schema: &Map<String, Value>, out: &mut Findings) {
    let Some(number) = value.as_f64() else { return };
    let of_format = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => Some(255.0),
        Some("uint16") => Some(65_535.0),
        Some("uint32") => Some(4_294_967_295.0),
        _ => None,
    };
    let least = schema.get("minimum").and_then(Value::as_f64);
    let most = schema.get("maximum").and_then(Value::as_f64).into_iter().chain(of_format).reduce(f64::min);
    let message = match (least, most) {
        (Some(least), Some(most)) if number < least || number > most => {
            format!("must be from {least} to {most}")
        }
        (Some(least), None) if number < least => format!("must be at least {least}"),
        (None, Some(most)) if number > most => format!("must be at most {most}"),
        _ => return,
    };
    out.add(Code::InvalidValue, message).value(value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `CODE PATH: MESSAGE` of everything that is told.
    fn told(value: &Value, schema: &Value) -> Vec<String> {
        let line = |one: &Finding| format!("{} {}: {}", one.code.as_str(), one.path, one.message);
        check(value, schema).iter().map(line).collect()
    }

    fn union() -> Value {
        let object = |properties: Value| json!({"type": "object", "properties": properties, "additionalProperties": false});
        json!({
            "anyOf": [{"$ref": "#/$defs/Local"}, {"$ref": "#/$defs/Remote"}, {"type": "string"}, {"type": "null"}],
            "$defs": {
                "Local": object(json!({"type": {"const": "Local"}, "requests": {"type": "integer"}})),
                "Remote": object(json!({"type": {"const": "Remote"}, "service": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
                    "additionalProperties": false,
                }})),
            },
        })
    }

    #[test]
    fn value_of_any_form_fits() {
        let remote = json!({"type": "Remote", "service": {"name": "a"}});
        for value in [json!({"type": "Local", "requests": 1}), remote, json!("off"), json!(null)] {
            assert_eq!(told(&value, &union()), Vec::<String>::new(), "{value}");
        }
    }

    #[test]
    fn value_that_fits_no_form_is_told_what_keeps_it_from_the_nearest() {
        // By the word that tells forms apart, however much else is wrong.
        let tagged = json!({"type": "Remote", "srv": 1, "service": {"nam": "a", "port": "b"}});
        let found = told(&tagged, &union());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|line| line.contains(": as Remote: ")), "{found:?}");
        // By its fields, where no word is written.
        assert_eq!(
            told(&json!({"service": {"port": "b"}}), &union()),
            ["wrong_type service.port: as Remote: must be a whole number, not the text \"b\""]
        );
        // A number is no form at all: the first is as good as any.
        assert_eq!(told(&json!(7), &union()), ["wrong_type : as Local: must be a mapping, not the number 7"]);
    }

    #[test]
    fn forms_that_are_told_apart_by_their_only_field_are_compared_too() {
        let one = |name: &str| {
            json!({
                "title": name,
                "type": "object",
                "properties": {name: {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}},
                "required": [name],
                "additionalProperties": false,
            })
        };
        let schema = json!({"oneOf": [one("http"), one("tcp")]});
        assert_eq!(told(&json!({"tcp": {"a": 1}}), &schema), Vec::<String>::new());
        let found = told(&json!({"tcp": {"x": 1, "y": 2, "z": 3}}), &schema);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|line| line.contains("as tcp: unknown field")), "{found:?}");
    }
}
