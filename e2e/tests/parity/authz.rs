//! ext_authz by gRPC, behind mutual TLS: what the server is told, and what becomes of what it says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::pb::google::rpc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Response, Status};
use weft_e2e::harness::{CONVERGES, Forger, Presented, Sidecar, Standalone, dial, until};

use crate::filters::{Request, Seen, serve};

/// The last of each is its content.
const REQUESTS: &[(Request, &str)] = &[
    (
        (
            "GET",
            "/ok?gone=1&b=2&a=1",
            "x-set: theirs\r\nx-joined: theirs\r\nx-secret: 1\r\nx-twice: 1\r\nx-twice: 2\r\n",
        ),
        "",
    ),
    (("GET", "/of-route", "x-envoy-downstream-service-cluster: caller\r\n"), ""),
    (("GET", "/unchecked", "x-secret: 1\r\n"), ""),
    (("GET", "/plain", ""), ""),
    (("GET", "/deny?a=b", ""), ""),
    (("GET", "/deny", "content-type: application/grpc\r\n"), ""),
    (("GET", "/refuse", ""), ""),
    (("GET", "/unavailable", ""), ""),
    (("POST", "/ok", "content-length: 5\r\n"), "01234"),
    (("POST", "/ok", "content-length: 10\r\n"), "0123456789"),
    (("POST", "/deny", "transfer-encoding: chunked\r\n"), "3\r\n012\r\n0\r\n\r\n"),
];

#[tokio::test]
async fn a_server_asked_by_grpc_is_told_and_obeyed_as_in_envoy() -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let mut envoy = Ground::start(Sidecar::Envoy, &certificates).await?;
    let mut weft = Ground::start(Sidecar::Weft, &certificates).await?;
    let mut differ = Vec::new();
    for (request, content) in REQUESTS {
        let wanted = envoy.ask(*request, content).await?;
        let got = weft.ask(*request, content).await?;
        if wanted != got {
            differ.push(format!("{request:?} {content:?}\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}"));
        }
        let is_asked = request.1 != "/unchecked";
        ensure!(wanted.1.is_some() == is_asked, "whether Envoy asked about {request:?}: {wanted:?}");
    }
    let (wanted, got) = (envoy.statistics().await?, weft.statistics().await?);
    ensure!(wanted.values().any(|value| *value > 0), "Envoy counts something: {wanted:?}");
    if wanted != got {
        differ.push(format!("statistics\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}"));
    }
    ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    let (_, told) = weft.ask(("GET", "/ok", ""), "").await?;
    let told = told.context("weft-proxy asks")?;
    let certificate = percent_decoded(&told.source_certificate);
    ensure!(certificate == certificates.client_pem, "the caller's certificate, whole: {told:?}");
    ensure!(told.source_principal == CALLER && told.sni.as_deref() == Some(NAME), "{told:?}");
    Ok(())
}

const CALLER: &str = "spiffe://test/ns/shop/svc/web";
const CALLED: &str = "spiffe://test/ns/shop/svc/cart";
const NAME: &str = "cart.example.org";

struct Certificates {
    root: String,
    chain: String,
    key: String,
    client: Presented,
    client_pem: String,
}

impl Certificates {
    fn new() -> anyhow::Result<Self> {
        let authority = Forger::stranger(None)?;
        let (server, client) = (authority.leaf(&[CALLED], |_| {})?, authority.leaf(&[CALLER], |_| {})?);
        let root = server.chain().last().context("a chain ends with the root")?;
        Ok(Self {
            root: pem("CERTIFICATE", root),
            chain: pem("CERTIFICATE", &server.chain()[0]),
            key: pem("PRIVATE KEY", server.key_pkcs8()),
            client_pem: pem("CERTIFICATE", &client.chain()[0]),
            client,
        })
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        decoded.extend(u8::from_str_radix(code, 16).map(char::from));
        decoded.push_str(rest);
    }
    decoded
}

/// What the server was told, less what is of the moment: ports, the time, the request's number.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    metadata: Vec<(String, String)>,
    source_service: String,
    source_principal: String,
    source_certificate: String,
    destination_principal: String,
    addresses: [bool; 2],
    request: [String; 5],
    headers: BTreeMap<String, String>,
    size: i64,
    content: (String, Vec<u8>),
    extensions: BTreeMap<String, String>,
    sni: Option<String>,
}

impl Told {
    fn of(metadata: &tonic::metadata::MetadataMap, told: AttributeContext) -> Self {
        let http = told.request.and_then(|request| request.http).unwrap_or_default();
        let (source, destination) = (told.source.unwrap_or_default(), told.destination.unwrap_or_default());
        let has_address = |peer: &Peer| peer.address.is_some();
        let of_ours = ["x-meta", "te", "content-type"];
        let metadata = of_ours
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), metadata.get(*name)?.to_str().ok()?.to_owned())));
        Self {
            metadata: metadata.collect(),
            addresses: [has_address(&source), has_address(&destination)],
            source_service: source.service,
            source_principal: source.principal,
            source_certificate: source.certificate,
            destination_principal: destination.principal,
            request: [http.method, http.path, http.host, http.scheme, http.protocol],
            // Told by weft-proxy alone, as PARITY.md has it.
            headers: (http.headers.into_iter())
                .filter(|(name, _)| !["connection", "transfer-encoding"].contains(&name.as_str()))
                .collect(),
            size: http.size,
            content: (http.body, http.raw_body),
            extensions: told.context_extensions.into_iter().collect(),
            sni: told.tls_session.map(|session| session.sni),
        }
    }
}

/// A proxy before an application that answers with the head that it was sent, and a server that decides.
struct Ground {
    proxy: Standalone,
    client: Presented,
    told: mpsc::Receiver<Told>,
    _running: [AbortOnDropHandle<()>; 2],
}

impl Ground {
    async fn start(sidecar: Sidecar, certificates: &Certificates) -> anyhow::Result<Self> {
        let application = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let authorization = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let ports = [application.local_addr()?.port(), authorization.local_addr()?.port()];
        let (sender, told) = mpsc::channel(64);
        let server =
            tonic::transport::Server::builder().add_service(AuthorizationServer::new(Decides(sender)));
        let serving = async {
            // It ends with the test.
            let _ = server.serve_with_incoming(TcpListenerStream::new(authorization)).await;
        };
        let running = [tokio::spawn(serve(application)), tokio::spawn(serving)].map(AbortOnDropHandle::new);
        let proxy = Standalone::start(sidecar, |admin, port| bootstrap(admin, port, ports, certificates))?;
        let mut this = Self { proxy, client: certificates.client.clone(), told, _running: running };
        let (address, client) = (this.proxy.address, this.client.clone());
        until("the proxy answers", CONVERGES, async || {
            let seen = ask(address, &client, ("GET", "/ok", ""), "").await?;
            ensure!(seen.status == "200", "{seen:?}");
            Ok(())
        })
        .await?;
        while this.told.try_recv().is_ok() {}
        Ok(this)
    }

    /// The answer, and what the server was told, if it was asked.
    async fn ask(&mut self, request: Request, content: &str) -> anyhow::Result<(Seen, Option<Told>)> {
        let seen = ask(self.proxy.address, &self.client, request, content).await?;
        let told = self.told.try_recv().ok();
        ensure!(self.told.try_recv().is_err(), "the server is asked once about {request:?}");
        Ok((seen, told))
    }

    async fn statistics(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let names = ["ok", "denied", "error", "invalid", "disabled", "failure_mode_allowed"];
        let lines = self.proxy.statistics().await?;
        let named = lines.iter().filter_map(|line| line.split_once(": "));
        let ours = named.filter(|(name, _)| {
            names.iter().any(|end| {
                *name == format!("http.in.ext_authz.{end}") || *name == format!("cluster.app.ext_authz.{end}")
            })
        });
        let counted = ours.map(|(name, value)| Ok((name.to_owned(), value.parse()?)));
        Ok(counted.collect::<anyhow::Result<BTreeMap<_, _>>>()?.into_iter().filter(|one| one.1 > 0).collect())
    }
}

async fn ask(
    proxy: std::net::SocketAddr,
    client: &Presented,
    (method, path, fields): Request,
    content: &str,
) -> anyhow::Result<Seen> {
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n{content}");
    let mut stream = dial(proxy, NAME, b"http/1.1", Some(client)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(CONVERGES, stream.read_to_end(&mut answer)).await;
    match read.with_context(|| format!("no end of the answer to {method} {path}"))? {
        Ok(_) => {}
        // A proxy may close without TLS's own word of farewell.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error.into()),
    }
    Seen::of(&String::from_utf8(answer)?)
}

/// Decides by the path.
struct Decides(mpsc::Sender<Told>);

#[tonic::async_trait]
impl Authorization for Decides {
    async fn check(&self, request: tonic::Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let metadata = request.metadata().clone();
        let told = request.into_inner().attributes.unwrap_or_default();
        let http = told.request.as_ref().and_then(|request| request.http.as_ref());
        let path = http.map(|http| http.path.split('?').next().unwrap_or_default().to_owned());
        self.0.try_send(Told::of(&metadata, told)).map_err(|error| Status::internal(error.to_string()))?;
        let (code, http_response) = match path.as_deref() {
            Some("/deny") => (Code::PermissionDenied, Some(HttpResponse::DeniedResponse(denial()))),
            Some("/refuse") => (Code::Unauthenticated, None),
            Some("/unavailable") => return Err(Status::unavailable("not now")),
            Some("/plain") => (Code::Ok, None),
            Some(_) | None => (Code::Ok, Some(HttpResponse::OkResponse(changes()))),
        };
        let status = Some(rpc::Status { code: code.into(), ..Default::default() });
        Ok(Response::new(CheckResponse { status, http_response, ..Default::default() }))
    }
}

#[expect(deprecated, reason = "Envoy looks at it")]
fn option(name: &str, value: &str, append: Option<bool>) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.into(), value: value.into(), ..Default::default() }),
        append: append.map(|value| BoolValue { value }),
        ..Default::default()
    }
}

fn denial() -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: Some(HttpStatus { code: 418 }),
        headers: vec![option("x-why", "1", None), option("x-why", "2", Some(false))],
        body: "the server's words".into(),
    }
}

fn changes() -> OkHttpResponse {
    OkHttpResponse {
        headers: vec![
            option("x-set", "server", None),
            option("x-joined", "server", Some(true)),
            option("x-absent", "server", Some(true)),
        ],
        headers_to_remove: vec!["x-secret".into(), "host".into(), ":path".into()],
        response_headers_to_add: vec![option("x-for-client", "1", None)],
        query_parameters_to_set: vec![QueryParameter { key: "set".into(), value: "new".into() }],
        query_parameters_to_remove: vec!["gone".into()],
        ..Default::default()
    }
}

fn bootstrap(admin: u16, port: u16, [application, authorization]: [u16; 2], of: &Certificates) -> String {
    let quoted = |pem: &str| serde_json::Value::from(pem).to_string();
    include_str!("authz.yaml")
        .replace("@ADMIN@", &admin.to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@APPLICATION@", &application.to_string())
        .replace("@AUTHORIZATION@", &authorization.to_string())
        .replace("@CHAIN@", &quoted(&of.chain))
        .replace("@KEY@", &quoted(&of.key))
        .replace("@ROOT@", &quoted(&of.root))
}
