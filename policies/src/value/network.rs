//! Host names, addresses of peers, and address ranges.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{InvalidValue, text_value};

/// An address that peers can connect to: one machine's, never "all addresses" or a group's. Whatever becomes an endpoint
/// is made from one, so that an endpoint of `0.0.0.0` or `::` cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(IpAddr);

impl PeerAddress {
    /// Takes an address that is one machine's.
    ///
    /// # Errors
    /// When the address is unspecified, a multicast group or the broadcast address.
    pub fn try_new(address: IpAddr) -> Result<Self, InvalidValue> {
        let address = address.to_canonical();
        let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return Err(InvalidValue::new("must be an address that peers can connect to, of one machine"));
        }
        Ok(Self(address))
    }

    /// The address, IPv4 where it was written as IPv4 in IPv6.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A DNS name in lower case, or a wildcard `*.NAME` for all names below one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

impl Hostname {
    /// The name in lower case, with its `*.` where it has one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this stands for all names below one.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Whether some host fits both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.0.strip_prefix('*'), other.0.strip_prefix('*')) {
            (None, None) => self.0 == other.0,
            (Some(suffix), None) => other.0.ends_with(suffix),
            (None, Some(suffix)) => self.0.ends_with(suffix),
            (Some(one), Some(two)) => one.ends_with(two) || two.ends_with(one),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Hostname {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(InvalidValue::new(
                "not a host name: write a DNS name, or *.NAME, with no scheme and no port",
            ));
        }
        if name.parse::<IpAddr>().is_ok() {
            return Err(InvalidValue::new("an IP address is not a host name"));
        }
        Ok(Self(lower))
    }
}

text_value!(Hostname, "Hostname", "hostname", "a DNS name, or *.NAME");

/// A range of addresses, `10.0.0.0/8` or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The first address; bits below the prefix are zero.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address is in the range. An IPv4 address written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && mask(address, self.prefix) == self.address
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new("not an address range: write one such as 10.0.0.0/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = prefix.map_or(Ok(bits), str::parse).map_err(|_| invalid())?;
        if prefix > bits {
            return Err(invalid());
        }
        let network = mask(address, prefix);
        if network != address {
            return Err(InvalidValue::new(format!("has bits below its prefix: write {network}/{prefix}")));
        }
        Ok(Self { address, prefix })
    }
}

text_value!(Cidr, "Cidr", "cidr", "an address range, such as 10.0.0.0/8");

fn mask(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()),
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_overlaps_what_is_below_it_only() {
        let host = |text: &str| text.parse::<Hostname>().unwrap();
        assert!(host("*.shop.example").overlaps(&host("a.shop.example")));
        assert!(host("a.b.shop.example").overlaps(&host("*.shop.example")));
        assert!(host("*.b.shop.example").overlaps(&host("*.shop.example")));
        assert!(!host("*.shop.example").overlaps(&host("shop.example")));
        assert!(!host("*.shop.example").overlaps(&host("workshop.example")));
    }

    #[test]
    fn host_names_have_no_scheme_port_or_address() {
        for text in ["http://a", "a:80", "10.0.0.1", "a..b", "-a", "a_b", "", "*", "*.", "a.*"] {
            assert!(text.parse::<Hostname>().is_err(), "{text}");
        }
        assert_eq!("Shop.Example".parse::<Hostname>().unwrap().as_str(), "shop.example");
    }

    #[test]
    fn address_range_contains_what_shares_its_prefix() {
        let contains =
            |range: &str, address: &str| range.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.9.0.2"));
        assert!(contains("10.0.0.0/8", "::ffff:10.9.0.2"));
        assert!(contains("10.0.0.7", "10.0.0.7"));
        assert!(contains("fd00::/8", "fd00::1"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(!contains("0.0.0.0/0", "::1"));
    }

    #[test]
    fn peer_address_is_of_one_machine() {
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(PeerAddress::try_new(text.parse().unwrap()).is_err(), "{text}");
        }
        for text in ["10.0.0.1", "127.0.0.1", "fd00::1"] {
            assert!(PeerAddress::try_new(text.parse().unwrap()).is_ok(), "{text}");
        }
    }

    #[test]
    fn address_ranges_have_no_bits_below_the_prefix() {
        assert!("10.0.0.0/8".parse::<Cidr>().is_ok());
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok());
        assert!("::/0".parse::<Cidr>().is_ok());
        assert_eq!("10.0.0.1".parse::<Cidr>().unwrap().prefix, 32);
        assert_eq!(
            "10.1.0.0/8".parse::<Cidr>().unwrap_err().to_string(),
            "has bits below its prefix: write 10.0.0.0/8"
        );
        for text in ["10.0.0.0/33", "10.0.0/8", "a/8", "10.0.0.0/", "::/129"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
