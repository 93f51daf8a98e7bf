//! The HTTP filters: cors, compressor, buffer, ext_authz, fault, local_ratelimit, header_mutation and rbac, with what routes, virtual
//! hosts and weighted clusters say of them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use weft_e2e::harness::{CONVERGES, Sidecar, Standalone, until};

/// Method, path, and the other fields of a request.
pub type Request = (&'static str, &'static str, &'static str);

const REQUESTS: &[Request] = &[
    ("GET", "/", ""),
    ("GET", "/?a=b", "x-in: 1\r\n"),
    ("DELETE", "/", ""),
    ("PUT", "/", ""),
    ("PROPFIND", "/", ""),
    // header_mutation: on the listener, the virtual host, the route, and one of its clusters.
    (
        "GET",
        "/mutated",
        "x-appended: theirs\r\nx-overwritten: theirs\r\nx-removed: theirs\r\nx-if-absent: theirs\r\n",
    ),
    ("GET", "/mutated", ""),
    ("GET", "/weighted", "x-in: 1\r\n"),
    ("GET", "/plain", "x-removed: theirs\r\n"),
    ("GET", "/direct", "x-in: 1\r\n"),
    // fault
    ("GET", "/faulty", ""),
    ("GET", "/faulty", "x-envoy-fault-abort-request: 429\r\n"),
    ("GET", "/faulty", "x-envoy-fault-abort-request: 429\r\nx-envoy-fault-abort-request-percentage: 0\r\n"),
    ("GET", "/faulty", "x-envoy-fault-abort-request: nonsense\r\n"),
    ("GET", "/faulty", "x-envoy-fault-abort-request: 199\r\n"),
    ("GET", "/faulty", "x-envoy-fault-delay-request: 20\r\n"),
    ("GET", "/faulty", "x-envoy-fault-delay-request: nonsense\r\n"),
    ("GET", "/faulty", "x-envoy-fault-abort-grpc-request: 14\r\ncontent-type: application/grpc\r\n"),
    ("GET", "/aborted", ""),
    ("GET", "/aborted", "x-spared: 1\r\n"),
    ("POST", "/aborted", "content-type: application/grpc\r\ncontent-length: 0\r\n"),
    ("GET", "/delayed", ""),
    // local_ratelimit: three tokens, none comes back.
    ("GET", "/limited", ""),
    ("GET", "/limited", ""),
    ("GET", "/limited", ""),
    ("GET", "/limited", ""),
    ("POST", "/limited", "content-type: application/grpc\r\ncontent-length: 0\r\n"),
    ("GET", "/limited-softly", ""),
    ("GET", "/limited-softly", ""),
    ("GET", "/", ""),
    // cors
    ("GET", "/shared", "origin: https://a.example.org\r\n"),
    ("GET", "/shared", "origin: https://evil.example.com\r\n"),
    ("GET", "/shared", ""),
    ("OPTIONS", "/shared", "origin: https://a.example.org\r\naccess-control-request-method: PUT\r\n"),
    ("OPTIONS", "/shared", "origin: https://a.example.org\r\n"),
    ("OPTIONS", "/shared", "origin: https://evil.example.com\r\naccess-control-request-method: PUT\r\n"),
    ("OPTIONS", "/shared", ""),
    (
        "OPTIONS",
        "/shared",
        "origin: https://a.example.org\r\naccess-control-request-method: PUT\r\naccess-control-request-private-network: true\r\n",
    ),
    ("GET", "/unshared", "origin: https://a.example.org\r\n"),
    ("OPTIONS", "/unshared", "origin: https://a.example.org\r\naccess-control-request-method: PUT\r\n"),
    // rbac
    ("GET", "/guarded", ""),
    ("GET", "/guarded", "x-pass: yes\r\n"),
    ("POST", "/guarded", "content-length: 0\r\n"),
    ("GET", "/unguarded/admin", ""),
    ("GET", "/admin", ""),
    ("GET", "/admin", "content-type: application/grpc\r\n"),
    ("GET", "/shadowed", ""),
    // ext_authz: a server decides by the path; a refusal's content is what it was told.
    (
        "GET",
        "/authorized",
        "x-secret: 1\r\nx-set: theirs\r\nx-set: again\r\nx-added: theirs\r\nx-told: 1\r\nauthorization: me\r\n",
    ),
    ("GET", "/authorized/deny?a=b", "x-told: 1\r\nx-told: 2\r\nx-untold: 1\r\nauthorization: me\r\n"),
    ("GET", "/authorized/terse", ""),
    ("GET", "/authorized/terse", "content-type: application/grpc\r\n"),
    ("GET", "/authorized/broken", ""),
    ("GET", "/authorized/created", ""),
    ("GET", "/authorized/moved", ""),
    ("GET", "/lenient/broken", "x-told: 1\r\n"),
    ("GET", "/direct", "x-told: 1\r\n"),
    // compressor
    ("GET", "/compressed", ""),
    ("GET", "/compressed", "accept-encoding: gzip\r\n"),
    ("HEAD", "/compressed", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed", "accept-encoding: br, gzip;q=0.5\r\n"),
    ("GET", "/compressed", "accept-encoding: identity, gzip;q=0.5\r\n"),
    ("GET", "/compressed", "accept-encoding: gzip;q=0, *\r\n"),
    ("GET", "/compressed", "accept-encoding: *\r\n"),
    ("GET", "/compressed", "accept-encoding: br\r\n"),
    ("GET", "/compressed", "accept-encoding: gzip;q=much\r\n"),
    ("GET", "/compressed", "accept-encoding: gzip, identity\r\n"),
    ("GET", "/compressed/never", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/removed", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/direct", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/html", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/image", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/strong", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/weak", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/untransformed", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/coded", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/varies", "accept-encoding: gzip\r\n"),
    ("GET", "/compressed/varies-already", "accept-encoding: gzip\r\n"),
    ("HEAD", "/compressed/direct", "accept-encoding: gzip\r\n"),
    ("GET", "/", "accept-encoding: gzip\r\n"),
    // Nothing of a route.
    ("GET", "/missing/", "host: nowhere.example.org\r\n"),
];

const FORTY: &str = "0123456789012345678901234567890123456789";

/// Requests with content, in the framing that their fields say.
const WITH_CONTENT: &[(Request, &str)] = &[
    (("POST", "/buffered", "content-length: 10\r\n"), "0123456789"),
    (("POST", "/buffered", "content-length: 11\r\n"), "0123456789a"),
    (("POST", "/buffered", "transfer-encoding: chunked\r\n"), "4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"),
    (("POST", "/buffered", "transfer-encoding: chunked\r\n"), "4\r\n0123\r\n7\r\n456789a\r\n0\r\n\r\n"),
    (("POST", "/buffered", "transfer-encoding: chunked\r\n"), "4\r\n0123\r\n0\r\nx-sum: 4\r\n\r\n"),
    (("POST", "/buffered", "transfer-encoding: chunked\r\n"), "0\r\n\r\n"),
    (("POST", "/buffered", "transfer-encoding: chunked\r\n"), "nonsense\r\n\r\n"),
    (("POST", "/unbuffered", "content-length: 11\r\n"), "0123456789a"),
    (("POST", "/unbuffered", "transfer-encoding: chunked\r\n"), "4\r\n0123\r\n0\r\n\r\n"),
    (("POST", "/", "content-length: 21\r\n"), "0123456789abcdefghijk"),
    (("POST", "/buffered", "content-type: application/grpc\r\ncontent-length: 11\r\n"), "0123456789a"),
    (("POST", "/aborted", "content-length: 2\r\n"), "01"),
    // Long enough to be compressed, and not; of a type that is; coded already; in pieces with trailers.
    (("POST", "/unbuffered", "content-type: x/compressible\r\ncontent-length: 40\r\n"), FORTY),
    (("POST", "/unbuffered", "content-type: x/compressible\r\ncontent-length: 5\r\n"), "01234"),
    (("POST", "/unbuffered", "content-type: x/other\r\ncontent-length: 40\r\n"), FORTY),
    (
        (
            "POST",
            "/unbuffered",
            "content-type: x/compressible\r\ncontent-encoding: br\r\ncontent-length: 40\r\n",
        ),
        FORTY,
    ),
    (
        ("POST", "/unbuffered", "content-type: x/compressible\r\ntransfer-encoding: chunked\r\n"),
        "4\r\n0123\r\n3\r\n456\r\n0\r\n\r\n",
    ),
    (("POST", "/authorized", "content-length: 5\r\n"), "01234"),
    (("POST", "/authorized/deny", "content-length: 5\r\n"), "01234"),
    (("POST", "/authorized/deny", "content-length: 10\r\n"), "0123456789"),
    (("POST", "/authorized/deny", "transfer-encoding: chunked\r\n"), "3\r\n012\r\n0\r\n\r\n"),
    (("POST", "/unread/deny", "content-length: 5\r\n"), "01234"),
    (("POST", "/whole/deny", "content-length: 5\r\n"), "01234"),
    (("POST", "/whole/deny", "content-length: 9\r\n"), "012345678"),
];

/// In an answer that its cors filter makes itself, Envoy's `%RESPONSE_CODE%` is 0 for the filters that it passes, and right
/// in the log. weft-proxy knows the code at once.
fn less_what_differs_on_purpose(sidecar: Sidecar, mut seen: Seen) -> Seen {
    if sidecar == Sidecar::Envoy && seen.status == "200" {
        for field in &mut seen.fields {
            if field == "x-listener: 0" {
                "x-listener: 200".clone_into(field);
            }
        }
    }
    seen
}

#[tokio::test]
async fn filters_do_what_they_do_in_envoy() -> anyhow::Result<()> {
    let (envoy, weft) = (Ground::start(Sidecar::Envoy).await?, Ground::start(Sidecar::Weft).await?);
    let mut differ = Vec::new();
    let without = REQUESTS.iter().map(|request| (*request, ""));
    for (request, content) in without.chain(WITH_CONTENT.iter().copied()) {
        let (wanted, got) = (envoy.ask(request, content).await?, weft.ask(request, content).await?);
        if wanted != got {
            differ.push(format!("{request:?} {content:?}\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}"));
        }
    }
    for (wanted, got) in envoy.logged().await?.into_iter().zip(weft.logged().await?) {
        if wanted != got {
            differ.push(format!("the log\n  Envoy:      {wanted}\n  weft-proxy: {got}"));
        }
    }
    let (wanted, got) = (envoy.statistics().await?, weft.statistics().await?);
    ensure!(wanted.values().any(|value| *value > 0), "Envoy counts something: {wanted:?}");
    for (name, value) in &wanted {
        if *value > 0 && got.get(name) != Some(value) {
            differ.push(format!("{name}: {value} in Envoy, {:?} in weft-proxy", got.get(name)));
        }
    }
    for (name, value) in got.iter().filter(|(name, value)| **value > 0 && !wanted.contains_key(*name)) {
        differ.push(format!("{name}: {value} in weft-proxy, not in Envoy"));
    }
    ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    Ok(())
}

const LOG: &str = "access.log";

/// A proxy before an application that answers with the head that it was sent.
struct Ground {
    sidecar: Sidecar,
    proxy: Standalone,
    /// Where the log is.
    dir: TempDir,
    _application: AbortOnDropHandle<()>,
}

/// Status, fields and content of an answer, less what is of the time and of the proxy's name.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: String,
    fields: Vec<String>,
    content: Vec<String>,
}

/// Fields that say when, how long, and who.
const OF_THE_MOMENT: [&str; 5] =
    ["date:", "server:", "x-envoy-upstream-service-time:", "x-request-id:", "connection:"];

impl Seen {
    pub fn of(answer: &str) -> anyhow::Result<Self> {
        let (head, content) = answer.split_once("\r\n\r\n").context("no head")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let lasting = |line: &&str| !OF_THE_MOMENT.iter().any(|field| line.starts_with(field));
        let sorted = |lines: &mut dyn Iterator<Item = &str>| -> Vec<String> {
            let mut lines: Vec<String> = lines.filter(lasting).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        Ok(Self {
            status: status.get(9..12).unwrap_or_default().to_owned(),
            fields: sorted(&mut lines),
            content: sorted(&mut content.lines()),
        })
    }
}

impl Ground {
    async fn start(sidecar: Sidecar) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let application = listener.local_addr()?.port();
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener)));
        let dir = tempfile::tempdir()?;
        let log = dir.path().join(LOG);
        let proxy = Standalone::start(sidecar, |admin, port| bootstrap(admin, port, application, &log))?;
        let this = Self { sidecar, proxy, dir, _application: serving };
        until("the proxy answers", CONVERGES, async || {
            let seen = this.ask(("GET", "/", ""), "").await?;
            ensure!(seen.status == "200", "{seen:?}");
            Ok(())
        })
        .await?;
        Ok(this)
    }

    async fn ask(&self, (method, path, fields): Request, content: &str) -> anyhow::Result<Seen> {
        let host = if fields.starts_with("host:") { "" } else { "host: a\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\n{host}{fields}connection: close\r\n\r\n{content}");
        let mut stream = TcpStream::connect(self.proxy.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(CONVERGES, stream.read_to_end(&mut answer));
        read.await.with_context(|| format!("no end of the answer to {method} {path}"))??;
        Ok(less_what_differs_on_purpose(self.sidecar, Seen::of(&String::from_utf8(unpacked(answer)?)?)?))
    }

    /// The log of all that was asked: what each was answered, with which response flags, and why.
    async fn logged(&self) -> anyhow::Result<Vec<String>> {
        self.ask(("GET", "/last", ""), "").await?;
        until("the log is written", CONVERGES, async || {
            let text = std::fs::read_to_string(self.dir.path().join(LOG))?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            ensure!(lines.last().is_some_and(|line| line.starts_with("GET /last ")), "{lines:?}");
            Ok(lines[lines.len() - 1 - REQUESTS.len() - WITH_CONTENT.len()..].to_vec())
        })
        .await
    }

    /// Counters of the filters.
    async fn statistics(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let ours = [
            "http.in.fault.",
            "http.in.rbac.",
            "http.in.cors.",
            "http.in.compressor.",
            "http.in.downstream_rq_too_large",
            "http.in.ext_authz.",
            "cluster.app.ext_authz.ok",
            "cluster.app.ext_authz.denied",
            "cluster.app.ext_authz.error",
            "limit",
            "soft",
        ];
        let lines = self.proxy.statistics().await?.into_iter();
        // How small content becomes depends on the library.
        let counted = lines.filter(|line| ours.iter().any(|start| line.starts_with(start)));
        let counted = counted.filter(|line| !line.contains(".total_compressed_bytes"));
        Ok(counted
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }
}

/// Answers each request with its head, a field a line, and its content behind; and closes.
pub async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Some((head, content)) = read(&mut stream).await else { return };
            let terse = head.contains("/auth/authorized/terse");
            // How something is compressed depends on the library; that it can be read is shown elsewhere.
            let packed = head.contains("\ncontent-encoding: gzip\n");
            let content = if packed { "packed".to_owned() } else { content };
            let text = if terse { "no".to_owned() } else { format!("{head}\ncontent {content:?}") };
            let answer = format!(
                "HTTP/1.1 {}x-removed: ours\r\nx-of-the-server: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                beginning(&head),
                text.len()
            );
            // The caller may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

/// Status and first headers of an answer; the authorization server is the same, below `/auth`.
fn beginning(head: &str) -> &'static str {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    if let Some(of_compressed) = path.strip_prefix("/compressed/") {
        return match of_compressed {
            "html" => "200 OK\r\ncontent-type: Text/HTML; charset=utf-8\r\n",
            "image" => "200 OK\r\ncontent-type: image/png\r\n",
            "strong" => "200 OK\r\netag: \"1\"\r\n",
            "weak" => "200 OK\r\netag: W/\"1\"\r\n",
            "untransformed" => "200 OK\r\ncache-control: private, No-Transform\r\n",
            "coded" => "200 OK\r\ncontent-encoding: br\r\n",
            "varies" => "200 OK\r\nvary: origin\r\n",
            "varies-already" => "200 OK\r\nvary: origin, Accept-Encoding\r\n",
            _ => "200 OK\r\n",
        };
    }
    match path.strip_prefix("/auth/").and_then(|path| path.rsplit('/').next()) {
        None => "200 OK\r\n",
        Some("deny") => "401 No\r\nwww-authenticate: Basic\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n",
        Some("terse") => "403 No\r\n",
        Some("broken") => "503 No\r\n",
        Some("created") => "201 Yes\r\n",
        Some("moved") => "302 There\r\nlocation: /login\r\n",
        Some(_) => {
            "200 OK\r\nx-set: server\r\nx-added: server\r\nx-for-client: 1\r\nx-route: other\r\nx-envoy-auth-headers-to-remove: x-secret, host\r\n"
        }
    }
}

/// The answer with its content in plain, where that was compressed.
fn unpacked(answer: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    if !head.contains("\r\ncontent-encoding: gzip\r\n") {
        return Ok(answer);
    }
    ensure!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "of no known length: {head}");
    let (mut rest, mut packed) = (&answer[end..], Vec::new());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("no size of a chunk")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?, 16)?;
        if size == 0 {
            break;
        }
        packed.extend_from_slice(rest.get(line + 2..line + 2 + size).context("a chunk is cut off")?);
        rest = &rest[line + 4 + size..];
    }
    let mut plain = answer[..end].to_vec();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut plain)?;
    Ok(plain)
}

/// The head and the content of a request; `None` where it breaks off.
async fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, content)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase().replace("\r\n", "\n");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let chunked = head.contains("transfer-encoding: chunked");
            if chunked && (content == "0\r\n\r\n" || content.contains("\r\n0\r\n")) {
                let pieces = content.split("\r\n").skip(1).step_by(2);
                return Some((head, pieces.collect()));
            }
            if !chunked && content.len() >= length.unwrap_or(0) {
                return Some((head, content.to_owned()));
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            return None;
        }
    }
}

fn bootstrap(admin: u16, port: u16, application: u16, log: &Path) -> String {
    include_str!("filters.yaml")
        .replace("@LOG@", &log.display().to_string())
        .replace("@ADMIN@", &admin.to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@APPLICATION@", &application.to_string())
}
