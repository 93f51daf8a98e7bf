//! Deterministic protobuf bytes from Envoy's generated types.
//!
//! Versions are hashes of bytes, so equal meaning must give equal bytes in every process. The generated types hold
//! protobuf maps in `HashMap`s, whose order is random: a map of one entry is safe, a larger one is encoded by
//! [`append_map`] (protobuf messages concatenate).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, SocketAddress,
    SubstitutionFormatString, address, config_source, data_source, socket_address,
    substitution_format_string,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};
use envoy_types::pb::google::protobuf::{self, Any, UInt32Value};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, Name};

/// Packs a message under its type URL.
pub(super) fn any<M: Message + Name>(message: &M) -> Any {
    packed::<M>(message.encode_to_vec())
}

/// Packs bytes that are known to be an encoded `M`.
pub(super) fn packed<M: Name>(value: Vec<u8>) -> Any {
    Any { type_url: M::type_url(), value }
}

/// Appends an already encoded message as field `tag` of the message that `target` holds.
pub(super) fn append_message(target: &mut Vec<u8>, tag: u32, message: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, target);
    encode_varint(message.len() as u64, target);
    target.extend_from_slice(message);
}

/// Appends a string as field `tag`.
pub(super) fn append_string(target: &mut Vec<u8>, tag: u32, text: &str) {
    append_message(target, tag, text.as_bytes());
}

/// Appends a map as field `tag`: an entry a key, in the order of the keys.
pub(super) fn append_map<K: AsRef<str> + Ord>(
    target: &mut Vec<u8>,
    tag: u32,
    entries: impl IntoIterator<Item = (K, Vec<u8>)>,
) {
    let sorted: BTreeMap<K, Vec<u8>> = entries.into_iter().collect();
    for (key, value) in sorted {
        let mut entry = Vec::new();
        append_string(&mut entry, 1, key.as_ref());
        append_message(&mut entry, 2, &value);
        append_message(target, tag, &entry);
    }
}

/// A duration as Envoy takes it.
pub(super) fn duration(value: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).expect("below 1e9"),
    }
}

/// The number as a message of its own, which tells 0 from unset.
pub(super) fn uint32(value: u32) -> UInt32Value {
    UInt32Value { value }
}

/// The address of a TCP socket.
pub(super) fn address(ip: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// The address of a TCP socket.
pub(super) fn socket(target: SocketAddr) -> Address {
    address(target.ip(), target.port())
}

/// The one configuration source: this same stream, without a time limit, so that what is warming never replaces
/// what works by nothing. Its bytes are part of the identity of a secret within Envoy (Envoy #47309): never change
/// them for a name that exists.
pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        initial_fetch_timeout: Some(duration(Duration::ZERO)),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// Matches exactly this text.
pub(super) fn exact(text: impl Into<String>) -> StringMatcher {
    matcher(string_matcher::MatchPattern::Exact(text.into()))
}

/// Matches text that begins so.
pub(super) fn prefix(text: impl Into<String>) -> StringMatcher {
    matcher(string_matcher::MatchPattern::Prefix(text.into()))
}

/// Matches when the whole text fits the expression.
pub(super) fn regex(expression: impl Into<String>) -> StringMatcher {
    matcher(string_matcher::MatchPattern::SafeRegex(expression_of(expression)))
}

/// A regular expression as Envoy takes it (RE2, the whole text).
pub(super) fn expression_of(expression: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: expression.into(), ..Default::default() }
}

fn matcher(pattern: string_matcher::MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// Text that stands in the configuration itself.
pub(super) fn text(text: String) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text)), ..Default::default() }
}

/// A format of an access log's line or of an answer's body.
pub(super) fn text_format(text: String) -> SubstitutionFormatString {
    SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(self::text(text))),
        ..Default::default()
    }
}

/// Text that Envoy formats: `%` begins a command, so a literal one is doubled.
pub(super) fn literal(text: &str) -> String {
    text.replace('%', "%%")
}
