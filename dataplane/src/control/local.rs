//! What comes from this machine: static resources, the identity, the snapshot.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;
use weft_api::ResourceKind;
use weft_api::names::{BUNDLE_SECRET, IDENTITY_SECRET};

use super::resource::{ConfigOrigin, ReceivedResource};
use super::{Control, StartError};
use crate::decode::{ConfigSource, SecretPlan};
use crate::identity::Identity;
use crate::runtime::{CertifiedIdentity, TlsError, TrustSpec};
use crate::snapshot::ConfigSnapshot;

fn incoming(name: &str, message: &impl Message) -> ReceivedResource {
    ReceivedResource {
        name: name.into(),
        version: "static".into(),
        body: Bytes::from(message.encode_to_vec()),
    }
}

impl Control {
    pub(super) fn take_statics(&mut self) -> Result<(), StartError> {
        let bootstrap = &self.bootstrap;
        let secrets = bootstrap.secrets.iter().map(|secret| incoming(&secret.name, secret)).collect();
        let clusters = bootstrap.clusters.iter().map(|cluster| incoming(&cluster.name, cluster)).collect();
        let unnamed = |index: usize, name: &str| {
            if name.is_empty() { format!("static-{index}") } else { name.to_owned() }
        };
        let listeners = bootstrap.listeners.iter().enumerate().map(|(index, listener)| {
            let name = unnamed(index, &listener.name);
            let named = envoy_types::pb::envoy::config::listener::v3::Listener {
                name: name.clone(),
                ..listener.clone()
            };
            incoming(&name, &named)
        });
        let listeners = listeners.collect();
        for (kind, resources) in [
            (ResourceKind::Secret, secrets),
            (ResourceKind::Cluster, clusters),
            (ResourceKind::Listener, listeners),
        ] {
            let now = Self::now();
            let refusals = self.world.apply(kind, &ConfigSource::Ads, ConfigOrigin::Static, resources, now);
            if let Some(refusal) = refusals.into_iter().next() {
                return Err(StartError::refused(kind, refusal));
            }
        }
        Ok(())
    }

    /// The newest certificate and, until the control plane sends it, the bundle that came with it.
    pub(super) fn take_identity(&mut self) {
        let Some(receiver) = &mut self.identity else { return };
        let identity = receiver.borrow_and_update().clone();
        let now = Self::now();
        match secrets_of(&identity) {
            Ok((own, bundle)) => {
                self.world.set_own_secret(IDENTITY_SECRET, own, now);
                self.world.set_fallback_secret(BUNDLE_SECRET, bundle, now);
            }
            Err(error) => tracing::error!(
                event = "identity_unusable",
                %error,
                "the new identity cannot be used; the old one serves"
            ),
        }
    }

    /// The last good configuration. It is served when the control plane does not answer in time.
    pub(super) fn take_snapshot(&mut self) {
        let Some(directory) = self.snapshot_schedule.directory() else { return };
        let snapshot = match ConfigSnapshot::load(directory, &self.bootstrap.node.id) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(event = "snapshot_unreadable", %error, "starting without a snapshot");
                return;
            }
        };
        let now = Self::now();
        for kind in ResourceKind::ALL {
            let resources: Vec<ReceivedResource> = snapshot
                .resources
                .iter()
                .filter(|saved| saved.type_url == kind.type_url())
                .map(|saved| ReceivedResource {
                    name: saved.name.as_str().into(),
                    version: saved.version.as_str().into(),
                    body: saved.body.clone(),
                })
                .collect();
            self.world.apply(kind, &ConfigSource::Ads, ConfigOrigin::Dynamic, resources, now);
        }
        // A route configuration was saved with all its virtual hosts, be it none.
        self.world.virtual_hosts_answered();
        self.restored = Some(snapshot);
    }

    /// Saves what is in use once changes have settled.
    pub(super) fn save(&mut self, now: Instant) {
        if self.snapshot_schedule.is_due(now) && self.world.is_warm() {
            self.save_now();
        }
    }

    pub(super) fn save_now(&mut self) {
        let Some(directory) = self.snapshot_schedule.take() else { return };
        let node = &self.bootstrap.node;
        let snapshot =
            ConfigSnapshot { features: node.client_features.clone(), ..self.world.snapshot(&node.id) };
        // Writing waits for the disk, which must not hold up the control thread.
        let write = move || {
            if let Err(error) = snapshot.store(&directory) {
                tracing::warn!(event = "snapshot_not_written", %error, "the snapshot is not written");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }
}

fn secrets_of(identity: &Arc<Identity>) -> Result<(SecretPlan, SecretPlan), TlsError> {
    let own = CertifiedIdentity::from_der(identity.chain().to_vec(), &identity.private_key())?;
    let trust = TrustSpec { roots: identity.bundle().to_vec(), ..TrustSpec::default() };
    Ok((SecretPlan::Identity(own), SecretPlan::Trust(Arc::new(trust))))
}
