//! Who may open a discovery stream: the certificate decides, the node is a claim that must fit it.

use std::sync::Arc;
use std::time::Instant;

use tonic::Status;
use weft_api::names::{BUNDLE_SECRET, INBOUND_LISTENER};
use weft_api::{LogThrottle, ResourceKind, Version, WorkloadId};
use weft_xds::server::SessionEvent;
use weft_xds::transport::server::{Publisher, StreamKind, StreamSetup};
use weft_xds::transport::{Excess, NodeClaim, PeerIdentity};

use super::client_version;
use super::config_source;
use super::refusals::{ClientKey, Refusals};
use crate::metrics::{Limit, Metrics};
use crate::reconciler::{Connected, ReconcilerCommand, ReconcilerHandle, StreamId, StreamProgress};

/// Names of a refused response in one line of the log.
const SHOWN_NAMES: usize = 8;

/// Admits streams and hands them to the reconciler.
#[derive(Debug)]
pub struct Discovery {
    reconciler: ReconcilerHandle,
    refusals: Refusals,
    metrics: Metrics,
    too_old: LogThrottle<WorkloadId>,
}

impl Discovery {
    /// Streams are served by a reconciler.
    #[must_use]
    pub fn new(reconciler: ReconcilerHandle, refusals: Refusals, metrics: Metrics) -> Self {
        Self { reconciler, refusals, metrics, too_old: LogThrottle::default() }
    }
}

impl Publisher for Discovery {
    fn open(&self, node: NodeClaim, peer: PeerIdentity, stream: StreamKind) -> Result<StreamSetup, Status> {
        let workload = peer.workload.ok_or_else(|| {
            Status::permission_denied("only workloads have configuration; this is no workload's certificate")
        })?;
        if node.id() != workload.to_string() {
            return Err(Status::permission_denied(format!(
                "node.id is {:?}, but the certificate is {workload}'s: set node.id to {workload}",
                node.shown_id()
            )));
        }
        if let Err(old) = client_version::check(&node) {
            // Envoy comes back for ever; the log has one line a minute of each.
            if let Some(more) = self.too_old.speaks(workload.clone()) {
                tracing::warn!(event = "stream_refused", %workload, %old, more, "discovery stream refused");
            }
            return Err(Status::failed_precondition(old.to_string()));
        }
        let source = config_source::separate(&node, stream.served)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.reconciler.published().borrow().ready {
            return Err(Status::unavailable("the control plane has not read its store yet; come back"));
        }
        let instance = peer.instance.ok_or_else(|| Status::internal("nobody said which instance this is"))?;
        let id = StreamId::next();
        let progress = Arc::new(StreamProgress::default());
        let form = client_version::route_form(&node, stream);
        let user_agent = node.agent();
        let agent = user_agent.as_str().into();
        let client = ClientKey { workload: workload.clone(), instance: Arc::clone(&instance), agent };
        let remembered = self.refusals.recall(&client);
        let guard = StreamGuard {
            id,
            client,
            progress: Arc::clone(&progress),
            reconciler: self.reconciler.clone(),
            refusals: self.refusals.clone(),
            metrics: self.metrics.clone(),
        };
        let (handle, setup) = StreamSetup::new(move |event| guard.note(&event));
        let setup = setup.with_rejections(remembered);
        let setup = match source {
            Some(cluster) => setup.with_config_source(cluster),
            None => setup,
        };
        let setup = if client_version::knows_access_log_services(&node) {
            setup
        } else {
            setup.without_access_log_services()
        };
        self.metrics.stream_opened();
        tracing::info!(
            event = "proxy_connected",
            workload = %workload, user_agent, ?stream,
            "discovery stream opened"
        );
        let kind = stream;
        let opened = ReconcilerCommand::Opened(Connected {
            id,
            workload,
            instance,
            user_agent,
            kind,
            form,
            progress,
            handle,
        });
        if self.reconciler.try_tell(opened).is_some() {
            return Err(Status::resource_exhausted("too many streams at once; come back later"));
        }
        Ok(setup)
    }

    fn refused(&self, peer: &PeerIdentity, excess: Excess) {
        self.metrics.stream_refused(excess);
        tracing::debug!(workload = ?peer.workload, %excess, "discovery stream refused");
    }
}

/// Whether this is the listener for other workloads, there and not removed.
fn listens((name, version): &(Arc<str>, Option<Version>)) -> bool {
    **name == *INBOUND_LISTENER && version.is_some()
}

/// The version of the bundle, where this is one.
fn bundle((name, version): &(Arc<str>, Option<Version>)) -> Option<Version> {
    version.filter(|_| **name == *BUNDLE_SECRET)
}

/// Lives as long as the stream; its end tells the reconciler.
struct StreamGuard {
    id: StreamId,
    client: ClientKey,
    progress: Arc<StreamProgress>,
    reconciler: ReconcilerHandle,
    refusals: Refusals,
    metrics: Metrics,
}

impl StreamGuard {
    fn note(&self, event: &SessionEvent) {
        self.metrics.session_event(event);
        if let SessionEvent::Acked { kind, resources } = event {
            let taken = resources.iter().filter(|(_, version)| version.is_some()).map(|(name, _)| name);
            self.refusals.accepted(&self.client, *kind, taken);
        }
        match event {
            SessionEvent::Nacked { kind, resources, message, .. } => {
                let (workload, count) = (&self.client.workload, resources.len());
                // Of a large response the first few names tell where to look.
                let resources = &resources[..count.min(SHOWN_NAMES)];
                tracing::warn!(
                    event = "resource_refused",
                    %workload, r#type = %kind, count, ?resources, message = &**message,
                    "configuration refused"
                );
            }
            SessionEvent::Synced { revision, .. } => {
                if let Some(took) = self.progress.synced(Instant::now(), *revision) {
                    self.metrics.synced(took);
                }
            }
            SessionEvent::Acked { kind: ResourceKind::Listener, resources }
                if resources.iter().any(listens) =>
            {
                self.arrived();
            }
            SessionEvent::Resumed { kind: ResourceKind::Listener, names }
                if names.iter().any(|name| **name == *INBOUND_LISTENER) =>
            {
                self.arrived();
            }
            SessionEvent::Acked { kind: ResourceKind::Runtime, .. }
            | SessionEvent::Resumed { kind: ResourceKind::Runtime, .. } => {
                self.progress.took_runtime();
            }
            SessionEvent::Acked { kind: ResourceKind::Secret, resources } => {
                if let Some(version) = resources.iter().find_map(bundle) {
                    self.progress.took_bundle(version);
                    self.reconciler.tell_presence();
                }
            }
            SessionEvent::Quarantined { kind, rejected } => {
                for _ in 0..self.refusals.remember(&self.client, *kind, rejected) {
                    self.metrics.limited(Limit::RefusalsRemembered);
                }
            }
            SessionEvent::Sent { .. }
            | SessionEvent::Acked { .. }
            | SessionEvent::Resumed { .. }
            | SessionEvent::GateTimedOut { .. }
            | SessionEvent::AckOverdue { .. }
            | SessionEvent::UnknownType { .. } => {}
        }
    }
}

impl StreamGuard {
    fn arrived(&self) {
        if self.progress.took_listener() {
            self.tell(ReconcilerCommand::Arrived(self.client.workload.clone()));
        }
    }

    fn tell(&self, news: ReconcilerCommand) {
        if let Some(news) = self.reconciler.try_tell(news) {
            // The queue is full: wait beside it, for the news must arrive.
            let reconciler = self.reconciler.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { reconciler.tell(news).await });
            }
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.metrics.stream_closed();
        self.tell(ReconcilerCommand::Closed(self.id));
    }
}
