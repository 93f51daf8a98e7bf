//! What Service declares as a kind.

use weft_api::Name;

use super::{Service, check};
use crate::finding::{Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Part, Reference, Relation, Spec, Target};
use crate::metadata::Metadata;
use crate::value::Hostname;

impl Spec for Service {
    const KIND: Kind = Kind::Service;
    const SHAPES: &'static [Part] =
        &[Part::Clusters, Part::Endpoints, Part::Hosts, Part::Upstreams, Part::Inbound];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, _namespace: &Name) -> Vec<Reference> {
        let claim = |(index, hostname): (usize, &Hostname)| Reference {
            relation: Relation::Claim,
            target: Target::Hostname(hostname.clone()),
            path: steps!["spec", "hostnames", index],
        };
        self.hostnames.iter().enumerate().map(claim).collect()
    }

    fn sections(&self) -> Vec<&Name> {
        self.ports.iter().map(|port| &port.name).collect()
    }
}
