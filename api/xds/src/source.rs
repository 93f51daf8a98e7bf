//! Where a resource says that its children come from, as a client without an aggregated stream needs it.
//!
//! Resources are compiled once, and name the aggregated stream (`ads {}`) as the source of their endpoints, routes and
//! secrets. A client that takes each type on a stream of its own may have no such stream: for it, each of these sources is
//! replaced by a call of the same control plane, as the bytes leave.
//!
//! The bytes are walked, not decoded: what is not on the way to a source stays as it is, to the byte, so that equal
//! resources leave as equal bytes (a decoded map would be encoded in any order) and one that names no source is not
//! copied.

use bytes::Bytes;
pub(crate) use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::{ApiConfigSource, ApiVersion, GrpcService, grpc_service};
use prost::Message as _;
use prost::encoding::{WireType, decode_varint, encode_key, encode_varint};
use weft_api::resource::{Resource, ResourceKind};

use crate::sanitize;

/// A name of a cluster is this long at most, in bytes: it stands in each source of each resource.
pub const MAX_CLUSTER_NAME: usize = 128;

/// What a client calls the control plane: a cluster of its bootstrap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlPlaneCluster(String);

/// It can not name a cluster.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} can not be the name of a cluster: it needs 1 to {MAX_CLUSTER_NAME} bytes, none of them control characters"
)]
pub struct InvalidClusterName(String);

impl ControlPlaneCluster {
    /// Reads a name.
    ///
    /// # Errors
    /// When no cluster can have it.
    pub fn try_new(name: &str) -> Result<Self, InvalidClusterName> {
        if name.is_empty() || name.len() > MAX_CLUSTER_NAME || name.chars().any(char::is_control) {
            return Err(InvalidClusterName(sanitize::label(name)));
        }
        Ok(Self(name.to_owned()))
    }
}

/// The source of children on streams of their own: an `ApiConfigSource` that calls the control plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GrpcSource {
    /// The field of a `ConfigSource`, key and length included.
    field: Vec<u8>,
}

impl GrpcSource {
    /// The control plane, in one of the two protocols.
    pub fn new(api_type: ApiType, ControlPlaneCluster(cluster): ControlPlaneCluster) -> Self {
        let target = grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: cluster,
            ..Default::default()
        });
        let source = ApiConfigSource {
            api_type: api_type as i32,
            transport_api_version: ApiVersion::V3 as i32,
            grpc_services: vec![GrpcService { target_specifier: Some(target), ..Default::default() }],
            set_node_on_first_message_only: true,
            ..Default::default()
        };
        let mut field = Vec::new();
        append(&mut field, API_CONFIG_SOURCE, &source.encode_to_vec());
        Self { field }
    }

    /// The body of a resource with this source in place of the aggregated stream.
    pub fn applied(&self, resource: &Resource) -> Bytes {
        let within = match resource.kind {
            ResourceKind::Cluster => &CLUSTER,
            ResourceKind::Listener => &LISTENER,
            ResourceKind::Route
            | ResourceKind::VirtualHost
            | ResourceKind::Endpoint
            | ResourceKind::Secret
            | ResourceKind::Runtime => {
                return resource.body.clone();
            }
        };
        self.walk(&resource.body, within).map_or_else(|| resource.body.clone(), Bytes::from)
    }

    /// The message with its sources replaced; none where there are none in it, or where it is no message.
    fn walk(&self, message: &[u8], within: &SourcePath) -> Option<Vec<u8>> {
        let mut rewritten = Vec::new();
        // So much of the message is in `rewritten`.
        let mut done = 0;
        let mut rest = message;
        while !rest.is_empty() {
            let start = message.len() - rest.len();
            let (tag, value) = next_field(&mut rest)?;
            let Some(value) = value else { continue };
            let replaced = match within {
                SourcePath::Source => (tag == ADS).then(|| self.field.clone()),
                SourcePath::Message(fields) => fields
                    .iter()
                    .find(|(inner, _)| *inner == tag)
                    .and_then(|(_, inner)| self.walk(value, inner).map(|message| field(tag, &message))),
                SourcePath::Any(types) if tag == ANY_VALUE => types
                    .iter()
                    .find(|(name, _)| has_type(message, name))
                    .and_then(|(_, inner)| self.walk(value, inner).map(|message| field(tag, &message))),
                SourcePath::Any(_) => None,
            };
            if let Some(replaced) = replaced {
                rewritten.extend_from_slice(&message[done..start]);
                rewritten.extend_from_slice(&replaced);
                done = message.len() - rest.len();
            }
        }
        if done == 0 {
            return None;
        }
        rewritten.extend_from_slice(&message[done..]);
        Some(rewritten)
    }
}

/// What is looked for in a message, by the numbers of the fields that lead there.
enum SourcePath {
    /// It is a `ConfigSource`.
    Source,
    Message(&'static [(u32, &'static SourcePath)]),
    /// It is an `Any`, of one of these types.
    Any(&'static [(&'static str, &'static SourcePath)]),
}

const ANY_TYPE: u32 = 1;
const ANY_VALUE: u32 = 2;
/// The field `ads` of a `ConfigSource`.
const ADS: u32 = 3;
const API_CONFIG_SOURCE: u32 = 2;

static CLUSTER: SourcePath = SourcePath::Message(&[
    // eds_cluster_config.eds_config
    (3, &SourcePath::Message(&[(1, &SourcePath::Source)])),
    (24, &TRANSPORT_SOCKET),
    // transport_socket_matches.transport_socket
    (43, &SourcePath::Message(&[(3, &TRANSPORT_SOCKET)])),
]);
static LISTENER: SourcePath = SourcePath::Message(&[(3, &FILTER_CHAIN), (25, &FILTER_CHAIN)]);
static FILTER_CHAIN: SourcePath = SourcePath::Message(&[
    // filters.typed_config
    (3, &SourcePath::Message(&[(4, &SourcePath::Any(&[(HTTP_CONNECTION_MANAGER, &CONNECTION_MANAGER)]))])),
    (6, &TRANSPORT_SOCKET),
]);
/// The config source in `HttpConnectionManager`: rds.config_source
static CONNECTION_MANAGER: SourcePath =
    SourcePath::Message(&[(3, &SourcePath::Message(&[(1, &SourcePath::Source)]))]);
/// The TLS contexts in a `TransportSocket`: typed_config
static TRANSPORT_SOCKET: SourcePath = SourcePath::Message(&[(
    3,
    &SourcePath::Any(&[(UPSTREAM_TLS, &TLS_CONTEXT), (DOWNSTREAM_TLS, &TLS_CONTEXT)]),
)]);
/// What both TLS contexts have in common: common_tls_context
static TLS_CONTEXT: SourcePath = SourcePath::Message(&[(1, &COMMON_TLS_CONTEXT)]);
static COMMON_TLS_CONTEXT: SourcePath = SourcePath::Message(&[
    // tls_certificate_sds_secret_configs
    (6, &SECRET),
    // validation_context_sds_secret_config
    (7, &SECRET),
    // combined_validation_context.validation_context_sds_secret_config
    (8, &SourcePath::Message(&[(2, &SECRET)])),
]);
/// The config source in a `SdsSecretConfig`: sds_config
static SECRET: SourcePath = SourcePath::Message(&[(2, &SourcePath::Source)]);

pub(crate) const HTTP_CONNECTION_MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// The next field's number, and its bytes where it has a length.
pub(crate) fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = decode_varint(rest).ok()?;
    let tag = u32::try_from(key >> 3).ok()?;
    let skipped = match WireType::try_from(key & 7).ok()? {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            return Some((tag, None));
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            *rest = after;
            return Some((tag, Some(value)));
        }
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    *rest = rest.get(skipped..)?;
    Some((tag, None))
}

/// Whether an `Any` says that it is of this type.
pub(crate) fn has_type(mut any: &[u8], name: &str) -> bool {
    while let Some((tag, value)) = next_field(&mut any) {
        if tag == ANY_TYPE {
            return value == Some(name.as_bytes());
        }
    }
    false
}

fn field(tag: u32, message: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(message.len() + 8);
    append(&mut field, tag, message);
    field
}

pub(crate) fn append(target: &mut Vec<u8>, tag: u32, message: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, target);
    encode_varint(message.len() as u64, target);
    target.extend_from_slice(message);
}

#[cfg(test)]
mod tests;
