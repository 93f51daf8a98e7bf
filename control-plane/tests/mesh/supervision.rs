//! What the supervisor of a control plane hears.

use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use weft_api::supervisor::Supervisor;
use weft_control_plane::server::supervision::supervise;

use crate::plane::{DEADLINE, Plane};

const SILENCE: Duration = Duration::from_millis(200);

/// Waits without the runtime: what hangs there holds up its timers too.
fn hears(socket: &UnixDatagram, limit: Duration) -> Option<String> {
    let mut bytes = [0; 1024];
    socket.set_read_timeout(Some(limit)).unwrap();
    let length = socket.recv(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reconciler_that_hangs_is_silent_until_it_goes_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let plane = Plane::start().await;
    let supervisor = Supervisor::try_new(path.as_os_str(), Some(SILENCE)).unwrap();
    tokio::spawn(supervise(supervisor, plane.running.reconciler.clone()));
    for expected in ["STATUS=reads policies", "READY=1\nSTATUS=", "WATCHDOG=1", "WATCHDOG=1"] {
        let heard = hears(&socket, DEADLINE).expect(expected);
        assert!(heard.starts_with(expected), "{heard}");
    }

    // Whoever holds what is published holds up whoever publishes.
    let published = plane.running.reconciler.published();
    let (release, released) = mpsc::channel::<()>();
    let holding = std::thread::spawn(move || {
        let _held = published.borrow();
        let _ = released.recv();
    });
    while hears(&socket, 10 * SILENCE).is_some() {}
    drop(release);
    holding.join().unwrap();
    assert_eq!(hears(&socket, DEADLINE).as_deref(), Some("WATCHDOG=1"));
    plane.running.end().await;
}
