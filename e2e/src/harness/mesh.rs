//! The mesh of one test.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;
use weft_api::client::{ApiClient, ApplyOptions, ClientError};
use weft_api::rest::{NewToken, ProxyStatus, Sync, TokenRequest};

use super::{Age, Answer, Builder, Calls, ControlPlane, Etcd, Subnet, process, program, until};

/// Where the control plane keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// One file.
    Embedded,
    /// A real etcd.
    Etcd,
}

/// How a mesh is made.
#[derive(Clone, Debug)]
pub struct Options {
    store: StoreKind,
    flags: Vec<String>,
    replicas: usize,
    age: Age,
    clock: Option<String>,
}

impl Options {
    /// With everything at its default.
    #[must_use]
    pub fn new(store: StoreKind) -> Self {
        Self { store, flags: Vec::new(), replicas: 1, age: Age::Now, clock: None }
    }

    /// That many control planes on one etcd, all of them told to workloads.
    #[must_use]
    pub fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Takes the control planes' programs, and those of proxies until told otherwise, of that age.
    #[must_use]
    pub fn of(mut self, age: Age) -> Self {
        self.age = age;
        self
    }

    /// The clocks of the control planes' machines are off by so much: `-1h`.
    #[must_use]
    pub fn clock(mut self, offset: &str) -> Self {
        self.clock = Some(offset.to_owned());
        self
    }

    /// Shortens the life of certificates.
    #[must_use]
    pub fn leaf_ttl(self, ttl: &str) -> Self {
        self.flag("--leaf-ttl", ttl)
    }

    /// Shortens the life of issuers.
    #[must_use]
    pub fn issuer_ttl(self, ttl: &str) -> Self {
        self.flag("--issuer-ttl", ttl)
    }

    /// How talkative the control plane is; `info` otherwise.
    #[must_use]
    pub fn log(self, filter: &str) -> Self {
        self.flag("--log", filter)
    }

    /// One more flag of the control planes.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_owned(), value.to_owned()]);
        self
    }
}

/// A control plane with its store, and room for workloads.
#[derive(Debug)]
pub struct Mesh {
    control_plane: ControlPlane,
    more_replicas: Vec<ControlPlane>,
    client: ApiClient,
    subnet: Subnet,
    proxies: Age,
    etcd: Option<Etcd>,
    dir: TempDir,
}

/// How long proxies may take to have what they should have.
pub const CONVERGES: Duration = Duration::from_secs(30);

impl Mesh {
    /// Runs a test in a new mesh. When it fails, the ends of all logs are printed.
    ///
    /// # Panics
    /// When the mesh cannot be started or the test fails.
    pub async fn run(options: Options, test: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>) {
        let mut mesh = Self::start(options).await.unwrap_or_else(|error| panic!("no mesh: {error:#}"));
        if let Err(error) = test(&mut mesh).await {
            panic!("{error:#}");
        }
    }

    /// Starts the store and the control plane.
    ///
    /// # Errors
    /// When a program is missing or does not become ready.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-e2e-").tempdir()?;
        let proxies = options.age;
        match Self::start_in(dir.path(), options).await {
            Ok((mut replicas, client, subnet, etcd)) => {
                let control_plane = replicas.remove(0);
                Ok(Self { control_plane, more_replicas: replicas, client, subnet, proxies, etcd, dir })
            }
            Err(error) => Err(error.context(process::tails(dir.path()))),
        }
    }

    async fn start_in(
        dir: &Path,
        options: Options,
    ) -> anyhow::Result<(Vec<ControlPlane>, ApiClient, Subnet, Option<Etcd>)> {
        let mut subnet = Subnet::claim()?;
        let etcd = match options.store {
            StoreKind::Embedded => None,
            StoreKind::Etcd => Some(Etcd::start(dir, subnet.first()).await?),
        };
        let endpoint = etcd.as_ref().map(|etcd| etcd.endpoint().to_owned());
        let describe = |address| {
            let flags = options.flags.clone();
            ControlPlane::new(dir, address, endpoint.clone(), flags).with_clock(options.clock.clone())
        };
        let mut replicas = vec![describe(subnet.first())];
        for number in 2..=options.replicas {
            replicas.push(describe(subnet.next_address()).replica(number));
        }
        if replicas.len() > 1 {
            let public: Vec<String> = replicas.iter().map(|replica| replica.xds().to_string()).collect();
            let public = format!("--public={}", public.join(","));
            let seal_key = format!("--seal-key={}", dir.join("seal.key").display());
            replicas =
                replicas.into_iter().map(|replica| replica.with_flags(&[&public, &seal_key])).collect();
        }
        for replica in &mut replicas {
            replica.change_to(options.age);
            replica.start().await?;
        }
        let client = replicas[0].client()?;
        Ok((replicas, client, subnet, etcd))
    }

    /// The REST API.
    #[must_use]
    pub fn client(&self) -> &ApiClient {
        &self.client
    }

    /// The control plane, to kill it and start it again.
    pub fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// The etcd of a mesh that has one.
    ///
    /// # Errors
    /// When it has none.
    pub fn etcd(&mut self) -> anyhow::Result<&mut Etcd> {
        self.etcd.as_mut().context("this mesh has no etcd")
    }

    /// One of several control planes, counted from 0.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn replica(&mut self, index: usize) -> anyhow::Result<&mut ControlPlane> {
        match index {
            0 => Ok(&mut self.control_plane),
            more => self.more_replicas.get_mut(more - 1).context("there is no such replica"),
        }
    }

    /// Uses the API of that replica from now on.
    ///
    /// # Errors
    /// When there are not so many, or it never ran.
    pub fn use_api_of(&mut self, index: usize) -> anyhow::Result<()> {
        self.client = self.replica(index)?.client()?;
        Ok(())
    }

    /// Starts programs of that age beside applications from now on.
    pub fn change_proxies_to(&mut self, age: Age) {
        self.proxies = age;
    }

    /// The programs that are started beside applications.
    pub(super) fn proxies_age(&self) -> Age {
        self.proxies
    }

    /// Where xDS and join are.
    #[must_use]
    pub fn xds(&self) -> std::net::SocketAddr {
        self.control_plane.xds()
    }

    /// `http://…` of the REST API, and the file with its token: what `weft` needs.
    pub(super) fn access(&self) -> (String, std::path::PathBuf) {
        (self.control_plane.api(), self.control_plane.token_file())
    }

    /// Where this mesh's files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A loopback address that nobody else has.
    pub fn next_address(&mut self) -> Ipv4Addr {
        self.subnet.next_address()
    }

    /// Applies documents and waits until every proxy that they concern has them.
    ///
    /// # Errors
    /// When the API refuses them, or a proxy refuses them or does not answer in time.
    pub async fn apply(&self, documents: &str) -> anyhow::Result<()> {
        let options = ApplyOptions { wait: Some("30s".to_owned()), ..ApplyOptions::default() };
        let result = self.client.apply(documents, &options).await?;
        let laggards = result.wait.map(|wait| wait.laggards).unwrap_or_default();
        anyhow::ensure!(laggards.is_empty(), "these proxies did not take the change: {laggards:?}");
        Ok(())
    }

    /// A join token for one workload of a service, `NAMESPACE/SERVICE`.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn token(&self, service: &str) -> anyhow::Result<NewToken> {
        let request = TokenRequest {
            service: service.to_owned(),
            allow_labels: vec!["version=*".to_owned()],
            ..TokenRequest::default()
        };
        match self.client.create_token(&request).await {
            // Many join before there is a Service. An older control plane does not know the word, and needs it for nobody.
            Err(ClientError::Refused(problem)) if problem.code == "not_found" => {
                Ok(self.client.create_token(&TokenRequest { ahead: true, ..request }).await?)
            }
            made => Ok(made?),
        }
    }

    /// Any call of the API, with the operator's token and a body in JSON.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.control_plane.api()))
            .header("authorization", format!("Bearer {}", self.operator_token()?))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))?;
        Calls::direct().send(request).await
    }

    /// A call of the API without the token, with whatever headers the test sets.
    ///
    /// # Errors
    /// When no whole answer comes.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        change: impl FnOnce(&mut HeaderMap),
    ) -> anyhow::Result<Answer> {
        let uri = format!("{}{path}", self.control_plane.api());
        let mut request = Request::builder().method(method).uri(uri).body(Full::new(Bytes::new()))?;
        change(request.headers_mut());
        Calls::direct().send(request).await
    }

    /// The operator's token.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn operator_token(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.control_plane.token_file())?.trim().to_owned())
    }

    /// Runs `weft` with the operator's token; what it wrote on both its outputs.
    ///
    /// # Errors
    /// When it cannot be run or ends with a failure.
    pub async fn weft(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.weft_ended(args).await?;
        let text = [&output.stdout, &output.stderr]
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .concat();
        anyhow::ensure!(output.status.success(), "weft {args:?}: {text}");
        Ok(text)
    }

    /// The same, however it ends.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn weft_ended(&self, args: &[&str]) -> anyhow::Result<std::process::Output> {
        let (api, token_file) = self.access();
        let mut command = tokio::process::Command::new(program::ours("weft")?);
        Ok(command.args(["--api", &api, "--token-file"]).arg(token_file).args(args).output().await?)
    }

    /// `http://…` of the control plane's admin endpoint.
    #[must_use]
    pub fn admin(&self) -> String {
        self.control_plane.admin()
    }

    /// `http://…` of the API of the first control plane.
    #[must_use]
    pub fn api(&self) -> String {
        self.control_plane.api()
    }

    /// Describes a new workload of a service, `NAMESPACE/SERVICE`.
    pub fn workload(&mut self, service: &str) -> Builder<'_> {
        Builder::new(self, service)
    }

    /// Waits until these workloads are connected and have taken everything.
    ///
    /// # Errors
    /// When one of them is not in sync in time.
    pub async fn in_sync(&self, ids: &[&str]) -> anyhow::Result<()> {
        until(&format!("{ids:?} are in sync"), CONVERGES, async || {
            for id in ids {
                let proxy = self.client.proxy(id).await?;
                if proxy.sync != Sync::Synced {
                    bail!("{id} is {}: {:?}", proxy.sync, proxy.types);
                }
            }
            Ok(())
        })
        .await
    }

    /// All proxies by id.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn proxies(&self) -> anyhow::Result<BTreeMap<String, ProxyStatus>> {
        let list = self.client.proxies().await?;
        Ok(list.items.into_iter().map(|proxy| (proxy.id.clone(), proxy)).collect())
    }

    /// The endpoints of a cluster as a proxy should have them: address and health status.
    ///
    /// # Errors
    /// When the proxy has no such endpoints.
    pub async fn endpoints(&self, proxy: &str, cluster: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let config = self.client.proxy_config(proxy).await?;
        let assignments = config["EDS"].as_array().context("there is no EDS in the configuration")?;
        let found = assignments.iter().find(|assignment| assignment["name"] == cluster);
        let found = found.with_context(|| format!("{proxy} has no endpoints of {cluster}"))?;
        let groups = found["resource"]["endpoints"].as_array().cloned().unwrap_or_default();
        let members = groups.iter().flat_map(|group| group["lb_endpoints"].as_array().into_iter().flatten());
        Ok(members.map(described).collect())
    }
}

fn described(member: &Value) -> (String, String) {
    let socket = &member["endpoint"]["address"]["socket_address"];
    let address = format!("{}:{}", socket["address"].as_str().unwrap_or_default(), socket["port_value"]);
    (address, member["health_status"].as_str().unwrap_or("UNKNOWN").to_owned())
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", process::tails(self.dir.path()));
            if std::env::var_os("WEFT_KEEP_LOGS").is_some() {
                self.dir.disable_cleanup(true);
            }
        }
    }
}
