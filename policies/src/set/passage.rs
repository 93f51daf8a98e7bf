//! Whether requests of one caller to one port could pass at all, as far as policies tell, and what a change of the policies
//! does to that.
//!
//! Of an edge the caller and the port are known, and nothing of its requests: no path, no method, no header, no address.
//! So each rule is reduced to what it still asks once caller and port are known; one that asks nothing more takes every
//! request, one that cannot be met takes none. What a rule says of caller and port is read here as `compile::rbac` writes
//! it for the proxies; both take rules apart field by field, so that a new one is missed in neither.

use std::collections::BTreeSet;
use std::fmt;

use weft_api::{Name, ServiceId, SpiffeId, TrustDomain};

use super::PolicySet;
use crate::kinds::authentication_policy::effect::TOKEN_REQUIRED;
use crate::kinds::authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationRule, Condition, Operation, Source, SpiffeIdentity,
};
use crate::kinds::mesh::DefaultAction;
use crate::kinds::port::Port;
use crate::kinds::route_match::{Method, PathMatch, PathMatchType};
use crate::object::{Object, PolicyKey};
use crate::value::{Cidr, PortRef};

/// What of a request decides beside its caller and its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Circumstance {
    /// The address of the caller's end of the connection.
    Address,
    /// Whether it brings a token that is verified.
    Token,
    /// A claim of a verified token.
    Claim,
    /// The method of HTTP.
    Method,
    /// The path of HTTP, without its query.
    Path,
    /// The method of gRPC.
    GrpcMethod,
    /// The value of this header.
    Header(String),
}

impl fmt::Display for Circumstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Token => f.write_str("token"),
            Self::Claim => f.write_str("claim"),
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
            Self::GrpcMethod => f.write_str("gRPC method"),
            Self::Header(name) => write!(f, "header {name}"),
        }
    }
}

/// What a source still asks: addresses, claims.
type OpenSource = (Vec<Cidr>, Vec<serde_json::Map<String, serde_json::Value>>);
/// What an operation still asks: methods, paths, methods of gRPC.
type OpenOperation = (Vec<Method>, Vec<PathMatch>, Vec<String>);

/// What a rule still asks of a request of the caller to the port. Empty lists ask nothing.
#[derive(Debug, Clone, Default, PartialEq)]
struct Remainder {
    /// One of these must hold; none of them where the caller is settled.
    sources: Vec<OpenSource>,
    /// One of these must hold; none of them where every operation is meant.
    operations: Vec<OpenOperation>,
    /// Each of these must hold.
    conditions: Vec<Condition>,
    /// That no token was verified.
    no_token: bool,
}

impl Remainder {
    fn takes_everything(&self) -> bool {
        self.sources.is_empty() && self.operations.is_empty() && self.conditions.is_empty() && !self.no_token
    }

    fn depends_on(&self) -> BTreeSet<Circumstance> {
        let mut found = BTreeSet::new();
        let mut note = |is_asked: bool, circumstance| {
            if is_asked {
                found.insert(circumstance);
            }
        };
        note(self.no_token, Circumstance::Token);
        for (cidrs, claims) in &self.sources {
            note(!cidrs.is_empty(), Circumstance::Address);
            note(!claims.is_empty(), Circumstance::Claim);
        }
        for (methods, paths, grpc_methods) in &self.operations {
            note(!methods.is_empty(), Circumstance::Method);
            note(!paths.is_empty(), Circumstance::Path);
            note(!grpc_methods.is_empty(), Circumstance::GrpcMethod);
        }
        for condition in &self.conditions {
            note(true, Circumstance::Header(condition.header.as_str().to_owned()));
        }
        found
    }
}

/// A rule that may take requests of the caller to the port.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleAtPort {
    /// The policy that it stands in.
    pub policy: PolicyKey,
    /// Its name, or its index where it has none.
    pub rule: String,
    remainder: Remainder,
}

impl RuleAtPort {
    /// What of a request decides whether the rule takes it; nothing where it takes every request.
    #[must_use]
    pub fn depends_on(&self) -> BTreeSet<Circumstance> {
        self.remainder.depends_on()
    }
}

/// Whether the requests of one caller to one port pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassageVerdict {
    /// Every request does, whatever it says.
    Passes,
    /// No request does, whatever it says.
    Refused,
    /// It depends on the request.
    Depends,
}

/// What all policies together say of requests of one caller to one port.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// Rules of Deny policies that may take them.
    deny: Vec<RuleAtPort>,
    /// Rules of Allow policies that may take them; `None` where what no Deny takes passes.
    allow: Option<Vec<RuleAtPort>>,
    /// The Allow policies of the port.
    allowing: Vec<PolicyKey>,
}

/// What a change does to the requests of an edge.
#[derive(Debug, Clone, PartialEq)]
pub enum PassageChange {
    /// Each of them is refused as it was, or passes as it did.
    Unaffected,
    /// Every one is refused, which was not so: by this rule, or because none of these Allow policies allows it.
    Refused(Refuser),
    /// Some that passed may be refused: what takes them now and did not, and what let them pass and does not any more.
    MayBeRefused {
        /// Rules of Deny policies that are new.
        denying: Vec<RuleAtPort>,
        /// Rules of Allow policies that went.
        no_more_allowing: Vec<RuleAtPort>,
        /// Rules of Allow policies that may still let them pass, where one has to.
        allowing: Option<Vec<RuleAtPort>>,
    },
    /// All that passed still pass, and some that were refused may pass.
    Eased,
}

/// Why no request passes.
#[derive(Debug, Clone, PartialEq)]
pub enum Refuser {
    /// A rule of a Deny policy takes everything.
    Denied(RuleAtPort),
    /// None of these Allow policies lets the caller pass; where there are none, the default of the mesh refuses.
    NotAllowed(Vec<PolicyKey>),
}

impl PolicySet {
    /// What the policies say of requests of a caller, by the identity of its service, to a port of a service.
    #[must_use]
    pub fn passage(
        &self,
        caller: &ServiceId,
        service: &ServiceId,
        port: &Port,
        trust_domain: &TrustDomain,
    ) -> Passage {
        let found = self.authorization_for(service, &port.name);
        let identity = SpiffeIdentity(SpiffeId::service(trust_domain, caller));
        let at_port = |policy: &Object<AuthorizationPolicy>| {
            let known =
                KnownCaller { caller, identity: &identity, namespace: &policy.metadata.namespace, port };
            let key = policy.key();
            // What it is about was found by its targets, and those that are only tried stand apart.
            let AuthorizationPolicy { target_refs: _, action: _, mode: _, rules } = &policy.spec;
            let named = rules.iter().enumerate().filter_map(move |(index, rule)| {
                let name = rule.name.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
                Some(RuleAtPort { policy: key.clone(), rule: name, remainder: known.of_rule(rule)? })
            });
            named.collect::<Vec<_>>()
        };
        // A verified token is asked for before any rule.
        let unverified =
            self.token_required_by(service, &port.name).filter(|_| port.protocol.is_http()).map(|policy| {
                let remainder = Remainder { no_token: true, ..Remainder::default() };
                RuleAtPort { policy, rule: TOKEN_REQUIRED.to_owned(), remainder }
            });
        let denying = found.deny.iter().flat_map(|policy| at_port(policy));
        let has_to_be_allowed = !found.allow.is_empty() || found.default == DefaultAction::Deny;
        Passage {
            deny: unverified.into_iter().chain(denying).collect(),
            allow: has_to_be_allowed.then(|| found.allow.iter().flat_map(|policy| at_port(policy)).collect()),
            allowing: found.allow.iter().map(|policy| policy.key()).collect(),
        }
    }
}

/// What is known of a request.
struct KnownCaller<'a> {
    caller: &'a ServiceId,
    identity: &'a SpiffeIdentity,
    /// The policy's namespace, which services named without one belong to.
    namespace: &'a Name,
    port: &'a Port,
}

impl KnownCaller<'_> {
    /// What a rule still asks; none where it cannot be met.
    fn of_rule(&self, rule: &AuthorizationRule) -> Option<Remainder> {
        let AuthorizationRule { name: _, from, to, when } = rule;
        if !when.is_empty() && !self.port.protocol.is_http() {
            return None;
        }
        Some(Remainder {
            sources: any_of(from, |source| self.of_source(source), |rest| *rest == OpenSource::default())?,
            operations: any_of(to, |one| self.of_operation(one), |rest| *rest == OpenOperation::default())?,
            conditions: when.clone(),
            no_token: false,
        })
    }

    fn of_source(&self, source: &Source) -> Option<OpenSource> {
        let Source { services, identities, namespaces, cidrs, claims } = source;
        let fits = |unset: bool, matches: bool| unset || matches;
        let named = services.iter().any(|service| service.resolve(self.namespace) == *self.caller);
        let is_met = (claims.is_empty() || self.port.protocol.is_http())
            && fits(services.is_empty(), named)
            && fits(identities.is_empty(), identities.contains(self.identity))
            && fits(namespaces.is_empty(), namespaces.contains(&self.caller.namespace));
        is_met.then(|| (cidrs.clone(), claims.clone()))
    }

    fn of_operation(&self, operation: &Operation) -> Option<OpenOperation> {
        let Operation { ports, methods, paths, grpc_methods } = operation;
        let is_this = |one: &PortRef| match one {
            PortRef::Number(number) => *number == self.port.port,
            PortRef::Name(name) => *name == self.port.name,
        };
        let is_met = (ports.is_empty() || ports.iter().any(is_this))
            && (self.port.protocol.is_http() || !operation.needs_http());
        let all = |path: &PathMatch| {
            path.match_type == PathMatchType::PathPrefix && path.value.trim_end_matches('/').is_empty()
        };
        let paths = if paths.iter().any(all) { Vec::new() } else { paths.clone() };
        is_met.then(|| (methods.clone(), paths, grpc_methods.clone()))
    }
}

/// What is left of alternatives, one of which must be met: nothing where one asks nothing more, or where none is written.
fn any_of<T, R>(
    alternatives: &[T],
    rest: impl Fn(&T) -> Option<R>,
    is_met: impl Fn(&R) -> bool,
) -> Option<Vec<R>> {
    let left: Vec<R> = alternatives.iter().filter_map(rest).collect();
    if alternatives.is_empty() || left.iter().any(is_met) {
        return Some(Vec::new());
    }
    (!left.is_empty()).then_some(left)
}

impl Passage {
    /// Whether the requests pass, as far as that can be said without seeing one.
    #[must_use]
    pub fn verdict(&self) -> PassageVerdict {
        if self.refuser().is_some() {
            return PassageVerdict::Refused;
        }
        if self.deny.is_empty() && self.allow.as_ref().is_none_or(|rules| take_everything(rules)) {
            PassageVerdict::Passes
        } else {
            PassageVerdict::Depends
        }
    }

    /// The rules that may take requests, those that deny first.
    pub fn rules(&self) -> impl Iterator<Item = (Action, &RuleAtPort)> {
        let deny = self.deny.iter().map(|rule| (Action::Deny, rule));
        deny.chain(self.allow.iter().flatten().map(|rule| (Action::Allow, rule)))
    }

    /// Why none of them passes; nothing where some may.
    #[must_use]
    pub fn refuser(&self) -> Option<Refuser> {
        if let Some(rule) = self.deny.iter().find(|one| one.remainder.takes_everything()) {
            return Some(Refuser::Denied(rule.clone()));
        }
        let nobody = self.allow.as_ref().is_some_and(Vec::is_empty);
        nobody.then(|| Refuser::NotAllowed(self.allowing.clone()))
    }

    /// What a change from this to `after` does to the requests.
    #[must_use]
    pub fn effect(&self, after: &Self) -> PassageChange {
        match (self.verdict(), after.refuser()) {
            (PassageVerdict::Refused, Some(_)) => return PassageChange::Unaffected,
            (PassageVerdict::Passes | PassageVerdict::Depends, Some(refuser)) => {
                return PassageChange::Refused(refuser);
            }
            (PassageVerdict::Refused, None) => return PassageChange::Eased,
            (PassageVerdict::Passes | PassageVerdict::Depends, None) => {}
        }
        let denying = lacking(&after.deny, &self.deny);
        let no_more_allowing = match (&self.allow, &after.allow) {
            (Some(before), Some(after)) => lacking(before, after),
            // Everything was allowed, without a rule that could be named; or is.
            (None, _) | (_, None) => Vec::new(),
        };
        let allow_narrows = (self.allow.is_none() && after.allow.is_some()) || !no_more_allowing.is_empty();
        let lets_all = after.allow.as_ref().is_none_or(|rules| take_everything(rules));
        if !denying.is_empty() || (allow_narrows && !lets_all) {
            let allowing = after.allow.clone().filter(|_| !lets_all);
            return PassageChange::MayBeRefused { denying, no_more_allowing, allowing };
        }
        let allow_widens = match (&self.allow, &after.allow) {
            (Some(before), _) if take_everything(before) => false,
            (Some(before), Some(after)) => !lacking(after, before).is_empty(),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !lacking(&self.deny, &after.deny).is_empty() || allow_widens {
            PassageChange::Eased
        } else {
            PassageChange::Unaffected
        }
    }
}

fn take_everything(rules: &[RuleAtPort]) -> bool {
    rules.iter().any(|one| one.remainder.takes_everything())
}

/// The rules of `some` that ask what none of `others` asks: by what they mean, whatever they are called.
fn lacking(some: &[RuleAtPort], others: &[RuleAtPort]) -> Vec<RuleAtPort> {
    let is_there = |rule: &RuleAtPort| others.iter().any(|other| other.remainder == rule.remainder);
    some.iter().filter(|rule| !is_there(rule)).cloned().collect()
}

#[cfg(test)]
mod tests;
