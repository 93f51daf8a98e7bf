//! Taking what arrives: notices of the stream, and files.

use std::collections::HashSet;
use std::sync::Arc;

use weft_api::ResourceKind;
use weft_xds::client::Update;
use weft_xds::transport::client::Notice;

use super::Control;
use super::files::FileUpdate;
use super::pending_update::PendingUpdate;
use super::resource::{ConfigOrigin, ReceivedResource};
use crate::bootstrap::ListSource;
use crate::decode::ConfigSource;

impl Control {
    pub(super) fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Connected => {
                tracing::info!(event = "control_plane_connected", "connected to the control plane");
                self.gauges.set_connected(true);
            }
            Notice::Disconnected { reason, retry_in } => {
                self.gauges.set_connected(false);
                if self.startup.give_up() {
                    tracing::warn!(
                        event = "control_plane_away",
                        %reason,
                        "the control plane is away: serving the last good configuration"
                    );
                } else {
                    tracing::debug!(%reason, ?retry_in, "the control plane is away");
                }
            }
            Notice::Update(update) => self.take_update(update),
        }
    }

    pub(super) fn take_update(&mut self, update: Update) {
        let now = Self::now();
        let Update { kind, added, removed, response_id } = update;
        tracing::debug!(
            kind = kind.short(),
            added = ?added.iter().map(|added| &*added.name).collect::<Vec<_>>(),
            ?removed,
            "update"
        );
        self.startup.update_received(now.instant);
        self.received_lists.insert(kind);
        let names = added.iter().map(|added| (Arc::clone(&added.name), Arc::clone(&added.version))).collect();
        let incoming = added
            .into_iter()
            .map(|added| ReceivedResource { name: added.name, version: added.version, body: added.body })
            .collect();
        let refusals = self.world.apply(kind, &ConfigSource::Ads, ConfigOrigin::Dynamic, incoming, now);
        self.world.remove(kind, &ConfigSource::Ads, &removed);
        if kind == ResourceKind::VirtualHost {
            self.world.virtual_hosts_answered();
        }
        self.gauges.count_update(kind, refusals.is_empty());
        self.pending.push(PendingUpdate::new(kind, response_id, names, refusals, now.instant));
    }

    pub(super) fn take_file(&mut self, update: &FileUpdate) {
        let now = Self::now();
        let source = ConfigSource::File(update.path.clone());
        for (kind, list) in [
            (ResourceKind::Listener, &self.bootstrap.listener_source),
            (ResourceKind::Cluster, &self.bootstrap.cluster_source),
        ] {
            if *list == Some(ListSource::File(update.path.clone())) {
                self.received_lists.insert(kind);
                let present: HashSet<_> =
                    update.resources(kind).map(|incoming| incoming.name.clone()).collect();
                let gone = self.world.dynamic_names(kind).into_iter().filter(|name| !present.contains(name));
                self.world.remove(kind, &source, &gone.collect::<Vec<_>>());
            }
        }
        for kind in ResourceKind::ALL {
            let incoming: Vec<ReceivedResource> = update.resources(kind).cloned().collect();
            if !incoming.is_empty() {
                let refusals = self.world.apply(kind, &source, ConfigOrigin::Dynamic, incoming, now);
                self.gauges.count_update(kind, refusals.is_empty());
            }
        }
    }
}
