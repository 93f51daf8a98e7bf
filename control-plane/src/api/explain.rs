//! What would become of a request, and why: what both sidecars have is asked, by the code that weft-proxy runs.
//!
//! ```text
//!   Question ──▶ the caller's view ──▶ Outbound: route, clusters ──▶ views of members ──▶ ExplainedPort of each port
//! ```

mod inbound;
mod outbound;
mod question;
mod sidecar;
mod verdict;
mod words;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use weft_api::names::workload_dns_san;
use weft_api::rest::{ExplainQuestion, ExplainResult, ExplainedCaller, ExplainedCluster, ExplainedPort};
use weft_api::{Name, ServiceId, SpiffeId, TrustDomain, WorkloadId};
use weft_policies::PolicySet;
use weft_policies::compile::{Health, WorkloadState};
use weft_policies::kinds::ExternalService;
use weft_policies::kinds::backend::Backend;
use weft_policies::kinds::role::ApiKind;
use weft_policies::policy::Object;
use weft_routing::rbac::PeerNames;
use weft_routing::rejection::Rejection;

use super::effective::Shown;
use super::error::ApiError;
use super::extract::JsonBody;
use super::problem_code::ProblemCode;
use super::proxies::proxy_word;
use super::rights::{CallerRights, forbidden};
use super::state::Api;
use crate::reconciler::Perspective;
use inbound::{AskedMember, CalledPort, CallingPeer};
use outbound::{CallerSide, Outbound};
use question::{AskedDestination, Question};
use sidecar::AskedSidecar;
use verdict::{summary, verdict};

/// How long a change that is on its way may take to be compiled.
const SETTLES: Duration = Duration::from_secs(5);
/// How soon it is asked again meanwhile.
const AGAIN: Duration = Duration::from_millis(10);

/// `POST /v1/explain`
pub async fn explain(
    State(api): State<Api>,
    rights: CallerRights,
    JsonBody(asked): JsonBody<ExplainQuestion>,
) -> Result<Json<ExplainResult>, ApiError> {
    let question = Question::read(&asked)?;
    check_rights(&rights, &question)?;
    let revision = api.policies.head().await.map(|head| head.revision()).unwrap_or_default();
    // One question after the other: each reads a whole route configuration, and takes a processor.
    let Ok(_turn) = api.rehearsals.acquire().await else { return Err(not_now()) };
    let mut published = api.reconciler.published();
    let settled = published.wait_for(|published| published.ready && published.policy_revision >= revision);
    if !matches!(tokio::time::timeout(SETTLES, settled).await, Ok(Ok(_))) {
        return Err(not_now());
    }
    for last in [false, false, true] {
        let caller = caller(&perspective(&api, Vec::new()).await?, &question.source)?;
        let mesh = perspective(&api, vec![caller.id.clone()]).await?;
        let trust_domain = api.authority.trust_domain().clone();
        let asking =
            CallerQuestion { question: question.clone(), caller, trust_domain, rights: rights.clone() };
        let (asking, mesh, outbound) = blocking(move || {
            let outbound = asking.outbound(&mesh)?;
            Ok((asking, mesh, outbound))
        })
        .await?;
        let ports = asking.ports(&outbound, &mesh);
        let members = ports.iter().filter_map(|port| port.member.clone()).collect();
        let members = perspective(&api, members).await?;
        if members.publication == mesh.publication || last {
            return blocking(move || asking.answer(outbound, &ports, &mesh, &members)).await.map(Json);
        }
    }
    Err(not_now())
}

/// Runs what takes a processor for a while where nobody waits for it.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| {
        tracing::error!(event = "explain_failed", %error, "a question could not be answered");
        let detail = "the question could not be answered";
        Err(ApiError::new(ProblemCode::Internal, detail))
    })
}

/// Who may look at the traffic of one end; at all, whoever may look everywhere.
fn check_rights(rights: &CallerRights, question: &Question) -> Result<(), ApiError> {
    let mut ends = vec![&question.source];
    if let AskedDestination::Service(service, _) = &question.destination {
        ends.push(service);
    }
    if ends.iter().any(|end| rights.may_read(ApiKind::Traffic, end.namespace.as_str())) {
        return Ok(());
    }
    Err(forbidden(
        "no role of yours allows Read Traffic in a namespace of the caller or of the called service",
    ))
}

/// What is compiled now; a change that is on its way is waited for.
async fn perspective(api: &Api, workloads: Vec<WorkloadId>) -> Result<Perspective, ApiError> {
    let ask = async {
        loop {
            if let Some(found) = api.reconciler.perspective(workloads.clone()).await {
                return found;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(SETTLES, ask).await.map_err(|_| not_now())
}

fn not_now() -> ApiError {
    let detail = "the newest policies are not compiled yet; try again";
    ApiError::new(ProblemCode::NotReady, detail)
}

/// The workload whose sidecar is asked: the one of that name, or the first of that service's, one that is well before others.
fn caller(mesh: &Perspective, source: &ServiceId) -> Result<WorkloadState, ApiError> {
    let named = WorkloadId::new(source.namespace.clone(), source.name.clone());
    let of_service = || {
        let members =
            mesh.workloads.values().filter(|one| one.identity.as_ref() == Some(source) && one.has_sidecar());
        members.min_by_key(|one| (one.health != Health::Healthy, one.id.clone()))
    };
    let by_name = || mesh.workloads.get(&named).filter(|one| one.has_sidecar() && one.identity.is_some());
    if let Some(found) = of_service().or_else(by_name) {
        return Ok(found.clone());
    }
    if mesh.set.service(source).is_some() || mesh.workloads.contains_key(&named) {
        return Err(ApiError::missing(format!(
            "no workload of {source} has joined with a sidecar: nothing routes its calls, and it has no identity yet; \
             `weft proxy list` shows who has"
        )));
    }
    let workloads = mesh.workloads.keys().map(ToString::to_string);
    Err(unknown(source, &mesh.set, workloads))
}

/// There is no such service.
fn unknown(service: &ServiceId, set: &PolicySet, others: impl Iterator<Item = String>) -> ApiError {
    ApiError::no_service(service, set.backends().map(|backend| backend.id().to_string()).chain(others))
}

impl From<Rejection> for ApiError {
    /// What is served to a sidecar could not be read: that is nobody's fault but ours.
    fn from(rejection: Rejection) -> Self {
        tracing::error!(event = "explain_failed", error = %rejection, "what a sidecar has could not be read");
        let detail = format!("what the sidecar has could not be read: {rejection}");
        Self::new(ProblemCode::Internal, detail)
    }
}

/// A port behind the route, and the member whose sidecar is asked.
struct BehindRoute {
    service: ServiceId,
    port: Name,
    member: Option<WorkloadId>,
    unguarded: Vec<String>,
}

/// One question of one caller.
struct CallerQuestion {
    question: Question,
    caller: WorkloadState,
    trust_domain: TrustDomain,
    rights: CallerRights,
}

impl CallerQuestion {
    fn identity(&self) -> &ServiceId {
        // Without one it was not chosen.
        self.caller.identity.as_ref().unwrap_or(&self.question.source)
    }

    fn outbound(&self, mesh: &Perspective) -> Result<(String, Outbound), ApiError> {
        let Some(view) = mesh.views.first() else { return Err(not_now()) };
        let side = CallerSide {
            sidecar: AskedSidecar { view, proxy: self.caller.proxy },
            set: &mesh.set,
            namespace: &self.caller.id.namespace,
            shown: Shown(&self.rights),
        };
        let request = self.question.request.as_ref();
        let authority = match &self.question.destination {
            AskedDestination::Host(host) => host.clone(),
            AskedDestination::Service(service, port) => {
                let Some(backend) = mesh.set.backend(service) else {
                    return Err(unknown(service, &mesh.set, std::iter::empty()));
                };
                let host = match backend {
                    Backend::Service(_) => format!("{}.{}", service.name, service.namespace),
                    Backend::External(external) => host_of(external)?,
                };
                let ports = backend.ports();
                match port {
                    None if ports.iter().any(|port| port.protocol.is_http()) => host,
                    None => {
                        let Some(first) = ports.first() else { return Err(no_port(service, "any", &[])) };
                        let found = side.to_port(service, &first.name)?;
                        return Ok((host, found));
                    }
                    Some(wanted) => {
                        let names: Vec<String> = ports.iter().map(|port| port.name.to_string()).collect();
                        let found = backend.find_port(wanted);
                        let port = found.ok_or_else(|| no_port(service, &wanted.to_string(), &names))?;
                        if !port.protocol.is_http() {
                            let found = side.to_port(service, &port.name)?;
                            return Ok((host, found));
                        }
                        format!("{host}:{}", port.port)
                    }
                }
            }
        };
        let authority = self.question.host.clone().unwrap_or(authority);
        let found = side.to_host(&authority, request)?;
        Ok((authority, found))
    }

    /// The ports behind the routes.
    fn ports(&self, (_, outbound): &(String, Outbound), mesh: &Perspective) -> Vec<BehindRoute> {
        let clusters = outbound.routes.iter().flat_map(|route| &route.clusters);
        let mut named: BTreeSet<(ServiceId, Name)> = clusters.filter_map(port_of).collect();
        if let (true, Some(destination)) = (self.question.request.is_none(), &outbound.destination) {
            named.insert(destination.clone());
        }
        // Outside nobody's sidecar can be asked.
        let is_outside = |id: &ServiceId| mesh.set.backend(id).is_some_and(|one| one.external().is_some());
        let named = named.into_iter().filter(|(service, _)| !is_outside(service));
        let found = named.map(|(service, port)| {
            let spec = mesh.set.service(&service).map(|object| &object.spec);
            let members =
                mesh.workloads.values().filter(|one| spec.is_some_and(|spec| one.belongs_to(&service, spec)));
            let (guarded, unguarded): (Vec<&WorkloadState>, Vec<_>) =
                members.partition(|one| one.has_sidecar());
            let member = guarded.iter().min_by_key(|one| (one.health != Health::Healthy, one.id.clone()));
            BehindRoute {
                member: member.map(|one| one.id.clone()),
                unguarded: unguarded.iter().map(|one| one.id.to_string()).collect(),
                service,
                port,
            }
        });
        found.collect()
    }

    fn answer(
        &self,
        (authority, outbound): (String, Outbound),
        ports: &[BehindRoute],
        mesh: &Perspective,
        members: &Perspective,
    ) -> Result<ExplainResult, ApiError> {
        let identity = self.identity();
        let spiffe = SpiffeId::service(&self.trust_domain, identity).to_string();
        let peer = CallingPeer {
            service: identity.clone(),
            names: PeerNames {
                uri_sans: vec![spiffe.as_str().into()],
                dns_sans: vec![workload_dns_san(&self.caller.id.name, identity, &self.trust_domain).into()],
                subject: String::new(),
            },
            address: self.caller.address.ip(),
        };
        let mut views = members.views.iter();
        let mut explained = Vec::new();
        for behind in ports {
            let called = CalledPort {
                service: &behind.service,
                port: &behind.port,
                set: &mesh.set,
                trust_domain: &self.trust_domain,
                shown: Shown(&self.rights),
            };
            let state = behind.member.as_ref().and_then(|id| mesh.workloads.get(id));
            let view = behind.member.as_ref().and_then(|_| views.next());
            let member = state.zip(view).map(|(state, view)| AskedMember {
                sidecar: AskedSidecar { view, proxy: state.proxy },
                inbound: state.inbound,
            });
            let port = called.of(&peer, member.as_ref(), outbound.arriving.as_ref())?;
            explained.push(ExplainedPort {
                workload: behind.member.as_ref().map(ToString::to_string),
                unguarded: behind.unguarded.clone(),
                ..port
            });
        }
        let callers = mesh
            .workloads
            .values()
            .filter(|one| one.identity.as_ref() == Some(identity) && one.has_sidecar());
        let request = self.question.request.as_ref();
        let mut result = ExplainResult {
            revision: mesh.revision,
            caller: ExplainedCaller {
                workload: self.caller.id.to_string(),
                identity: spiffe,
                proxy: proxy_word(self.caller.proxy).to_owned(),
                workloads: callers.count(),
            },
            authority,
            destination: outbound.destination.map(|(service, port)| format!("{service}:{port}")),
            method: request.map(|request| request.method.clone()),
            path: request.map(|request| outbound.path.unwrap_or_else(|| request.path.clone())),
            answer: outbound.answer,
            routes: outbound.routes,
            ports: explained,
            ..ExplainResult::default()
        };
        result.verdict = verdict(&result);
        result.summary = summary(&result);
        Ok(result)
    }
}

/// What is outside is asked for by a host of its own, of which a wildcard is none.
fn host_of(external: &Object<ExternalService>) -> Result<String, ApiError> {
    let host = external.spec.host().map(ToString::to_string);
    host.ok_or_else(|| {
        ApiError::missing(format!("{} has no host but wildcards: ask for one below them", external.key()))
    })
}

fn no_port(service: &ServiceId, wanted: &str, names: &[String]) -> ApiError {
    let known = names.join(", ");
    ApiError::missing(format!("Service {service} has no port {wanted}; it has {known}"))
}

fn port_of(cluster: &ExplainedCluster) -> Option<(ServiceId, Name)> {
    Some((cluster.service.as_ref()?.parse().ok()?, cluster.port.as_ref()?.parse().ok()?))
}
