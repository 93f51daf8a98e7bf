//! The discovery messages as they are on the wire, reduced to the fields that Weft uses.
//!
//! Own definitions, because the generated ones hold bodies as `Vec<u8>`: with [`Bytes`] a body that was
//! compiled once is shared by every response that carries it, and a body received is a slice of the message.
//! Unknown fields are skipped, so a newer peer is understood.

use std::collections::HashMap;

use bytes::Bytes;
pub use envoy_types::pb::envoy::config::core::v3::Node;
pub use envoy_types::pb::google::rpc::Status;
use weft_api::resource::{Resource, ResourceKind};

/// An encoded message and what it is, `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// The type of the message in `value`, as `type.googleapis.com/PACKAGE.MESSAGE`.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The encoded message, shared with the buffer that it was received in.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `envoy.service.discovery.v3.ResourceLocator`: a name; its parameters are ignored (F1: names are opaque).
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceLocator {
    /// The name asked for.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A request or ACK of the state of the world, `envoy.service.discovery.v3.DiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryRequest {
    /// Version of the last response applied.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Who asks; counts on the first message of a stream only.
    #[prost(message, optional, tag = "2")]
    pub node: Option<Node>,
    /// The whole subscription: what is not named here any more is unsubscribed.
    #[prost(string, repeated, tag = "3")]
    pub resource_names: Vec<String>,
    /// More of the subscription, in the newer form.
    #[prost(message, repeated, tag = "7")]
    pub resource_locators: Vec<ResourceLocator>,
    /// The type asked for; implied on single-type services.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// The response that this acknowledges or refuses.
    #[prost(string, tag = "5")]
    pub response_nonce: String,
    /// Its presence makes this a NACK.
    #[prost(message, optional, tag = "6")]
    pub error_detail: Option<Status>,
}

/// A response of the state of the world, `envoy.service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryResponse {
    /// Hash of the contents.
    #[prost(string, tag = "1")]
    pub version_info: String,
    /// Listeners and clusters: all that were asked for. Other types: those that changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Any>,
    /// The type of all `resources`.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// To be repeated by the ACK or NACK.
    #[prost(string, tag = "5")]
    pub nonce: String,
}

/// A change of a subscription, or an ACK, `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryRequest {
    /// Who asks; counts on the first message of a stream only.
    #[prost(message, optional, tag = "1")]
    pub node: Option<Node>,
    /// The type asked for; implied on single-type services.
    #[prost(string, tag = "2")]
    pub type_url: String,
    /// Names to add to the subscription.
    #[prost(string, repeated, tag = "3")]
    pub resource_names_subscribe: Vec<String>,
    /// Names to take from the subscription.
    #[prost(string, repeated, tag = "4")]
    pub resource_names_unsubscribe: Vec<String>,
    /// Names to add, in the newer form.
    #[prost(message, repeated, tag = "8")]
    pub resource_locators_subscribe: Vec<ResourceLocator>,
    /// Names to take, in the newer form.
    #[prost(message, repeated, tag = "9")]
    pub resource_locators_unsubscribe: Vec<ResourceLocator>,
    /// What the client holds since an earlier stream; first message of a type only.
    #[prost(map = "string, string", tag = "5")]
    pub initial_resource_versions: HashMap<String, String>,
    /// The response that this acknowledges or refuses.
    #[prost(string, tag = "6")]
    pub response_nonce: String,
    /// Its presence makes this a NACK.
    #[prost(message, optional, tag = "7")]
    pub error_detail: Option<Status>,
}

/// One resource of a delta response, `envoy.service.discovery.v3.Resource` without TTL.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaResource {
    /// Its name within the type.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names of it (virtual hosts on demand).
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
    /// Its content hash, which a client that comes back names again.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its body; absent in a heartbeat.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
}

/// What changed since the last one, `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeltaDiscoveryResponse {
    /// Revision of the view, for people who debug.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Added and changed resources.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<DeltaResource>,
    /// The type of all `resources`.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Names that do not exist (any more).
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// To be repeated by the ACK or NACK.
    #[prost(string, tag = "5")]
    pub nonce: String,
}

/// Wraps a compiled body; the body is shared, not copied.
#[must_use]
pub fn any(resource: &Resource) -> Any {
    Any { type_url: resource.kind.type_url().to_owned(), value: resource.body.clone() }
}

/// Bytes that a resource takes in a response at most: the body, its name, its type, its version and the framing.
#[must_use]
pub fn cost(resource: &Resource) -> usize {
    resource.body.len() + resource.name.len() + resource.kind.type_url().len() + 48
}

/// A type URL of a request, read for a stream.
#[must_use]
pub fn kind_of(type_url: &str) -> Option<ResourceKind> {
    ResourceKind::from_type_url(type_url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3 as generated;
    use prost::Message as _;

    #[test]
    fn own_messages_read_as_the_generated_ones() {
        let response = DeltaDiscoveryResponse {
            system_version_info: "7".into(),
            resources: vec![DeltaResource {
                name: "a".into(),
                aliases: vec!["b".into()],
                version: "v".into(),
                resource: Some(Any { type_url: "t".into(), value: Bytes::from_static(b"body") }),
            }],
            type_url: "t".into(),
            removed_resources: vec!["gone".into()],
            nonce: "n".into(),
        };
        let read = generated::DeltaDiscoveryResponse::decode(&response.encode_to_vec()[..]).unwrap();
        assert_eq!(read.resources[0].name, "a");
        assert_eq!(read.resources[0].version, "v");
        assert_eq!(read.resources[0].resource.as_ref().unwrap().value, b"body");
        assert_eq!(read.removed_resources, ["gone"]);
        assert_eq!((&*read.nonce, &*read.type_url, &*read.system_version_info), ("n", "t", "7"));
        assert_eq!(DeltaDiscoveryResponse::decode(&read.encode_to_vec()[..]).unwrap(), response);

        let request = generated::DeltaDiscoveryRequest {
            node: Some(Node { id: "ns/w".into(), ..Default::default() }),
            type_url: "t".into(),
            resource_names_subscribe: vec!["s".into()],
            resource_names_unsubscribe: vec!["u".into()],
            initial_resource_versions: [("a".into(), "v".into())].into(),
            response_nonce: "n".into(),
            error_detail: Some(Status { code: 3, message: "no".into(), details: vec![] }),
            ..Default::default()
        };
        let read = DeltaDiscoveryRequest::decode(&request.encode_to_vec()[..]).unwrap();
        assert_eq!(read.node.as_ref().unwrap().id, "ns/w");
        assert_eq!(read.resource_names_unsubscribe, ["u"]);
        assert_eq!(read.initial_resource_versions["a"], "v");
        assert_eq!(read.error_detail.as_ref().unwrap().message, "no");

        let request = generated::DiscoveryRequest {
            version_info: "v".into(),
            resource_names: vec!["a".into()],
            type_url: "t".into(),
            response_nonce: "n".into(),
            ..Default::default()
        };
        let read = DiscoveryRequest::decode(&request.encode_to_vec()[..]).unwrap();
        assert_eq!((&*read.version_info, &*read.type_url, &*read.response_nonce), ("v", "t", "n"));

        let response = DiscoveryResponse {
            version_info: "v".into(),
            resources: vec![Any { type_url: "t".into(), value: Bytes::from_static(b"body") }],
            type_url: "t".into(),
            nonce: "n".into(),
        };
        let read = generated::DiscoveryResponse::decode(&response.encode_to_vec()[..]).unwrap();
        assert_eq!(read.resources[0].value, b"body");
        assert_eq!((&*read.version_info, &*read.type_url, &*read.nonce), ("v", "t", "n"));
    }
}
