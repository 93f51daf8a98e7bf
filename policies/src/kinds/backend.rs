//! What is called: services of the mesh, and what is outside of it.

use weft_api::{Name, ServiceId};

use super::external_service::ExternalService;
use super::port::{Port, find};
use super::service::Service;
use super::spec::Objects;
use crate::object::{Object, PolicyKey};
use crate::value::{Hostname, PortRef};

/// Something that has ports and is called by a name. Both kinds share their names.
#[derive(Debug, Clone, Copy)]
pub enum Backend<'a> {
    /// A service of the mesh.
    Service(&'a Object<Service>),
    /// Something outside of it.
    External(&'a Object<ExternalService>),
}

impl<'a> Backend<'a> {
    /// The one of this id among objects; of two, which are in conflict, the service.
    pub(crate) fn find(id: &ServiceId, objects: &'a dyn Objects) -> Option<Self> {
        let service = objects.find(id).map(Self::Service);
        service.or_else(|| objects.find(id).map(Self::External))
    }

    /// Namespace and name, which no Service and ExternalService share.
    #[must_use]
    pub fn id(self) -> ServiceId {
        match self {
            Self::Service(service) => service.id(),
            Self::External(external) => external.id(),
        }
    }

    /// The object that describes it.
    #[must_use]
    pub fn key(self) -> PolicyKey {
        match self {
            Self::Service(service) => service.key(),
            Self::External(external) => external.key(),
        }
    }

    /// Where it is called.
    #[must_use]
    pub fn ports(self) -> &'a [Port] {
        match self {
            Self::Service(service) => &service.spec.ports,
            Self::External(external) => &external.spec.ports,
        }
    }

    /// The port with this name.
    #[must_use]
    pub fn port(self, name: &Name) -> Option<&'a Port> {
        self.ports().iter().find(|port| port.name == *name)
    }

    /// The port with this number.
    #[must_use]
    pub fn port_number(self, number: u16) -> Option<&'a Port> {
        self.ports().iter().find(|port| port.port == number)
    }

    /// The port that a backend of a route means, which need not say so where there is one alone.
    #[must_use]
    pub fn backend_port(self, number: Option<u16>) -> Option<&'a Port> {
        match (number, self.ports()) {
            (Some(number), _) => self.port_number(number),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// The port that a reference means.
    #[must_use]
    pub fn find_port(self, port: &PortRef) -> Option<&'a Port> {
        find(self.ports(), port)
    }

    /// The host names that it claims.
    #[must_use]
    pub fn claims(self) -> &'a [Hostname] {
        match self {
            Self::Service(service) => &service.spec.hostnames,
            Self::External(external) => &external.spec.hosts,
        }
    }

    /// The service, where it is one of the mesh.
    #[must_use]
    pub fn service(self) -> Option<&'a Object<Service>> {
        match self {
            Self::Service(service) => Some(service),
            Self::External(_) => None,
        }
    }

    /// What is outside, where it is.
    #[must_use]
    pub fn external(self) -> Option<&'a Object<ExternalService>> {
        match self {
            Self::Service(_) => None,
            Self::External(external) => Some(external),
        }
    }
}
