//! Putting the parts together: opens the store, founds or reads the mesh, starts the tasks, serves until told to end.
//!
//! ```text
//! store ─▶ authority, operators, policies, records
//!            ├─ reconciler ◀─ policies, records, secrets, streams, health
//!            ├─ 7401 TLS   discovery, join, health, metrics service, access log service
//!            ├─ 7400       REST API
//!            ├─ 7402       ready, live, metrics, dump; metrics alone where --metrics-listen says
//!            └─ leader     while elected
//! ```

mod advertised;
mod authority;
pub mod descriptors;
pub mod supervision;
pub mod telemetry;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::middleware::from_fn_with_state;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsServiceServer;
use futures::FutureExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_api::{ControlPlanes, HostPort, WorkloadId};
use weft_store::Store;
use weft_xds::transport::server::DiscoveryServer;

use crate::api::admin::{self, Admin};
use crate::api::local_access::LocalAccess;
use crate::api::{self, Api, Browsers, CallPace, OwnReplica};
use crate::args::Args;
use crate::ca::{self, Authority, AuthorityMetrics, Ledger, ServerName, SigningLimits};
use crate::clock::Clock;
use crate::edges::Edges;
use crate::identity::audit::AuditLog;
use crate::identity::holders::TokenHolders;
use crate::identity::instances::{Instances, identify};
use crate::identity::lost_time::LostTime;
use crate::identity::operator::Operators;
use crate::identity::principals::Principals;
use crate::identity::revocation::Revocations;
use crate::identity::secrets;
use crate::identity::tokens::{KnownTokens, Tokens};
use crate::join::JoinServer;
use crate::listener::{
    self, API_STREAMS, BoundListener, ConnectionLimits, Connections, IDLE_STRANGER, Security, XDS_STREAMS,
};
use crate::metrics::{EventMetrics, LogLines, LoggedEvents, Metrics};
use crate::policy::log::PolicyLog;
use crate::policy::repository::Policies;
use crate::presence::clock_offsets::ClockOffsets;
use crate::presence::listening_applications::ListeningApplications;
use crate::presence::liveness::LivenessTimeouts;
use crate::presence::workloads::WorkloadStore;
use crate::reconciler::{self, ReconcilerCommand, ReconcilerHandle, spawn_reconciler};
use crate::replicas::acknowledgements::{self, MeshAcknowledgements};
use crate::replicas::addresses::spawn_addresses;
use crate::replicas::directory::spawn_directory;
use crate::replicas::instance_probes::InstanceProbes;
use crate::replicas::leader::{Duties, spawn_leader};
use crate::replicas::presence_reports::spawn_presence;
use crate::replicas::root_rotation::RootRotations;
use crate::replicas::shown_roots::spawn_shown_roots;
use crate::replicas::taps::{self, MeshTaps};
use crate::replicas::traffic::{self, OtherReplicas, Traffic};
use crate::requests::Requests;
use crate::store_location::{StoreLocation, make_data_dir};
use crate::taps::Taps;
use crate::tls::{ClientCertificates, ListenerTls, spawn_keeper};
use crate::xds::access_log_service::AccessLogReceiver;
use crate::xds::discovery::Discovery;
use crate::xds::health_discovery::HealthReceiver;
use crate::xds::metrics_service::MetricsReceiver;
use crate::xds::refusals::Refusals;
use crate::xds::tap_runtimes::spawn_tap_runtimes;
use crate::xds::tap_service::TapReceiver;

use advertised::Advertised;
use authority::{adopt, authority_settings};
use descriptors::DescriptorShares;

/// How long the listeners may take to finish what is under way.
const GRACE: Duration = Duration::from_secs(7);
/// How long an operator's connection to the API or to the admin endpoints may be without a call.
const IDLE_OPERATOR: Duration = Duration::from_secs(60);
/// How long a new leader may lack the store before a start gives up.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// A control plane that serves.
#[derive(Debug)]
pub struct RunningControlPlane {
    /// Where the REST API is.
    pub api: SocketAddr,
    /// Where xDS and join are.
    pub xds: SocketAddr,
    /// Where `/ready` is.
    pub admin: SocketAddr,
    /// The mesh, for those in the same process.
    pub reconciler: ReconcilerHandle,
    shutdown: CancellationToken,
    listeners: TaskTracker,
}

impl RunningControlPlane {
    /// Ends the listeners, then the tasks.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.listeners.close();
        if tokio::time::timeout(GRACE, self.listeners.wait()).await.is_err() {
            tracing::warn!(event = "connections_cut", "some connections did not end in time and are cut");
        }
    }
}

/// Starts everything; returns once the store was read and the listeners are bound. `events` counts what is logged.
///
/// # Errors
/// When the data directory, the store, a certificate or an address cannot be used; the text says what to do.
pub async fn start(
    args: &Args,
    clock: Clock,
    events: impl Into<LoggedEvents>,
) -> anyhow::Result<RunningControlPlane> {
    let reach = Advertised::of(args)?;
    make_data_dir(&args.data_dir)?;
    let store = open_store(args).await?;
    let shutdown = CancellationToken::new();
    let settings = authority_settings(args, &reach, &clock)?;
    let authority = Arc::new(ca::open(store.as_ref(), settings, &args.seal_key(), clock.clone()).await?);
    adopt(&authority, &store, &shutdown).await?;
    let operators = Operators::open(Arc::clone(&store), &args.data_dir, &clock).await?;
    let operator_token = operators.subscribe();
    let principals = Principals::new(Arc::clone(&store), clock.clone());
    let holders = Arc::new(TokenHolders::new(operators, principals));
    let listeners = Listeners::bind(args, reach)?;
    let api = listeners.api.local_addr()?;
    let (dir, from_here) = (args.data_dir.clone(), api_url(args, api));
    let for_operators = listeners.reach.api_from_elsewhere(api).unwrap_or_else(|| from_here.clone());
    let for_operators = args.api_cert.is_none().then_some(for_operators);
    let access = LocalAccess { dir, api: from_here, for_operators };
    access.spawn(Arc::clone(&authority), operator_token, shutdown.clone())?;
    let opened = OpenedMesh { store, authority, holders };
    let parts = ServerParts::start(args, opened, clock, events.into(), &listeners, &shutdown).await?;
    let tracker = TaskTracker::new();
    let running = RunningControlPlane {
        api: listeners.api.local_addr()?,
        xds: listeners.xds.local_addr()?,
        admin: listeners.admin.local_addr()?,
        reconciler: parts.reconciler.clone(),
        shutdown: shutdown.clone(),
        listeners: tracker.clone(),
    };
    parts.serve(args, listeners, &tracker, &shutdown)?;
    Ok(running)
}

async fn open_store(args: &Args) -> anyhow::Result<Arc<dyn Store>> {
    let opening = tokio::time::timeout(STORE_TIMEOUT, weft_store::open(StoreLocation::of(args)?.location()));
    Ok(opening
        .await
        .context("the store did not answer within 30 s; is etcd running, and is --etcd right?")??)
}

struct Listeners {
    api: TcpListener,
    xds: TcpListener,
    admin: TcpListener,
    metrics: Option<TcpListener>,
    reach: Advertised,
}

impl Listeners {
    fn bind(args: &Args, reach: Advertised) -> anyhow::Result<Self> {
        Ok(Self {
            api: bind("--api-listen", args.api_listen)?,
            xds: bind("--xds-listen", reach.xds_listen)?,
            admin: bind("--admin-listen", args.admin_listen)?,
            metrics: args.metrics_listen.map(|address| bind("--metrics-listen", address)).transpose()?,
            reach,
        })
    }
}

fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    listener::bind(address).with_context(|| {
        format!(
            "{flag} {address}: cannot listen there; another control plane may run, or choose another address"
        )
    })
}

/// What makes one listener differ from another.
#[derive(Clone, Copy)]
struct ListenerSettings {
    name: &'static str,
    max_streams: u32,
    idle: Duration,
    room: ConnectionLimits,
}

/// What stands in the store, opened.
struct OpenedMesh {
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    holders: Arc<TokenHolders>,
}

/// The tasks, and what the listeners serve.
struct ServerParts {
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    holders: Arc<TokenHolders>,
    clock: Clock,
    ledger: Ledger,
    policies: Policies,
    workloads: WorkloadStore,
    tokens: Tokens,
    known_tokens: KnownTokens,
    reconciler: ReconcilerHandle,
    edges: Edges,
    traffic: Traffic,
    acknowledgements: MeshAcknowledgements,
    replica: Arc<str>,
    requests: Requests,
    clock_offsets: ClockOffsets,
    applications: ListeningApplications,
    taps: MeshTaps,
    metrics: Metrics,
    log: LogLines,
    others: Option<OtherReplicas>,
    address: HostPort,
    lost_time: Option<LostTime>,
    connections: Connections,
    signs_of_life: InstanceProbes,
    refusals: Refusals,
    names: Vec<ServerName>,
    public: ControlPlanes,
    freshness: watch::Receiver<weft_store::FollowHealth>,
}

impl ServerParts {
    async fn start(
        args: &Args,
        OpenedMesh { store, authority, holders }: OpenedMesh,
        clock: Clock,
        logged: LoggedEvents,
        listeners: &Listeners,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        // Another replica may lead and renew the issuer.
        ca::spawn_follow(Arc::clone(&authority), Arc::clone(&store), shutdown.clone());
        let ledger = Ledger::spawn(Arc::clone(&store), shutdown.clone());
        let policies = Policies::new(PolicyLog::new(Arc::clone(&store), clock.clone()), clock.clone());
        // Read once before anything is served: a record that cannot be read is said now, not in the background.
        policies.head().await?;
        let (secrets, updates) =
            secrets::spawn(Arc::clone(&authority), ledger.clone(), clock.clone(), shutdown.clone());
        let trust_domain = authority.trust_domain().clone();
        let (connections, refusals) = (Connections::default(), Refusals::default());
        let (cutting, forgetting, issued) = (connections.clone(), refusals.clone(), ledger.issued().clone());
        let cut = Box::new(move |id: &WorkloadId, keep: Option<&str>| {
            forgetting.forget(id, keep);
            cutting.cut(id, |serial| keep.is_some_and(|instance| issued.is_of(serial, instance)));
        });
        let workloads = WorkloadStore::new(Arc::clone(&store), clock.clone());
        let reconciler = spawn_reconciler(
            trust_domain,
            timeouts(args)?,
            secrets,
            workloads.clone(),
            cut,
            shutdown.clone(),
        );
        spawn_deliveries(updates, reconciler.clone());
        reconciler::spawn_policies(&policies, reconciler.clone(), shutdown.clone());
        let freshness = reconciler::spawn_workloads(&store, reconciler.clone(), shutdown.clone());
        let (xds, api) = (listeners.xds.local_addr()?, listeners.api.local_addr()?);
        spawn_addresses(listeners.reach.everywhere(xds, api), reconciler.clone(), shutdown.clone());
        let replica = format!("{:016x}", rand::random::<u64>());
        let (edges, requests) = (Edges::default(), Requests::default());
        let address = listeners.reach.for_replicas(xds);
        let follow = || spawn_directory(Arc::clone(&store), &replica, address.clone(), shutdown.clone());
        let others = (!args.etcd.is_empty()).then(|| OtherReplicas::new(follow(), Arc::clone(&authority)));
        let parts = Self {
            workloads,
            tokens: Tokens::new(Arc::clone(&store), clock.clone()),
            known_tokens: KnownTokens::follow(&store, shutdown.clone()),
            signs_of_life: InstanceProbes::new(
                Arc::clone(&store),
                &replica,
                connections.clone(),
                ledger.issued().clone(),
                reconciler.clone(),
            ),
            names: listeners.reach.server_names(&[xds, api]),
            public: listeners.reach.public(xds),
            lost_time: LostTime::read(store.as_ref()).await?,
            log: logged.lines,
            metrics: Metrics::beside(vec![
                Box::new(edges.clone()),
                Box::new(EventMetrics(logged.counts)),
                Box::new(AuthorityMetrics::new(&authority, &ledger, &clock)),
            ]),
            taps: MeshTaps::new(spawn_taps(&reconciler, shutdown), reconciler.clone(), others.clone()),
            acknowledgements: MeshAcknowledgements::new(reconciler.clone(), others.clone()),
            traffic: Traffic::new(edges.clone(), requests.clone(), others.clone()),
            others,
            address,
            replica: replica.as_str().into(),
            edges,
            requests,
            clock_offsets: ClockOffsets::default(),
            applications: ListeningApplications::default(),
            connections,
            refusals,
            store,
            authority,
            holders,
            clock,
            ledger,
            policies,
            reconciler,
            freshness,
        };
        parts.spawn_duties(&listeners.reach.own_name(xds), shutdown);
        Ok(parts)
    }

    /// What this replica does for all of them, and tells the others.
    fn spawn_duties(&self, own_name: &HostPort, shutdown: &CancellationToken) {
        spawn_leader(self.duties(), format!("{own_name}#{}", self.replica), shutdown.clone());
        let (store, authority) = (Arc::clone(&self.store), Arc::clone(&self.authority));
        spawn_shown_roots(store, &self.replica, self.address.clone(), authority, shutdown.clone());
        if self.others.is_some() {
            let (reconciler, metrics) = (self.reconciler.clone(), self.metrics.clone());
            tokio::spawn(self.signs_of_life.clone().answer(shutdown.clone()));
            let replica = self.replica.to_string();
            spawn_presence(Arc::clone(&self.store), replica, reconciler, metrics, shutdown.clone());
        }
    }

    fn revocations(&self) -> Revocations {
        let (authority, ledger) = (Arc::clone(&self.authority), self.ledger.clone());
        let store = Arc::clone(&self.store);
        Revocations::new(store, authority, ledger, self.workloads.clone(), self.clock.clone())
    }

    fn duties(&self) -> Duties {
        Duties {
            store: Arc::clone(&self.store),
            authority: Arc::clone(&self.authority),
            ledger: self.ledger.clone(),
            tokens: self.tokens.clone(),
            audit: AuditLog::new(Arc::clone(&self.store), self.clock.clone()),
            workloads: self.workloads.clone(),
            revocations: self.revocations(),
            log: self.policies.log().clone(),
            rotations: self.rotations(),
            reconciler: self.reconciler.clone(),
            clock: self.clock.clone(),
        }
    }

    fn rotations(&self) -> RootRotations {
        RootRotations {
            store: Arc::clone(&self.store),
            authority: Arc::clone(&self.authority),
            ledger: self.ledger.clone(),
            reconciler: self.reconciler.clone(),
            tokens: self.tokens.clone(),
            clock: self.clock.clone(),
        }
    }

    fn serve(
        self,
        args: &Args,
        listeners: Listeners,
        tracker: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let shares = DescriptorShares::of(descriptors::limit());
        let admin = Admin {
            reconciler: self.reconciler.clone(),
            policies: self.policies.clone(),
            metrics: self.metrics.clone(),
            store: self.freshness.clone(),
            names: self.names.clone().into(),
        };
        let port = ListenerSettings {
            name: "admin",
            max_streams: API_STREAMS,
            idle: IDLE_OPERATOR,
            room: shares.admin,
        };
        if let Some(metrics) = listeners.metrics {
            let plain = self.listener(metrics, Security::Plain, ListenerSettings { name: "metrics", ..port });
            tracker.spawn(plain.serve(admin::metrics_router(admin.clone()), shutdown.clone()));
        }
        let own = self.own(args, admin.clone(), (listeners.api.local_addr()?, listeners.admin.local_addr()?));
        let plain = self.listener(listeners.admin, Security::Plain, port);
        tracker.spawn(plain.serve(admin::router(admin), shutdown.clone()));
        let config = spawn_keeper(
            Arc::clone(&self.authority),
            ListenerTls { names: self.names.clone(), clients: ClientCertificates::Optional, alpn: &[b"h2"] },
            self.clock.clone(),
            shutdown.clone(),
        )?;
        let security = Security::Tls { config, trust_domain: self.authority.trust_domain().clone() };
        let port =
            ListenerSettings { name: "xds", max_streams: XDS_STREAMS, idle: IDLE_STRANGER, room: shares.xds };
        let xds = self.listener(listeners.xds, security, port);
        let api_security = self.api_security(args, shutdown)?;
        let is_tls = matches!(api_security, Security::Tls { .. });
        let port =
            ListenerSettings { name: "api", max_streams: API_STREAMS, idle: IDLE_OPERATOR, room: shares.api };
        let api_listener = self.listener(listeners.api, api_security, port);
        let api = self.api(own, is_tls);
        tracker.spawn(xds.serve(self.mesh_services(api.clone()), shutdown.clone()));
        tracker.spawn(api_listener.serve(api::router(api), shutdown.clone()));
        Ok(())
    }

    fn listener(&self, socket: TcpListener, security: Security, port: ListenerSettings) -> BoundListener {
        BoundListener {
            socket,
            security,
            max_streams: port.max_streams,
            room: port.room,
            idle: port.idle,
            metrics: self.metrics.listener(port.name),
            connections: self.connections.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Everything that proxies talk to.
    fn mesh_services(&self, api: Api) -> Router {
        let known = Arc::new(self.reconciler.clone());
        let instances =
            Instances::new(self.ledger.clone(), self.workloads.clone(), known, self.clock.clone())
                .after_a_restore(self.lost_time, &self.authority);
        let signs = self.signs_of_life.clone();
        let answers = move |record| {
            let signs = signs.clone();
            async move { signs.shown_by(&record).await }.boxed()
        };
        let known = self.known_tokens.clone();
        let limits = SigningLimits::for_this_machine()
            .counted_by(self.metrics.clone())
            .knowing(Box::new(move |id, secret| known.is_good(id, secret)));
        let joining = JoinServer::new(
            Arc::clone(&self.store),
            Arc::clone(&self.authority),
            Arc::new(limits),
            instances.clone(),
            Arc::new(answers),
            self.clock.clone(),
        );
        let health = HealthReceiver::new(self.reconciler.clone(), self.metrics.clone());
        let edges = MetricsReceiver::new(
            self.edges.clone(),
            self.reconciler.clone(),
            self.metrics.clone(),
            self.clock.clone(),
            self.clock_offsets.clone(),
            self.applications.clone(),
        );
        let trust_domain = self.authority.trust_domain().clone();
        let logs = AccessLogReceiver::new(
            self.requests.clone(),
            self.taps.here().clone(),
            self.metrics.clone(),
            trust_domain.clone(),
            self.reconciler.published(),
            self.clock_offsets.clone(),
        );
        let taps = TapReceiver::new(
            self.taps.here().clone(),
            self.metrics.clone(),
            trust_domain,
            self.reconciler.published(),
        );
        let discovery = Discovery::new(self.reconciler.clone(), self.refusals.clone(), self.metrics.clone());
        DiscoveryServer::new(Arc::new(discovery))
            .into_routes()
            .add_service(joining.into_server())
            .add_service(health.into_server())
            .add_service(MetricsServiceServer::new(edges))
            .add_service(logs.into_server())
            .add_service(taps.into_server())
            .into_axum_router()
            .merge(traffic::router(self.edges.clone(), self.requests.clone(), &self.replica))
            .merge(acknowledgements::router(self.reconciler.clone(), &self.replica))
            .merge(taps::router(self.taps.here().clone(), self.reconciler.clone(), &self.replica))
            .merge(api::replica_router(api))
            .layer(from_fn_with_state(instances, identify))
    }

    /// What this replica knows of itself.
    fn own(&self, args: &Args, admin: Admin, (api, admin_listen): (SocketAddr, SocketAddr)) -> OwnReplica {
        OwnReplica {
            id: Arc::clone(&self.replica),
            address: self.address.clone(),
            others: self.others.clone(),
            api,
            admin_listen,
            seal_key: args.seal_key(),
            data_dir: args.etcd.is_empty().then(|| args.data_dir.clone()),
            admin,
            log: self.log.clone(),
            applications: self.applications.clone(),
        }
    }

    fn api(&self, own: OwnReplica, is_tls: bool) -> Api {
        let browsers = Browsers::new(is_tls, self.names.clone().into());
        let revocations = self.revocations();
        let audit = AuditLog::new(Arc::clone(&self.store), self.clock.clone());
        Api {
            own,
            workloads: self.workloads.clone(),
            revocations,
            holders: Arc::clone(&self.holders),
            pace: Arc::new(CallPace::default()),
            audit,
            refusals: Arc::default(),
            browsers: Arc::new(browsers),
            store: Arc::clone(&self.store),
            backups: Arc::new(tokio::sync::Semaphore::new(api::BACKUPS_AT_ONCE)),
            policies: self.policies.clone(),
            reconciler: self.reconciler.clone(),
            tokens: self.tokens.clone(),
            public: self.public.clone(),
            authority: Arc::clone(&self.authority),
            rotations: self.rotations(),
            ledger: self.ledger.clone(),
            traffic: self.traffic.clone(),
            acknowledgements: self.acknowledgements.clone(),
            condition_times: Default::default(),
            watchers: Arc::new(tokio::sync::Semaphore::new(api::WATCHERS)),
            clock_offsets: self.clock_offsets.clone(),
            rehearsals: Arc::new(tokio::sync::Semaphore::new(1)),
            taps: self.taps.clone(),
            tap_viewers: Arc::new(tokio::sync::Semaphore::new(api::TAP_VIEWERS)),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            writing: Arc::default(),
        }
    }

    fn api_security(&self, args: &Args, shutdown: &CancellationToken) -> anyhow::Result<Security> {
        let alpn: &'static [&'static [u8]] = &[b"h2", b"http/1.1"];
        let config = match (&args.api_cert, &args.api_key) {
            (Some(cert), Some(key)) => own_certificate(cert, key, alpn)?,
            _ if args.api_listen.ip().is_loopback() => return Ok(Security::Plain),
            _ => {
                let (authority, names) = (Arc::clone(&self.authority), self.names.clone());
                let tls = ListenerTls { names, clients: ClientCertificates::Ignored, alpn };
                spawn_keeper(authority, tls, self.clock.clone(), shutdown.clone())?
            }
        };
        Ok(Security::Tls { config, trust_domain: self.authority.trust_domain().clone() })
    }
}

/// Requests as they end, and the runtimes by which Envoys are made to tell of them.
fn spawn_taps(reconciler: &ReconcilerHandle, shutdown: &CancellationToken) -> Taps {
    let taps = Taps::default();
    spawn_tap_runtimes(taps.clone(), reconciler.clone(), shutdown.clone());
    taps
}

/// What a lost stream means, and when.
fn timeouts(args: &Args) -> anyhow::Result<LivenessTimeouts> {
    let timeouts =
        LivenessTimeouts { degrade: args.degrade_after, drain: args.drain_after, remove: args.remove_after };
    anyhow::ensure!(
        timeouts.degrade <= timeouts.drain && timeouts.drain <= timeouts.remove,
        "--degrade-after, --drain-after and --remove-after must not come before each other"
    );
    Ok(timeouts)
}

/// Secrets on their way to the streams.
fn spawn_deliveries(
    mut updates: tokio::sync::mpsc::Receiver<secrets::SecretUpdate>,
    reconciler: ReconcilerHandle,
) {
    tokio::spawn(async move {
        while let Some(update) = updates.recv().await {
            let secrets::SecretUpdate { holder, resource } = update;
            reconciler.tell(ReconcilerCommand::Secret { holder, resource }).await;
        }
    });
}

/// Plain HTTP is for this machine only.
fn is_plain(args: &Args) -> bool {
    args.api_listen.ip().is_loopback() && args.api_cert.is_none()
}

/// The API as `weft` on this machine finds it.
fn api_url(args: &Args, mut api: SocketAddr) -> String {
    if api.ip().is_unspecified() {
        api.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("{}://{api}", if is_plain(args) { "http" } else { "https" })
}

fn own_certificate(
    cert: &Path,
    key: &Path,
    alpn: &[&[u8]],
) -> anyhow::Result<watch::Receiver<Arc<rustls::ServerConfig>>> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("--api-cert {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("--api-key {}", key.display()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("--api-cert and --api-key do not belong together")?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // The sender may go: the certificate does not change.
    Ok(watch::channel(Arc::new(config)).1)
}
