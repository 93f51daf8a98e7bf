//! The description of the API for people: one page, made of what programs read, served at `/docs`.
//!
//! It says nothing of a mesh, so that it needs no token. Like the page it loads from its own origin alone, and runs no script.

use std::fmt::Write as _;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::openapi::ApiDescription;
use super::ui::HEADERS;

const STYLE: &str = include_str!("docs.css");

/// The page and its style.
pub fn router(description: &ApiDescription) -> Router {
    let page = Bytes::from(page(&description.0));
    Router::new().route("/docs", get(async move || answer("text/html; charset=utf-8", page))).route(
        "/docs/style.css",
        get(async || answer("text/css; charset=utf-8", Bytes::from_static(STYLE.as_bytes()))),
    )
}

fn answer(kind: &'static str, body: Bytes) -> Response {
    let mut response =
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body).into_response();
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>Weft API</title>\
    <link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body><h1>Weft API</h1>";

fn page(description: &Value) -> String {
    let mut page = HEAD.to_owned();
    let about = text(&description["info"]["description"]);
    put(
        &mut page,
        format_args!("<p>{about} The same for programs: <code>/openapi.json</code>.</p><h2>Calls</h2>"),
    );
    for (path, methods) in fields(&description["paths"]) {
        for (method, call) in fields(methods) {
            describe_call(&mut page, (path, method), call, &description["components"]["responses"]);
        }
    }
    page.push_str("<h2>Documents</h2>");
    for (name, schema) in fields(&description["components"]["schemas"]) {
        let meaning = text(&schema["description"]);
        put(
            &mut page,
            format_args!(
                "<details id=\"{}\"><summary>{}</summary><p>{meaning}</p>",
                escape(name),
                escape(name)
            ),
        );
        describe_fields(&mut page, schema);
        page.push_str("</details>");
    }
    page.push_str("</body></html>");
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes everything");
}

fn describe_call(page: &mut String, (path, method): (&str, &str), call: &Value, refusals: &Value) {
    let (id, summary, needs) =
        (text(&call["operationId"]), text(&call["summary"]), text(&call["description"]));
    let (method, path) = (method.to_uppercase(), escape(path));
    put(
        page,
        format_args!(
            "<details id=\"{id}\"><summary><code>{method}</code> <code>{path}</code> {summary}</summary><p>{needs}</p>"
        ),
    );
    let parameters = call["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter</th><th>in</th><th>type</th><th>meaning</th></tr>");
        for one in parameters {
            let (name, place, kind) = (text(&one["name"]), text(&one["in"]), kind_of(&one["schema"]));
            let meaning = text(&one["description"]);
            put(
                page,
                format_args!(
                    "<tr><td><code>{name}</code></td><td>{place}</td><td>{kind}</td><td>{meaning}</td></tr>"
                ),
            );
        }
        page.push_str("</table>");
    }
    let takes = contents(&call["requestBody"]["content"]);
    if !takes.is_empty() {
        put(page, format_args!("<p>Takes {takes}.</p>"));
    }
    page.push_str("<table><tr><th>answer</th><th></th><th>content</th></tr>");
    for (status, answer) in fields(&call["responses"]) {
        let answer = if answer["$ref"].is_string() { &refusals[status] } else { answer };
        let (meaning, shown) = (text(&answer["description"]), contents(&answer["content"]));
        put(page, format_args!("<tr><td>{}</td><td>{meaning}</td><td>{shown}</td></tr>", escape(status)));
    }
    page.push_str("</table></details>");
}

/// Media types with what is in them.
fn contents(content: &Value) -> String {
    let one = |(media, content): (&String, &Value)| {
        let (media, kind) = (escape(media), kind_of(&content["schema"]));
        if kind.is_empty() {
            format!("<code>{media}</code>")
        } else {
            format!("{kind} as <code>{media}</code>")
        }
    };
    fields(content).map(one).collect::<Vec<_>>().join(" or ")
}

fn describe_fields(page: &mut String, schema: &Value) {
    if schema["properties"].as_object().is_none_or(Map::is_empty) {
        put(page, format_args!("<p>{}</p>", kind_of(schema)));
        return;
    }
    page.push_str("<table><tr><th>field</th><th>type</th><th>meaning</th></tr>");
    for (name, field) in fields(&schema["properties"]) {
        let (name, kind, meaning) = (escape(name), kind_of(field), text(&field["description"]));
        put(page, format_args!("<tr><td><code>{name}</code></td><td>{kind}</td><td>{meaning}</td></tr>"));
    }
    page.push_str("</table>");
}

/// What a schema is, in a few words.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[several].as_array() {
            let mut kinds: Vec<String> = all.iter().map(kind_of).collect();
            if let Some(codes) = schema["properties"]["code"]["enum"].as_array() {
                let codes: Vec<String> =
                    codes.iter().map(|code| format!("<code>{}</code>", text(code))).collect();
                kinds.push(codes.join(", "));
            }
            let between = if several == "allOf" { ": " } else { " or " };
            return kinds.join(between);
        }
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("<code>{}</code>", text(word))).collect();
        return words.join(", ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("<code>{}</code>", escape(word));
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", kind_of(&schema["items"])),
        Value::String(kind) => escape(kind),
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => String::new(),
        other => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn description_becomes_a_page_without_scripts_and_what_it_says_is_text() {
        let description = json!({
            "info": {"description": "a <script>"},
            "paths": {"/v1/{kinds}": {"get": {
                "operationId": "getKinds", "summary": "List", "description": "Needs nothing.",
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer"}, "description": "How many"}],
                "responses": {"404": {"description": "Not Found", "content": {"application/problem+json": {"schema":
                    {"allOf": [{"$ref": "#/components/schemas/Problem"}], "properties": {"code": {"enum": ["not_found"]}}}}}}},
            }}},
            "components": {"schemas": {"Problem": {"properties": {"title": {"type": "string"}}}}},
        });
        let page = page(&description);
        assert!(!page.contains("<script>") && page.contains("a &lt;script&gt;"), "{page}");
        assert!(page.contains("<a href=\"#Problem\">Problem</a>: <code>not_found</code>"), "{page}");
        assert!(
            page.contains("<td><code>limit</code></td><td>query</td><td>integer</td><td>How many</td>"),
            "{page}"
        );
    }
}
