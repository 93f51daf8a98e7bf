//! What is asked for on the stream and from files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use weft_api::ResourceKind;
use weft_api::names::IDENTITY_SECRET;

use super::Control;
use super::held::{ChildKey, Origin, Wanted};
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

    /// Makes the stream's subscriptions those that are wanted.
    pub(super) fn subscribe(&mut self, wanted: &Wanted) {
        let Some((client, _)) = &self.stream else { return };
        let by_stream = |kind: ResourceKind, keys: &HashSet<ChildKey>| {
            keys.iter()
                .filter(|(source, _)| *source == Source::Ads)
                .filter(|key| kind != ResourceKind::Secret || !self.is_local_secret(key))
                .map(|(_, name)| (kind, Arc::clone(name)))
                .collect::<Vec<_>>()
        };
        let names: HashSet<(ResourceKind, Arc<str>)> = [
            by_stream(ResourceKind::Endpoint, &wanted.endpoints),
            by_stream(ResourceKind::Route, &wanted.routes),
            by_stream(ResourceKind::Secret, &wanted.secrets),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (kind, name) in names.difference(&self.subscribed) {
            tracing::debug!(kind = kind.short(), %name, "subscribed");
            client.subscribe(*kind, name.to_string());
        }
        for (kind, name) in self.subscribed.difference(&names) {
            client.unsubscribe(*kind, name.to_string());
        }
        self.subscribed = names;
    }

    /// The workload's own certificate is made here; a secret of the bootstrap file is there already. The stand-in
    /// for the bundle has no bytes and is asked for all the same.
    fn is_local_secret(&self, key: &ChildKey) -> bool {
        if self.identity.is_some() && *key.1 == *IDENTITY_SECRET {
            return true;
        }
        let held = self.world.secrets.get(key).and_then(|leaf| leaf.held.as_ref());
        held.is_some_and(|held| held.origin == Origin::Static && !held.body.is_empty())
    }

    /// Watches the files that are sources.
    pub(super) fn watch_files(&mut self, wanted: &Wanted) {
        let lists = [&self.bootstrap.listener_source, &self.bootstrap.cluster_source];
        let lists = lists.into_iter().filter_map(|source| match source {
            Some(ListSource::File(path)) => Some(path.clone()),
            Some(ListSource::Ads) | None => None,
        });
        let children = [&wanted.endpoints, &wanted.routes, &wanted.secrets];
        let children = children.into_iter().flatten().filter_map(|(source, _)| match source {
            Source::File(path) => Some(path.clone()),
            Source::Ads => None,
        });
        let paths: HashSet<PathBuf> = lists.chain(children).collect();
        self.watchers.watch(&paths);
    }
}
