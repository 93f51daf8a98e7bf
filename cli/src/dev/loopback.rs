//! Loopback addresses that nobody else uses: a /24 of 127/8 for each run.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;

/// Held while the addresses are in use, so that no other run takes them.
const CLAIM_PORT: u16 = 15_999;
const ATTEMPTS: usize = 200;

/// 127.A.B.0/24 with A from 64 to 254.
#[derive(Debug)]
pub struct Subnet {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Subnet {
    /// Takes one that is free.
    pub fn claim() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let [second, third, ..] = RandomState::new().build_hasher().finish().to_le_bytes();
            let second = 64 + second % 191;
            match TcpListener::bind((Ipv4Addr::new(127, second, third, 1), CLAIM_PORT)) {
                Ok(claim) => return Ok(Self { second, third, _claim: claim }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?).context("no address of 127.0.0.0/8 can be listened on")
    }

    /// One of its addresses; the first is the control plane's.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, host)
    }
}

/// A port that is free on an address: the one that is wanted, else any.
pub fn free(address: Ipv4Addr, wanted: u16) -> anyhow::Result<SocketAddr> {
    let bound = TcpListener::bind((address, wanted)).or_else(|_| TcpListener::bind((address, 0)));
    bound.and_then(|listener| listener.local_addr()).with_context(|| format!("no free port on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_have_nothing_in_common() {
        let (one, other) = (Subnet::claim().unwrap(), Subnet::claim().unwrap());
        assert_ne!(one.address(2), other.address(2));
        assert!(one.address(1).is_loopback());
    }

    #[test]
    fn port_that_is_taken_is_replaced() {
        let subnet = Subnet::claim().unwrap();
        let first = free(subnet.address(2), 15_001).unwrap();
        assert_eq!(first.port(), 15_001);
        let _taken = TcpListener::bind(first).unwrap();
        assert_ne!(free(subnet.address(2), 15_001).unwrap(), first);
    }
}
