//! Asking an admin endpoint whether its process is ready: the health check of a container that has no other program.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting, asking and answering may take each.
const LIMIT: Duration = Duration::from_secs(2);
/// An answer is a line; more of it is not shown.
const ANSWER: u64 = 1024;

/// Why a process does not count as ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// No connection, or no answer in time.
    #[error("http://{address}/ready: {source}; is it running, and is this its admin endpoint?")]
    Unreachable {
        /// The admin endpoint that was asked.
        address: SocketAddr,
        /// Why there is no answer, as the system says it.
        source: io::Error,
    },
    /// It answers, and is not.
    #[error("http://{address}/ready: {answer}")]
    Refused {
        /// The admin endpoint that was asked.
        address: SocketAddr,
        /// The status line of the answer and what its body says.
        answer: String,
    },
}

/// Asks `GET /ready` of an admin endpoint, as weft-proxy, the control plane and Envoy have it. An endpoint that listens on
/// all addresses is asked on loopback.
///
/// # Errors
/// When it does not answer 200.
pub fn ready(listens: SocketAddr) -> Result<(), NotReady> {
    let address = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listens.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listens.port()).into(),
        _ => listens,
    };
    let answer = ask(address).map_err(|source| NotReady::Unreachable { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let answer = format!("{status} {}", body.trim()).trim().to_owned();
    Err(NotReady::Refused { address, answer })
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // In one piece: whoever answers may have read the first one only, and closed.
    stream.write_all(
        format!("GET /ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut piece = [0; 64];
                let read = stream.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..read]);
            }
            assert!(request.starts_with(b"GET /ready HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_an_answer_of_200_is_ready() {
        let live = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nLIVE\n");
        ready((Ipv4Addr::UNSPECIFIED, live.port()).into()).unwrap();
        let starting = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nINITIALIZING\n");
        let told = ready(starting).unwrap_err().to_string();
        assert!(told.ends_with("503 Service Unavailable INITIALIZING"), "{told}");
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(ready(gone).unwrap_err().to_string().contains("is it running"));
    }
}
