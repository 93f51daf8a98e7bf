//! Addresses that nobody else uses: each mesh has a /24 of loopback to itself.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use rand::Rng as _;

/// Held while the subnet is in use, so that no other test takes it.
const CLAIM_PORT: u16 = 15_999;
const ATTEMPTS: usize = 200;

/// 127.A.B.0/24 with A from 64 to 254.
#[derive(Debug)]
pub struct Subnet {
    second: u8,
    third: u8,
    used: u8,
    _claim: TcpListener,
}

impl Subnet {
    /// Takes one that is free.
    ///
    /// # Errors
    /// When loopback addresses cannot be bound.
    pub fn claim() -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (second, third) = (rand::rng().random_range(64..=254), rand::rng().random_range(0..=255));
            match TcpListener::bind((Ipv4Addr::new(127, second, third, 1), CLAIM_PORT)) {
                Ok(claim) => return Ok(Self { second, third, used: 1, _claim: claim }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there were attempts")).context("no address of 127.0.0.0/8 can be bound")
    }

    /// The control plane's.
    #[must_use]
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, 1)
    }

    /// One that was not given out before.
    pub fn next_address(&mut self) -> Ipv4Addr {
        self.used = self.used.checked_add(1).expect("a test has fewer than 250 workloads");
        Ipv4Addr::new(127, self.second, self.third, self.used)
    }
}

/// A free port on 127.0.0.1, below those that the system hands out for outgoing connections.
///
/// # Errors
/// When none is found.
pub fn free_port() -> anyhow::Result<u16> {
    let candidate = || SocketAddr::from((Ipv4Addr::LOCALHOST, rand::rng().random_range(17_000..32_000)));
    let free = (0..ATTEMPTS).map(|_| candidate()).find(|address| TcpListener::bind(address).is_ok());
    free.map(|address| address.port()).context("no free port on 127.0.0.1")
}
