//! Authorization: Envoy's RBAC filter for HTTP requests and for connections.
//!
//! Policies are tried in the order of their names, so the answer and the name in it are the same in every process.
//! Everything that cannot be decided counts towards refusal: see [`UndecidedAs`]. The tree of a policy knows its side: a header
//! below a Deny, or below a negation in an Allow, matches in doubt; elsewhere it does not.

mod attributes;
mod rule;

use std::sync::Arc;

use crate::matcher::UndecidedAs;
pub use attributes::{Attributes, PeerNames};
pub(crate) use rule::RbacRule;

/// What a matching policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RbacAction {
    /// Allows; what matches no policy is refused.
    Allow,
    /// Refuses; what matches no policy is allowed.
    Deny,
    /// Only marks; everything is allowed.
    Log,
}

/// Policies with their action.
#[derive(Clone, Debug)]
pub struct RbacRules {
    action: RbacAction,
    policies: Vec<Policy>,
    nothing_matched: Arc<str>,
}

/// A policy: it matches where any of its permissions and any of its principals does.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    name: Arc<str>,
    details: Arc<str>,
    permissions: Vec<RbacRule>,
    principals: Vec<RbacRule>,
}

impl Policy {
    pub(crate) fn new(name: &str, permissions: Vec<RbacRule>, principals: Vec<RbacRule>) -> Self {
        Self { name: name.into(), details: details(name), permissions, principals }
    }
}

/// Envoy's response code details of a refusal; white space would break a line of the access log.
fn details(name: &str) -> Arc<str> {
    let name: String = name.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    format!("rbac_access_denied_matched_policy[{name}]").into()
}

/// What a set of rules says.
#[derive(Clone, Copy, Debug)]
pub struct RbacDecision<'a> {
    /// Whether the request may pass.
    pub allowed: bool,
    /// The policy that matched.
    pub policy: Option<&'a Arc<str>>,
    details: &'a Arc<str>,
}

impl<'a> RbacDecision<'a> {
    /// `rbac_access_denied_matched_policy[NAME]`: the response code details of a refusal, `[none]` where no Allow
    /// policy matched.
    pub fn details(&self) -> &'a Arc<str> {
        self.details
    }
}

impl RbacRules {
    pub(crate) fn new(action: RbacAction, mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Self { action, policies, nothing_matched: details("none") }
    }

    /// What the rules are for.
    pub fn action(&self) -> RbacAction {
        self.action
    }

    /// Tries the policies in the order of their names; the first that matches decides.
    #[inline]
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> RbacDecision<'_> {
        let undecided = match self.action {
            RbacAction::Deny => UndecidedAs::Match,
            RbacAction::Allow | RbacAction::Log => UndecidedAs::Miss,
        };
        let matched = self.policies.iter().find(|policy| {
            policy.permissions.iter().any(|rule| rule.matches(attributes, undecided))
                && policy.principals.iter().any(|rule| rule.matches(attributes, undecided))
        });
        let allowed = match self.action {
            RbacAction::Allow => matched.is_some(),
            RbacAction::Deny => matched.is_none(),
            RbacAction::Log => true,
        };
        RbacDecision {
            allowed,
            policy: matched.map(|policy| &policy.name),
            details: matched.map_or(&self.nothing_matched, |policy| &policy.details),
        }
    }
}

/// `envoy.filters.http.rbac`.
#[derive(Clone, Debug, Default)]
pub struct HttpRbac {
    /// The enforced rules; `None` allows everything.
    pub rules: Option<RbacRules>,
    /// Rules that speak and do not act.
    pub shadow: Option<RbacRules>,
    /// Under which its statistics stand.
    pub stat_prefix: String,
    /// Under which those of the shadow rules stand.
    pub shadow_stat_prefix: String,
}

impl HttpRbac {
    /// What the enforced rules say of a request; `None` without rules.
    #[inline]
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Option<RbacDecision<'_>> {
        self.rules.as_ref().map(|rules| rules.evaluate(attributes))
    }

    /// What the shadow rules would say.
    #[inline]
    pub fn evaluate_shadow(&self, attributes: &Attributes<'_>) -> Option<RbacDecision<'_>> {
        self.shadow.as_ref().map(|rules| rules.evaluate(attributes))
    }
}

/// `envoy.filters.network.rbac`.
#[derive(Clone, Debug)]
pub struct NetworkRbac {
    /// The enforced rules; `None` allows everything.
    pub rules: Option<RbacRules>,
    /// Rules that speak and do not act.
    pub shadow: Option<RbacRules>,
    /// Under which its statistics stand.
    pub stat_prefix: String,
}

impl NetworkRbac {
    /// What the enforced rules say of a connection; `None` without rules.
    #[inline]
    pub fn evaluate(&self, attributes: &Attributes<'_>) -> Option<RbacDecision<'_>> {
        self.rules.as_ref().map(|rules| rules.evaluate(attributes))
    }

    /// What the shadow rules would say.
    #[inline]
    pub fn evaluate_shadow(&self, attributes: &Attributes<'_>) -> Option<RbacDecision<'_>> {
        self.shadow.as_ref().map(|rules| rules.evaluate(attributes))
    }
}
