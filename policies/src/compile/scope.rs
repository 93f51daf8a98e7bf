//! Callers that are told of the same services, and which those are.
//!
//! `Mesh.defaults.view` decides. With All, callers of one namespace share everything. With Declared, a caller is told of
//! the services that it declares as upstreams, and of those that an AuthorizationPolicy lets it call by its name; where
//! what no policy speaks of is refused, of those that one lets it call at all. Of what is outside it is told where it declares
//! that, or where its namespace is among the ExternalService's clients. Clusters that the routes of such a service
//! lead to come with it: they are not asked for here.

use std::collections::BTreeSet;
use std::fmt;

use weft_api::names::{Name, ServiceId, TrustDomain};

use super::model::{Model, WorkloadState};
use crate::kinds::AuthorizationPolicy;
use crate::kinds::authorization_policy::effect::Callers;
use crate::kinds::backend::Backend;
use crate::kinds::mesh::{DefaultAction, DefaultView};
use crate::object::Object;

/// Callers that are told of the same services under the same names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Their namespace, which short names belong to.
    pub namespace: Name,
    /// Which services they are told of.
    pub sees: Visibility,
}

/// Which services a caller is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Visibility {
    /// All services of the mesh.
    All,
    /// Those that follow from who it is and what it declares.
    Declared {
        /// The service that its certificate names; none while it has not joined.
        identity: Option<ServiceId>,
        /// The services that it declares as upstreams.
        upstreams: BTreeSet<ServiceId>,
    },
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sees {
            Visibility::All => write!(f, "{}", self.namespace),
            Visibility::Declared { identity, upstreams } => {
                match identity {
                    Some(identity) => write!(f, "{identity}")?,
                    None => write!(f, "{}", self.namespace)?,
                }
                let names: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
                if names.is_empty() { Ok(()) } else { write!(f, " with upstreams {}", names.join(", ")) }
            }
        }
    }
}

impl Scope {
    /// The scope of a workload that has a sidecar, where the mesh's default view is this one.
    #[must_use]
    pub fn of(workload: &WorkloadState, view: DefaultView) -> Self {
        let sees = match view {
            DefaultView::All | DefaultView::OnDemand => Visibility::All,
            DefaultView::Declared => Visibility::Declared {
                identity: workload.identity.clone(),
                upstreams: workload.upstreams.iter().map(|upstream| upstream.service.clone()).collect(),
            },
        };
        Self { namespace: workload.id.namespace.clone(), sees }
    }

    /// Whether its callers are told of a service. Where many scopes are asked about one service, [`Viewers`] costs less.
    #[must_use]
    pub fn sees(&self, backend: Backend<'_>, model: &Model<'_>) -> bool {
        self.sees == Visibility::All || Viewers::of(backend, model).include(self)
    }

    /// Who the callers are, for people.
    #[must_use]
    pub fn caller(&self) -> String {
        match &self.sees {
            Visibility::Declared { identity: Some(identity), .. } => identity.to_string(),
            Visibility::All | Visibility::Declared { identity: None, .. } => {
                format!("this workload of {}", self.namespace)
            }
        }
    }
}

/// Who is told of one service: what the policies say of its callers, looked up once for all scopes.
#[derive(Debug)]
pub struct Viewers<'a> {
    backend: Backend<'a>,
    allow: Vec<&'a Object<AuthorizationPolicy>>,
    /// What happens to requests that no policy speaks of.
    default: DefaultAction,
    trust_domain: &'a TrustDomain,
}

impl<'a> Viewers<'a> {
    /// Who is told of this service.
    #[must_use]
    pub fn of(backend: Backend<'a>, model: &Model<'a>) -> Self {
        Self {
            backend,
            allow: backend.service().map(|service| model.set.allowing(service)).unwrap_or_default(),
            default: model.set.defaults().0.authorization,
            trust_domain: model.trust_domain,
        }
    }

    /// Whether the callers of a scope are.
    #[must_use]
    pub fn include(&self, scope: &Scope) -> bool {
        let Visibility::Declared { identity, upstreams } = &scope.sees else { return true };
        let declared = upstreams.contains(&self.backend.id());
        // Outside nobody enforces anything: whom its own document names is told of it.
        if let Backend::External(external) = self.backend {
            return declared || external.spec.names_client(&scope.namespace);
        }
        let said = |caller| self.allow.iter().map(|policy| policy.callers(caller, self.trust_domain)).max();
        let said = identity.as_ref().and_then(said).unwrap_or(Callers::Others);
        match self.default {
            DefaultAction::Allow => declared || said == Callers::Named,
            DefaultAction::Deny => said > Callers::Others,
        }
    }
}
