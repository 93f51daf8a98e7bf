//! Listeners for clients that know no access log service: a weft-proxy of before it, which refuses what it does not know.
//!
//! The logs are taken out as the bytes leave. As in [`source`](crate::source) the bytes are walked and not decoded: what stays
//! is the same, to the byte.

use bytes::Bytes;
use weft_api::resource::{Resource, ResourceKind};

use crate::source::{HTTP_CONNECTION_MANAGER, append, has_type, next_field};

/// In a `Listener`.
const FILTER_CHAINS: u32 = 3;
const DEFAULT_FILTER_CHAIN: u32 = 25;
/// In a `FilterChain`.
const FILTERS: u32 = 3;
/// In a `Filter`, and in an `AccessLog`.
const TYPED_CONFIG: u32 = 4;
/// In an `HttpConnectionManager`.
const ACCESS_LOG: u32 = 13;
const ANY_VALUE: u32 = 2;

const SERVICE: &str = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig";

/// The body of a resource, without access logs of requests that go to an access log service.
pub(crate) fn without_services(resource: &Resource, body: Bytes) -> Bytes {
    match resource.kind {
        ResourceKind::Listener => {
            let edited = edit(&body, |tag, chain| match tag {
                FILTER_CHAINS | DEFAULT_FILTER_CHAIN => replaced(filter_chain(chain)),
                _ => Edit::Keep,
            });
            edited.map_or(body, Bytes::from)
        }
        ResourceKind::Cluster
        | ResourceKind::Route
        | ResourceKind::VirtualHost
        | ResourceKind::Endpoint
        | ResourceKind::Secret
        | ResourceKind::Runtime => body,
    }
}

fn filter_chain(chain: &[u8]) -> Option<Vec<u8>> {
    edit(chain, |tag, filter| match tag {
        FILTERS => replaced(edit(filter, |tag, any| match tag {
            TYPED_CONFIG if has_type(any, HTTP_CONNECTION_MANAGER) => replaced(edit(any, |tag, manager| {
                if tag == ANY_VALUE { replaced(connection_manager(manager)) } else { Edit::Keep }
            })),
            _ => Edit::Keep,
        })),
        _ => Edit::Keep,
    })
}

fn connection_manager(manager: &[u8]) -> Option<Vec<u8>> {
    edit(manager, |tag, log| if tag == ACCESS_LOG && is_service(log) { Edit::Drop } else { Edit::Keep })
}

fn is_service(mut log: &[u8]) -> bool {
    while let Some((tag, value)) = next_field(&mut log) {
        if tag == TYPED_CONFIG {
            return value.is_some_and(|any| has_type(any, SERVICE));
        }
    }
    false
}

/// What becomes of a field.
enum Edit {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

fn replaced(message: Option<Vec<u8>>) -> Edit {
    message.map_or(Edit::Keep, Edit::Replace)
}

/// The message with some of its fields changed; none where nothing is, or where it is no message.
fn edit(message: &[u8], change: impl Fn(u32, &[u8]) -> Edit) -> Option<Vec<u8>> {
    let (mut edited, mut done, mut rest) = (Vec::new(), 0, message);
    while !rest.is_empty() {
        let start = message.len() - rest.len();
        let (tag, value) = next_field(&mut rest)?;
        let Some(value) = value else { continue };
        let change = change(tag, value);
        if matches!(change, Edit::Keep) {
            continue;
        }
        edited.extend_from_slice(&message[done..start]);
        if let Edit::Replace(value) = change {
            append(&mut edited, tag, &value);
        }
        done = message.len() - rest.len();
    }
    if done == 0 {
        return None;
    }
    edited.extend_from_slice(&message[done..]);
    Some(edited)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
    use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
    use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::HttpGrpcAccessLogConfig;
    use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use envoy_types::pb::google::protobuf::Any;
    use prost::{Message, Name};

    use super::*;

    fn packed<M: Message + Name>(message: &M) -> Any {
        Any { type_url: M::type_url(), value: message.encode_to_vec() }
    }

    fn log(config: Any) -> AccessLog {
        let config_type = Some(access_log::ConfigType::TypedConfig(config));
        AccessLog { name: "log".to_owned(), config_type, ..Default::default() }
    }

    fn listener(logs: Vec<AccessLog>) -> Listener {
        let manager =
            HttpConnectionManager { stat_prefix: "in".to_owned(), access_log: logs, ..Default::default() };
        let config_type = Some(filter::ConfigType::TypedConfig(packed(&manager)));
        let chain = FilterChain {
            name: "mesh".to_owned(),
            filters: vec![Filter { name: "hcm".to_owned(), config_type }],
            ..Default::default()
        };
        Listener {
            name: "inbound".to_owned(),
            filter_chains: vec![chain.clone(), chain.clone()],
            default_filter_chain: Some(chain),
            stat_prefix: "inbound".to_owned(),
            ..Default::default()
        }
    }

    fn without(kind: ResourceKind, body: Vec<u8>) -> Bytes {
        let resource = Resource::new(kind, "r", body, vec![]);
        without_services(&resource, resource.body.clone())
    }

    #[test]
    fn logs_to_a_service_are_taken_out_and_everything_else_stays() {
        let (file, service) =
            (log(packed(&StdoutAccessLog::default())), log(packed(&HttpGrpcAccessLogConfig::default())));
        let both = listener(vec![service.clone(), file.clone(), service]).encode_to_vec();
        let one = listener(vec![file]).encode_to_vec();
        assert_eq!(without(ResourceKind::Listener, both.clone()), one);
        assert_eq!(without(ResourceKind::Listener, one.clone()), one);
        assert_eq!(without(ResourceKind::Cluster, both.clone()), both);
    }

    #[test]
    fn what_is_no_message_leaves_as_it_is() {
        assert_eq!(without(ResourceKind::Listener, vec![0x1a, 0xff, 0xff]), vec![0x1a, 0xff, 0xff]);
    }
}
