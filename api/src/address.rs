//! Where a control plane is, as flags, tokens and memberships say it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

/// More replicas than this are not listed: a token is meant to be copied by hand.
const MAX_REPLICAS: usize = 16;
const MAX_NAME: usize = 253;

/// An address that cannot be read, and how to write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {form}: {reason}")]
pub struct InvalidAddress {
    text: String,
    form: &'static str,
    reason: &'static str,
}

impl InvalidAddress {
    fn new(text: &str, reason: &'static str) -> Self {
        Self { text: shorten(text), form: "HOST:PORT", reason }
    }
}

const HOST_RULE: &str = "the host is a DNS name, an IPv4 address, or an IPv6 address in brackets";

/// A DNS name or an address. IPv6 is written in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A DNS name, in lower case.
    Name(String),
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
}

impl Host {
    /// Whether it stands for all addresses of a machine: fine to bind, but nobody can connect to it.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        matches!(self, Self::Ip(ip) if ip.is_unspecified())
    }

    /// Whether it is this machine only.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Ip(ip) => ip.is_loopback(),
        }
    }

    /// Without brackets, as resolvers and certificates take it.
    #[must_use]
    pub fn bare(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl FromStr for Host {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = || InvalidAddress::new(text, HOST_RULE);
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or_else(wrong)?;
            return Ok(Self::Ip(IpAddr::V6(inside.parse::<Ipv6Addr>().map_err(|_| wrong())?)));
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        if is_dns_name(text) { Ok(Self::Name(text.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}

/// Letters, digits, `-` and `_` in labels; a last label of digits only would be a mistyped IPv4 address.
fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_NAME && text.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where something can be connected to, `HOST:PORT` in text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    /// The name to look up, or the address itself.
    pub host: Host,
    /// The TCP port; never 0.
    pub port: u16,
}

/// Reads `HOST` or `HOST:PORT`.
///
/// # Errors
/// When the host is neither a name nor an address, or the port is not from 1 to 65535.
pub fn host_and_port(text: &str) -> Result<(Host, Option<u16>), InvalidAddress> {
    match split(text) {
        (_, Some(_)) => text.parse().map(|HostPort { host, port }| (host, Some(port))),
        (host, None) => Ok((host.parse()?, None)),
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        // A colon within brackets is the address's own.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let wrong = |reason| InvalidAddress::new(text, reason);
        let (host, Some(port)) = split(text) else { return Err(wrong("it has no port")) };
        let host = host.parse().map_err(|_: InvalidAddress| wrong(HOST_RULE))?;
        match port.parse() {
            Ok(0) | Err(_) => Err(wrong("the port is a number from 1 to 65535")),
            Ok(port) => Ok(Self { host, port }),
        }
    }
}

impl TryFrom<String> for HostPort {
    type Error = InvalidAddress;
    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

/// Where the replicas of one control plane are: at least one, none twice. Any of them will do.
///
/// One is written as a text and several as a list, so that what was written before there could be several still reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AddressForm", into = "AddressForm")]
pub struct ControlPlanes(Vec<HostPort>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum AddressForm {
    One(HostPort),
    Several(Vec<HostPort>),
}

impl ControlPlanes {
    /// A list of replicas, in the order given.
    ///
    /// # Errors
    /// When it is empty or longer than 16.
    pub fn try_new(replicas: Vec<HostPort>) -> Result<Self, InvalidAddress> {
        let mut unique: Vec<HostPort> = Vec::with_capacity(replicas.len());
        for replica in replicas {
            if !unique.contains(&replica) {
                unique.push(replica);
            }
        }
        let wrong = |reason| InvalidAddress { text: String::new(), form: "a list of HOST:PORT", reason };
        match unique.len() {
            0 => Err(wrong("it is empty")),
            1..=MAX_REPLICAS => Ok(Self(unique)),
            _ => Err(wrong(
                "the most is 16; put a load balancer or a DNS name with several addresses before them",
            )),
        }
    }

    /// Each replica, in the order given.
    pub fn iter(&self) -> std::slice::Iter<'_, HostPort> {
        self.0.iter()
    }
}

impl From<HostPort> for ControlPlanes {
    fn from(replica: HostPort) -> Self {
        Self(vec![replica])
    }
}

impl<'a> IntoIterator for &'a ControlPlanes {
    type Item = &'a HostPort;
    type IntoIter = std::slice::Iter<'a, HostPort>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// With commas between them, as flags take them.
impl fmt::Display for ControlPlanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, replica) in self.iter().enumerate() {
            write!(f, "{}{replica}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for ControlPlanes {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        Self::try_new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<AddressForm> for ControlPlanes {
    type Error = InvalidAddress;
    fn try_from(written: AddressForm) -> Result<Self, InvalidAddress> {
        match written {
            AddressForm::One(replica) => Ok(replica.into()),
            AddressForm::Several(replicas) => Self::try_new(replicas),
        }
    }
}

impl From<ControlPlanes> for AddressForm {
    fn from(mut replicas: ControlPlanes) -> Self {
        if replicas.0.len() == 1 { Self::One(replicas.0.remove(0)) } else { Self::Several(replicas.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in ["10.0.0.1:7401", "[2001:db8::1]:7401", "mesh.example:443"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        let list = "10.0.0.1:7401,[::1]:7401,mesh.example:7401";
        assert_eq!(list.parse::<ControlPlanes>().unwrap().to_string(), list);
    }

    #[test]
    fn port_may_be_left_out_where_another_place_says_it() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:9", "10.0.0.1", Some(9)),
            ("[::1]", "[::1]", None),
            ("[::1]:9", "[::1]", Some(9)),
            ("Mesh.Example", "mesh.example", None),
        ] {
            assert_eq!(host_and_port(text).unwrap(), (host.parse().unwrap(), port), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form() {
        for text in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "10.0.0.256:1",
            "::1:7401",
            "[::1:1",
            "a b:1",
            "-a:1",
            "a..b:1",
            "a,b:1",
            "http://a:1",
            "a/b:1",
        ] {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn one_replica_is_a_text_and_several_are_a_list() {
        for (json, count) in [(r#""10.0.0.1:7401""#, 1), (r#"["10.0.0.1:7401","10.0.0.2:7401"]"#, 2)] {
            let replicas: ControlPlanes = serde_json::from_str(json).unwrap();
            assert_eq!(replicas.iter().count(), count);
            assert_eq!(serde_json::to_string(&replicas).unwrap(), json);
        }
        assert!(serde_json::from_str::<ControlPlanes>("[]").is_err());
    }

    #[test]
    fn replica_given_twice_counts_once() {
        assert_eq!("a:1,b:1,a:1".parse::<ControlPlanes>().unwrap().to_string(), "a:1,b:1");
    }

    #[test]
    fn bind_addresses_are_told_from_addresses_to_connect_to() {
        for (text, unspecified, loopback) in [
            ("0.0.0.0", true, false),
            ("[::]", true, false),
            ("localhost", false, true),
            ("[::1]", false, true),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.is_unspecified(), host.is_loopback()), (unspecified, loopback), "{text}");
        }
    }
}
