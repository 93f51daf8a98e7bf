//! What a service-resolver says of the members of a service and of calling them. Where it leads requests, [`super::chain`]
//! follows.

use std::collections::BTreeMap;

use serde_json::json;
use weft_api::{Name, ServiceId};
use weft_policies::Kind;

use super::catalog::ConsulCatalog;
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::names;

pub(super) fn import<'a>(catalog: &ConsulCatalog<'a>, service: &ServiceId, drafts: &mut Drafts<'a>) {
    let Some(entry) = catalog.resolvers.get(service) else { return };
    let spec = &entry.spec;
    catalog.service(service, "TCP", spec, drafts);
    for (_, subset) in spec.get("subsets").map(|subsets| subsets.fields()).unwrap_or_default() {
        take_subset(service, &subset, spec, drafts);
    }
    for (field, path) in
        [("connectTimeout", ["connection", "connectTimeout"]), ("requestTimeout", ["timeouts", "request"])]
    {
        if let Some(span) = spec.get(field).and_then(|span| span.span()) {
            drafts.about(Kind::TrafficPolicy, service, spec).set(&path, span);
        }
    }
    if let Some(balancer) = spec.get("loadBalancer") {
        balance(service, &balancer, spec, drafts);
    }
    spec.get("failover")
        .inspect(|node| node.not_carried("there is no failover to other services and places yet"));
    spec.get("prioritizeByLocality").inspect(|node| node.not_carried("near endpoints are not preferred yet"));
}

fn take_subset<'a>(
    service: &ServiceId,
    subset: &InputNode<'a>,
    spec: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) {
    let Some((name, labels)) = read_subset(subset) else {
        return subset.not_carried(
            "only filters of the form Service.Meta.KEY == VALUE, joined with `and`, tell members by labels",
        );
    };
    subset.differs("members say the labels themselves: weft-proxy --label KEY=VALUE");
    if let Some(passing) = subset.get("onlyPassing")
        && passing.flag() == Some(false)
    {
        passing.differs("members that are not healthy are left out always");
    }
    drafts.object(Kind::Service, service.clone(), spec).subset(&name, &labels);
}

/// The name of a subset and the labels of its members; nothing where its filter asks for something else.
fn read_subset(subset: &InputNode<'_>) -> Option<(Name, BTreeMap<String, String>)> {
    let name = names::plain(&subset.key()?)?;
    let labels = labels_of(subset.get("filter")?.text()?)?;
    Some((name, labels))
}

/// Whether a subset of a service is carried, and by which name.
pub(super) fn subset_of(catalog: &ConsulCatalog<'_>, service: &ServiceId, written: &str) -> Option<Name> {
    let subsets = catalog.resolvers.get(service)?.spec.get("subsets")?;
    let (_, subset) = subsets.fields().into_iter().find(|(key, _)| *key == written)?;
    read_subset(&subset).map(|(name, _)| name)
}

/// The labels that an expression of Consul's filters asks for.
fn labels_of(filter: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for part in filter.split(" and ") {
        let (left, right) = part.trim().trim_matches(['(', ')']).split_once("==")?;
        let key = left.trim().strip_prefix("Service.Meta")?;
        let key = key.strip_prefix('.').or_else(|| key.strip_prefix('[')?.strip_suffix(']'))?;
        let plain = |text: &str| text.trim().trim_matches(['"', '`']).to_owned();
        let (key, value) = (plain(key), plain(right));
        let is_word = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
        };
        if !is_word(&key) || !is_word(&value) {
            return None;
        }
        labels.insert(key, value);
    }
    Some(labels)
}

fn balance<'a>(service: &ServiceId, balancer: &InputNode<'a>, spec: &InputNode<'a>, drafts: &mut Drafts<'a>) {
    let policy = balancer.get("policy");
    let kind = match policy.as_ref().and_then(InputNode::text) {
        Some("random") => "Random",
        Some("round_robin") => "RoundRobin",
        Some("least_request") => "LeastRequest",
        None => return,
        Some(other) => {
            return balancer.not_carried(format!(
                "{other}: what requests are hashed on is not carried: write a TrafficPolicy with hashOn"
            ));
        }
    };
    if let Some(choices) = balancer.at(&["leastRequestConfig", "choiceCount"])
        && choices.count() != Some(2)
    {
        choices.not_carried("the less busy of two is taken, chosen at random");
    }
    drafts.about(Kind::TrafficPolicy, service, spec).set(&["loadBalancer"], json!({"type": kind}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_equal_notes_are_labels_and_no_others() {
        let labels = |filter| labels_of(filter).map(|labels| format!("{labels:?}"));
        assert_eq!(labels("Service.Meta.version == v1").unwrap(), r#"{"version": "v1"}"#);
        assert_eq!(
            labels(r#"Service.Meta["version"] == "v2" and Service.Meta.tier == web"#).unwrap(),
            r#"{"tier": "web", "version": "v2"}"#
        );
        for filter in [
            "v1 in Service.Tags",
            "Service.Meta.version != v1",
            "Service.Meta.version == v1 or Service.Meta.version == v2",
            "not Service.Meta.version == v1",
            "Service.ID == a",
        ] {
            assert_eq!(labels(filter), None, "{filter}");
        }
    }
}
