//! Tells the supervisor of this process, systemd say, where the proxy is in its life.

use weft_api::supervisor::{ServiceState, Supervisor};

use crate::control::{ControlHandle, Phase};

/// Tells each phase, ready when `/ready` says so; and from the beginning that the proxy is alive, as long as the control
/// thread and every worker answer.
pub async fn supervise(supervisor: Supervisor, handle: ControlHandle) {
    let mut phases = handle.phases();
    let phases = async {
        loop {
            supervisor.tell(match *phases.borrow_and_update() {
                Phase::PreInitializing => ServiceState::Waiting("waits for the first configuration"),
                Phase::Initializing => ServiceState::Waiting("waits for the rest of the first configuration"),
                Phase::Live => ServiceState::Ready("serves"),
                Phase::Draining => ServiceState::Stopping("drains"),
            });
            if phases.changed().await.is_err() {
                break;
            }
        }
    };
    let alive = async {
        let Some(pulse) = supervisor.pulse() else { return };
        // Statistics are what every worker is asked for.
        while handle.stats(|_| ()).await.is_some() {
            supervisor.tell(ServiceState::Alive);
            tokio::time::sleep(pulse).await;
        }
    };
    tokio::join!(phases, alive);
}

/// Tells that an event loop turns, for a process that has nothing but one.
pub async fn pulse_of_the_loop(supervisor: Supervisor) {
    let Some(pulse) = supervisor.pulse() else { return };
    loop {
        supervisor.tell(ServiceState::Alive);
        tokio::time::sleep(pulse).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::net::UnixDatagram;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::bootstrap::Bootstrap;
    use crate::control::{Config, Control, DrainTimes, LogControl};
    use crate::engine::{Engine, EngineConfig, Pinning};

    const SILENCE: Duration = Duration::from_secs(10);

    fn listening() -> (UnixDatagram, Supervisor, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        (socket, Supervisor::try_new(path.as_os_str(), Some(SILENCE)).unwrap(), directory)
    }

    fn proxy(stop: &CancellationToken) -> (Control, ControlHandle) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "node: {id: shop/web-1, cluster: shop/web}\n").unwrap();
        let config = Config {
            bootstrap: Bootstrap::load(file.path()).unwrap(),
            config_path: None,
            identity: None,
            snapshots: None,
            log: LogControl::fixed(),
            stop: stop.clone(),
        };
        let engine = Engine::start(&EngineConfig { workers: 2, pinning: Pinning::Free }).unwrap();
        Control::try_new(config, engine).unwrap()
    }

    /// Whatever was said until the word comes, that included.
    async fn until(word: &str, socket: &UnixDatagram) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        while said.last().is_none_or(|last| !last.contains(word)) {
            let mut bytes = [0; 1024];
            let length = socket.recv(&mut bytes).await.unwrap();
            said.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        said
    }

    #[tokio::test(start_paused = true)]
    async fn control_thread_that_does_not_answer_is_silent_and_one_that_does_is_ready_and_alive() {
        let (socket, supervisor, _directory) = listening();
        let stop = CancellationToken::new();
        let (control, handle) = proxy(&stop);
        let supervising = tokio::spawn(supervise(supervisor, handle));
        // Nobody runs the control thread.
        tokio::time::sleep(10 * SILENCE).await;
        assert_eq!(until("STATUS", &socket).await, ["STATUS=waits for the first configuration"]);
        assert_eq!(socket.try_recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

        let times = DrainTimes { minimum: Duration::ZERO, limit: Duration::from_secs(1) };
        let served = async {
            let said = until("READY=1", &socket).await;
            assert_eq!(said.last().unwrap(), "READY=1\nSTATUS=serves");
            until("WATCHDOG=1", &socket).await;
            until("WATCHDOG=1", &socket).await;
            stop.cancel();
            until("STOPPING=1", &socket).await;
        };
        let (ran, ()) = tokio::join!(control.run(None, ready(()), times), served);
        ran.unwrap();
        supervising.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn event_loop_that_turns_is_alive() {
        let (socket, supervisor, _directory) = listening();
        let pulse = tokio::spawn(pulse_of_the_loop(supervisor));
        let from = tokio::time::Instant::now();
        until("WATCHDOG=1", &socket).await;
        until("WATCHDOG=1", &socket).await;
        assert!(from.elapsed() < SILENCE, "{:?}", from.elapsed());
        pulse.abort();
    }
}
