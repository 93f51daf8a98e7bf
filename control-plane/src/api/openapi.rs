//! The description of the API for programs, made from the documents' own types.

use axum::Json;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use weft_api::rest;
use weft_policies::kinds::Kind;

/// OpenAPI 3.1 takes JSON Schema 2020-12 as it is; only where definitions stand differs.
fn settings() -> SchemaSettings {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings
}

/// The documents of the API by name. What they contain is named along with them.
fn schemas() -> serde_json::Map<String, Value> {
    let mut generator = settings().into_generator();
    generator.subschema_for::<rest::AccessInfo>();
    generator.subschema_for::<rest::ApplyResult>();
    generator.subschema_for::<rest::AuditList>();
    generator.subschema_for::<rest::DiffResult>();
    generator.subschema_for::<rest::EdgeList>();
    generator.subschema_for::<rest::EdgeSeries>();
    generator.subschema_for::<rest::ExplainQuestion>();
    generator.subschema_for::<rest::ExplainResult>();
    generator.subschema_for::<rest::HistoryList>();
    generator.subschema_for::<rest::LoginCode>();
    generator.subschema_for::<rest::NewPrincipal>();
    generator.subschema_for::<rest::NewToken>();
    generator.subschema_for::<rest::ObjectChanges>();
    generator.subschema_for::<rest::ObjectList>();
    generator.subschema_for::<rest::PrincipalList>();
    generator.subschema_for::<rest::PrincipalRequest>();
    generator.subschema_for::<rest::Problem>();
    generator.subschema_for::<rest::ProxyList>();
    generator.subschema_for::<rest::RequestList>();
    generator.subschema_for::<rest::RevisionChanges>();
    generator.subschema_for::<rest::RevokedProxy>();
    generator.subschema_for::<rest::RollbackRequest>();
    generator.subschema_for::<rest::BrowserSession>();
    generator.subschema_for::<rest::SessionChange>();
    generator.subschema_for::<rest::SignIn>();
    generator.subschema_for::<rest::TapLine>();
    generator.subschema_for::<rest::TapListening>();
    generator.subschema_for::<rest::TapNotShown>();
    generator.subschema_for::<rest::TokenList>();
    generator.subschema_for::<rest::TokenRequest>();
    generator.take_definitions(true)
}

/// One call of the API: method, path, what it is for, schemas of body and answer.
type ApiCall = (&'static str, &'static str, &'static str, Option<&'static str>, &'static str);

/// In place of a schema: an answer that is no JSON.
const BYTES: &str = "";
/// In place of a schema: a part of any document.
const PATCH: &str = "merge patch";
/// In place of a schema: server-sent events, whose data is JSON.
const EVENTS: &str = "events";

const CALLS: &[ApiCall] = &[
    (
        "post",
        "/v1/apply",
        "Apply YAML or JSON documents as one transaction",
        Some("Documents"),
        "ApplyResult",
    ),
    (
        "post",
        "/v1/diff",
        "What an apply would change: documents, what proxies are given, whose requests are refused",
        Some("Documents"),
        "DiffResult",
    ),
    (
        "post",
        "/v1/explain",
        "What would become of a request, and why: route, clusters, whether the called side lets it pass",
        Some("ExplainQuestion"),
        "ExplainResult",
    ),
    ("get", "/v1/{kinds}", "List objects of a kind", None, "ObjectList"),
    ("get", "/v1/namespaces/{namespace}/{kinds}/{name}", "Read an object", None, "Object"),
    (
        "put",
        "/v1/namespaces/{namespace}/{kinds}/{name}",
        "Replace an object",
        Some("Documents"),
        "ApplyResult",
    ),
    (
        "patch",
        "/v1/namespaces/{namespace}/{kinds}/{name}",
        "Change a part of an object, by a JSON merge patch (RFC 7396)",
        Some(PATCH),
        "ApplyResult",
    ),
    ("delete", "/v1/namespaces/{namespace}/{kinds}/{name}", "Delete an object", None, "ApplyResult"),
    ("get", "/v1/proxies", "Who is connected, and what each took", None, "ProxyList"),
    ("get", "/v1/proxies/{id}", "One proxy", None, "ProxyStatus"),
    ("get", "/v1/proxies/{id}/config", "What a proxy should have, secrets redacted", None, "Any"),
    (
        "post",
        "/v1/proxies/{id}/revoke",
        "Take a workload out of the mesh, and its certificates with it",
        None,
        "RevokedProxy",
    ),
    ("get", "/v1/edges", "Traffic between services", None, "EdgeList"),
    (
        "get",
        "/v1/watch/edges",
        "Traffic between services as it goes: an event `edges` each 2 s",
        None,
        EVENTS,
    ),
    (
        "get",
        "/v1/watch/{kinds}",
        "Objects of a kind as they change: events `snapshot`, `changes`, `gone`, to be resumed by `last-event-id`",
        None,
        EVENTS,
    ),
    ("get", "/v1/edges/series", "Traffic to a service over time", None, "EdgeSeries"),
    ("get", "/v1/requests", "Requests that failed or were refused lately, newest first", None, "RequestList"),
    ("get", "/v1/requests/{id}", "The hops of one of them, by its x-request-id", None, "RequestList"),
    ("get", "/v1/history", "What was changed, by whom, the newest first", None, "HistoryList"),
    (
        "get",
        "/v1/history/{revision}",
        "One change: each document before and after, and with `wait` which proxies have it",
        None,
        "RevisionChanges",
    ),
    (
        "post",
        "/v1/rollback",
        "Make the policies what they were after an earlier revision, as a new change",
        Some("RollbackRequest"),
        "ApplyResult",
    ),
    (
        "get",
        "/v1/taps",
        "Requests as they end, while one looks on: events `listening` (TapListening), `request` (TapLine), `notShown` (TapNotShown)",
        None,
        EVENTS,
    ),
    ("get", "/v1/tokens", "List join tokens", None, "TokenList"),
    ("post", "/v1/tokens", "Make a join token", Some("TokenRequest"), "NewToken"),
    ("delete", "/v1/tokens/{id}", "Revoke a join token", None, "Any"),
    ("get", "/v1/principals", "Who has a token beside the operators, and which roles", None, "PrincipalList"),
    ("post", "/v1/principals", "Make a principal, and its token", Some("PrincipalRequest"), "NewPrincipal"),
    ("delete", "/v1/principals/{name}", "Remove a principal: its token opens nothing any more", None, "Any"),
    (
        "post",
        "/v1/principals/{name}/token",
        "Another token, in place of the one before",
        None,
        "NewPrincipal",
    ),
    ("get", "/v1/access", "What the caller may do", None, "AccessInfo"),
    ("get", "/v1/audit", "Who did what, the newest first", None, "AuditList"),
    ("get", "/v1/ca", "State of the certificate authority", None, "Any"),
    ("get", "/v1/backup", "The whole state of the mesh, for `weft-control-plane restore`", None, BYTES),
    ("post", "/v1/session", "Sign a browser in: the answer sets its cookie", Some("SignIn"), "Session"),
    ("get", "/v1/session", "What this browser's session may do", None, "Session"),
    (
        "patch",
        "/v1/session",
        "Let this session change things, or only read",
        Some("SessionChange"),
        "Session",
    ),
    ("delete", "/v1/session", "Sign this browser out", None, "Any"),
    ("post", "/v1/login-codes", "A code that signs one browser in, within a minute", None, "LoginCode"),
    ("get", "/openapi.json", "This description", None, "Any"),
];

/// `GET /openapi.json`
pub async fn document() -> Json<Value> {
    Json(describe())
}

fn describe() -> Value {
    let mut schemas = schemas();
    for kind in Kind::ALL {
        lift(kind.name(), weft_policies::schema(kind), &mut schemas);
    }
    schemas.insert("Any".to_owned(), json!({}));
    let kinds: Vec<Value> = Kind::ALL.iter().map(|kind| reference(kind.name())).collect();
    let documents = json!({
        "description": "Documents of any kind; YAML takes many, separated by ---",
        "anyOf": kinds,
    });
    schemas.insert("Documents".to_owned(), documents);
    let mut paths = serde_json::Map::new();
    for &(method, path, summary, body, answer) in CALLS {
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation((method, path), summary, body, answer);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weft",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Policies in, the state of the mesh out. Every call needs a token: an operator's, or that of a principal with a Role for it.",
        },
        "security": [{"operator": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer"}},
        },
    })
}

/// Puts a schema among the components. What it defines within itself goes beside it, under its name: in a description of
/// an API, a reference starts at the top of the whole.
fn lift(name: &str, mut schema: Value, schemas: &mut serde_json::Map<String, Value>) {
    let within = schema.as_object_mut().and_then(|fields| fields.remove("$defs"));
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

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

const SELECTOR: &str = "Only objects with these labels: KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B), KEY, !KEY, with commas between";
const MESSAGE: &str = "Why, in one line; the history tells it";

/// What may stand in a query: name, schema, and what it means.
type DescribedParameters = &'static [(&'static str, &'static str, &'static str)];

/// What may stand in the query of a call.
fn query(method: &str, path: &str) -> DescribedParameters {
    match (method, path) {
        ("post", "/v1/apply") => &[
            ("dryRun", "boolean", "Say what would happen, and write nothing"),
            (
                "wait",
                "string",
                "Answer when the proxies concerned have the change, or after so long, such as 30s",
            ),
            ("source", "string", "Where the documents come from, for messages"),
            (
                "ifRevision",
                "integer",
                "Refuse with 412 when this is not the newest revision; 0 is a mesh that never held a policy",
            ),
            ("message", "string", MESSAGE),
            (
                "prune",
                "string",
                "Delete all objects with these labels that are not in the request, as labelSelector",
            ),
        ],
        ("post", "/v1/diff") => &[("source", "string", "Where the documents come from, for messages")],
        ("put" | "patch", "/v1/namespaces/{namespace}/{kinds}/{name}") => &[("message", "string", MESSAGE)],
        ("delete", "/v1/namespaces/{namespace}/{kinds}/{name}") => &[
            ("dryRun", "boolean", "Say what would happen, and write nothing"),
            ("wait", "string", "Answer when the proxies concerned have it, or after so long, such as 30s"),
            ("message", "string", MESSAGE),
        ],
        ("get", "/v1/history") => &[
            ("limit", "integer", "How many at most; 20 where it is not said, 100 at most"),
            ("before", "integer", "Only changes before this revision"),
            ("kind", "string", "Only changes of objects of this kind"),
            ("namespace", "string", "Only changes of objects in this namespace"),
            ("name", "string", "Only changes of objects of this name"),
        ],
        ("get", "/v1/history/{revision}") => {
            &[("wait", "string", "Answer when the proxies concerned have it, or after so long, such as 30s")]
        }
        ("get", "/v1/{kinds}") => &[
            ("namespace", "string", "Only this namespace"),
            ("labelSelector", "string", SELECTOR),
            ("limit", "integer", "How many at most"),
            ("continue", "string", "Where the page before ended"),
        ],
        ("get", "/v1/watch/{kinds}") => &[
            ("namespace", "string", "Only this namespace"),
            ("revision", "integer", "Only what changes after this revision, in place of all that there is"),
        ],
        ("get", "/v1/audit") => &[
            ("limit", "integer", "How many at most; 50 where it is not said, 1000 at most"),
            ("before", "integer", "Only calls before this moment, milliseconds since 1970"),
            ("who", "string", "Only calls of this principal, or of `operator`"),
        ],
        (method, path) => query_of_traffic(method, path),
    }
}

/// The same of what flows and has flown.
fn query_of_traffic(method: &str, path: &str) -> DescribedParameters {
    match (method, path) {
        ("get", "/v1/edges" | "/v1/watch/edges") => &[
            ("by", "string", "`route` tells the rules of routes apart, in place of subsets"),
            ("source", "string", "Only calls of this service, NAMESPACE/SERVICE"),
            ("destination", "string", "Only calls to this service, NAMESPACE/SERVICE"),
        ],
        ("get", "/v1/edges/series") => &[
            ("destination", "string", "The called service, NAMESPACE/SERVICE"),
            ("source", "string", "Only calls of this service; all together without it"),
            ("port", "string", "Only calls to this port"),
            ("subset", "string", "Only calls to this subset"),
            ("route", "string", "Only calls that follow this rule, named as an edge by route names it"),
            ("step", "string", "5s, for the last 10 minutes (the default), or 1m, for the last 24 hours"),
            ("since", "integer", "Only the last so many seconds"),
        ],
        ("get", "/v1/requests") => &[
            ("source", "string", "Only calls from this service, NAMESPACE/SERVICE"),
            ("destination", "string", "Only calls to this service, NAMESPACE/SERVICE"),
            ("limit", "integer", "How many at most; 100 where it is not said, 1000 at most"),
        ],
        ("get", "/v1/taps") => &[
            ("source", "string", "Only calls from this service, NAMESPACE/SERVICE"),
            ("destination", "string", "Only calls to this service, NAMESPACE/SERVICE"),
            ("method", "string", "Only with this method"),
            ("path", "string", "Only where the path begins so"),
            ("status", "string", "Only answered so: 503, or 5xx"),
            ("onlyFailures", "boolean", "Only what failed or was refused"),
            (
                "headers",
                "string",
                "Headers to be shown: NAME[,NAME]; a name that may not be shown is refused",
            ),
        ],
        _ => &[],
    }
}

/// `get` and `/v1/namespaces/{namespace}/{kinds}/{name}` give `getNamespacesKindsName`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty() && *word != "v1");
    words.fold(method.to_owned(), |mut id, word| {
        id.push_str(&word[..1].to_uppercase());
        id.push_str(&word[1..]);
        id
    })
}

fn operation((method, path): (&str, &str), summary: &str, body: Option<&str>, answer: &str) -> Value {
    let json_of = |schema: &str| match schema {
        BYTES => json!({"application/octet-stream": {}}),
        EVENTS => json!({"text/event-stream": {}}),
        schema => json!({"application/json": {"schema": reference(schema)}}),
    };
    let in_path = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = query(method, path).iter().map(|(name, kind, meaning)| {
        json!({"name": name, "in": "query", "schema": {"type": kind}, "description": meaning})
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let mut operation = json!({
        "operationId": operation_id(method, path),
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done", "content": json_of(answer)},
            "default": {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            },
        },
    });
    match body {
        Some("Documents") => {
            operation["requestBody"] = json!({"required": true, "content": {
                "application/yaml": {"schema": {"type": "string"}},
                "application/json": {"schema": reference("Documents")},
            }});
        }
        Some(PATCH) => {
            operation["requestBody"] = json!({"required": true, "content": {
                "application/merge-patch+json": {"schema": {"type": "object"}},
            }});
        }
        Some(schema) => operation["requestBody"] = json!({"required": true, "content": json_of(schema)}),
        None => {}
    }
    operation
}
