//! Documents: what was typed, where every field of it stands, and the policy that it means.
//!
//! ```text
//!   text --tree--> value + positions --structure--> shape is right --kinds--> Policy
//! ```
//!
//! One parser reads YAML and JSON, so that positions are exact in both. Anchors, aliases and tags are refused: no
//! document of ours needs them, and they are how a small text becomes a large one.

mod foreign;
mod scalar;
mod source;
mod tree;

use std::sync::Arc;

use serde_json::{Map, Value};
use weft_api::rest::Violation;

use crate::finding::{Code, Finding, Path, steps};
use crate::kinds::kind::{API_VERSION, Kind};
use crate::metadata::Metadata;
use crate::policy::Policy;
use crate::schema::Schemas;
use crate::structure;
use crate::suggest::suggest;

pub(crate) use source::unplaced;
pub use source::{DocumentSource, Position};
pub use tree::{MAX_DEPTH, MAX_DOCUMENT_BYTES};

use tree::{TextError, Tree};

/// One document, and what it means.
#[derive(Debug, Clone)]
pub struct Document {
    /// The policy that it says, valid by itself.
    pub policy: Policy,
    /// Where it was read.
    pub source: DocumentSource,
}

impl Document {
    /// The kind that the document gives.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.policy.kind()
    }

    /// Name, namespace and labels.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.policy.metadata()
    }
}

impl From<Document> for Policy {
    fn from(document: Document) -> Self {
        document.policy
    }
}

/// Reads all documents of a text, YAML (any number, separated by `---`) or JSON (one, a list of them, or an object
/// of kind `List`). `source` names the text in violations: a file, or `request`.
///
/// # Errors
/// Every violation of every document; one of somebody else's kind is a violation.
pub fn parse(source: &str, text: &str) -> Result<Vec<Document>, Vec<Violation>> {
    read(source, text, ForeignDocuments::Refused).map(|read| read.documents)
}

/// As [`parse`], of a text that may hold documents for others too: what Kubernetes and its neighbours take is left out.
///
/// # Errors
/// Every violation of every document of ours.
pub fn parse_among_others(source: &str, text: &str) -> Result<DocumentsRead, Vec<Violation>> {
    read(source, text, ForeignDocuments::LeftOut)
}

/// The documents of a text that is for others too.
#[derive(Debug)]
pub struct DocumentsRead {
    /// Those of ours, in their order.
    pub documents: Vec<Document>,
    /// A warning for each of the others.
    pub left_out: Vec<Violation>,
}

/// A document as it is written, of whatever kind and of whomsoever.
#[derive(Debug, Clone)]
pub struct RawDocument {
    /// The whole of it, as JSON has it.
    pub value: Value,
    /// Where each part of it stands.
    pub source: DocumentSource,
}

/// Reads the documents of a text and asks nothing of them but that they can be read. Lists are taken apart as in [`parse`].
///
/// # Errors
/// What keeps the text from being read, and what is refused in any document: anchors, aliases, tags, keys that stand twice.
pub fn parse_any(source: &str, text: &str) -> Result<Vec<RawDocument>, Vec<Violation>> {
    let name: Arc<str> = source.into();
    let (raw, flaws) = tree::read(text);
    if !flaws.is_empty() {
        return Err(flaws.iter().map(|flaw| flaw.violation(&name)).collect());
    }
    let spread = raw.into_iter().flat_map(|(value, tree)| spread(value, tree)).enumerate();
    Ok(spread
        .map(|(index, (value, tree))| RawDocument {
            value,
            source: DocumentSource::new(Arc::clone(&name), index, tree),
        })
        .collect())
}

/// What becomes of documents of somebody else's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForeignDocuments {
    Refused,
    LeftOut,
}

fn read(source: &str, text: &str, others: ForeignDocuments) -> Result<DocumentsRead, Vec<Violation>> {
    let name: Arc<str> = source.into();
    let (raw, flaws) = tree::read(text);
    let mut violations: Vec<Violation> = Vec::new();
    let mut documents = Vec::new();
    let mut left_out = Vec::new();
    let mut schemas = Schemas::default();
    for (index, (value, tree)) in raw.into_iter().flat_map(|(value, tree)| spread(value, tree)).enumerate() {
        let source = DocumentSource::new(Arc::clone(&name), index, tree);
        if others == ForeignDocuments::LeftOut
            && let Some(finding) = value.as_object().and_then(foreign::left_out)
        {
            left_out.push(source.violation(&finding, &value.as_object().map(name_of).unwrap_or_default()));
            continue;
        }
        match read_one(value, &mut schemas) {
            Ok(policy) => documents.push(Document { policy, source }),
            Err(RefusedDocument { object, found }) => {
                let shown = found.iter().take(structure::FINDINGS_MAX);
                violations.extend(shown.map(|finding| source.violation(finding, &object)));
            }
        }
    }
    violations.extend(flaws.iter().map(|flaw| flaw.violation(&name)));
    violations.sort_by_key(|one| (one.line, one.column));
    if violations.is_empty() { Ok(DocumentsRead { documents, left_out }) } else { Err(violations) }
}

/// The documents of a list, or the one document that is no list.
fn spread(value: Value, tree: Tree) -> Vec<(Value, Tree)> {
    match value {
        Value::Array(items) => items.into_iter().zip(tree.into_items()).collect(),
        Value::Object(mut fields) if fields.get("kind").and_then(Value::as_str) == Some("List") => {
            match fields.remove("items") {
                Some(Value::Array(items)) => {
                    let trees = tree.into_field("items").map(Tree::into_items).unwrap_or_default();
                    items.into_iter().zip(trees).collect()
                }
                _ => vec![(Value::Object(fields), tree)],
            }
        }
        other => vec![(other, tree)],
    }
}

struct RefusedDocument {
    object: String,
    found: Vec<Finding>,
}

fn read_one(value: Value, schemas: &mut Schemas) -> Result<Policy, RefusedDocument> {
    let Value::Object(mut fields) = value else {
        let message = format!("a document is a mapping, not {}", structure::describe(&value));
        let hint = "begin with apiVersion, kind, metadata and spec";
        return Err(RefusedDocument {
            object: String::new(),
            found: vec![Finding::new(Path::default(), Code::WrongType, message).hint(hint)],
        });
    };
    let object = name_of(&fields);
    let refuse = |found: Vec<Finding>| RefusedDocument { object: object.clone(), found };
    let (kind, api_version) = read_kind(&fields).map_err(|one| refuse(vec![one]))?;
    if api_version != API_VERSION {
        default_parents_to_gateway(&mut fields);
    }
    let value = Value::Object(fields);
    let found = structure::check(&value, schemas.of(kind));
    if !found.is_empty() {
        return Err(refuse(found));
    }
    let Value::Object(mut fields) = value else { unreachable!("made of an object above") };
    let metadata = fields.remove("metadata").unwrap_or_default();
    let metadata: Metadata = serde_json::from_value(metadata).map_err(|error| {
        refuse(vec![Finding::new(steps!["metadata"], Code::InvalidValue, error.to_string())])
    })?;
    Policy::build(kind, api_version, metadata, fields.remove("spec").unwrap_or_default()).map_err(refuse)
}

/// `KIND NAMESPACE/NAME`, as far as it is written.
fn name_of(fields: &Map<String, Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(weft_api::text::shorten);
    let metadata = fields.get("metadata");
    let of_metadata = |field: &str| text(metadata.and_then(|metadata| metadata.get(field)));
    match (text(fields.get("kind")), of_metadata("name")) {
        (Some(kind), Some(name)) => {
            format!("{kind} {}/{name}", of_metadata("namespace").as_deref().unwrap_or("default"))
        }
        (Some(kind), None) => kind,
        (None, _) => String::new(),
    }
}

/// Kinds that are documented and come later.
const PLANNED: [&str; 4] = ["Gateway", "RateLimitPolicy", "FaultPolicy", "ProxyPatch"];

fn read_kind(fields: &Map<String, Value>) -> Result<(Kind, &'static str), Finding> {
    let word = |field: &'static str| match fields.get(field) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => {
            let message = format!("must be a string, not {}", structure::describe(other));
            Err(Finding::new(steps![field], Code::WrongType, message))
        }
        None => Err(Finding::new(steps![field], Code::Required, format!("{field} is missing"))),
    };
    let written = word("kind")?;
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == written) else {
        if PLANNED.contains(&written) {
            let message = format!("kind {written} is not supported yet");
            return Err(Finding::new(steps!["kind"], Code::NotSupported, message));
        }
        let message = format!("unknown kind {:?}", weft_api::text::shorten(written));
        let names = Kind::ALL.map(Kind::name);
        let hint = match Kind::named(written).map(Kind::name).or_else(|| suggest(written, names)) {
            Some(name) => format!("did you mean {name}?"),
            None => format!("kinds are {}", names.join(", ")),
        };
        return Err(Finding::new(steps!["kind"], Code::UnknownKind, message).hint(hint));
    };
    let written = word("apiVersion")?;
    let versions = kind.api_versions();
    let version = versions.iter().find(|version| **version == written).ok_or_else(|| {
        let message = format!("unknown apiVersion {:?} of a {kind}", weft_api::text::shorten(written));
        Finding::new(steps!["apiVersion"], Code::UnknownKind, message)
            .hint(format!("use {}", versions.join(" or ")))
    })?;
    Ok((kind, version))
}

/// A parent without a kind is a Gateway where Gateway API's version is written, a Service where ours is.
fn default_parents_to_gateway(fields: &mut Map<String, Value>) {
    let parents =
        fields.get_mut("spec").and_then(|spec| spec.get_mut("parentRefs")).and_then(Value::as_array_mut);
    for parent in parents.into_iter().flatten().filter_map(Value::as_object_mut) {
        parent.entry("kind").or_insert_with(|| "Gateway".into());
    }
}

impl TextError {
    fn violation(&self, source: &str) -> Violation {
        Violation {
            code: self.code.as_str().to_owned(),
            path: self.path.to_string(),
            message: self.message.clone(),
            hint: self.hint.clone(),
            source: source.to_owned(),
            document: self.document,
            line: self.at.line,
            column: self.at.column,
            ..Violation::default()
        }
    }
}
