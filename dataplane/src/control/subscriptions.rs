//! What is asked for on the stream and from files.

use std::sync::Arc;

use weft_api::ResourceKind;
use weft_api::names::IDENTITY_SECRET;

use super::Control;
use super::resource::{ChildKey, ConfigOrigin};
use super::needs::Need;
use crate::bootstrap::ListSource;
use crate::decode::Source;

impl Control {
    /// Asks for all listeners and clusters, where they come by the stream.
    pub(super) fn subscribe_lists(&mut self) {
        let Some((client, _)) = &self.stream else { return };
        if self.bootstrap.cluster_source == Some(ListSource::Ads) {
            client.subscribe_all(ResourceKind::Cluster);
        }
        if self.bootstrap.listener_source == Some(ListSource::Ads) {
            client.subscribe_all(ResourceKind::Listener);
        }
    }

    /// Watches the files that hold lists.
    pub(super) fn watch_lists(&mut self) {
        for list in [&self.bootstrap.listener_source, &self.bootstrap.cluster_source] {
            match list {
                Some(ListSource::File(path)) => self.watchers.watch(path),
                Some(ListSource::Ads) | None => {}
            }
        }
    }

    /// Asks for something that is named now.
    pub(super) fn ask(&mut self, need: Need) {
        match need {
            Need::Endpoints(key) => self.follow(ResourceKind::Endpoint, key),
            Need::Route(key) => self.follow(ResourceKind::Route, key),
            Need::Secret(key) if self.is_local_secret(&key) => {}
            Need::Secret(key) => self.follow(ResourceKind::Secret, key),
            Need::Addresses(question) => self.resolver.ask(question),
            Need::VirtualHosts => {
                if let Some((client, _)) = &self.stream {
                    client.subscribe_all(ResourceKind::VirtualHost);
                }
            }
        }
    }

    /// Ceases to ask for something that nobody names any more.
    pub(super) fn cease(&mut self, need: &Need) {
        match need {
            Need::Endpoints(key) => self.unfollow(ResourceKind::Endpoint, key),
            Need::Route(key) => self.unfollow(ResourceKind::Route, key),
            Need::Secret(key) => self.unfollow(ResourceKind::Secret, key),
            Need::Addresses(question) => self.resolver.cease(question),
            Need::VirtualHosts => {
                if let Some((client, _)) = &self.stream {
                    client.unsubscribe_all(ResourceKind::VirtualHost);
                }
            }
        }
    }

    fn follow(&mut self, kind: ResourceKind, (source, name): ChildKey) {
        match (source, &self.stream) {
            (Source::File(path), _) => self.watchers.watch(&path),
            (Source::Ads, Some((client, _))) => {
                if self.subscribed.insert((kind, Arc::clone(&name))) {
                    tracing::debug!(kind = kind.short(), %name, "subscribed");
                    client.subscribe(kind, name.to_string());
                }
            }
            (Source::Ads, None) => {}
        }
    }

    fn unfollow(&mut self, kind: ResourceKind, (source, name): &ChildKey) {
        match (source, &self.stream) {
            (Source::File(path), _) => self.watchers.unwatch(path),
            (Source::Ads, Some((client, _))) => {
                if self.subscribed.remove(&(kind, Arc::clone(name))) {
                    client.unsubscribe(kind, name.to_string());
                }
            }
            (Source::Ads, None) => {}
        }
    }

    /// The workload's own certificate is made here; a secret of the bootstrap file is there already. The stand-in
    /// for the bundle has no bytes and is asked for all the same.
    fn is_local_secret(&self, key: &ChildKey) -> bool {
        if self.identity.is_some() && *key.1 == *IDENTITY_SECRET {
            return true;
        }
        let accepted = self.world.secrets.get(key).and_then(|child| child.accepted.as_ref());
        accepted.is_some_and(|accepted| accepted.origin == ConfigOrigin::Static && !accepted.body.is_empty())
    }
}
