//! What ExternalService declares as a kind.

use weft_api::Name;

use super::{ExternalService, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::metadata::Metadata;
use crate::object::PolicyKey;
use crate::value::Hostname;

impl Spec for ExternalService {
    const KIND: Kind = Kind::ExternalService;
    const SHAPES: &'static [Part] = &[Part::Clusters, Part::Hosts, Part::Upstreams];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let claim = |(index, host): (usize, &Hostname)| Reference {
            relation: Relation::Claim,
            target: Target::Hostname(host.clone()),
            path: steps!["spec", "hosts", index],
        };
        let mention = |(index, host): (usize, &Hostname)| {
            let service = in_set::meant_by(host, namespace)?;
            let (relation, path) = (Relation::Mention, steps!["spec", "hosts", index]);
            Some(Reference { relation, target: Target::service(&service, None), path })
        };
        let claims = self.hosts.iter().enumerate().map(claim);
        claims.chain(self.hosts.iter().enumerate().filter_map(mention)).collect()
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }

    fn sections(&self) -> Vec<&Name> {
        self.ports.iter().map(|port| &port.name).collect()
    }
}
