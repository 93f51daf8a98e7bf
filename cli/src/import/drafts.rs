//! Documents in the making: several objects of another mesh may add to one of ours.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weft_api::rest::Violation;
use weft_api::{Name, ServiceId};
use weft_policies::kinds::API_VERSION;
use weft_policies::{Kind, PolicySet};

use super::input::InputNode;

/// One document of ours.
#[derive(Debug)]
pub struct ImportedDocument {
    pub value: Value,
    /// What it was made of: object, file and line.
    pub origins: Vec<String>,
}

/// All that is made, by kind and name.
#[derive(Default)]
pub struct Drafts<'a> {
    objects: BTreeMap<(Kind, ServiceId), ObjectDraft<'a>>,
}

/// One document in the making.
pub struct ObjectDraft<'a> {
    spec: Value,
    origins: Vec<InputNode<'a>>,
    /// What was said twice, and not alike.
    clashes: Vec<Violation>,
}

impl<'a> Drafts<'a> {
    /// The document of a kind and name, begun by whoever asks first; `of` is what it is made of.
    pub fn object(&mut self, kind: Kind, id: ServiceId, of: &InputNode<'a>) -> &mut ObjectDraft<'a> {
        let draft = self.objects.entry((kind, id)).or_insert_with(|| ObjectDraft {
            spec: json!({}),
            origins: Vec::new(),
            clashes: Vec::new(),
        });
        draft.origins.push(of.clone());
        draft
    }

    /// The one Mesh, which has a name of its own.
    pub fn mesh(&mut self, of: &InputNode<'a>) -> &mut ObjectDraft<'a> {
        let id = ServiceId::try_new("default", "mesh").expect("a valid name");
        self.object(Kind::Mesh, id, of)
    }

    /// The policy of a kind about a whole service, in the service's namespace and of its name.
    pub fn about(&mut self, kind: Kind, service: &ServiceId, of: &InputNode<'a>) -> &mut ObjectDraft<'a> {
        let draft = self.object(kind, service.clone(), of);
        draft.spec["targetRefs"] = json!([{"kind": "Service", "name": service.name}]);
        draft
    }

    /// The policy about one rule of a route.
    pub fn about_rule(
        &mut self,
        kind: Kind,
        route: &ServiceId,
        rule: &str,
        of: &InputNode<'a>,
    ) -> &mut ObjectDraft<'a> {
        let name = format!("{}-{rule}", route.name);
        let id = ServiceId::try_new(route.namespace.as_str(), &name).unwrap_or_else(|_| route.clone());
        let draft = self.object(Kind::TrafficPolicy, id, of);
        draft.spec["targetRefs"] = json!([{"kind": kind.name(), "name": route.name, "sectionName": rule}]);
        draft
    }

    /// Gives a service a port, unless it has one of that number.
    pub fn port(&mut self, service: &ServiceId, number: u16, protocol: &str, of: &InputNode<'a>) {
        let draft = self.object(Kind::Service, service.clone(), of);
        let ports = draft.list("ports");
        if ports.iter().any(|port| port["port"] == number) {
            return;
        }
        let plain = protocol.to_ascii_lowercase();
        let is_taken = ports.iter().any(|port| port["name"] == plain);
        let name = if is_taken { format!("{plain}-{number}") } else { plain };
        ports.push(json!({"name": name, "port": number, "protocol": protocol}));
    }

    /// The first port of a service, where one is known.
    pub fn port_of(&self, service: &ServiceId) -> Option<u16> {
        let draft = self.objects.get(&(Kind::Service, service.clone()))?;
        draft.spec["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok())
    }

    /// The name of a service's port, where that is known.
    pub fn port_name(&self, service: &ServiceId, number: u16) -> Option<String> {
        let draft = self.objects.get(&(Kind::Service, service.clone()))?;
        let port = draft.spec["ports"].as_array()?.iter().find(|port| port["port"] == number)?;
        port["name"].as_str().map(str::to_owned)
    }

    /// The documents that are valid together, and a note for each that is not.
    pub fn finish(self) -> (Vec<ImportedDocument>, Vec<Violation>) {
        let mut drafts: Vec<_> = self.objects.into_iter().collect();
        // A service without a port is nobody's that could be called.
        drafts.retain(|((kind, _), draft)| *kind != Kind::Service || draft.spec["ports"].is_array());
        let mut notes: Vec<Violation> =
            drafts.iter_mut().flat_map(|(_, draft)| std::mem::take(&mut draft.clashes)).collect();
        loop {
            let found = refusals(&drafts);
            if found.is_empty() {
                break;
            }
            for (index, message) in found.iter().rev() {
                let ((kind, id), draft) = drafts.remove(*index);
                let message = format!("{kind} {id}, which would come of it, is left out: {message}");
                notes.extend(draft.origins.first().map(|origin| origin.refusal(message)));
            }
        }
        let documents = drafts.into_iter().map(|((kind, id), draft)| {
            let mut origins: Vec<String> = draft.origins.iter().map(InputNode::origin).collect();
            origins.sort();
            origins.dedup();
            ImportedDocument { value: document(kind, &id, &draft.spec), origins }
        });
        (documents.collect(), notes)
    }
}

/// Why documents are refused, by their places; nothing where they are valid together.
fn refusals(drafts: &[((Kind, ServiceId), ObjectDraft<'_>)]) -> BTreeMap<usize, String> {
    let values: Vec<Value> =
        drafts.iter().map(|((kind, id), draft)| document(*kind, id, &draft.spec)).collect();
    let judged = weft_policies::parse("import", &Value::from(values).to_string())
        .and_then(|documents| PolicySet::default().apply(&documents).map(drop));
    let mut found = BTreeMap::new();
    for one in judged.err().unwrap_or_default() {
        found.entry(one.document).or_insert_with(|| format!("{}: {}", one.path, one.message));
    }
    found
}

fn document(kind: Kind, id: &ServiceId, spec: &Value) -> Value {
    let mut metadata = json!({"name": id.name});
    if kind != Kind::Mesh {
        metadata["namespace"] = json!(id.namespace);
    }
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec})
}

impl ObjectDraft<'_> {
    /// Sets a field, by its path from the spec. What stands there already stays; where that is something else, it is noted.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let mut place = &mut self.spec;
        for step in path {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[*step];
        }
        let value = value.into();
        if place.is_null() {
            *place = value;
        } else if *place != value {
            self.clash(&path.join("."));
        }
    }

    /// Writes the whole of it, unless that is done.
    pub fn write(&mut self, spec: Value) {
        if self.spec == json!({}) {
            self.spec = spec;
        } else if self.spec != spec {
            self.clash("all of it");
        }
    }

    fn clash(&mut self, what: &str) {
        let message = format!("{what} was said before, and not alike: the first holds");
        self.clashes.extend(self.origins.last().map(|origin| origin.refusal(message)));
    }

    /// The list that is a field.
    pub fn list(&mut self, field: &str) -> &mut Vec<Value> {
        let list = &mut self.spec[field];
        if !list.is_array() {
            *list = Value::Array(Vec::new());
        }
        list.as_array_mut().expect("made a list above")
    }

    /// Gives a service a subset of its members.
    pub fn subset(&mut self, name: &Name, labels: &BTreeMap<String, String>) {
        let subsets = self.list("subsets");
        if subsets.iter().all(|subset| subset["name"] != name.as_str()) {
            subsets.push(json!({"name": name, "matchLabels": labels}));
        }
    }
}
