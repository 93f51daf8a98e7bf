//! Reading single fields.

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::google::protobuf::Any;
use http::HeaderName;
use prost::{Message, Name};

use crate::network::IpPrefix;
use crate::rejection::Rejection;

/// How many parts of a million one of the numerator is.
///
/// # Errors
/// The denominator is none of Envoy's.
pub fn parts_of_a_million(given: &FractionalPercent, field: &str) -> Result<u32, Rejection> {
    match DenominatorType::try_from(given.denominator) {
        Ok(DenominatorType::Hundred) => Ok(10_000),
        Ok(DenominatorType::TenThousand) => Ok(100),
        Ok(DenominatorType::Million) => Ok(1),
        Err(_) => Err(Rejection::new(format!("{field}.denominator"), "is unknown")),
    }
}

/// Reads the message inside an `Any` whose type is known.
///
/// # Errors
/// The bytes are no such message.
pub fn unpack<M: Message + Name + Default>(any: &Any, field: &str) -> Result<M, Rejection> {
    M::decode(any.value.as_slice()).map_err(|error| Rejection::new(field, error.to_string()))
}

/// Whether an `Any` holds an `M`.
pub fn holds<M: Name>(any: &Any) -> bool {
    any.type_url.rsplit('/').next() == Some(M::full_name().as_str())
}

/// The message's type name without prefix, for words to people.
pub fn type_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// An extension that this proxy does not know.
pub fn unknown_extension(name: &str, any: Option<&Any>, field: &str) -> Rejection {
    let kind = any.map_or("without configuration", type_name);
    Rejection::new(field, format!("extension {name:?} ({kind}) is not known to this proxy"))
}

/// A range of addresses.
///
/// # Errors
/// The address or the length is none.
pub fn prefix(range: &CidrRange) -> Result<IpPrefix, Rejection> {
    let address = range.address_prefix.parse().map_err(|_| {
        Rejection::new("address_prefix", format!("{:?} is not an IP address", range.address_prefix))
    })?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    let length = u8::try_from(length).ok().filter(|length| *length <= 128);
    let length = length.ok_or_else(|| Rejection::new("prefix_len", "the prefix length is at most 128"))?;
    Ok(IpPrefix::new(address, length))
}

/// The name of a header, in `field`.
///
/// # Errors
/// It is none.
pub fn header_name(name: &str, field: &str) -> Result<HeaderName, Rejection> {
    HeaderName::try_from(name)
        .map_err(|_| Rejection::new(field, format!("{name:?} is not the name of a header")))
}
