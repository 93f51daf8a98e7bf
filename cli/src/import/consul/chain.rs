//! Where requests to a service end: through splitters and resolvers, as Consul puts its discovery chain together.

use serde_json::{Value, json};
use weft_api::ServiceId;

use super::catalog::{ConsulCatalog, PORT};
use super::resolver::subset_of;
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;

/// Splitters and redirects behind one another; more is a circle.
const DEEPEST: usize = 8;

/// Where a part of the requests goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChainEnd {
    service: ServiceId,
    subset: Option<String>,
    percent: f64,
}

/// The backends that requests which a route leads to `service` end at, with their shares. Nothing, and a note at `node`,
/// where Weft has no such place. `route` is the route's name.
pub(super) fn backends<'a>(
    catalog: &ConsulCatalog<'a>,
    service: &ServiceId,
    subset: Option<&str>,
    (route, node): (&ServiceId, &InputNode<'a>),
    drafts: &mut Drafts<'a>,
) -> Option<Value> {
    let mut ends = Vec::new();
    if let Err(why) = split(catalog, service, subset, 100.0, 0, &mut ends) {
        node.not_carried(format!("is left out, and its requests follow what comes after it: {why}"));
        return None;
    }
    let hundredths: Vec<u64> =
        ends.iter().filter_map(|end| format!("{:.0}", end.percent * 100.0).parse().ok()).collect();
    let unit = if hundredths.iter().all(|share| share % 100 == 0) { 100 } else { 1 };
    let alone = ends.len() == 1;
    let mut list = Vec::new();
    for (end, share) in ends.iter().zip(hundredths) {
        catalog.service(&end.service, "HTTP", node, drafts);
        let mut backend = json!({"name": end.service.name, "port": PORT});
        if end.service.namespace != route.namespace {
            backend["namespace"] = json!(end.service.namespace);
        }
        if let Some(written) = &end.subset {
            let Some(name) = subset_of(catalog, &end.service, written) else {
                let why = format!("subset {written} of {} is not carried", end.service);
                node.not_carried(format!("is left out, and its requests follow what comes after it: {why}"));
                return None;
            };
            backend["subset"] = json!(name);
        }
        if !alone {
            backend["weight"] = json!(share / unit);
        }
        list.push(backend);
    }
    Some(Value::from(list))
}

/// Whether requests to a service end anywhere but at all of its members.
pub(super) fn leads_elsewhere(catalog: &ConsulCatalog<'_>, service: &ServiceId) -> bool {
    let resolver = catalog.resolvers.get(service).map(|entry| &entry.spec);
    let is_set = |field| resolver.is_some_and(|spec| spec.get(field).is_some());
    catalog.splitters.contains_key(service) || is_set("redirect") || is_set("defaultSubset")
}

fn split(
    catalog: &ConsulCatalog<'_>,
    service: &ServiceId,
    subset: Option<&str>,
    percent: f64,
    depth: usize,
    ends: &mut Vec<ChainEnd>,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{service} leads in a circle"));
    }
    let splitter = catalog.splitters.get(service).filter(|_| subset.is_none());
    let Some(splitter) = splitter else { return resolve(catalog, service, subset, percent, depth, ends) };
    for one in splitter.spec.list("splits") {
        let weight = one.get("weight").and_then(|weight| weight.number()).unwrap_or_default();
        let share = percent * weight / 100.0;
        let target =
            catalog.referred(&one, service).ok_or_else(|| format!("a split of {service} is not carried"))?;
        let subset = one.get("serviceSubset");
        let subset = subset.as_ref().and_then(InputNode::text);
        for headers in ["requestHeaders", "responseHeaders"] {
            one.get(headers)
                .inspect(|node| node.not_carried("headers of one part of a split are not changed yet"));
        }
        if target == *service {
            resolve(catalog, &target, subset, share, depth + 1, ends)?;
        } else {
            split(catalog, &target, subset, share, depth + 1, ends)?;
        }
    }
    Ok(())
}

fn resolve(
    catalog: &ConsulCatalog<'_>,
    service: &ServiceId,
    subset: Option<&str>,
    percent: f64,
    depth: usize,
    ends: &mut Vec<ChainEnd>,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{service} leads in a circle"));
    }
    let resolver = catalog.resolvers.get(service).map(|entry| &entry.spec);
    if let Some(redirect) = resolver.and_then(|spec| spec.get("redirect")) {
        for field in ["datacenter", "peer", "samenessGroup"] {
            if let Some(place) = redirect.get(field) {
                place.not_carried("there are no other clusters");
                return Err(format!("{service} is redirected to another cluster"));
            }
        }
        let target = catalog.referred(&redirect, service).ok_or("the redirect is not carried")?;
        let subset = redirect.get("serviceSubset");
        let subset = subset.as_ref().and_then(InputNode::text);
        return resolve(catalog, &target, subset, percent, depth + 1, ends);
    }
    let default = resolver.and_then(|spec| spec.get("defaultSubset"));
    let subset = subset.or_else(|| default.as_ref().and_then(InputNode::text)).map(str::to_owned);
    match ends.iter_mut().find(|end| end.service == *service && end.subset == subset) {
        Some(end) => end.percent += percent,
        None => ends.push(ChainEnd { service: service.clone(), subset, percent }),
    }
    Ok(())
}
