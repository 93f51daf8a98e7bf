//! Where this machine's applications listen: its table of sockets, as far as it lists those that listen.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Linux has a table for each family, and lists sockets that listen first in both.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// The sockets that take connections to these addresses; none where the table cannot be read. An application in another
/// network namespace, or one that does not run, has none.
pub(crate) fn sockets_of(applications: &BTreeSet<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let mut listening = Vec::new();
    for table in TABLES {
        // A kernel without IPv6 has no such table.
        let Ok(file) = File::open(table) else { continue };
        listening.extend(read(BufReader::new(file).lines().map_while(Result::ok)));
    }
    if listening.is_empty() {
        return None;
    }
    let found: BTreeSet<SocketAddr> =
        applications.iter().filter_map(|application| taker(*application, &listening)).collect();
    Some(found.into_iter().collect())
}

/// The socket that the kernel gives a connection to: the one bound to the address, else one that is bound to all.
fn taker(application: SocketAddr, listening: &[SocketAddr]) -> Option<SocketAddr> {
    let of_port = || listening.iter().copied().filter(|socket| socket.port() == application.port());
    let exact = of_port().find(|socket| socket.ip() == application.ip());
    let same_family = |socket: &SocketAddr| socket.is_ipv4() == application.is_ipv4();
    let all = || of_port().filter(|socket| socket.ip().is_unspecified());
    exact.or_else(|| all().find(same_family)).or_else(|| all().find(SocketAddr::is_ipv6))
}

/// The addresses of the lines that tell of a socket that listens. The first that does not ends it: a machine may have
/// many thousand connections.
fn read(lines: impl Iterator<Item = String>) -> Vec<SocketAddr> {
    let listening = |line: String| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
        (state == LISTEN).then(|| parse(local))
    };
    lines.skip(1).map_while(listening).flatten().collect()
}

/// `0100007F:1F90`: words of four bytes each in the machine's order, and the port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (place, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(place * 8)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_are_read_up_to_the_first_that_does_not_listen() {
        if cfg!(target_endian = "big") {
            return;
        }
        let table = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 00000000000000000000000000000000:1F91 00000000000000000000000000000000:0000 0A 0\n   \
                     2: 0000000000000000FFFF00000200007F:1F92 00000000000000000000000000000000:0000 0A 0\n   \
                     3: 0100007F:1F90 0100007F:C350 01 0\n   4: 00000000:1F93 00000000:0000 0A 0";
        let read = read(table.lines().map(str::to_owned));
        assert_eq!(read, ["127.0.0.1:8080", "[::]:8081", "127.0.0.2:8082"].map(address));
    }

    #[test]
    fn socket_of_the_address_itself_comes_before_one_of_all() {
        let listening = ["0.0.0.0:80", "127.0.0.2:80", "[::]:81"].map(address);
        assert_eq!(taker(address("127.0.0.2:80"), &listening), Some(address("127.0.0.2:80")));
        assert_eq!(taker(address("127.0.0.1:80"), &listening), Some(address("0.0.0.0:80")));
        assert_eq!(taker(address("127.0.0.1:81"), &listening), Some(address("[::]:81")));
        assert_eq!(taker(address("127.0.0.1:82"), &listening), None);
    }

    #[test]
    fn sockets_of_this_machine_are_found() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = open.local_addr().unwrap();
        assert_eq!(sockets_of(&[wanted].into()), Some(vec![wanted]));
        assert_eq!(sockets_of(&[address("127.0.0.1:1")].into()), Some(vec![]), "nobody listens there");
    }
}
