//! The addresses of a sidecar's own listeners, held from before the join until the engine binds them.
//!
//! A start that cannot listen must not join: a join uses its token up and takes its workload's name. So each address is
//! bound first, without listening, and let go at the moment in which the engine binds it. The engine's sockets share
//! their port (one for each worker), which would let two proxies share it too; here it is asked for alone.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

/// Where a sidecar listens, as it was declared when it joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnListeners {
    /// Where others reach the workload.
    pub address: IpAddr,
    /// `--inbound`; none of a workload that only calls others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<SocketAddr>,
    /// `--outbound`.
    pub outbound: SocketAddr,
    /// Each `--upstream`.
    #[serde(default)]
    pub upstreams: Vec<SocketAddr>,
}

impl OwnListeners {
    fn by_flag(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let inbound = self.inbound.map(|address| ("--inbound", address));
        inbound
            .into_iter()
            .chain([("--outbound", self.outbound)])
            .chain(self.upstreams.iter().map(|address| ("--upstream", *address)))
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("error: {flag} {address}: cannot listen there: {source}; {}", remedy(source))]
    Bind {
        /// Which flag says so.
        flag: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    /// Two flags say the same.
    #[error("error: {flag} {address}: {other} is the same address; give each its own")]
    Twice { flag: &'static str, address: SocketAddr, other: &'static str },
}

/// What to do about an address that cannot be bound.
#[must_use]
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another process has it (another weft-proxy?): end that, or give another address with this flag"
        }
        ErrorKind::AddrNotAvailable => "no interface of this machine has that address: give one that it has",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege: give another port with this flag",
        _ => "give another address with this flag",
    }
}

/// Addresses that are bound and not listened on.
#[derive(Debug, Default)]
pub struct Reservations(BTreeMap<SocketAddr, Socket>);

impl Reservations {
    /// Binds what a sidecar listens on. `admin` is bound already.
    ///
    /// # Errors
    /// When another process has an address, or two flags say the same one; then nothing is held.
    pub fn try_new(listeners: &OwnListeners, admin: SocketAddr) -> Result<Self, ReserveError> {
        let mut taken = BTreeMap::from([(admin, "--admin-listen")]);
        let mut held = BTreeMap::new();
        for (flag, address) in listeners.by_flag() {
            if let Some(other) = taken.insert(address, flag) {
                return Err(ReserveError::Twice { flag, address, other });
            }
            let refused = |source| ReserveError::Bind { flag, address, source };
            held.insert(address, reserve(address, listeners.address).map_err(refused)?);
        }
        Ok(Self(held))
    }

    /// Lets an address go, to be bound at once by the caller.
    pub fn release(&mut self, address: SocketAddr) {
        self.0.remove(&address);
    }

    pub fn release_all(&mut self) {
        self.0.clear();
    }
}

/// Holds `bind`. All addresses of a machine may be bound beside a proxy that has one of them, but not beside one that
/// others would reach in our place: that is at `declared`.
fn reserve(bind: SocketAddr, declared: IpAddr) -> io::Result<Socket> {
    if !bind.ip().is_unspecified() {
        return alone(bind);
    }
    match alone(SocketAddr::new(declared, bind.port())) {
        // Declared is where others find the workload; behind a translation no interface here has it.
        Err(error) if error.kind() != ErrorKind::AddrNotAvailable => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let socket = new_socket(bind)?;
    socket.set_reuse_port(true)?;
    match socket.bind(&bind.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.kind() == ErrorKind::AddrInUse => beside_leftovers(bind, SharesPort::Yes),
        Err(error) => Err(error),
    }
}

fn alone(address: SocketAddr) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    match socket.bind(&address.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.kind() == ErrorKind::AddrInUse => beside_leftovers(address, SharesPort::No),
        Err(error) => Err(error),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SharesPort {
    Yes,
    No,
}

/// Connections of a proxy that ended keep its port for a while: they are no reason not to listen. A listener is.
fn beside_leftovers(address: SocketAddr, shares: SharesPort) -> io::Result<Socket> {
    let socket = new_socket(address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares == SharesPort::Yes)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(127, 40, 3, 1);
    const ADMIN: &str = "127.40.3.1:1";

    fn free(ip: Ipv4Addr) -> SocketAddr {
        TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
    }

    fn listeners(inbound: SocketAddr, outbound: SocketAddr) -> OwnListeners {
        OwnListeners { address: OWN.into(), inbound: Some(inbound), outbound, upstreams: Vec::new() }
    }

    fn reserved(listeners: &OwnListeners) -> Result<Reservations, String> {
        Reservations::try_new(listeners, ADMIN.parse().unwrap()).map_err(|error| error.to_string())
    }

    /// As the engine binds: several sockets share the port.
    fn shared_listener(address: SocketAddr) -> io::Result<Socket> {
        let socket = new_socket(address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(1)?;
        Ok(socket)
    }

    #[test]
    fn address_of_another_proxy_is_found_although_its_port_is_shared() {
        let taken = free(OWN);
        let _other = shared_listener(taken).unwrap();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, taken.port()));
        for inbound in [taken, everywhere] {
            let refused = reserved(&listeners(inbound, free(OWN))).unwrap_err();
            assert!(refused.contains("--inbound") && refused.contains(&inbound.to_string()), "{refused}");
        }
        let refused = reserved(&listeners(free(OWN), taken)).unwrap_err();
        assert!(refused.contains("--outbound"), "{refused}");
        let upstreams = vec![taken];
        let refused = reserved(&OwnListeners { upstreams, ..listeners(free(OWN), free(OWN)) }).unwrap_err();
        assert!(refused.contains("--upstream"), "{refused}");
    }

    #[test]
    fn one_that_only_calls_others_needs_no_address_for_them() {
        let taken = free(OWN);
        let _other = shared_listener(taken).unwrap();
        let client = OwnListeners { inbound: None, ..listeners(taken, free(OWN)) };
        assert!(reserved(&client).is_ok());
        let kept = serde_json::to_string(&client).unwrap();
        assert_eq!(serde_json::from_str::<OwnListeners>(&kept).unwrap(), client);
    }

    #[test]
    fn proxy_on_another_address_of_the_machine_is_no_hindrance() {
        let other = free(Ipv4Addr::new(127, 40, 3, 2));
        let _other = shared_listener(other).unwrap();
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, other.port()));
        assert!(reserved(&listeners(everywhere, free(OWN))).is_ok());
    }

    #[test]
    fn what_is_held_is_nobody_elses_and_is_there_when_it_is_let_go() {
        let (inbound, outbound) = (free(OWN), free(OWN));
        let mut held = reserved(&listeners(inbound, outbound)).unwrap();
        assert!(reserved(&listeners(inbound, free(OWN))).is_err());
        assert!(TcpStream::connect(inbound).is_err(), "nothing answers before there is a configuration");
        held.release(inbound);
        shared_listener(inbound).unwrap();
        assert!(shared_listener(outbound).is_err());
        held.release_all();
        shared_listener(outbound).unwrap();
    }

    #[test]
    fn connections_of_a_proxy_that_ended_are_no_hindrance() {
        let address = free(OWN);
        let listener = shared_listener(address).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        // The side that closes first is the one that waits.
        drop(accepted);
        drop(client);
        drop(listener);
        assert!(new_socket(address).unwrap().bind(&address.into()).is_err(), "there is a leftover");
        reserved(&listeners(address, free(OWN))).unwrap();
    }

    #[test]
    fn two_flags_with_one_address_are_refused_by_both_names() {
        let address = free(OWN);
        let refused = reserved(&listeners(address, address)).unwrap_err();
        assert!(refused.contains("--inbound") && refused.contains("--outbound"), "{refused}");
        let refused = reserved(&listeners(ADMIN.parse().unwrap(), address)).unwrap_err();
        assert!(refused.contains("--admin-listen"), "{refused}");
    }
}
