//! The binary between an application that remembers what it was sent and callers that write bytes.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const MANAGER: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(crate) const ROUTER: &str = "{name: router, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens within thirty seconds")
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An HTTP/1.1 server that answers with the request it saw. The path chooses what else it does.
#[derive(Clone)]
pub(crate) struct Application {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
    pub(crate) status: Arc<Mutex<&'static str>>,
}

impl Application {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let this = Self { port, seen: Arc::default(), status: Arc::new(Mutex::new("200 OK")) };
        let application = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let application = application.clone();
                // A caller that goes away ends the connection.
                tokio::spawn(async move { drop(application.serve(stream).await) });
            }
        });
        this
    }

    #[allow(dead_code, reason = "some of the suites that share this file ask for it")]
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&buffer, b"\r\n\r\n") {
                    break at + 4;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end);
            self.seen.lock().unwrap().push(head.clone());
            if head.contains("/garbage-before-101") {
                stream.write_all(b"garbage\r\nHTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await?;
                return Ok(());
            }
            if head.contains("upgrade: websocket") && !head.contains("/refuse") {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n").await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                return Ok(());
            }
            if head.contains("expect: 100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let lower = head.to_ascii_lowercase();
            let length = lower.split_once("content-length: ").map(|(_, rest)| rest.lines().next().unwrap());
            let length: usize = length.map_or(0, |text| text.parse().unwrap());
            let chunked = lower.contains("transfer-encoding: chunked");
            let end = loop {
                let end = if chunked { find(&buffer, b"0\r\n\r\n").map(|at| at + 5) } else { Some(length) };
                if let Some(end) = end.filter(|end| buffer.len() >= *end) {
                    break end;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let body = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end);
            if head.contains("/304") {
                stream.write_all(b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n").await?;
                continue;
            }
            let status = *self.status.lock().unwrap();
            let answer = format!("{head}{body}");
            let head = format!(
                "HTTP/1.1 {status}\r\nx-port: {}\r\ncontent-length: {}\r\n\r\n",
                self.port,
                answer.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A cluster of endpoints on this machine.
#[allow(dead_code, reason = "not all suites that share this file ask for it")]
pub(crate) fn cluster(name: &str, ports: &[u16], more: &str) -> String {
    let endpoints: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}"
            )
        })
        .collect();
    let endpoints = endpoints.join(", ");
    format!(
        "  - {{name: {name}, load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}{more}}}\n"
    )
}

/// A listener whose connection manager sends everything to `app`.
pub(crate) fn http_listener(port: u16, manager: &str, filters: &str, chain: &str) -> String {
    format!(
        r#"  - name: in-{port}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          {MANAGER}
          stat_prefix: in
          http_filters: [{filters}{ROUTER}]
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: app, timeout: 20s}}}}]}}]}}
{manager}
{chain}
"#
    )
}

/// A running weft-proxy, killed when the test is over.
pub(crate) struct Proxy {
    child: Child,
    admin: u16,
    log: tempfile::NamedTempFile,
    _bootstrap: tempfile::NamedTempFile,
}

/// A bootstrap file, and a command that runs the binary on it, after a line of shell, with standard error going to a
/// file.
fn command(text: &str, before: &str) -> (Command, tempfile::NamedTempFile, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before}\nexec \"$@\""), "sh", env!("CARGO_BIN_EXE_weft-proxy")])
        .args(["run", "--workers", "1", "-c", file.path().to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(log.reopen().unwrap());
    (command, file, log)
}

fn bootstrap(admin: u16, listeners: &str, clusters: &str, more: &str) -> String {
    format!(
        "node: {{id: shop/web-1, cluster: shop/web}}\nadmin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}\n{more}\nstatic_resources:\n  listeners:\n{listeners}\n  clusters:\n{clusters}\n"
    )
}

/// Starts the binary on a file that it must refuse; its exit status and what it wrote to standard error.
#[allow(dead_code, reason = "one of the suites that share this file asks for it")]
pub(crate) async fn refused(listeners: &str, clusters: &str, more: &str) -> (Option<i32>, String) {
    let (mut command, _file, log) = command(&bootstrap(free_port(), listeners, clusters, more), "");
    let mut child = command.spawn().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let code = ended.await.unwrap_or_default();
    // It may have ended already.
    let _ = child.kill();
    let _ = child.wait();
    (code, std::fs::read_to_string(log.path()).unwrap())
}

impl Proxy {
    pub(crate) async fn start(listeners: &str, clusters: &str, more: &str) -> Self {
        Self::start_after("", listeners, clusters, more).await
    }

    /// The same after a line of shell.
    pub(crate) async fn start_after(before: &str, listeners: &str, clusters: &str, more: &str) -> Self {
        let admin = free_port();
        let text = bootstrap(admin, listeners, clusters, more);
        let (mut command, file, log) = command(&text, before);
        let child = command.spawn().unwrap();
        let mut this = Self { child, admin, log, _bootstrap: file };
        soon(async {
            while !this.admin("/ready").await.contains("LIVE") {
                assert!(this.child.try_wait().unwrap().is_none(), "weft-proxy ended:\n{text}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        this
    }

    /// An admin page, empty where there is none yet.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)).await else {
            return String::new();
        };
        let mut answer = String::new();
        let done = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut answer).await
        };
        if soon(done).await.is_err() { String::new() } else { answer }
    }

    /// Waits until a statistic has a value.
    #[allow(dead_code, reason = "some of the suites that share this file ask for it")]
    pub(crate) async fn wait_for(&self, name: &str, wanted: u64) {
        let line = format!("{name}: {wanted}");
        soon(async {
            while !self.admin("/stats").await.lines().any(|one| one.trim() == line) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// What it has logged so far.
    #[allow(dead_code, reason = "one of the suites that share this file asks for it")]
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Waits until the log has a line with this text.
    #[allow(dead_code, reason = "one of the suites that share this file asks for it")]
    pub(crate) async fn logs(&self, text: &str) {
        soon(async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Its process id.
    #[allow(dead_code, reason = "one of the suites that share this file asks for it")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, in bytes.
    #[allow(dead_code, reason = "one of the suites that share this file asks for it")]
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("weft-proxy's log:\n{}", self.log());
        }
    }
}

/// Writes bytes and reads until the proxy closes the connection.
pub(crate) async fn raw(port: u16, bytes: impl AsRef<[u8]>) -> String {
    soon(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        // A reset ends a connection too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
}

/// A GET that closes, with more header lines.
#[allow(dead_code, reason = "not all suites that share this file ask for it")]
pub(crate) async fn get(port: u16, path: &str, headers: &str) -> String {
    raw(port, format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{headers}\r\n")).await
}

/// The status code of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
}
