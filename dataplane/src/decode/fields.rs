//! Reading single fields.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::{PortSpecifier, Protocol};
use envoy_types::pb::envoy::config::core::v3::{Address, DataSource};
use envoy_types::pb::google::protobuf::{BoolValue, Duration as PbDuration, UInt32Value};
use weft_routing::rejection::{Rejection, Within as _};

pub(crate) use weft_routing::decode::fields::{
    holds, parts_of_a_million, prefix, type_name, unknown_extension, unpack,
};

/// Where an endpoint is: an address, or a name that has to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointHost {
    Address(SocketAddr),
    /// To be resolved: name and port.
    Name(Arc<str>, u16),
}

/// A duration that may be absent; a negative one is refused.
pub(crate) fn duration(value: Option<&PbDuration>, field: &str) -> Result<Option<Duration>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let seconds = u64::try_from(value.seconds);
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Ok(seconds), Some(nanos)) => Ok(Some(Duration::new(seconds, nanos))),
        _ => Err(Rejection::new(field, "a duration must not be negative")),
    }
}

/// A timeout with a default, for which zero means off.
pub(crate) fn timeout(
    value: Option<&PbDuration>,
    default: Option<Duration>,
    field: &str,
) -> Result<Option<Duration>, Rejection> {
    Ok(match duration(value, field)? {
        None => default,
        Some(Duration::ZERO) => None,
        given => given,
    })
}

pub(crate) fn number(value: Option<&UInt32Value>) -> Option<u32> {
    value.map(|value| value.value)
}

pub(crate) fn flag(value: Option<&BoolValue>) -> bool {
    value.is_some_and(|value| value.value)
}

/// `host:port` where the host may still be a name.
pub(crate) fn host(address: Option<&Address>, field: &str) -> Result<EndpointHost, Rejection> {
    let address = address.and_then(|address| address.address.as_ref());
    let socket = match address {
        Some(Kind::SocketAddress(socket)) => socket,
        Some(Kind::Pipe(_)) => return Err(Rejection::unsupported(format!("{field}.pipe"))),
        Some(Kind::EnvoyInternalAddress(_)) => {
            return Err(Rejection::unsupported(format!("{field}.envoy_internal_address")));
        }
        None => return Err(Rejection::new(field, "an address is needed")),
    };
    if socket.protocol != i32::from(Protocol::Tcp) {
        return Err(Rejection::unsupported(format!("{field}.socket_address.protocol")));
    }
    if !socket.resolver_name.is_empty() {
        return Err(Rejection::unsupported(format!("{field}.socket_address.resolver_name")));
    }
    let port = match &socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(*port).ok(),
        Some(PortSpecifier::NamedPort(_)) => {
            return Err(Rejection::unsupported(format!("{field}.socket_address.named_port")));
        }
        None => None,
    };
    let wrong_port =
        || Rejection::new(format!("{field}.socket_address.port_value"), "not a port (0 to 65535)");
    let port = port.ok_or_else(wrong_port)?;
    if socket.address.is_empty() {
        return Err(Rejection::new(format!("{field}.socket_address.address"), "must not be empty"));
    }
    Ok(match socket.address.parse() {
        Ok(ip) => EndpointHost::Address(SocketAddr::new(ip, port)),
        Err(_) => EndpointHost::Name(socket.address.as_str().into(), port),
    })
}

/// An address that must be numeric.
pub(crate) fn socket_address(address: Option<&Address>, field: &str) -> Result<SocketAddr, Rejection> {
    match host(address, field)? {
        EndpointHost::Address(address) => Ok(address),
        EndpointHost::Name(name, _) => Err(Rejection::new(
            format!("{field}.socket_address.address"),
            format!("{name:?} is not an IP address"),
        )),
    }
}

/// The content of a data source: inline, of a file, or of an environment variable.
pub(crate) fn content(source: &DataSource) -> Result<Bytes, Rejection> {
    match &source.specifier {
        Some(Specifier::InlineString(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(Specifier::InlineBytes(bytes)) => Ok(Bytes::copy_from_slice(bytes)),
        Some(Specifier::Filename(path)) => std::fs::read(path)
            .map(Bytes::from)
            .map_err(|error| Rejection::new("filename", format!("cannot read {path}: {error}"))),
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(Bytes::from)
            .map_err(|_| Rejection::new("environment_variable", format!("{name} is not set or not text"))),
        None => Err(Rejection::new("specifier", "is missing")),
    }
}

/// The content of a data source; `None` when it is absent or empty.
pub(crate) fn data(source: Option<&DataSource>, field: &str) -> Result<Option<Bytes>, Rejection> {
    let Some(source) = source.filter(|source| source.specifier.is_some()) else { return Ok(None) };
    Ok(Some(content(source).within(|| field)?).filter(|bytes| !bytes.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: i64, nanos: i32) -> PbDuration {
        PbDuration { seconds, nanos }
    }

    #[test]
    fn zero_turns_a_timeout_off_and_absence_takes_the_default() {
        let default = Some(Duration::from_secs(5));
        assert_eq!(timeout(None, default, "t").unwrap(), default);
        assert_eq!(timeout(Some(&seconds(0, 0)), default, "t").unwrap(), None);
        let given = timeout(Some(&seconds(1, 500_000_000)), default, "t").unwrap();
        assert_eq!(given, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn negative_durations_are_refused_by_field() {
        assert_eq!(duration(Some(&seconds(-1, 0)), "connect_timeout").unwrap_err().field, "connect_timeout");
        assert!(duration(Some(&seconds(0, -1)), "x").is_err());
    }
}
