//! What one sidecar has, read as the proxy reads it.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{self as wire, RouteConfiguration};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkFilter;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use weft_api::ResourceKind;
use weft_api::names::route_configuration_of;
use weft_policies::compile::ProxyType;
use weft_routing::decode::{self, fields};
use weft_routing::matcher::RequestHead;
use weft_routing::path::{Normal, PathError, PathOptions, normalize};
use weft_routing::rejection::{Notes, Rejection};
use weft_routing::route::{Route, RoutingTable, VirtualHost};
use weft_xds::View;

/// A sidecar, by what the control plane knows of it.
#[derive(Debug, Clone, Copy)]
pub struct AskedSidecar<'a> {
    /// What it should have.
    pub view: &'a View,
    /// Which program it is: where the two differ on purpose, each is told for itself.
    pub proxy: ProxyType,
}

/// A virtual host whose routes are read when it is the one.
type UnreadHost = VirtualHost<wire::VirtualHost, ()>;

/// A connection manager with its routes.
#[derive(Debug)]
pub struct HttpSide {
    proxy: ProxyType,
    pub manager: HttpConnectionManager,
    pub configuration: RouteConfiguration,
    table: RoutingTable<wire::VirtualHost, ()>,
}

/// What a filter chain does with its connections.
#[derive(Debug)]
pub enum ChainSide {
    Http(Box<HttpSide>),
    /// Connections as they are: what may let them in, and where they go.
    Tcp {
        rbac: Vec<NetworkFilter>,
        proxy: Option<Box<TcpProxy>>,
    },
}

/// A virtual host with its routes, each as it was sent.
#[derive(Debug)]
pub struct ReadHost<'a> {
    pub wire: &'a wire::VirtualHost,
    host: VirtualHost<(), wire::Route>,
}

impl ChainSide {
    /// Reads the filter chain of a listener that takes this server name, or the first one where none is asked for. Nothing
    /// where the sidecar has no such listener or chain.
    pub fn read(
        sidecar: AskedSidecar<'_>,
        listener: &str,
        server_name: Option<&str>,
    ) -> Result<Option<Self>, Rejection> {
        let view = sidecar.view;
        let Some(listener) = resource::<Listener>(view, ResourceKind::Listener, listener)? else {
            return Ok(None);
        };
        let takes = |chain: &&FilterChain| match (server_name, &chain.filter_chain_match) {
            (None, _) => true,
            (Some(name), Some(matched)) => matched.server_names.iter().any(|one| one == name),
            (Some(_), None) => false,
        };
        let Some(chain) = listener.filter_chains.iter().find(takes) else { return Ok(None) };
        let (mut rbac, mut proxy) = (Vec::new(), None);
        for config in chain.filters.iter().filter_map(|filter| filter.config_type.as_ref()) {
            let filter::ConfigType::TypedConfig(config) = config else { continue };
            if fields::holds::<HttpConnectionManager>(config) {
                let manager = fields::unpack(config, "filters")?;
                return HttpSide::read(sidecar, manager).map(|side| Some(Self::Http(Box::new(side))));
            }
            if fields::holds::<NetworkFilter>(config) {
                rbac.push(fields::unpack(config, "filters")?);
            } else if fields::holds::<TcpProxy>(config) {
                proxy = Some(Box::new(fields::unpack(config, "filters")?));
            }
        }
        Ok(Some(Self::Tcp { rbac, proxy }))
    }
}

impl HttpSide {
    fn read(
        AskedSidecar { view, proxy }: AskedSidecar<'_>,
        manager: HttpConnectionManager,
    ) -> Result<Self, Rejection> {
        let configuration = match &manager.route_specifier {
            Some(RouteSpecifier::RouteConfig(configuration)) => configuration.clone(),
            Some(RouteSpecifier::Rds(rds)) => {
                resource(view, ResourceKind::Route, &rds.route_config_name)?.unwrap_or_default()
            }
            Some(RouteSpecifier::ScopedRoutes(_)) | None => {
                return Err(Rejection::unsupported("scoped_routes"));
            }
        };
        let mut table = decode::route::table(&configuration, |host| Ok(unread(host)))?;
        if configuration.vhds.is_some() {
            let mut hosts = Vec::new();
            for resource in view.of_kind(ResourceKind::VirtualHost) {
                if route_configuration_of(&resource.name) == Some(&*configuration.name) {
                    let host: wire::VirtualHost = message(&resource.body)?;
                    hosts.push((resource.name.clone(), std::sync::Arc::new(unread(&host))));
                }
            }
            hosts.sort_by(|(one, _), (other, _)| one.cmp(other));
            table = table.with_hosts(hosts.into_iter().map(|(_, host)| host));
        }
        Ok(Self { proxy, manager, configuration, table })
    }

    /// A path as this side's routes and filters see it.
    pub fn normal<'a>(&self, path: &'a str) -> Result<Result<Normal<'a>, PathError>, Rejection> {
        let options = decode::path::options(&self.manager)?;
        Ok(normalize(path, &PathOptions { lenient: self.proxy == ProxyType::Envoy, ..options }))
    }

    /// The virtual host that an authority belongs to.
    pub fn host(&self, authority: &str) -> Result<Option<ReadHost<'_>>, Rejection> {
        let Some(found) = self.table.host_of(authority) else { return Ok(None) };
        let wire = &found.options;
        let host = decode::route::virtual_host(
            wire,
            &mut Notes::default(),
            |_| Ok(()),
            |route, _, _| Ok(route.clone()),
        )?;
        Ok(Some(ReadHost { wire, host }))
    }
}

impl ReadHost<'_> {
    /// All routes, in order.
    pub fn routes(&self) -> &[Route<wire::Route>] {
        &self.host.routes
    }

    /// The place of the route that takes a request. Routes that take a share of the requests are taken for none: the mesh
    /// has none.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<usize> {
        self.host.find(head, 0)
    }
}

fn unread(wire: &wire::VirtualHost) -> UnreadHost {
    VirtualHost {
        name: wire.name.as_str().into(),
        domains: decode::route::domains(wire),
        routes: Vec::new(),
        options: wire.clone(),
    }
}

/// How many endpoints of a cluster there are, and how many of them are healthy.
pub fn endpoints(view: &View, cluster: &str) -> Result<(usize, usize), Rejection> {
    let sent: Option<ClusterLoadAssignment> = resource(view, ResourceKind::Endpoint, cluster)?;
    let assignment = match sent {
        Some(assignment) => assignment,
        // What is outside stands in its cluster.
        None => {
            let cluster: Option<Cluster> = resource(view, ResourceKind::Cluster, cluster)?;
            cluster.and_then(|cluster| cluster.load_assignment).unwrap_or_default()
        }
    };
    let all = || assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    let is_healthy =
        |status| matches!(HealthStatus::try_from(status), Ok(HealthStatus::Healthy | HealthStatus::Unknown));
    Ok((all().count(), all().filter(|endpoint| is_healthy(endpoint.health_status)).count()))
}

/// What the most specific level says of the filter `name`.
pub fn filter_override<'a>(
    side: &'a HttpSide,
    host: &'a ReadHost<'_>,
    route: usize,
    name: &str,
) -> Option<&'a Any> {
    let route = host.routes().get(route)?;
    let levels = [
        &route.effect.typed_per_filter_config,
        &host.wire.typed_per_filter_config,
        &side.configuration.typed_per_filter_config,
    ];
    levels.into_iter().find_map(|level| level.get(name))
}

fn resource<M: Message + Default>(
    view: &View,
    kind: ResourceKind,
    name: &str,
) -> Result<Option<M>, Rejection> {
    view.lookup(kind, name)
        .map(|resource| message(&resource.body).map_err(|error| error.within(name)))
        .transpose()
}

fn message<M: Message + Default>(body: &[u8]) -> Result<M, Rejection> {
    M::decode(body).map_err(|error| Rejection::new("", error.to_string()))
}
