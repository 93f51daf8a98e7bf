//! The program ends when it is told to, whatever it waits for.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Shorter than an etcd that hangs is waited for.
const SOON: Duration = Duration::from_secs(3);

/// A program that does not outlive the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn ends_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

#[test]
fn sigterm_ends_it_while_the_store_hangs() {
    let etcd = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_weft-control-plane"));
    program.arg("--data-dir").arg(dir.path());
    program.arg("--etcd").arg(format!("http://{}", etcd.local_addr().unwrap()));
    for flag in ["--api-listen", "--xds-listen", "--admin-listen"] {
        program.args([flag, "127.0.0.1:0"]);
    }
    let mut program = Program(program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());

    // It is connected, and nobody answers.
    let _open = etcd.accept().unwrap();
    kill_process(Pid::from_child(&program.0), Signal::TERM).unwrap();
    let status = program.ends_within(SOON).expect("it ends at once");
    assert!(status.success(), "{status}: it was told to end");
}
