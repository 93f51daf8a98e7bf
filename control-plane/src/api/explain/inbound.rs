//! The called side: who may call a port, and what it says of one request.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as HttpFilter, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_filter;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkFilter;
use weft_api::names::{INBOUND_LISTENER, sni};
use weft_api::rest::{ExplainedPort, ExplainedRule};
use weft_api::{Name, ServiceId, TrustDomain};
use weft_policies::PolicySet;
use weft_policies::kinds::Kind;
use weft_policies::kinds::authentication_policy::effect::TOKEN_REQUIRED;
use weft_policies::kinds::mesh::DefaultAction;
use weft_policies::set::{PassageVerdict, PolicyKey, Refuser};
use weft_routing::decode::{self, fields};
use weft_routing::matcher::RequestHead;
use weft_routing::metadata::KnownMetadata;
use weft_routing::path::Normal;
use weft_routing::rbac::{Attributes, PeerNames, RbacAction, RbacDecision};
use weft_routing::rejection::{Notes, Rejection};

use super::super::effective::{Shown, hidden, of_backends};
use super::outbound::ArrivingRequest;
use super::sidecar::{AskedSidecar, ChainSide, HttpSide, filter_override};

/// The port that is called.
#[derive(Debug)]
pub struct CalledPort<'a> {
    pub service: &'a ServiceId,
    pub port: &'a Name,
    pub set: &'a PolicySet,
    pub trust_domain: &'a TrustDomain,
    pub shown: Shown<'a>,
}

/// Who calls, as the called side sees it.
#[derive(Debug)]
pub struct CallingPeer {
    pub service: ServiceId,
    pub names: PeerNames,
    pub address: IpAddr,
}

/// A member with a sidecar.
#[derive(Debug)]
pub struct AskedMember<'a> {
    pub sidecar: AskedSidecar<'a>,
    pub inbound: SocketAddr,
}

/// What the rules say so far.
#[derive(Debug, Default)]
struct Judgement {
    /// The refusal: its status, and the policy's rule where there is one.
    refused: Option<(u16, Option<String>)>,
    /// Why it is one, where no policy is.
    fault: Option<String>,
    allowed_by: Option<String>,
    shadow: Vec<String>,
    /// What the route tells of everybody's rights.
    posture: Option<String>,
}

impl Judgement {
    fn note(&mut self, action: RbacAction, decision: RbacDecision<'_>) {
        let policy = decision.policy.map(ToString::to_string);
        if !decision.allowed {
            self.refused.get_or_insert((403, policy));
        } else if action == RbacAction::Allow {
            self.allowed_by = policy;
        }
    }

    fn note_shadow(&mut self, decision: Option<RbacDecision<'_>>) {
        if let Some(refusing) = decision.filter(|decision| !decision.allowed) {
            self.shadow.push(
                refusing.policy.map_or_else(|| "none of the Allow policies".to_owned(), ToString::to_string),
            );
        }
    }
}

impl CalledPort<'_> {
    /// What the port says of a caller's requests, or of one.
    pub fn of(
        &self,
        peer: &CallingPeer,
        member: Option<&AskedMember<'_>>,
        request: Option<&ArrivingRequest>,
    ) -> Result<ExplainedPort, Rejection> {
        let traffic = self.set.traffic_for(self.service, self.port, None);
        let explained = ExplainedPort {
            service: self.service.to_string(),
            port: self.port.to_string(),
            mtls: member.is_some(),
            traffic: of_backends(&traffic, &self.shown),
            ..ExplainedPort::default()
        };
        let Some(member) = member else {
            let reason = "no member has a sidecar: whoever reaches it is let in".to_owned();
            return Ok(ExplainedPort { allowed: Some(true), reason, ..explained });
        };
        let name = sni(self.port.as_str(), self.service, self.trust_domain);
        let judged = match (ChainSide::read(member.sidecar, INBOUND_LISTENER, Some(&name))?, request) {
            (None, _) => {
                let reason = "its sidecar has no listener for this port yet".to_owned();
                return Ok(ExplainedPort { allowed: Some(false), reason, ..explained });
            }
            (Some(ChainSide::Tcp { rbac, .. }), _) => judge_connection(&rbac, peer, member, &name)?,
            (Some(ChainSide::Http(side)), Some(request)) => {
                let judge = |claims| judge(&side, peer, member, &name, request, claims);
                let (with, without) = (judge(AssumedClaims::Fit)?, judge(AssumedClaims::Lack)?);
                if with.refused.is_some() != without.refused.is_some() {
                    let reason =
                        "it depends on the token that the request brings, and on its claims".to_owned();
                    return Ok(ExplainedPort { allowed: None, reason, ..self.of_all(peer, explained) });
                }
                with
            }
            (Some(ChainSide::Http(_)), None) => return Ok(self.of_all(peer, explained)),
        };
        Ok(self.told(judged, explained))
    }

    fn told(&self, judged: Judgement, explained: ExplainedPort) -> ExplainedPort {
        let posture = || judged.posture.clone().unwrap_or_else(|| self.posture());
        let explained =
            ExplainedPort { shadow: judged.shadow.iter().map(|one| self.rule(one).2).collect(), ..explained };
        match judged.refused {
            Some((status, Some(rule))) => {
                let (policy, rule, both) = self.rule(&rule);
                let reason = format!("{both} denies it");
                ExplainedPort {
                    allowed: Some(false),
                    status: Some(status),
                    policy: Some(policy),
                    rule,
                    reason,
                    ..explained
                }
            }
            Some((status, None)) => {
                let reason = judged.fault.clone().unwrap_or_else(|| self.seen(&posture()));
                ExplainedPort { allowed: Some(false), status: Some(status), reason, ..explained }
            }
            None => match judged.allowed_by {
                Some(rule) => {
                    let (policy, rule, both) = self.rule(&rule);
                    let reason = format!("{both} allows it");
                    ExplainedPort { allowed: Some(true), policy: Some(policy), rule, reason, ..explained }
                }
                None => {
                    let reason = "no policy denies it, and none has to allow it".to_owned();
                    ExplainedPort { allowed: Some(true), reason, ..explained }
                }
            },
        }
    }

    /// What becomes of all requests of the caller, as far as the caller decides that; else the rules, and what they ask.
    fn of_all(&self, peer: &CallingPeer, explained: ExplainedPort) -> ExplainedPort {
        let Some(port) = self.set.service(self.service).and_then(|service| service.spec.port(self.port))
        else {
            return explained;
        };
        let passage = self.set.passage(&peer.service, self.service, port, self.trust_domain);
        let rules = passage.rules().map(|(action, rule)| ExplainedRule {
            policy: self.shown.key(&rule.policy),
            rule: rule.rule.clone(),
            action: format!("{action:?}"),
            depends_on: rule.depends_on().iter().map(ToString::to_string).collect(),
        });
        let (allowed, reason) = match (passage.verdict(), passage.refuser()) {
            (_, Some(Refuser::Denied(rule))) => {
                (Some(false), format!("{} rule {} denies it", self.shown.key(&rule.policy), rule.rule))
            }
            (_, Some(Refuser::NotAllowed(_))) => (Some(false), self.seen(&self.posture())),
            (PassageVerdict::Passes, None) => (Some(true), "each of its requests passes".to_owned()),
            (PassageVerdict::Depends | PassageVerdict::Refused, None) => {
                (None, "it depends on the request; a method and a path make it sure".to_owned())
            }
        };
        ExplainedPort { allowed, reason, rules: rules.collect(), ..explained }
    }

    /// Who is allowed, where one has to be.
    fn posture(&self) -> String {
        let found = self.set.authorization_for(self.service, self.port);
        let names: Vec<String> = found.allow.iter().map(|policy| policy.id().to_string()).collect();
        match (names.is_empty(), found.default) {
            (false, _) => format!("allowed only by AuthorizationPolicy {}", names.join(", ")),
            (true, DefaultAction::Deny) => {
                "no AuthorizationPolicy allows it, and Mesh defaults.authorization is Deny".to_owned()
            }
            (true, DefaultAction::Allow) => "other requests are allowed".to_owned(),
        }
    }

    /// A sentence that names policies of the port, unless one of them is not to be told.
    fn seen(&self, sentence: &str) -> String {
        let found = self.set.authorization_for(self.service, self.port);
        let hidden = found.allow.iter().any(|policy| !self.shown.may_read(&policy.key()));
        if hidden { "no AuthorizationPolicy of the port allows it".to_owned() } else { sentence.to_owned() }
    }

    /// Policy, rule, and both in words, of a compiled rule: `NAMESPACE/POLICY/RULE`.
    fn rule(&self, compiled: &str) -> (String, Option<String>, String) {
        let parts: Vec<&str> = compiled.splitn(3, '/').collect();
        let [namespace, name, rule] = parts[..] else {
            return (compiled.to_owned(), None, compiled.to_owned());
        };
        let (Ok(namespace), Ok(name)) = (namespace.parse::<Name>(), name.parse::<Name>()) else {
            return (compiled.to_owned(), None, compiled.to_owned());
        };
        let kind =
            if rule == TOKEN_REQUIRED { Kind::AuthenticationPolicy } else { Kind::AuthorizationPolicy };
        let key = PolicyKey::new(kind, namespace, name);
        if !self.shown.may_read(&key) {
            return (hidden(&key), None, hidden(&key));
        }
        (key.to_string(), Some(rule.to_owned()), format!("{key} rule {rule}"))
    }
}

/// What is taken for granted of the claims of a request's token, which nobody knows here. Where both lead to the same, they
/// do not matter.
#[derive(Debug, Clone, Copy)]
enum AssumedClaims {
    /// They are what each rule asks for.
    Fit,
    /// There are none of these.
    Lack,
}

impl AssumedClaims {
    fn known(self) -> KnownMetadata<'static> {
        KnownMetadata::Assumed(matches!(self, Self::Fit))
    }
}

/// What the filters of a connection manager say of a request, in order.
fn judge(
    side: &HttpSide,
    peer: &CallingPeer,
    member: &AskedMember<'_>,
    server_name: &str,
    request: &ArrivingRequest,
    claims: AssumedClaims,
) -> Result<Judgement, Rejection> {
    let refused = |status, fault: &str| Judgement {
        refused: Some((status, None)),
        fault: Some(fault.to_owned()),
        ..Judgement::default()
    };
    let path = match side.normal(&request.path)? {
        Ok(Normal::Forward(path)) => path,
        Ok(Normal::Redirect(_)) => return Ok(refused(307, "its path holds an escaped slash")),
        Err(error) => return Ok(refused(400, &format!("its {error}"))),
    };
    let head = RequestHead {
        method: &request.method,
        scheme: "https",
        authority: &request.authority,
        path: &path,
        headers: &request.headers,
    };
    let no_route = "no route of the called side takes it";
    let Some(host) = side.host(&request.authority)? else { return Ok(refused(404, no_route)) };
    let Some(route) = host.find(&head) else { return Ok(refused(404, no_route)) };
    let attributes =
        Attributes { request: Some(head), metadata: claims.known(), ..attributes(peer, member, server_name) };
    let mut judged = Judgement {
        posture: host.routes().get(route).map(|route| route.name.to_string()),
        ..Judgement::default()
    };
    for filter in &side.manager.http_filters {
        let Some(http_filter::ConfigType::TypedConfig(own)) = &filter.config_type else { continue };
        if !fields::holds::<HttpFilter>(own) {
            continue;
        }
        let special = filter_override(side, &host, route, &filter.name);
        let special = special.map(|any| fields::unpack::<RbacPerRoute>(any, &filter.name)).transpose()?;
        let filter = match special {
            // A route without policies of its own leaves the filter out.
            Some(RbacPerRoute { rbac: None }) => continue,
            Some(RbacPerRoute { rbac: Some(filter) }) => filter,
            None => fields::unpack(own, &filter.name)?,
        };
        let rbac = decode::rbac::http(&filter, &mut Notes::default())?;
        judged.note_shadow(rbac.evaluate_shadow(&attributes));
        if let (Some(rules), Some(decision)) = (&rbac.rules, rbac.evaluate(&attributes)) {
            judged.note(rules.action(), decision);
        }
        if judged.refused.is_some() {
            break;
        }
    }
    Ok(judged)
}

/// What the filters of a chain say of a connection.
fn judge_connection(
    filters: &[NetworkFilter],
    peer: &CallingPeer,
    member: &AskedMember<'_>,
    server_name: &str,
) -> Result<Judgement, Rejection> {
    let attributes = attributes(peer, member, server_name);
    let mut judged = Judgement::default();
    for filter in filters {
        let rbac = decode::rbac::network(filter, &mut Notes::default())?;
        judged.note_shadow(rbac.evaluate_shadow(&attributes));
        if let (Some(rules), Some(decision)) = (&rbac.rules, rbac.evaluate(&attributes)) {
            judged.note(rules.action(), decision);
        }
    }
    Ok(judged)
}

fn attributes<'a>(peer: &'a CallingPeer, member: &AskedMember<'_>, server_name: &'a str) -> Attributes<'a> {
    Attributes {
        peer: Some(&peer.names),
        server_name: Some(server_name),
        local: member.inbound,
        direct_remote: peer.address,
        remote: peer.address,
        upstream: &[],
        metadata: KnownMetadata::All(None),
        request: None,
    }
}
