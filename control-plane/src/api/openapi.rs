//! The description of the API for programs (OpenAPI 3.1), made of the calls and of the types that they take and answer.

use std::fmt;
use std::sync::Arc;

use aide::axum::ApiRouter;
use aide::generate::in_context;
use aide::openapi::{OpenApi, Operation, PathItem, ReferenceOr};
use axum::{Extension, Json, Router};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use weft_policies::kinds::Kind;

use super::calls::{self, ApiCall};
use super::described::{DescribedAnswers, problems};
use super::needs::{Need, needs};
use super::state::Api;

/// The whole description, as it is served.
#[derive(Clone)]
pub struct ApiDescription(pub Arc<Value>);

impl fmt::Debug for ApiDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiDescription").finish_non_exhaustive()
    }
}

/// `GET /openapi.json`
pub async fn document(Extension(description): Extension<ApiDescription>) -> Json<Arc<Value>> {
    Json(description.0)
}

/// OpenAPI 3.1 takes JSON Schema 2020-12 as it is; only where definitions stand differs.
fn generator() -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.into_generator()
}

/// The routes of all calls: those that need a token or a session, those that need none, and the description of both. No
/// route is without a description: both are made of the one table.
pub fn routes(api: &Api) -> (Router<Api>, Router<Api>, ApiDescription) {
    let mut signed_in = OpenApi::default();
    let mut open = OpenApi::default();
    let guarded = |call: ApiCall| {
        let method = needs(api, call.need, call.recorded, call.method);
        ApiCall { method, ..call }
    };
    let authenticated = routed(calls::signed_in, guarded, &ON_THE_WAY, &mut signed_in);
    let anyone = routed(calls::open, |call| call, &[503], &mut open);
    (authenticated, anyone, ApiDescription(Arc::new(whole(&signed_in, &open))))
}

/// What may become of any call on its way to its handler.
const ON_THE_WAY: [u16; 5] = [400, 401, 403, 429, 503];

fn routed(
    calls: impl FnOnce() -> Vec<ApiCall>,
    guarded: impl Fn(ApiCall) -> ApiCall,
    on_the_way: &[u16],
    described: &mut OpenApi,
) -> Router<Api> {
    in_context(|ctx| ctx.schema = generator());
    let mut router = ApiRouter::new();
    for call in calls() {
        let (path, need, summary) = (call.path, call.need, call.summary);
        let answers = in_context(|ctx| problems(ctx, on_the_way));
        router = router.api_route_with(path, guarded(call).method, |mut item| {
            for (method, operation) in operations(item.inner_mut()) {
                complete(operation, (method, path), need, summary, answers.clone());
            }
            item
        });
    }
    router.finish_api(described)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let all = [("get", get), ("put", put), ("post", post), ("delete", delete), ("patch", patch)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete(
    operation: &mut Operation,
    (method, path): (&str, &str),
    need: Need,
    summary: &str,
    on_the_way: DescribedAnswers,
) {
    operation.operation_id = Some(operation_id(method, path));
    operation.summary = Some(summary.to_owned());
    operation.description = Some(need.to_string());
    let responses = operation.responses.get_or_insert_default();
    for (status, response) in on_the_way {
        if let Some(status) = status {
            responses.responses.entry(status).or_insert(ReferenceOr::Item(response));
        }
    }
    responses.responses.sort_keys();
}

/// `get` and `/v1/namespaces/{namespace}/{kinds}/{name}` give `getNamespacesKindsName`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(['/', '{', '}', '.', '-']).filter(|word| !word.is_empty() && *word != "v1");
    words.fold(method.to_owned(), |mut id, word| {
        id.push_str(&word[..1].to_uppercase());
        id.push_str(&word[1..]);
        id
    })
}

/// One document of both, with the kinds.
fn whole(signed_in: &OpenApi, open: &OpenApi) -> Value {
    let (mut whole, open) = (json!(signed_in), json!(open));
    whole["info"] = json!({
        "title": "Weft",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Policies in, the state of the mesh out. Every call needs a token: an operator's, or that of a principal with a Role for it.",
    });
    whole["security"] = json!([{"token": []}]);
    whole["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    for (path, item) in open["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            whole["paths"][path][method] = operation.clone();
            whole["paths"][path][method]["security"] = json!([]);
        }
    }
    share_refusals(&mut whole);
    let mut schemas = Map::new();
    for kind in Kind::ALL {
        lift(kind.name(), weft_policies::schema(kind), &mut schemas);
    }
    let kinds: Vec<Value> = Kind::ALL.iter().map(|kind| reference(kind.name())).collect();
    schemas.insert(
        "Documents".to_owned(),
        json!({"description": "Documents of any kind; YAML takes many, separated by ---", "anyOf": kinds}),
    );
    for more in [whole["components"]["schemas"].take(), open["components"]["schemas"].clone()] {
        if let Value::Object(more) = more {
            schemas.extend(more);
        }
    }
    whole["components"]["schemas"] = Value::Object(schemas);
    whole
}

/// An answer of 400 and above is the same wherever it stands, so that it stands once.
fn share_refusals(whole: &mut Value) {
    let mut shared = Map::new();
    let items = whole["paths"].as_object_mut().into_iter().flatten();
    let calls = items.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten());
    for (status, answer) in
        calls.flat_map(|(_, call)| call["responses"].as_object_mut().into_iter().flatten())
    {
        if status.parse::<u16>().is_ok_and(|status| status >= 400) {
            let link = json!({"$ref": format!("#/components/responses/{status}")});
            shared.insert(status.clone(), std::mem::replace(answer, link));
        }
    }
    whole["components"]["responses"] = Value::Object(shared);
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// Puts a schema among the components. What it defines within itself goes beside it, under its name: in a description of
/// an API, a reference starts at the top of the whole.
fn lift(name: &str, mut schema: Value, schemas: &mut Map<String, Value>) {
    let within = schema.as_object_mut().and_then(|fields| {
        fields.remove("$schema");
        fields.remove("$defs")
    });
    redirect(name, &mut schema);
    schemas.insert(name.to_owned(), schema);
    if let Some(Value::Object(definitions)) = within {
        for (inner, mut definition) in definitions {
            redirect(name, &mut definition);
            schemas.insert(format!("{name}.{inner}"), definition);
        }
    }
}

fn redirect(name: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(inner) = reference.strip_prefix("#/$defs/")
            {
                *reference = format!("#/components/schemas/{name}.{inner}");
            }
            fields.values_mut().for_each(|field| redirect(name, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(name, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
