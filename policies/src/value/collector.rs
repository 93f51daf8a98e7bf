//! Where telemetry goes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Hostname, InvalidValue, PeerAddress, text_value};

/// The port of OTLP over gRPC, by the OTLP specification.
const OTLP_PORT: u16 = 4317;

/// An OpenTelemetry collector that takes OTLP over gRPC, `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectorUrl {
    /// The host of the collector, an address or a name.
    pub host: CollectorHost,
    /// Its port, 4317 unless written.
    pub port: u16,
}

/// Where a collector runs, as its URL says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CollectorHost {
    /// One machine, or with an address of loopback each proxy's own.
    Address(PeerAddress),
    /// Whatever the name stands for where the proxy runs.
    Name(Hostname),
}

impl fmt::Display for CollectorHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) if address.ip().is_ipv6() => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl CollectorUrl {
    /// Host and port, as a request names them.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl FromStr for CollectorUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.starts_with("https://") {
            return Err(InvalidValue::new(
                "TLS to a collector is not supported yet: write http://HOST:PORT of one in the same network",
            ));
        }
        let invalid =
            || InvalidValue::new("not a collector: write http://HOST:PORT, such as http://127.0.0.1:4317");
        let authority = text.strip_prefix("http://").ok_or_else(invalid)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(invalid)?,
            None => OTLP_PORT,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bare, host.parse::<IpAddr>()) {
            (Some(bare), _) => address(IpAddr::V6(bare.parse().map_err(|_| invalid())?))?,
            (None, Ok(IpAddr::V4(ip))) => address(IpAddr::V4(ip))?,
            (None, Ok(IpAddr::V6(_))) => return Err(invalid()),
            (None, Err(_)) => match host.parse::<Hostname>() {
                Ok(name) if !name.is_wildcard() => CollectorHost::Name(name),
                Ok(_) | Err(_) => return Err(invalid()),
            },
        };
        Ok(Self { host, port })
    }
}

fn address(ip: IpAddr) -> Result<CollectorHost, InvalidValue> {
    PeerAddress::try_new(ip).map(CollectorHost::Address)
}

text_value!(CollectorUrl, "CollectorUrl", "collector", "an OpenTelemetry collector, http://HOST:PORT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_address_or_a_name_with_a_port() {
        for (text, meant) in [
            ("http://127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("http://otel.example", "http://otel.example:4317"),
            ("http://[::1]:55680/", "http://[::1]:55680"),
            ("http://[fd00::7]", "http://[fd00::7]:4317"),
        ] {
            assert_eq!(text.parse::<CollectorUrl>().unwrap().to_string(), meant);
        }
    }

    #[test]
    fn what_is_no_collector_is_refused_with_a_remedy() {
        for text in [
            "127.0.0.1:4317",
            "https://otel.example:4317",
            "http://otel.example:4317/v1/traces",
            "http://user@otel.example:4317",
            "http://*.example:4317",
            "http://:4317",
            "http://::1:4317",
            "http://otel:0",
            "http://0.0.0.0:4317",
            "http://",
        ] {
            assert!(text.parse::<CollectorUrl>().is_err(), "{text}");
        }
        assert!(
            "https://a:1".parse::<CollectorUrl>().unwrap_err().to_string().contains("write http://HOST:PORT")
        );
    }
}
