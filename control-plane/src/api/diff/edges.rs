//! What a change does to the requests of an edge, from what holds of caller and port before and after.

use weft_api::rest::{EdgeDiff, EdgeEffect, EdgeReason};
use weft_api::{Name, ServiceId, TrustDomain};
use weft_policies::PolicySet;
use weft_policies::compile::{ControlPlaneAddresses, Model, Scope, Workloads};
use weft_policies::kinds::port::Port;
use weft_policies::set::{PassageChange, PolicyKey, Reach, Refuser, RuleAtPort};

/// Reasons of an edge.
const REASONS: usize = 16;

/// A change of the policies.
#[derive(Debug)]
pub struct ProposedChange<'a> {
    pub before: &'a PolicySet,
    pub after: &'a PolicySet,
    pub reach: Reach,
    /// The workloads as they would be.
    pub workloads: &'a Workloads,
    pub trust_domain: &'a TrustDomain,
}

impl ProposedChange<'_> {
    /// What it does to the requests of a caller to a port of a service.
    pub fn of(&self, source: &ServiceId, service: &ServiceId, port: &Name) -> EdgeDiff {
        let (mut effect, mut reasons) = self.by_authorization(source, service, port);
        let mut doubt = |reason: EdgeReason| {
            effect = EdgeEffect::MayBeRefused;
            reasons.push(reason);
        };
        if let Some(key) = self.reach.alters(source, service) {
            doubt(EdgeReason {
                message: format!("{key} changes where its requests go, or how"),
                policy: Some(key.to_string()),
                ..EdgeReason::default()
            });
        }
        match effect {
            EdgeEffect::Refused => {
                if let Some(member) = self.unguarded(service) {
                    let message = format!("{member} has no sidecar, so that nothing is refused there");
                    (effect, reasons) = (EdgeEffect::MayBeRefused, with(reasons, message));
                }
            }
            EdgeEffect::MayBeRefused | EdgeEffect::Eased | EdgeEffect::Unaffected => {
                if self.is_hidden(source, service) {
                    let message =
                        format!("{source} is not told of {service} any more: the mesh's view is Declared");
                    (effect, reasons) = (EdgeEffect::MayBeRefused, with(reasons, message));
                }
            }
        }
        reasons.truncate(REASONS);
        EdgeDiff {
            source: source.to_string(),
            destination: service.to_string(),
            port: port.to_string(),
            effect,
            reasons,
        }
    }

    fn by_authorization(
        &self,
        source: &ServiceId,
        service: &ServiceId,
        port: &Name,
    ) -> (EdgeEffect, Vec<EdgeReason>) {
        let of = |set: &PolicySet, port: &Port| set.passage(source, service, port, self.trust_domain);
        match (find(self.before, service, port), find(self.after, service, port)) {
            (Some(before), Some(after)) => explain(of(self.before, &before).effect(&of(self.after, &after))),
            (Some(_), None) => {
                let message = format!("Service {service} has no port {port} any more");
                (EdgeEffect::MayBeRefused, with(Vec::new(), message))
            }
            (None, Some(_)) => (EdgeEffect::Eased, Vec::new()),
            (None, None) => (EdgeEffect::Unaffected, Vec::new()),
        }
    }

    /// A member that takes requests without a sidecar before it.
    fn unguarded(&self, service: &ServiceId) -> Option<String> {
        let object = self.after.service(service)?;
        let mut members = self.workloads.values().filter(|one| one.belongs_to(service, &object.spec));
        members.find(|member| !member.has_sidecar()).map(|member| member.id.to_string())
    }

    /// Whether a workload of the caller is told of the service now, and would not be.
    fn is_hidden(&self, source: &ServiceId, service: &ServiceId) -> bool {
        let nowhere = ControlPlaneAddresses::new();
        let sees = |set: &PolicySet, scope: &Scope| {
            let model = Model {
                trust_domain: self.trust_domain,
                set,
                workloads: self.workloads,
                control_planes: &nowhere,
            };
            set.backend(service).is_some_and(|backend| scope.sees(backend, &model))
        };
        let views = (self.before.defaults().0.view, self.after.defaults().0.view);
        let callers = self.workloads.values().filter(|one| one.identity.as_ref() == Some(source));
        let mut scopes = callers.map(|one| (Scope::of(one, views.0), Scope::of(one, views.1)));
        scopes.any(|(before, after)| sees(self.before, &before) && !sees(self.after, &after))
    }
}

fn find(set: &PolicySet, service: &ServiceId, port: &Name) -> Option<Port> {
    set.service(service)?.spec.ports.iter().find(|known| known.name == *port).cloned()
}

fn with(mut reasons: Vec<EdgeReason>, message: String) -> Vec<EdgeReason> {
    reasons.push(EdgeReason { message, ..EdgeReason::default() });
    reasons
}

fn explain(effect: PassageChange) -> (EdgeEffect, Vec<EdgeReason>) {
    match effect {
        PassageChange::Unaffected => (EdgeEffect::Unaffected, Vec::new()),
        PassageChange::Eased => (EdgeEffect::Eased, Vec::new()),
        PassageChange::Refused(Refuser::Denied(rule)) => {
            (EdgeEffect::Refused, vec![of_rule(&rule, "denies it")])
        }
        PassageChange::Refused(Refuser::NotAllowed(policies)) => {
            (EdgeEffect::Refused, with(Vec::new(), allowed_only_by(&policies)))
        }
        PassageChange::MayBeRefused { denying, no_more_allowing, allowing } => {
            let mut reasons: Vec<_> = denying.iter().map(|rule| of_rule(rule, "denies it")).collect();
            reasons.extend(no_more_allowing.iter().map(|rule| of_rule(rule, "does not allow it any more")));
            reasons.extend(allowing.iter().flatten().map(|rule| of_rule(rule, "allows it")));
            (EdgeEffect::MayBeRefused, reasons)
        }
    }
}

fn of_rule(rule: &RuleAtPort, does: &str) -> EdgeReason {
    let depends_on: Vec<String> = rule.depends_on().iter().map(ToString::to_string).collect();
    let mut message = format!("{} rule {} {does}", rule.policy, rule.rule);
    if !depends_on.is_empty() {
        message.push_str(&format!(", depending on {}", depends_on.join(", ")));
    }
    EdgeReason { message, policy: Some(rule.policy.to_string()), rule: Some(rule.rule.clone()), depends_on }
}

fn allowed_only_by(policies: &[PolicyKey]) -> String {
    let names: Vec<String> = policies.iter().take(REASONS).map(|key| key.id().to_string()).collect();
    match policies.len().saturating_sub(REASONS) {
        0 if names.is_empty() => {
            "no AuthorizationPolicy allows it, and Mesh defaults.authorization is Deny".to_owned()
        }
        0 => format!("allowed only by AuthorizationPolicy {}", names.join(", ")),
        more => format!("allowed only by AuthorizationPolicy {} and {more} more", names.join(", ")),
    }
}
