//! Ranges of addresses.

use std::net::IpAddr;

/// A CIDR range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    address: IpAddr,
    length: u8,
}

impl IpPrefix {
    /// The range of addresses that share the first `length` bits with `address`. A length beyond the
    /// address's own means all of its bits.
    pub fn new(address: IpAddr, length: u8) -> Self {
        let most = if address.is_ipv4() { 32 } else { 128 };
        Self { address, length: length.min(most) }
    }

    /// How many leading bits are fixed.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether the range holds an address. An IPv4-mapped IPv6 address counts as IPv4.
    #[inline]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shared = |a: u128, b: u128, width: u32| {
            let free = width - u32::from(self.length);
            free == width || (a ^ b) >> free == 0
        };
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => shared(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => shared(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_length_zero_holds_every_address_of_its_family() {
        let any = IpPrefix::new([10, 0, 0, 0].into(), 0);
        assert!(any.contains([192, 168, 0, 1].into()));
        assert!(!any.contains("2001:db8::1".parse().unwrap()));
        assert!(IpPrefix::new("::".parse().unwrap(), 0).contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_prefix_compares_only_its_leading_bits() {
        let lan = IpPrefix::new([10, 1, 0, 0].into(), 15);
        assert!(lan.contains([10, 0, 3, 4].into()));
        assert!(!lan.contains([10, 2, 0, 0].into()));
        assert!(IpPrefix::new([127, 0, 0, 1].into(), 32).contains("::ffff:127.0.0.1".parse().unwrap()));
    }
}
