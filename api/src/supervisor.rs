//! Telling the supervisor of a service how the service is: systemd, or whoever speaks `sd_notify(3)` as it does.
//!
//! A supervisor names a datagram socket in `NOTIFY_SOCKET`, and in `WATCHDOG_USEC` how long a service may be silent before
//! it counts as hung. Where no socket is named, telling has no effect; where telling fails, that is logged and the service
//! goes on.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// Environment variable that names the supervisor's socket: a path, or `@` and an abstract name.
pub const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Environment variable with the microseconds that a service may be silent.
pub const SILENCE_VARIABLE: &str = "WATCHDOG_USEC";
/// Environment variable with the process that the silence is asked of; any that reads it without.
pub const WATCHED_VARIABLE: &str = "WATCHDOG_PID";

/// A supervisor that reads nothing must not hold up what it supervises for longer than this.
const LIMIT: Duration = Duration::from_secs(1);
/// A status is a line for people; more characters of it are not sent.
const LONGEST_STATUS: usize = 200;

/// What a supervisor is told. Each but [`ServiceState::Alive`] comes with a line that it shows to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState<'a> {
    /// The start goes on, and waits for this.
    Waiting(&'a str),
    /// The start is over: the service does what it is there for.
    Ready(&'a str),
    /// The service is not hung.
    Alive,
    /// The service ends, and does this first.
    Stopping(&'a str),
}

/// The supervisor of this process, or none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    socket: Option<SocketAddr>,
    silence: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    #[must_use]
    pub fn of_this_process() -> Self {
        let Some(socket) = std::env::var_os(SOCKET_VARIABLE).filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let variable = |name| std::env::var(name).ok();
        let own = std::process::id().to_string();
        let is_watched = variable(WATCHED_VARIABLE).is_none_or(|watched| watched == own);
        let silence = variable(SILENCE_VARIABLE).filter(|_| is_watched);
        let known = silence.as_deref().map(micros).transpose();
        known.and_then(|silence| Self::try_new(&socket, silence)).unwrap_or_else(|error| {
            tracing::warn!(event = "supervisor_not_told", %error, "the supervisor is told nothing");
            Self::default()
        })
    }

    /// One with a socket of that name, which lets a service be silent for so long.
    ///
    /// # Errors
    /// When the name is neither a path nor `@` and an abstract name.
    pub fn try_new(socket: &OsStr, silence: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(Path::new(socket)),
            _ => Err(wrong(SOCKET_VARIABLE, &socket.to_string_lossy(), "neither a path nor @NAME")),
        }?;
        Ok(Self { socket: Some(address), silence })
    }

    /// How often to tell [`ServiceState::Alive`]: twice in the time that may pass in silence. `None` where nobody watches.
    #[must_use]
    pub fn pulse(&self) -> Option<Duration> {
        Some(self.silence? / 2)
    }

    /// Tells. Waits a second at most for a supervisor that is busy.
    pub fn tell(&self, state: ServiceState<'_>) {
        if let Err(error) = self.send(state) {
            tracing::warn!(event = "supervisor_not_told", %error, ?state, "the supervisor cannot be told");
        }
    }

    fn send(&self, state: ServiceState<'_>) -> io::Result<()> {
        let Some(address) = &self.socket else { return Ok(()) };
        let text = match state {
            ServiceState::Waiting(what) => status(what),
            ServiceState::Ready(what) => format!("READY=1\n{}", status(what)),
            ServiceState::Alive => "WATCHDOG=1".to_owned(),
            ServiceState::Stopping(what) => format!("STOPPING=1\n{}", status(what)),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(LIMIT))?;
        socket.send_to_addr(text.as_bytes(), address).map(drop)
    }
}

fn micros(text: &str) -> io::Result<Duration> {
    let micros = text.parse().ok().filter(|micros| *micros > 0).map(Duration::from_micros);
    micros.ok_or_else(|| wrong(SILENCE_VARIABLE, text, "not a number of microseconds"))
}

fn wrong(variable: &str, value: &str, reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{variable}: {value:?} is {reason}"))
}

/// Part of a status may be a peer's words: they must not say anything else to the supervisor, which takes each line for
/// itself.
fn status(what: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    format!("STATUS={}", what.chars().take(LONGEST_STATUS).map(shown).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor's socket in a directory of its own.
    fn listening() -> (UnixDatagram, Supervisor, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let supervisor = Supervisor::try_new(path.as_os_str(), Some(Duration::from_secs(4))).unwrap();
        (socket, supervisor, directory)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_said_in_the_words_of_the_protocol() {
        let (socket, supervisor, _directory) = listening();
        for (state, words) in [
            (ServiceState::Waiting("reads the store"), "STATUS=reads the store"),
            (ServiceState::Ready("serves"), "READY=1\nSTATUS=serves"),
            (ServiceState::Alive, "WATCHDOG=1"),
            (ServiceState::Stopping("drains"), "STOPPING=1\nSTATUS=drains"),
        ] {
            supervisor.send(state).unwrap();
            assert_eq!(heard(&socket), words);
        }
    }

    #[test]
    fn words_of_a_peer_stay_within_the_status() {
        let (socket, supervisor, _directory) = listening();
        supervisor.send(ServiceState::Waiting("cannot join yet: no\nREADY=1\r\nMAINPID=1")).unwrap();
        assert_eq!(heard(&socket), "STATUS=cannot join yet: no READY=1  MAINPID=1");
        supervisor.send(ServiceState::Waiting(&"ü".repeat(1000))).unwrap();
        assert_eq!(heard(&socket), format!("STATUS={}", "ü".repeat(LONGEST_STATUS)));
    }

    #[test]
    fn abstract_name_is_a_socket_too() {
        let name = format!("weft-supervisor-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor::try_new(OsStr::new(&format!("@{name}")), None).unwrap();
        supervisor.send(ServiceState::Alive).unwrap();
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }

    #[test]
    fn pulse_is_twice_in_the_silence_that_is_allowed() {
        assert_eq!(listening().1.pulse(), Some(Duration::from_secs(2)));
        assert_eq!(Supervisor::try_new(OsStr::new("/run/notify"), None).unwrap().pulse(), None);
    }

    #[test]
    fn without_a_supervisor_telling_has_no_effect() {
        let nobody = Supervisor::default();
        nobody.send(ServiceState::Ready("serves")).unwrap();
        assert_eq!(nobody.pulse(), None);
    }

    #[test]
    fn what_the_environment_says_wrongly_is_named() {
        for socket in ["vsock:2:1234", "notify"] {
            let error = Supervisor::try_new(OsStr::new(socket), None).unwrap_err().to_string();
            assert!(error.contains(SOCKET_VARIABLE) && error.contains(socket), "{error}");
        }
        for silence in ["soon", "0", "-1"] {
            let error = micros(silence).unwrap_err().to_string();
            assert!(error.contains(SILENCE_VARIABLE) && error.contains(silence), "{error}");
        }
        assert_eq!(micros("1500000").unwrap(), Duration::from_millis(1500));
    }

    #[test]
    fn supervisor_that_is_gone_or_reads_nothing_is_an_error_and_no_halt() {
        let (socket, supervisor, _directory) = listening();
        // The kernel keeps some; then a sender would wait for the reader.
        let full = (0..100_000).find_map(|_| supervisor.send(ServiceState::Alive).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(socket);
        assert_eq!(
            supervisor.send(ServiceState::Alive).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
