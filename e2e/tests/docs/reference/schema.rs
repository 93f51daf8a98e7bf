//! JSON Schemas as tables.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::table;

/// Schemas by name.
pub struct Definitions<'a> {
    pub all: &'a Map<String, Value>,
    /// What stands before the names of those that are told here.
    pub within: &'a str,
    /// Where those are told that are not told here.
    pub elsewhere: &'a dyn Fn(&str) -> Option<String>,
}

impl Definitions<'_> {
    /// What the first definitions consist of, and what these lead to, a section each but for the first one where `bare`.
    pub fn sections(&self, first: &[&str], bare: bool) -> String {
        let (mut seen, mut text) = (BTreeSet::new(), String::new());
        let mut next: VecDeque<String> = first.iter().map(|&name| name.to_owned()).collect();
        while let Some(name) = next.pop_front() {
            if (self.elsewhere)(&name).is_some() || !seen.insert(name.clone()) {
                continue;
            }
            let Some(schema) = self.all.get(&name) else { panic!("no definition {name}") };
            if !(bare && seen.len() == 1) {
                text += &format!("### {}\n\n{}\n\n", self.short(&name), words(schema));
            }
            text += &self.body(schema);
            references(schema, &mut next);
        }
        text
    }

    fn short<'n>(&self, name: &'n str) -> &'n str {
        name.strip_prefix(self.within).unwrap_or(name)
    }

    fn body(&self, schema: &Value) -> String {
        if let Some(values) = schema.get("oneOf").and_then(Value::as_array) {
            let rows = values.iter().map(|value| [code(&value["const"]), words(value)]);
            return table(["value", "meaning"], rows) + "\n";
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return values.iter().map(code).collect::<Vec<_>>().join(", ") + "\n\n";
        }
        let Some(Value::Object(fields)) = schema.get("properties") else {
            return "It has no fields.\n\n".to_owned();
        };
        let needed: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_needed = |name: &String| needed.contains(&name.as_str());
        let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| is_needed(name));
        let rows = first.into_iter().chain(rest).map(|(name, field)| {
            let default = match field.get("default") {
                Some(Value::Object(_) | Value::Array(_)) | None if is_needed(name) => "required".to_owned(),
                Some(Value::Object(_) | Value::Array(_)) | None => String::new(),
                Some(default) => code(default),
            };
            [format!("`{name}`"), self.type_of(field), default, words(field)]
        });
        table(["field", "type", "default", "meaning"], rows) + "\n"
    }

    /// What may stand in a field, with a link to what that is.
    pub fn type_of(&self, schema: &Value) -> String {
        if let Some(name) = reference(schema) {
            let target =
                (self.elsewhere)(name).unwrap_or_else(|| format!("#{}", self.short(name).to_lowercase()));
            return format!("[{}]({target})", self.short(name));
        }
        if let Some(several) = schema.get("anyOf").and_then(Value::as_array) {
            let some = several.iter().filter(|one| one["type"] != "null");
            return some.map(|one| self.type_of(one)).collect::<Vec<_>>().join(" or ");
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return values.iter().map(code).collect::<Vec<_>>().join(", ");
        }
        if let Some(items) = schema.get("items") {
            return format!("list of {}", self.type_of(items));
        }
        if let Some(value @ Value::Object(_)) = schema.get("additionalProperties") {
            return format!("map of {}", self.type_of(value));
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => {
                types.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
            }
            Value::String(name) => vec![name],
            _ => return "anything".to_owned(),
        };
        if types == ["integer", "string"] {
            return "number or name".to_owned();
        }
        let range = match (schema.get("minimum"), schema.get("maximum")) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            (None | Some(_), None) | (None, Some(_)) => String::new(),
        };
        let format = schema["format"].as_str().filter(|format| !NUMBERS.contains(format));
        format.map_or_else(|| types.join(" or "), str::to_owned) + &range
    }
}

/// Formats that say how a program holds a number, which is no news to who writes one.
const NUMBERS: [&str; 9] =
    ["uint8", "uint16", "uint32", "uint64", "uint", "int32", "int64", "float", "double"];

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str().and_then(|path| path.rsplit('/').next())
}

fn references(value: &Value, found: &mut VecDeque<String>) {
    found.extend(reference(value).map(str::to_owned));
    match value {
        Value::Object(fields) => fields.values().for_each(|field| references(field, found)),
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// What a schema says of itself, on one line.
pub fn words(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
