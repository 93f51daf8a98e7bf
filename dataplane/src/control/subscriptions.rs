//! What is asked for on the stream and from files.

use std::sync::Arc;

use weft_api::ResourceKind;
use weft_api::names::IDENTITY_SECRET;

use super::Control;
use super::dependencies::Dependency;
use super::resource::{ChildKey, ConfigOrigin};
use crate::bootstrap::ListSource;
use crate::decode::ConfigSource;

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
    pub(super) fn ask(&mut self, dependency: Dependency) {
        match dependency {
            Dependency::Endpoints(key) => self.follow(ResourceKind::Endpoint, key),
            Dependency::Route(key) => self.follow(ResourceKind::Route, key),
            Dependency::Secret(key) if self.is_local_secret(&key) => {}
            Dependency::Secret(key) => self.follow(ResourceKind::Secret, key),
            Dependency::Addresses(question) => self.resolver.ask(question),
            Dependency::Cluster(_) => {}
            Dependency::VirtualHosts => {
                if let Some((client, _)) = &self.stream {
                    client.subscribe_all(ResourceKind::VirtualHost);
                }
            }
        }
    }

    /// Ceases to ask for something that nobody names any more.
    pub(super) fn cease(&mut self, dependency: &Dependency) {
        match dependency {
            Dependency::Endpoints(key) => self.unfollow(ResourceKind::Endpoint, key),
            Dependency::Route(key) => self.unfollow(ResourceKind::Route, key),
            Dependency::Secret(key) => self.unfollow(ResourceKind::Secret, key),
            Dependency::Addresses(question) => self.resolver.cease(question),
            Dependency::Cluster(_) => {}
            Dependency::VirtualHosts => {
                if let Some((client, _)) = &self.stream {
                    client.unsubscribe_all(ResourceKind::VirtualHost);
                }
            }
        }
    }

    fn follow(&mut self, kind: ResourceKind, (source, name): ChildKey) {
        match (source, &self.stream) {
            (ConfigSource::File(path), _) => self.watchers.watch(&path),
            (ConfigSource::Ads, Some((client, _))) => {
                if self.subscribed.insert((kind, Arc::clone(&name))) {
                    tracing::debug!(kind = kind.short(), %name, "subscribed");
                    client.subscribe(kind, name.to_string());
                }
            }
            (ConfigSource::Ads, None) => {}
        }
    }

    fn unfollow(&mut self, kind: ResourceKind, (source, name): &ChildKey) {
        match (source, &self.stream) {
            (ConfigSource::File(path), _) => self.watchers.unwatch(path),
            (ConfigSource::Ads, Some((client, _))) => {
                if self.subscribed.remove(&(kind, Arc::clone(name))) {
                    client.unsubscribe(kind, name.to_string());
                }
            }
            (ConfigSource::Ads, None) => {}
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
