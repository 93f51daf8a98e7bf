//! How what calls take and answer stands in the description of the API (OpenAPI), said once for each type.
//!
//! A handler whose arguments and result do not say it cannot be put into the table of calls: it does not compile.

use aide::generate::GenContext;
use aide::openapi::{
    Header, HeaderStyle, MediaType, Operation, Parameter, ParameterData, ParameterSchemaOrContent,
    ReferenceOr, RequestBody, Response, SchemaObject, StatusCode as Answered,
};
use aide::operation::{ParamLocation, add_parameters, parameters_from_schema, set_body};
use aide::{OperationInput, OperationOutput};
use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, json_schema};
use weft_api::rest::{PROBLEM_JSON, Problem};

use super::answer::{EventStream, NoStore, Octets, SignedOut, Tagged};
use super::apply::ChangeAnswer;
use super::author::Author;
use super::drain::DrainAnswer;
use super::error::{ApiError, Refuses, beside};
use super::extract::{
    BrowserRequest, CallSource, DOCUMENTS, DocumentText, IfMatch, InPath, JSON, JsonBody, LastEventId,
    MERGE_PATCH, MergePatch, OptionalDocuments, Parameters, SignInRequest,
};
use super::problem_code::ProblemCode;
use super::rights::CallerRights;

/// DescribedAnswers of an operation by status.
pub type DescribedAnswers = Vec<(Option<Answered>, Response)>;

/// Problem documents with these statuses, each with the codes that come with it.
pub fn problems(ctx: &mut GenContext, statuses: &[u16]) -> DescribedAnswers {
    let problem = ctx.schema.subschema_for::<Problem>();
    let answer = |status: &u16| {
        let known = StatusCode::from_u16(*status).ok()?;
        let of_status = |code: &&ProblemCode| code.status() == known;
        let codes: Vec<_> = ProblemCode::ALL.iter().filter(of_status).map(|code| code.as_str()).collect();
        let schema = json_schema!({
            "allOf": [problem],
            "properties": {"status": {"const": status}, "code": {"enum": codes}},
        });
        let mut response = answer(known.canonical_reason().unwrap_or_default(), PROBLEM_JSON, Some(schema));
        if let Some((name, _)) = beside(known) {
            response.headers.insert(name.to_string(), header());
        }
        Some((Some(Answered::Code(*status)), response))
    };
    statuses.iter().filter_map(answer).collect()
}

fn answer(description: &str, media: &str, schema: Option<Schema>) -> Response {
    let content = MediaType { schema: schema.map(object), ..MediaType::default() };
    Response {
        description: description.to_owned(),
        content: [(media.to_owned(), content)].into_iter().collect(),
        ..Response::default()
    }
}

fn header() -> ReferenceOr<Header> {
    ReferenceOr::Item(Header {
        description: None,
        style: HeaderStyle::Simple,
        required: true,
        deprecated: None,
        format: ParameterSchemaOrContent::Schema(object(json_schema!({"type": "string"}))),
        example: None,
        examples: Default::default(),
        extensions: Default::default(),
    })
}

fn object(json_schema: Schema) -> SchemaObject {
    SchemaObject { json_schema, external_docs: None, example: None }
}

fn done(description: &str, response: Response) -> DescribedAnswers {
    vec![(Some(Answered::Code(200)), Response { description: description.to_owned(), ..response })]
}

fn json_of<T: JsonSchema>(ctx: &mut GenContext) -> Response {
    let schema = ctx.schema.subschema_for::<T>();
    answer("Done", "application/json", Some(schema))
}

fn takes(ctx: &mut GenContext, operation: &mut Operation, media: &[&str], schema: &Schema) {
    set_body(ctx, operation, body_of(media, schema));
}

/// A body that has to be there.
fn body_of(media: &[&str], schema: &Schema) -> RequestBody {
    let content = media.iter().map(|media| {
        let content = MediaType { schema: Some(object(schema.clone())), ..MediaType::default() };
        ((*media).to_owned(), content)
    });
    RequestBody {
        description: None,
        content: content.collect(),
        required: true,
        extensions: Default::default(),
    }
}

fn takes_header(
    ctx: &mut GenContext,
    operation: &mut Operation,
    name: &str,
    description: &str,
    schema: Schema,
) {
    let parameter_data = ParameterData {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: false,
        deprecated: None,
        format: ParameterSchemaOrContent::Schema(object(schema)),
        example: None,
        examples: Default::default(),
        explode: None,
        extensions: Default::default(),
    };
    let parameter = Parameter::Header { parameter_data, style: HeaderStyle::Simple };
    add_parameters(ctx, operation, [parameter]);
}

/// What a body may be refused for before it is looked into, and for what is in it.
const OF_BODIES: &[u16] = &[400, 413, 415];

impl OperationInput for DocumentText {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        takes(ctx, operation, DOCUMENTS, &documents());
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, OF_BODIES)
    }
}

impl OperationInput for OptionalDocuments {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        set_body(ctx, operation, RequestBody { required: false, ..body_of(DOCUMENTS, &documents()) });
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, OF_BODIES)
    }
}

fn documents() -> Schema {
    json_schema!({"$ref": "#/components/schemas/Documents"})
}

impl<T: JsonSchema> OperationInput for JsonBody<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<T>();
        takes(ctx, operation, JSON, &schema);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, OF_BODIES)
    }
}

impl OperationInput for MergePatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        takes(ctx, operation, MERGE_PATCH, &json_schema!({"type": "object"}));
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, OF_BODIES)
    }
}

impl OperationInput for SignInRequest {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        JsonBody::<weft_api::rest::SignIn>::operation_input(ctx, operation);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400, 401, 403, 413, 415, 429])
    }
}

impl<T: JsonSchema> OperationInput for Parameters<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let schema = ctx.schema.subschema_for::<T>();
        let found = parameters_from_schema(ctx, schema, ParamLocation::Query);
        add_parameters(ctx, operation, found);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400])
    }
}

impl<T: JsonSchema> OperationInput for InPath<T> {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        axum::extract::Path::<T>::operation_input(ctx, operation);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400, 404])
    }
}

impl OperationInput for IfMatch {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let meaning = "Only where the object is that which an ETag names; `*` where there is one at all";
        let schema = json_schema!({"type": "string", "pattern": IfMatch::PATTERN});
        takes_header(ctx, operation, "If-Match", meaning, schema);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400, 412])
    }
}

impl OperationInput for LastEventId {
    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        let meaning = "The id of the last event that was heard: what came after it is told";
        let schema = json_schema!({"type": "integer", "minimum": 0});
        takes_header(ctx, operation, "Last-Event-ID", meaning, schema);
    }

    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400])
    }
}

impl OperationInput for CallerRights {}
impl OperationInput for BrowserRequest {}
impl OperationInput for CallSource {}

impl OperationInput for Author {
    fn inferred_early_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[400])
    }
}

impl OperationOutput for ApiError {
    type Inner = Problem;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[503])
    }
}

impl<const FIRST: u16, const SECOND: u16, const THIRD: u16, const FOURTH: u16, const FIFTH: u16>
    OperationOutput for Refuses<FIRST, SECOND, THIRD, FOURTH, FIFTH>
{
    type Inner = Problem;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        problems(ctx, &[FIRST, SECOND, THIRD, FOURTH, FIFTH, 503])
    }
}

impl OperationOutput for ChangeAnswer {
    type Inner = weft_api::rest::ApplyResult;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        let mut answers = done("Done", json_of::<Self::Inner>(ctx));
        answers.extend(problems(ctx, &[409, 413, 422]));
        answers
    }
}

impl OperationOutput for DrainAnswer {
    type Inner = weft_api::rest::DrainResult;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        done("Done", json_of::<Self::Inner>(ctx))
    }
}

impl<T: JsonSchema> OperationOutput for NoStore<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        let mut response = json_of::<T>(ctx);
        response.headers.insert("cache-control".to_owned(), header());
        done("Done", response)
    }
}

impl<T: JsonSchema> OperationOutput for Tagged<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        let mut response = json_of::<T>(ctx);
        response.headers.insert("etag".to_owned(), header());
        done("Done; its ETag is for If-Match", response)
    }
}

impl<T: JsonSchema> OperationOutput for EventStream<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        // The documents that events carry are described beside the call.
        ctx.schema.subschema_for::<T>();
        let schema = json_schema!({"type": "string"});
        done("Server-sent events, until the caller goes", answer("", "text/event-stream", Some(schema)))
    }
}

impl OperationOutput for Octets {
    type Inner = ();

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        done("Done", answer("", "application/octet-stream", None))
    }
}

impl OperationOutput for SignedOut {
    type Inner = ();

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> DescribedAnswers {
        let response = Response {
            description: "Signed out".to_owned(),
            headers: [("set-cookie".to_owned(), header())].into_iter().collect(),
            ..Response::default()
        };
        vec![(Some(Answered::Code(204)), response)]
    }
}
