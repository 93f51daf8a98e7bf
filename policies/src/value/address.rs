//! Where and by which names servers outside are known.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use weft_api::SpiffeId;

use super::{Hostname, InvalidValue, PeerAddress, text_value};

/// An address, or a name that is to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostAddress {
    /// An address of one machine.
    Ip(PeerAddress),
    /// A DNS name, with one address or several.
    Name(Hostname),
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl FromStr for HostAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<IpAddr>() {
            Ok(address) => PeerAddress::try_new(address).map(Self::Ip),
            Err(_) => text.parse().map(Self::Name).map_err(|_| {
                InvalidValue::new(
                    "not an address: write an IP address or a DNS name, with no scheme and no port",
                )
            }),
        }
    }
}

text_value!(HostAddress, "HostAddress", "host-address", "an IP address, or a DNS name");

/// A name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectAltName {
    /// A DNS name.
    Dns(Hostname),
    /// An IP address.
    Ip(IpAddr),
    /// A URI, such as a SPIFFE id.
    Uri(String),
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Ip(address) => address.fmt(f),
            Self::Uri(uri) => uri.fmt(f),
        }
    }
}

impl FromStr for SubjectAltName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = |text: &str| InvalidValue::new(format!("not a name in a certificate: {text}"));
        if let Some((scheme, rest)) = text.split_once("://") {
            let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            let is_plain =
                !rest.is_empty() && text.len() <= 2048 && text.bytes().all(|b| b.is_ascii_graphic());
            if !is_scheme || !is_plain {
                return Err(wrong("a URI has a scheme, no spaces, and 2048 characters at most"));
            }
            if scheme == "spiffe" {
                text.parse::<SpiffeId>().map_err(|error| InvalidValue::new(error.to_string()))?;
            }
            return Ok(Self::Uri(text.to_owned()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        match text.parse::<Hostname>() {
            Ok(name) if !name.is_wildcard() => Ok(Self::Dns(name)),
            Ok(_) => Err(wrong("write a name that a certificate's wildcard covers, not the wildcard")),
            Err(_) => Err(wrong("write a DNS name, an IP address or a URI")),
        }
    }
}

text_value!(SubjectAltName, "SubjectAltName", "subject-alt-name", "a DNS name, an IP address or a URI");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_of_one_machine_or_a_name() {
        let kind = |text: &str| text.parse::<HostAddress>().map(|one| matches!(one, HostAddress::Ip(_)));
        assert_eq!(kind("10.0.0.1"), Ok(true));
        assert_eq!(kind("fd00::1"), Ok(true));
        assert_eq!(kind("Api.Example.com"), Ok(false));
        for text in ["0.0.0.0", "224.0.0.1", "::", "https://a", "a:80", ""] {
            assert!(kind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_in_a_certificate_is_told_by_its_form() {
        let read = |text: &str| text.parse::<SubjectAltName>();
        assert!(matches!(read("api.example.com"), Ok(SubjectAltName::Dns(_))));
        assert!(matches!(read("192.0.2.7"), Ok(SubjectAltName::Ip(_))));
        assert!(matches!(read("spiffe://other.org/ns/a/svc/b"), Ok(SubjectAltName::Uri(_))));
        for text in ["*.example.com", "://a", "a b://c", "spiffe://", ""] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
