//! AWS App Mesh's objects, as `aws appmesh describe-…` prints them and as its controller for Kubernetes takes them.
//!
//! A virtual node becomes a service with members; a virtual service a service that callers name, and what its router says a
//! route of that. Where both have one name they are one service.

mod matching;
mod nodes;
mod object;
mod routes;

use super::drafts::Drafts;
use super::input::ImportInput;
use super::options::ImportOptions;
use object::{AppMeshCatalog, RouterRoute, take};

pub fn import<'a>(inputs: &'a [ImportInput], options: &ImportOptions, drafts: &mut Drafts<'a>) {
    let mut catalog = AppMeshCatalog::default();
    for input in inputs {
        let Some((kind, object)) = take(input, options) else { continue };
        let name = object.name.clone();
        let replaced = match kind {
            "Mesh" => {
                nodes::mesh(&object, drafts);
                None
            }
            "VirtualNode" => catalog.nodes.insert(name, object),
            "VirtualService" => catalog.services.insert(name, object),
            "VirtualRouter" => {
                let inline = object.spec.list("routes").into_iter();
                catalog.routes.extend(inline.map(|spec| RouterRoute {
                    router: name.clone(),
                    name: spec.get("name").and_then(|name| name.text()).map(str::to_owned),
                    spec,
                }));
                catalog.routers.insert(name, object)
            }
            "Route" => {
                if let Some(router) = object.root.get("virtualRouterName").and_then(|router| router.text()) {
                    let router = router.to_owned();
                    catalog.routes.push(RouterRoute { router, name: Some(name), spec: object.spec });
                }
                None
            }
            "VirtualGateway" | "GatewayRoute" => {
                object.root.not_carried("there are no gateways yet");
                None
            }
            other => {
                object.root.not_carried(format!("{other}: no such kind is known"));
                None
            }
        };
        if let Some(replaced) = replaced {
            replaced
                .root
                .not_carried("an object of this name stands again further down, and that one is taken");
        }
    }
    for node in catalog.nodes.values() {
        nodes::import(node, drafts);
    }
    for service in catalog.services.values() {
        routes::import(&catalog, service, drafts);
    }
}
