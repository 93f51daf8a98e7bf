//! Where keys are.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{Hostname, InvalidValue, text_value};

/// Where a JSON Web Key Set is, `https://HOST[:PORT]/PATH`, or `http://` of a service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeysUrl {
    secure: bool,
    /// A name, or an address.
    host: String,
    port: Option<u16>,
    /// With the query; `/` where none is written.
    path: String,
}

impl KeysUrl {
    /// Whether it is `https://`.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, a name or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port, by the scheme unless written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.secure { 443 } else { 80 })
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl FromStr for KeysUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("not a URL of keys: write https://HOST/PATH");
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(invalid()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            Some(_) | None => (authority, None),
        };
        let port: Option<u16> = port.map(str::parse).transpose().map_err(|_| invalid())?;
        if port == Some(0) {
            return Err(invalid());
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?.to_string(),
            None if host.parse::<std::net::Ipv4Addr>().is_ok() => host.to_owned(),
            None => match host.parse::<Hostname>() {
                Ok(name) if !name.is_wildcard() => name.to_string(),
                Ok(_) | Err(_) => return Err(invalid()),
            },
        };
        let of_a_path = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
        if path.len() > 2048 || !path.bytes().all(of_a_path) {
            return Err(invalid());
        }
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Self { secure, host, port, path })
    }
}

text_value!(KeysUrl, "KeysUrl", "keys-url", "where a JSON Web Key Set is, https://HOST/PATH");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_at_a_path_of_a_host() {
        for (text, host, port) in [
            ("https://login.example.com/.well-known/jwks.json", "login.example.com", 443),
            ("https://login.example.com:8443/keys?v=2", "login.example.com", 8443),
            ("http://keycloak.auth.mesh/realms/a/protocol/openid-connect/certs", "keycloak.auth.mesh", 80),
            ("https://[::1]:8443/keys", "::1", 8443),
            ("https://10.0.0.1/", "10.0.0.1", 443),
        ] {
            let url: KeysUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (text, host, port));
        }
        assert_eq!("https://a.test".parse::<KeysUrl>().unwrap().to_string(), "https://a.test/");
    }

    #[test]
    fn what_is_no_place_of_keys_is_refused() {
        for text in [
            "login.example.com/keys",
            "ftp://a.test/keys",
            "https:///keys",
            "https://user@a.test/keys",
            "https://*.a.test/keys",
            "https://a.test:0/keys",
            "https://a.test:http/keys",
            "https://a.test/ke ys",
            "https://a.test/keys#first",
            "https://a.test/\r\nhost: b",
        ] {
            assert!(text.parse::<KeysUrl>().is_err(), "{text}");
        }
    }
}
