//! The client's state of one resource type.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weft_api::resource::ResourceKind;

use super::update::{ResponseId, Update, Verdict};
use crate::wire;

const WILDCARD: &str = "*";

/// Said in place of a version by a client that holds something, but not exactly what came with any version. Saying
/// nothing would mean that it holds nothing, and the server could leave out what is to be kept (U11).
const UNSURE: &str = "unsure";

/// An ACK, or a NACK with its words.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    pub nonce: String,
    pub refusal: Option<String>,
}

/// An update that is being applied.
#[derive(Debug)]
struct Pending {
    response_id: ResponseId,
    version_info: String,
    added: Vec<(Arc<str>, Arc<str>)>,
    removed: Vec<Arc<str>>,
}

/// The client's subscription to one type, and the versions that it has accepted.
#[derive(Debug, Default)]
pub(super) struct SubscriptionState {
    /// Everything of the type is subscribed to.
    pub wildcard: bool,
    /// Names that are subscribed to, with or without the wildcard.
    pub names: BTreeSet<Arc<str>>,
    /// Versions of what was accepted.
    pub held: BTreeMap<Arc<str>, Arc<str>>,
    /// ACKs and NACKs that are still to be sent, in the order of their responses.
    pub answers: VecDeque<Acknowledgement>,
    pub last_nack: Option<String>,
    /// Updates that are being applied, in the order of their responses.
    pending: VecDeque<Pending>,
    /// The first message of this type went out on this stream.
    stated: bool,
    subscribe: BTreeSet<Arc<str>>,
    /// Names given up since the last message, also those wanted again since: delta says so by subscribing once more, state of
    /// the world by a list without them before the list with them.
    unsubscribe: BTreeSet<Arc<str>>,
    /// A name was given on this stream: naming nothing no longer means everything there (U1).
    named: bool,
    /// SotW: the list differs from the last one sent.
    list_changed: bool,
    /// SotW: of the last response answered.
    nonce: String,
    version_info: String,
    /// SotW: not all that came with `version_info` is held any more.
    holds_less: bool,
}

impl SubscriptionState {
    pub fn want_all(&mut self) {
        if !std::mem::replace(&mut self.wildcard, true) {
            self.list_changed = true;
            self.subscribe.insert(WILDCARD.into());
        }
    }

    /// What a snapshot brought along goes too, though nobody wanted everything yet: it is held no more.
    pub fn drop_all(&mut self) {
        if std::mem::take(&mut self.wildcard) {
            self.list_changed = true;
            if !self.subscribe.remove(WILDCARD) {
                self.unsubscribe.insert(WILDCARD.into());
            }
        }
        let names = &self.names;
        self.held.retain(|name, _| names.contains(name));
        self.holds_less = true;
    }

    pub fn want(&mut self, name: &str) {
        let name: Arc<str> = name.into();
        self.list_changed = true;
        if !self.names.insert(name.clone()) {
            self.unsubscribe.insert(name.clone());
        }
        self.subscribe.insert(name);
    }

    /// Whether there is something to say about the type. A first message that names nothing would ask for everything.
    pub fn is_wanted(&self) -> bool {
        self.stated || self.wildcard || !self.names.is_empty()
    }

    pub fn drop_name(&mut self, name: &str) {
        if !self.names.remove(name) {
            return;
        }
        self.list_changed = true;
        self.subscribe.remove(name);
        self.unsubscribe.insert(name.into());
        if !self.wildcard {
            self.held.remove(name);
            self.holds_less = true;
        }
    }

    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Names in updates that are still being applied.
    pub fn arriving(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.iter().flat_map(|pending| pending.added.iter().map(|(name, _)| name))
    }

    /// Whether exactly this version is held, and nothing is about to change that.
    pub fn holds(&self, name: &Arc<str>, version: &Arc<str>) -> bool {
        let changing = self
            .pending
            .iter()
            .flat_map(|pending| &pending.removed)
            .chain(self.arriving())
            .any(|at| at == name);
        !changing && self.held.get(name) == Some(version)
    }

    pub fn begin_stream(&mut self) {
        self.stated = false;
        self.named = false;
        self.list_changed = true;
        self.subscribe.clear();
        self.unsubscribe.clear();
        self.answers.clear();
        self.nonce.clear();
    }

    pub fn expect_answer(&mut self, update: &Update, version_info: String) {
        self.pending.push_back(Pending {
            response_id: update.response_id.clone(),
            version_info,
            added: update.added.iter().map(|added| (added.name.clone(), added.version.clone())).collect(),
            removed: update.removed.clone(),
        });
    }

    pub fn answer(&mut self, response_id: &ResponseId, verdict: Verdict, current: bool) {
        let Some(position) = self.pending.iter().position(|pending| pending.response_id == *response_id)
        else {
            return;
        };
        let Some(pending) = self.pending.remove(position) else { return };
        let refusal = match verdict {
            Verdict::Ack => {
                for name in pending.removed {
                    self.held.remove(&name);
                }
                self.holds_less = !pending.added.iter().all(|(name, _)| self.covers(name));
                for (name, version) in pending.added {
                    // It may have been given up while it was applied.
                    if self.covers(&name) {
                        self.held.insert(name, version);
                    }
                }
                self.version_info = pending.version_info;
                self.last_nack = None;
                None
            }
            Verdict::Nack(words) => {
                self.last_nack = Some(words.clone());
                Some(words)
            }
        };
        if current {
            self.answers.push_back(Acknowledgement { nonce: pending.response_id.nonce, refusal });
        }
    }

    fn list(&mut self, kind: ResourceKind) -> Vec<String> {
        self.named |= !self.names.is_empty();
        // A wildcard alone is said by naming nothing, which servers of every age understand, for these types (U1).
        let legacy = match kind {
            ResourceKind::Listener | ResourceKind::Cluster | ResourceKind::VirtualHost => !self.named,
            ResourceKind::Endpoint | ResourceKind::Route | ResourceKind::Secret | ResourceKind::Runtime => {
                false
            }
        };
        let star = (self.wildcard && !legacy).then(|| WILDCARD.to_owned());
        self.named |= star.is_some();
        star.into_iter().chain(self.names.iter().map(ToString::to_string)).collect()
    }

    /// Everything was asked for and is wanted no more, or once again: the list does not say so by itself. One that names
    /// nothing still means everything where nothing was ever named (U1): then it is asked for by its name first.
    fn give_up_all(&mut self, list: &mut Vec<String>) {
        list.retain(|name| name != WILDCARD);
        if list.is_empty() && !std::mem::replace(&mut self.named, true) {
            list.push(WILDCARD.to_owned());
            self.unsubscribe.insert(WILDCARD.into());
            self.list_changed = true;
        }
        self.list_changed |= self.wildcard;
    }

    pub fn next_delta(
        &mut self,
        kind: ResourceKind,
        node: impl FnOnce() -> Option<wire::Node>,
    ) -> Option<wire::DeltaDiscoveryRequest> {
        if !self.is_wanted() {
            return None;
        }
        let mut request =
            wire::DeltaDiscoveryRequest { type_url: kind.type_url().to_owned(), ..Default::default() };
        if self.stated {
            let answer = self.answers.pop_front();
            if answer.is_none() && self.subscribe.is_empty() && self.unsubscribe.is_empty() {
                return None;
            }
            // One message would leave everything subscribed, and nothing would be sent again.
            let all_again = self.unsubscribe.contains(WILDCARD) && self.subscribe.remove(WILDCARD);
            self.unsubscribe.retain(|name| !self.subscribe.contains(name));
            request.resource_names_subscribe = strings(std::mem::take(&mut self.subscribe));
            request.resource_names_unsubscribe = strings(std::mem::take(&mut self.unsubscribe));
            if all_again {
                self.subscribe.insert(WILDCARD.into());
            }
            (request.response_nonce, request.error_detail) = split(answer);
        } else {
            self.stated = true;
            self.subscribe.clear();
            self.unsubscribe.clear();
            request.resource_names_subscribe = self.list(kind);
            let held = self.held.iter().map(|(name, version)| (name.to_string(), version.to_string()));
            // What is being applied will be held under a version that nobody can say yet: any answer will do but silence.
            let applying = self.pending.iter().flat_map(|pending| {
                pending
                    .added
                    .iter()
                    .map(|(name, _)| name)
                    .chain(pending.removed.iter().filter(|name| self.held.contains_key(*name)))
            });
            let uncertain =
                applying.filter(|name| self.covers(name)).map(|name| (name.to_string(), String::new()));
            request.initial_resource_versions = held.chain(uncertain).collect();
        }
        request.node = node();
        Some(request)
    }

    pub fn next_sotw(
        &mut self,
        kind: ResourceKind,
        node: impl FnOnce() -> Option<wire::Node>,
    ) -> Option<wire::DiscoveryRequest> {
        // Between a response and its answer nothing else is said about the type; the answer carries the newest list.
        let busy = self.stated && !self.pending.is_empty() && self.answers.is_empty();
        if !self.is_wanted() || busy || (self.stated && self.answers.is_empty() && !self.list_changed) {
            return None;
        }
        self.subscribe.clear();
        let mut again = std::mem::take(&mut self.unsubscribe);
        let gives_up_all = self.stated && again.contains(WILDCARD);
        again.retain(|name| self.names.contains(name));
        if !std::mem::replace(&mut self.stated, true) {
            again.clear();
            let nothing = self.held.is_empty() && self.pending.is_empty();
            let exact = !self.holds_less && self.pending.is_empty() && !self.version_info.is_empty();
            if nothing && self.holds_less {
                self.version_info.clear();
            } else if !nothing && !exact {
                UNSURE.clone_into(&mut self.version_info);
            }
        }
        self.list_changed = !again.is_empty();
        let mut resource_names = self.list(kind);
        resource_names.retain(|name| !again.contains(name.as_str()));
        if gives_up_all {
            self.give_up_all(&mut resource_names);
        }
        let answer = self.answers.pop_front();
        if let Some(answer) = &answer {
            self.nonce.clone_from(&answer.nonce);
        }
        Some(wire::DiscoveryRequest {
            version_info: self.version_info.clone(),
            node: node(),
            resource_names,
            resource_locators: Vec::new(),
            type_url: kind.type_url().to_owned(),
            response_nonce: self.nonce.clone(),
            error_detail: split(answer).1,
        })
    }
}

fn strings(names: BTreeSet<Arc<str>>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

fn split(answer: Option<Acknowledgement>) -> (String, Option<wire::Status>) {
    const INVALID_ARGUMENT: i32 = 3;
    let Some(answer) = answer else { return Default::default() };
    let status = |message| wire::Status { code: INVALID_ARGUMENT, message, details: Vec::new() };
    (answer.nonce, answer.refusal.map(status))
}
