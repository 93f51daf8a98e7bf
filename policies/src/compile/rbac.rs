//! AuthorizationPolicies as Envoy's RBAC filters: one that refuses what a Deny matches, then one that passes only what
//! an Allow matches.
//!
//! Policies are never merged: Deny beats Allow always. With any Allow on a port, what no Allow matches is refused;
//! with none, `Mesh.defaults.authorization` decides. The names of the compiled rules, `NAMESPACE/POLICY/RULE`, are
//! what `%RESPONSE_CODE_DETAILS%` tells in a refusal; a miss of all Allows tells no name, so the body lists them.
//!
//! What is only tried (`mode: Shadow`) is told as shadow rules, which both proxies evaluate and count. What counts is a
//! request that passes and would not: an Allow that is tried can only refuse more where nothing has to be allowed yet. A
//! filter has one set of shadow rules, so a Deny that is tried stands in the second filter, which sees only what no
//! enforced Deny refused, and in the first one where an Allow that is tried has that place.
//!
//! For requests the rules stand in the routes, for connections in the listener.

mod rule;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::rbac::v3::{self as envoy, Policy};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as HttpRbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use prost::Message;
use weft_api::names::ServiceId;

use super::model::Model;
use super::overrides::FilterOverrides;
use super::{http, jwt, wire};
use crate::kinds::AuthorizationPolicy;
use crate::kinds::authentication_policy::effect::TOKEN_REQUIRED;
use crate::kinds::authorization_policy::Action;
use crate::kinds::mesh::DefaultAction;
use crate::kinds::port::Port;
use crate::policy::Object;
use crate::set::PolicyKey;

/// How many Allow policies a refusal lists by name.
const LISTED: usize = 16;

/// Fields `rules` and `shadow_rules` of both RBAC filters, field `policies` of the rules, and field `rbac` of a route's
/// override.
const RULES: u32 = 1;
const SHADOW_RULES: u32 = 2;
const POLICIES: u32 = 2;
const RBAC: u32 = 2;

/// The two filters, in order.
const STEPS: [&str; 2] = ["deny", "allow"];

/// Compiled rules by their names, in the order in which Envoy evaluates them.
type CompiledRules = BTreeMap<String, Policy>;

/// Who may call one port of a service.
#[derive(Debug, Default)]
pub(super) struct PortRbac {
    deny: CompiledRules,
    /// `None` passes everything that no Deny matches.
    allow: Option<CompiledRules>,
    /// What is only tried.
    shadow_deny: CompiledRules,
    /// `None` where no Allow that is tried could refuse more.
    shadow_allow: Option<CompiledRules>,
    /// The Allow policies, `NAMESPACE/NAME`.
    allow_policies: Vec<String>,
    origins: Vec<PolicyKey>,
}

impl PortRbac {
    /// What all policies together say about a port.
    pub(super) fn of(service: &ServiceId, port: &Port, model: &Model<'_>) -> Self {
        let mut result = Self::default();
        let found = model.set.authorization_for(service, &port.name);
        if found.default == DefaultAction::Deny && found.allow.is_empty() {
            result.allow = Some(CompiledRules::new());
            result.origins.extend(found.default_origin);
        }
        let tokens = model.set.token_required_by(service, &port.name).filter(|_| port.protocol.is_http());
        if let Some(policy) = tokens {
            result.deny.insert(format!("{}/{TOKEN_REQUIRED}", policy.id()), jwt::without_token());
            result.origins.push(policy);
        }
        for policy in &found.deny {
            result.deny.extend(rules(policy, port, model));
            result.origins.push(policy.key());
        }
        for policy in &found.allow {
            result.allow.get_or_insert_default().extend(rules(policy, port, model));
            result.allow_policies.push(policy.id().to_string());
            result.origins.push(policy.key());
        }
        for policy in &found.shadow {
            match policy.spec.action {
                Action::Deny => result.shadow_deny.extend(rules(policy, port, model)),
                Action::Allow if result.allow.is_none() => {
                    result.shadow_allow.get_or_insert_default().extend(rules(policy, port, model));
                }
                Action::Allow => {}
            }
            result.origins.push(policy.key());
        }
        result
    }

    /// The policies that speak about the port.
    pub(super) fn origins(&self) -> impl Iterator<Item = PolicyKey> {
        self.origins.iter().cloned()
    }

    /// Tells [`http_filters`] of the listener the rules, which they do not hold themselves.
    pub(super) fn per_route(&self, overrides: &mut FilterOverrides) {
        for (step, rules) in self.steps() {
            let mut filter = rules.encode();
            let prefix = HttpRbac { rules_stat_prefix: format!("{step}."), ..Default::default() };
            filter.extend(prefix.encode_to_vec());
            let mut config = Vec::new();
            wire::append_message(&mut config, RBAC, &filter);
            overrides.insert(filter_name(step), wire::packed::<RbacPerRoute>(config));
        }
    }

    /// The rules as filters of connections, for a port whose requests cannot be told apart.
    pub(super) fn network_filters(&self, stat_prefix: &str) -> Vec<Filter> {
        self.steps()
            .map(|(step, rules)| {
                let mut config = rules.encode();
                let rest =
                    NetworkRbac { stat_prefix: format!("{stat_prefix}.{step}."), ..Default::default() };
                rest.encode(&mut config).expect("a vector grows");
                let name = format!("envoy.filters.network.rbac.{step}");
                http::network_filter(&name, wire::packed::<NetworkRbac>(config))
            })
            .collect()
    }

    /// What a caller who was refused should know of everyone's rights here. It is the name of the inbound route, since
    /// a refusal can tell that: a change of policies then changes routes only, which takes effect at once on
    /// connections that exist, where a change of the listener would wait for them to end.
    pub(super) fn posture(&self) -> String {
        if self.allow.is_none() {
            return "other requests are allowed".to_owned();
        }
        if self.allow_policies.is_empty() {
            return "no AuthorizationPolicy allows it, and Mesh defaults.authorization is Deny".to_owned();
        }
        let listed =
            self.allow_policies.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.allow_policies.len().saturating_sub(LISTED) {
            0 => format!("allowed only by AuthorizationPolicy {listed}"),
            more => format!("allowed only by AuthorizationPolicy {listed} and {more} more"),
        }
    }

    /// What each filter that has anything to say is told.
    fn steps(&self) -> impl Iterator<Item = (&'static str, StepRules<'_>)> {
        let denying = |rules: &'_ CompiledRules| (!rules.is_empty()).then_some(envoy::rbac::Action::Deny);
        let shadow_deny = denying(&self.shadow_deny).map(|action| (action, &self.shadow_deny));
        let allowing = envoy::rbac::Action::Allow;
        let (first, second) = match &self.shadow_allow {
            Some(rules) => (shadow_deny, Some((allowing, rules))),
            None => (None, shadow_deny),
        };
        let deny =
            StepRules { enforced: denying(&self.deny).map(|action| (action, &self.deny)), shadow: first };
        let allow =
            StepRules { enforced: self.allow.as_ref().map(|rules| (allowing, rules)), shadow: second };
        STEPS.into_iter().zip([deny, allow]).filter(|(_, rules)| rules.say_anything())
    }
}

/// What one filter is told.
struct StepRules<'a> {
    enforced: Option<(envoy::rbac::Action, &'a CompiledRules)>,
    shadow: Option<(envoy::rbac::Action, &'a CompiledRules)>,
}

impl StepRules<'_> {
    fn say_anything(&self) -> bool {
        self.enforced.is_some() || self.shadow.is_some()
    }

    /// The fields of a filter, of requests or of connections, that hold the rules.
    fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for (field, rules) in [(RULES, self.enforced), (SHADOW_RULES, self.shadow)] {
            if let Some((action, rules)) = rules {
                wire::append_message(&mut fields, field, &encode(action, rules));
            }
        }
        fields
    }
}

/// The filters of every inbound listener, in order.
pub(super) fn http_filters() -> Vec<HttpFilter> {
    let filter = |step: &str| {
        let config = HttpRbac { rules_stat_prefix: format!("{step}."), ..Default::default() };
        http::http_filter(&filter_name(step), wire::any(&config))
    };
    STEPS.map(filter).into()
}

fn filter_name(step: &str) -> String {
    format!("envoy.filters.http.rbac.{step}")
}

/// The rules of a policy that something arriving at the port can match, by name.
fn rules(policy: &Object<AuthorizationPolicy>, port: &Port, model: &Model<'_>) -> CompiledRules {
    let context = rule::RuleContext {
        action: policy.spec.action,
        namespace: &policy.metadata.namespace,
        trust_domain: model.trust_domain,
        port,
    };
    let named = policy.spec.rules.iter().enumerate().filter_map(|(index, rule)| {
        let label = rule.name.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        Some((format!("{}/{label}", policy.id()), rule::compile(rule, &context)?))
    });
    named.collect()
}

/// The rules as the bytes of one `RBAC` message, sorted by name, so that equal rules give equal bytes.
fn encode(action: envoy::rbac::Action, rules: &CompiledRules) -> Vec<u8> {
    let mut bytes = envoy::Rbac { action: action as i32, ..Default::default() }.encode_to_vec();
    let entries = rules.iter().map(|(name, policy)| (name, policy.encode_to_vec()));
    wire::append_map(&mut bytes, POLICIES, entries);
    bytes
}
