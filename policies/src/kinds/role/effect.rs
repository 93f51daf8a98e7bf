//! What roles change: what a principal may do. And that nobody can give what they do not have.

use weft_api::Name;

use super::{ApiKind, KindPattern, NamespacePattern, Role, RoleRule, RoleVerb};
use crate::kinds::kind::Kind;
use crate::kinds::role_binding::RoleBinding;
use crate::object::PolicyKey;
use crate::set::{Applied, ApplyAction, PolicySet};

/// What somebody may do with the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// Everything, as the operator's token has it.
    All,
    /// What these rules allow together.
    Rules(Vec<RoleRule>),
}

/// What somebody may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRight {
    /// What was to be done.
    pub verb: RoleVerb,
    /// Of which kind it was to be done.
    pub kind: ApiKind,
    /// Where; none for what is of no namespace, or of all.
    pub namespace: Option<Name>,
}

impl std::fmt::Display for MissingRight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.kind)?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

impl Rights {
    /// Whether it is allowed. What is of no namespace, or of all, is allowed by rules for all namespaces.
    #[must_use]
    pub fn may(&self, verb: RoleVerb, kind: ApiKind, namespace: Option<&Name>) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => rules.iter().any(|rule| {
                rule.verbs.contains(&verb)
                    && rule.kinds.iter().any(|pattern| pattern.includes(kind))
                    && rule.namespaces.iter().any(|pattern| pattern.includes(namespace))
            }),
        }
    }

    /// Whether it is allowed in one namespace at least.
    #[must_use]
    pub fn may_somewhere(&self, verb: RoleVerb, kind: ApiKind) -> bool {
        match self {
            Self::All => true,
            Self::Rules(rules) => rules.iter().any(|rule| {
                rule.verbs.contains(&verb) && rule.kinds.iter().any(|pattern| pattern.includes(kind))
            }),
        }
    }

    /// Allows it, or says which right is missing.
    ///
    /// # Errors
    /// The right that is missing.
    pub fn demand(
        &self,
        verb: RoleVerb,
        kind: ApiKind,
        namespace: Option<&Name>,
    ) -> Result<(), MissingRight> {
        if self.may(verb, kind, namespace) {
            return Ok(());
        }
        Err(MissingRight { verb, kind, namespace: namespace.cloned() })
    }

    /// Whether somebody with these rights may make a change. `before` is the set that it is made on: rights are those that
    /// were there before it.
    ///
    /// # Errors
    /// The first right that is missing, in the order of the documents.
    pub fn check_change(&self, before: &PolicySet, change: &Applied) -> Result<(), MissingRight> {
        for outcome in &change.outcomes {
            let verb = match outcome.action {
                // Who sends what is there already learns that it is.
                ApplyAction::Unchanged => RoleVerb::Read,
                ApplyAction::Created | ApplyAction::Updated => RoleVerb::Write,
                ApplyAction::Deleted => RoleVerb::Delete,
            };
            let key = &outcome.key;
            self.demand(verb, ApiKind::Document(key.kind), Some(&key.namespace))?;
            if outcome.action != ApplyAction::Unchanged && *self != Self::All {
                granted_by(key, before, &change.set).iter().try_for_each(|rule| self.covers(rule))?;
            }
        }
        Ok(())
    }

    /// Whether these rights include all of a rule.
    fn covers(&self, rule: &RoleRule) -> Result<(), MissingRight> {
        for &verb in &rule.verbs {
            for kind in ApiKind::all().filter(|kind| rule.kinds.iter().any(|pattern| pattern.includes(*kind)))
            {
                for namespace in &rule.namespaces {
                    match namespace {
                        NamespacePattern::All => self.demand(verb, kind, None)?,
                        NamespacePattern::One(name) => self.demand(verb, kind, Some(name))?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// The rules that somebody may have by an object after a change: those that a role did not have; those of a binding's role,
/// and everything where that is yet to be written, since nobody is asked then who bound it. What is taken away gives nothing.
fn granted_by(key: &PolicyKey, before: &PolicySet, after: &PolicySet) -> Vec<RoleRule> {
    let rules_in = |set: &PolicySet, role: &Name| set.role(role).map(|role| role.rules.clone());
    match key.kind {
        Kind::Role => {
            let known = rules_in(before, &key.name).unwrap_or_default();
            let rules = rules_in(after, &key.name).unwrap_or_default();
            rules.into_iter().filter(|rule| !known.contains(rule)).collect()
        }
        Kind::RoleBinding => match after.binding(&key.name) {
            Some(binding) => rules_in(after, &binding.role).unwrap_or_else(|| vec![RoleRule::everything()]),
            None => Vec::new(),
        },
        Kind::Mesh
        | Kind::Service
        | Kind::ExternalService
        | Kind::Workload
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TcpRoute
        | Kind::TrafficPolicy
        | Kind::TelemetryPolicy
        | Kind::AuthenticationPolicy
        | Kind::AuthorizationPolicy => Vec::new(),
    }
}

impl RoleRule {
    /// All verbs on all kinds everywhere.
    fn everything() -> Self {
        Self {
            verbs: RoleVerb::ALL.to_vec(),
            kinds: ApiKind::all().map(KindPattern::One).collect(),
            namespaces: vec![NamespacePattern::All],
        }
    }
}

impl PolicySet {
    /// What a principal may do.
    #[must_use]
    pub fn rights_of(&self, principal: &Name) -> Rights {
        let bound = self.objects_of::<RoleBinding>().filter(|object| object.spec.binds(principal));
        let rules =
            bound.filter_map(|object| self.role(&object.spec.role)).flat_map(|role| role.rules.clone());
        Rights::Rules(rules.collect())
    }

    fn role(&self, name: &Name) -> Option<&Role> {
        self.of_the_mesh::<Role>(name)
    }

    fn binding(&self, name: &Name) -> Option<&RoleBinding> {
        self.of_the_mesh::<RoleBinding>(name)
    }
}
