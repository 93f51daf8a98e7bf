//! A discovery server, an application, and the binary.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use prost::{Message, Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tower::util::MapRequestLayer;
use weft_api::names::SpiffeId;
use weft_api::{Resource, ResourceKey, ResourceKind};
use weft_xds::server::SessionEvent;
use weft_xds::transport::server::{DiscoveryServer, Publisher, StreamHandle, StreamKind, StreamSetup};
use weft_xds::transport::{NodeClaim, PeerIdentity};
use weft_xds::{Changes, Layer, View};

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within twenty seconds")
}

/// Publishes one view to every stream.
struct Door {
    published: Arc<Mutex<(View, Vec<StreamHandle>)>>,
    events: mpsc::UnboundedSender<SessionEvent>,
}

impl Publisher for Door {
    fn open(&self, _: NodeClaim, _: PeerIdentity, _: StreamKind) -> Result<StreamSetup, Status> {
        let events = self.events.clone();
        let (handle, setup) = StreamSetup::new(move |event| drop(events.send(event)));
        let mut published = self.published.lock().unwrap();
        // Before the first publication there is nothing to say: an empty world would be a lie (S14).
        if published.0.revision > 0 {
            handle.publish(published.0.clone(), Changes::All);
        }
        published.1.push(handle);
        Ok(setup)
    }
}

pub(crate) struct Server {
    port: u16,
    revision: u64,
    published: Arc<Mutex<(View, Vec<StreamHandle>)>>,
    events: mpsc::UnboundedReceiver<SessionEvent>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let published = Arc::new(Mutex::new((View::new(0, Vec::new()), Vec::new())));
        let door = Door { published: Arc::clone(&published), events: sender };
        let server = DiscoveryServer::new(Arc::new(door));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let spiffe: SpiffeId = "spiffe://mesh.test/ns/shop/svc/web".parse().unwrap();
        let identify = MapRequestLayer::new(move |mut request: http::Request<tonic::body::Body>| {
            let peer = PeerIdentity { spiffe: spiffe.clone(), workload: None, service: None, instance: None };
            request.extensions_mut().insert(peer);
            request
        });
        let serve = tonic::transport::Server::builder().layer(identify).add_routes(server.into_routes());
        let task = tokio::spawn(async move {
            serve.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { port, revision: 0, published, events, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn publish(&mut self, resources: &[Arc<Resource>]) {
        self.revision += 1;
        let layer: Layer = resources.iter().cloned().collect();
        let view = View::new(self.revision, vec![Arc::new(layer)]);
        let mut published = self.published.lock().unwrap();
        for handle in &published.1 {
            handle.publish(view.clone(), Changes::All);
        }
        published.0 = view;
    }

    pub(crate) async fn event<T>(&mut self, wanted: impl Fn(&SessionEvent) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the server runs");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    /// Cuts every stream and closes the port.
    pub(crate) async fn stop(self) {
        self.task.abort();
        drop(self.task.await);
        self.published.lock().unwrap().1.clear();
    }
}

fn resource<M: Message + Name + Default>(
    kind: ResourceKind,
    name: &str,
    yaml: &str,
    refs: Vec<ResourceKey>,
) -> Arc<Resource> {
    let document: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
    let message: M = weft_api::json::from_json(&document).unwrap();
    Resource::new(kind, name, message.encode_to_vec(), refs)
}

pub(crate) fn cluster(name: &str, extra: &str) -> Arc<Resource> {
    let yaml = format!(
        "name: {name}\ntype: EDS\neds_cluster_config: {{eds_config: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}}}\n{extra}\n"
    );
    let refs = vec![ResourceKey::new(ResourceKind::Endpoint, name)];
    resource::<Cluster>(ResourceKind::Cluster, name, &yaml, refs)
}

pub(crate) fn endpoints(cluster: &str, port: u16) -> Arc<Resource> {
    let yaml = format!(
        "cluster_name: {cluster}\nendpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]\n"
    );
    resource::<ClusterLoadAssignment>(ResourceKind::Endpoint, cluster, &yaml, Vec::new())
}

pub(crate) fn listener(name: &str, port: u16) -> Arc<Resource> {
    listener_with(name, port, "web-routes")
}

pub(crate) fn listener_with(name: &str, port: u16, routes: &str) -> Arc<Resource> {
    let yaml = format!(
        r#"
name: {name}
address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
filter_chains:
- filters:
  - name: http
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      rds: {{route_config_name: {routes}, config_source: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}}}
      http_filters:
      - name: router
        typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
    );
    let refs = vec![ResourceKey::new(ResourceKind::Route, routes)];
    resource::<Listener>(ResourceKind::Listener, name, &yaml, refs)
}

pub(crate) fn routes(name: &str, cluster: &str) -> Arc<Resource> {
    let yaml = format!(
        "name: {name}\nvirtual_hosts: [{{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]}}]\n"
    );
    let refs = vec![ResourceKey::new(ResourceKind::Cluster, cluster)];
    resource::<RouteConfiguration>(ResourceKind::Route, name, &yaml, refs)
}

/// A route configuration that takes virtual hosts of their own; requests for unknown ones are answered with `unknown`.
pub(crate) fn routes_with_vhds(name: &str, unknown: &str) -> Arc<Resource> {
    let yaml = format!(
        "name: {name}\nvhds: {{config_source: {{ads: {{}}, resource_api_version: V3, initial_fetch_timeout: 0s}}}}\nvirtual_hosts: [{{name: unknown, domains: ['*'], routes: [{{match: {{prefix: /}}, direct_response: {{status: 404, body: {{inline_string: {unknown}}}}}}}]}}]\n"
    );
    resource::<RouteConfiguration>(ResourceKind::Route, name, &yaml, Vec::new())
}

/// A virtual host of its own for one domain.
pub(crate) fn virtual_host(routes: &str, domain: &str, cluster: &str, extra: &str) -> Arc<Resource> {
    let name = format!("{routes}/{domain}");
    let yaml = format!(
        "name: {name}\ndomains: [{domain}]\nroutes: [{{match: {{prefix: /}}, route: {{cluster: {cluster}}}}}]\n{extra}\n"
    );
    let refs = vec![ResourceKey::new(ResourceKind::Cluster, cluster)];
    resource::<VirtualHost>(ResourceKind::VirtualHost, &name, &yaml, refs)
}

/// An HTTP/1.1 server that answers every request with `word`.
pub(crate) async fn application(word: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{word}", word.len());
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// The body that a port answers with.
pub(crate) async fn get(port: u16) -> std::io::Result<String> {
    request(port, "a", "/").await
}

/// The same for a host.
pub(crate) async fn get_from(port: u16, host: &str) -> std::io::Result<String> {
    request(port, host, "/").await
}

async fn request(port: u16, host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(body.to_owned())
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn write(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A running weft-proxy, killed when the test is over.
pub(crate) struct Proxy {
    child: Child,
    admin: u16,
    _bootstrap: tempfile::NamedTempFile,
}

impl Proxy {
    pub(crate) fn start(server: u16, api_type: &str, more: &[&str]) -> Self {
        let admin = free_port();
        let bootstrap = write(&format!(
            r#"
node: {{id: shop/web-1, cluster: shop/web}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
dynamic_resources:
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]
static_resources:
  clusters:
  - name: xds
    load_assignment:
      cluster_name: xds
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {server}}}}}}}}}]}}]
"#
        ));
        let child = Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args(["run", "--workers", "1", "-c", bootstrap.path().to_str().unwrap()])
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, admin, _bootstrap: bootstrap }
    }

    /// The body of an admin page.
    pub(crate) async fn admin(&self, path: &str) -> String {
        soon(async {
            loop {
                if let Ok(body) = request(self.admin, "a", path).await {
                    return body;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    pub(crate) async fn until_ready(&self) {
        soon(async {
            while self.admin("/ready").await != "LIVE\n" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Sends SIGTERM; the exit status.
    pub(crate) async fn end(mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        soon(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
