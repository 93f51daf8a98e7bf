//! What `weft dev` is asked for: `NAME:PORT[/PROTOCOL] COMMAND ARG…`, one after the other, with `--` between them.

use std::ffi::{OsStr, OsString};

use weft_api::Name;
use weft_api::flags::UsageError;
use weft_policies::kinds::service::Protocol;

/// One application, and the service that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedApplication {
    pub name: Name,
    /// Where the application listens on loopback, and the service's port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

/// More would not find an address each.
const AT_MOST: usize = 200;
const FORM: &str = "NAME:PORT[/PROTOCOL]";

/// Reads everything behind the first `--`.
pub fn parse(words: &[OsString]) -> Result<Vec<PlannedApplication>, UsageError> {
    read(words).map_err(|reason| UsageError::Flag { flag: "weft dev --", reason })
}

fn read(words: &[OsString]) -> Result<Vec<PlannedApplication>, String> {
    let mut planned: Vec<PlannedApplication> = Vec::new();
    let mut rest = words;
    while let [first, behind @ ..] = rest {
        let Some((name, port, protocol)) = head(first)? else {
            let first = first.to_string_lossy();
            return Err(format!("a service comes first, {FORM}, for instance web:8080, and not {first:?}"));
        };
        let length = end_of_command(behind)?;
        let (command, next) = behind.split_at(length);
        if command.is_empty() {
            return Err(format!("{name}:{port} has no command; write it behind: -- {name}:{port} ./{name}"));
        }
        if let Some(other) = planned.iter().find(|other| other.name == name || other.port == port) {
            let same = if other.name == name { name.to_string() } else { format!("port {port}") };
            return Err(format!("{same} is there twice; each service has a name and a port of its own"));
        }
        planned.push(PlannedApplication { name, port, protocol, command: command.to_vec() });
        rest = next.get(1..).unwrap_or_default();
    }
    if planned.len() > AT_MOST {
        return Err(format!("{} services are too many; the most is {AT_MOST}", planned.len()));
    }
    Ok(planned)
}

/// Where the `--` is that another service follows; others belong to the application.
fn end_of_command(words: &[OsString]) -> Result<usize, String> {
    for (at, pair) in words.windows(2).enumerate() {
        if pair[0] == "--" && head(&pair[1])?.is_some() {
            return Ok(at);
        }
    }
    Ok(words.len())
}

/// Reads `NAME:PORT[/PROTOCOL]`; none where a word is not of that form. One that is, but for a slip, is an error: it would
/// otherwise become an argument of the application before it, and nobody would hear of it.
fn head(word: &OsStr) -> Result<Option<(Name, u16, Protocol)>, String> {
    let Some((name, rest)) = word.to_str().and_then(|word| word.split_once(':')) else { return Ok(None) };
    let (port, protocol) = match rest.split_once('/') {
        Some((port, protocol)) => (port, Some(protocol)),
        None => (rest, None),
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let (Ok(name), true) = (Name::try_new(name), is_number) else { return Ok(None) };
    let protocol = match protocol.map(str::to_ascii_uppercase).as_deref() {
        None | Some("HTTP") => Protocol::Http,
        Some("HTTP2") => Protocol::Http2,
        Some("GRPC") => Protocol::Grpc,
        Some("TCP") => Protocol::Tcp,
        Some("TLS") => Protocol::Tls,
        Some(other) if protocol == Some(other) && other.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            return Err(format!(
                "{name}:{port}: {other} is none of the protocols HTTP, HTTP2, GRPC, TCP, TLS"
            ));
        }
        // A path: somebody else's word.
        Some(_) => return Ok(None),
    };
    match port.parse() {
        Ok(0) | Err(_) => Err(format!("{name}:{port}: {port} is no port; they go from 1 to 65535")),
        Ok(port) => Ok(Some((name, port, protocol))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Vec<PlannedApplication>, String> {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn services_follow_each_other() {
        let planned =
            read_line("web:8080 ./web --port 8080 -- cart:9090/GRPC ./cart -- db:5432/tcp ./db").unwrap();
        let shown: Vec<_> = planned.iter().map(|one| (one.name.as_str(), one.port, one.protocol)).collect();
        let expected =
            [("web", 8080, Protocol::Http), ("cart", 9090, Protocol::Grpc), ("db", 5432, Protocol::Tcp)];
        assert_eq!(shown, expected);
        assert_eq!(planned[0].command, ["./web", "--port", "8080"]);
    }

    #[test]
    fn dashes_of_the_application_pass() {
        let planned =
            read_line("web:80 npm run dev -- --port 80 -- x/y -- a:80/index -- cart:81 ./cart -- --")
                .unwrap();
        assert_eq!(planned[0].command.join(OsStr::new(" ")), "npm run dev -- --port 80 -- x/y -- a:80/index");
        assert_eq!(planned[1].command, ["./cart", "--", "--"]);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (line, named) in [
            ("./web --port 80", "./web"),
            ("web ./web", "\"web\""),
            ("web:80", "web:80 has no command"),
            ("web:80 -- cart:81 ./cart", "web:80 has no command"),
            ("web:80 ./web -- web:81 ./web", "web is there twice"),
            ("web:80 ./web -- cart:80 ./cart", "port 80 is there twice"),
            ("web:80 ./web -- cart:81/GRCP ./cart", "GRCP"),
            ("web:80 ./web -- cart:99999 ./cart", "99999 is no port"),
            ("web:0 ./web", "0 is no port"),
        ] {
            let refused = read_line(line).unwrap_err();
            assert!(refused.contains(named), "{line}: {refused}");
        }
    }
}
