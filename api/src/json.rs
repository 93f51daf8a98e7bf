//! Envoy's messages as JSON (the protobuf JSON mapping), for bootstrap files and dumps.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use flate2::read::GzDecoder;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions, Value as Field};
use serde_json::Value;

// Locked for as long as it takes to find or decode the descriptors; nothing else happens under it.
static POOL: Mutex<Weak<DescriptorPool>> = Mutex::new(Weak::new());

/// The descriptors of Envoy's messages. They take tens of megabytes, so they stay in memory only while somebody
/// uses or holds them: a proxy reads one file at its start and must stay small. Hold them around many calls.
#[derive(Clone, Debug)]
pub struct Descriptors(Arc<DescriptorPool>);

/// Loads the descriptors, or shares those that are held.
#[must_use]
pub fn descriptors() -> Descriptors {
    let mut known = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = known.upgrade() {
        return Descriptors(pool);
    }
    let packed: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin.gz"));
    let mut bytes = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut bytes).expect("the build script packed them");
    let pool = DescriptorPool::decode(&*bytes).expect("the descriptors of envoy-types are valid");
    let pool = Arc::new(pool);
    *known = Arc::downgrade(&pool);
    Descriptors(pool)
}

/// Why a message could not be read or shown.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The message type is not among Envoy's.
    #[error("{0} is not a message type of Envoy's API that this version knows")]
    UnknownType(String),
    /// The JSON does not fit the message: unknown field, wrong type, unknown extension.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The bytes are not such a message.
    #[error("the bytes are not such a message: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// Shows an encoded message. `type_url` may carry a prefix up to its last slash.
///
/// # Errors
/// When the type is unknown or the bytes do not fit it.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    show(&dynamic(type_url, bytes)?)
}

/// Shows an encoded message with private keys and other sensitive bytes replaced by `[redacted]`.
///
/// # Errors
/// When the type is unknown or the bytes do not fit it.
pub fn to_json_redacted(type_url: &str, bytes: &[u8]) -> Result<Value, JsonError> {
    let mut value = to_json(type_url, bytes)?;
    redact(&mut value);
    Ok(value)
}

/// Replaces private keys and other sensitive values of a document by `[redacted]`.
#[must_use]
pub fn redacted(mut document: Value) -> Value {
    redact(&mut document);
    document
}

/// Shows a typed message.
///
/// # Errors
/// When the type is not among Envoy's.
pub fn message_to_json<M: Message + Name>(message: &M) -> Result<Value, JsonError> {
    to_json(&M::full_name(), &message.encode_to_vec())
}

/// Reads a typed message; unknown fields are errors that name the field.
///
/// # Errors
/// When the JSON does not fit the message.
pub fn from_json<M: Message + Name + Default>(value: &Value) -> Result<M, JsonError> {
    let descriptors = descriptors();
    let descriptor = descriptors
        .0
        .get_message_by_name(&M::full_name())
        .ok_or_else(|| JsonError::UnknownType(M::full_name()))?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor, value, &options)?;
    Ok(M::decode(message.encode_to_vec().as_slice())?)
}

fn dynamic(type_url: &str, bytes: &[u8]) -> Result<DynamicMessage, JsonError> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptors = descriptors();
    let descriptor =
        descriptors.0.get_message_by_name(name).ok_or_else(|| JsonError::UnknownType(name.to_owned()))?;
    Ok(DynamicMessage::decode(descriptor, bytes)?)
}

fn show(message: &DynamicMessage) -> Result<Value, JsonError> {
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    match message.serialize_with_options(serde_json::value::Serializer, &options) {
        Ok(value) => Ok(value),
        // An `Any` of a type that we do not know cannot be shown as JSON; show the rest.
        Err(_) => Ok(shallow(message)),
    }
}

/// Shows what can be shown when a nested `Any` is of an unknown type.
fn shallow(message: &DynamicMessage) -> Value {
    let fields = message.fields().map(|(field, value)| {
        let shown = match value {
            Field::Message(inner) => show(inner).unwrap_or(Value::Null),
            Field::List(items) => items
                .iter()
                .map(|item| match item {
                    Field::Message(inner) => show(inner).unwrap_or(Value::Null),
                    other => Value::String(other.to_string()),
                })
                .collect(),
            other => Value::String(other.to_string()),
        };
        (field.name().to_owned(), shown)
    });
    Value::Object(fields.collect())
}

/// Fields that Envoy's API marks sensitive, where Weft can meet them.
const SENSITIVE: [&str; 5] =
    ["private_key", "password", "inline_secret", "session_ticket_keys", "generic_secret"];

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                if SENSITIVE.contains(&name.as_str()) {
                    *inner = Value::String("[redacted]".to_owned());
                } else {
                    redact(inner);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use serde_json::json;

    #[test]
    fn cluster_reads_back_what_it_shows() {
        let shown = json!({
            "name": "a", "connect_timeout": "5s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            }
        });
        let cluster: Cluster = from_json(&shown).unwrap();
        assert_eq!(cluster.name, "a");
        assert_eq!(message_to_json(&cluster).unwrap(), shown);
    }

    #[test]
    fn unknown_field_is_named() {
        let error = from_json::<Cluster>(&json!({"nmae": "a"})).unwrap_err().to_string();
        assert!(error.contains("nmae"), "{error}");
    }

    #[test]
    fn private_keys_are_redacted() {
        use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
        use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
            Secret, TlsCertificate, secret,
        };
        let key =
            DataSource { specifier: Some(Specifier::InlineString("SECRET".into())), ..Default::default() };
        let certificate = TlsCertificate { private_key: Some(key), ..Default::default() };
        let secret =
            Secret { name: "identity".into(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
        let shown = to_json_redacted(&Secret::full_name(), &secret.encode_to_vec()).unwrap().to_string();
        assert!(!shown.contains("SECRET") && shown.contains("[redacted]"), "{shown}");
    }
}
