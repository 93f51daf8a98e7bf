//! What the log lines of the control plane and of weft-proxy tell of: one list, by which a line is found whatever its words.
//!
//! Each line of level info, warn or error has a field `event` with a name of this list; the tidy test holds that. Level and
//! fields of a line stand where it is written, and from both `docs/reference/events.md` is made. A name stays when the words
//! of its line change.

#[cfg(feature = "event-counts")]
mod counts;

#[cfg(feature = "event-counts")]
pub use counts::EventCounts;

/// A name of the list, with its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEvent {
    /// The value of the field `event`.
    pub name: &'static str,
    /// What has happened when a line has that name, in one sentence for `docs/reference/events.md`.
    pub meaning: &'static str,
}

const fn event(name: &'static str, meaning: &'static str) -> LogEvent {
    LogEvent { name, meaning }
}

/// All of them, by name.
pub const LOG_EVENTS: [LogEvent; 130] = [
    event("access_log_not_written", "Lines of an access log are lost."),
    event(
        "access_log_without_cluster",
        "An access log goes to a cluster that the bootstrap does not have: its entries are dropped.",
    ),
    event(
        "authority_resealed",
        "The authority's keys in the store are sealed with another key, or got their version.",
    ),
    event("backup_taken", "A backup was asked for."),
    event("call_not_recorded", "A call changed something, and the store did not take its audit record."),
    event("call_refused", "A call of a principal was refused: a right is missing; once a minute of each."),
    event(
        "certificate_adopted",
        "After a restore, a certificate that was issued since the backup is written into the ledger.",
    ),
    event(
        "certificate_not_issued",
        "A certificate could not be issued, for a reason within the control plane.",
    ),
    event(
        "certificate_not_renewed",
        "No new certificate yet, why, and how long the old one lasts; it is tried again.",
    ),
    event(
        "certificate_refused",
        "A server does not accept this sidecar's certificate; once a minute of each.",
    ),
    event("certificate_renewed", "The sidecar has a new certificate."),
    event(
        "client_distrusted",
        "A client's certificate is revoked, or no longer among those that are accepted: its connections end.",
    ),
    event(
        "clock_off",
        "The clock of a proxy's machine is off by more than half a minute; once a minute for each.",
    ),
    event("collector_away", "A collector takes no spans or log records, which are dropped and counted."),
    event("collector_back", "A collector takes spans and log records again."),
    event(
        "connection_not_accepted",
        "The system gives no socket for a connection; mostly too few open files.",
    ),
    event("connections_cut", "Connections did not end in time at the end of the process, and are cut."),
    event("control_plane_away", "No stream to the control plane; the sidecar serves what it has."),
    event("control_plane_connected", "The sidecar has a stream to the control plane."),
    event(
        "control_plane_lost",
        "The stream to the control plane ended, and why; the sidecar serves on and connects again.",
    ),
    event(
        "diff_failed",
        "What an apply would change could not be computed, for a reason within the control plane.",
    ),
    event("domain_taken", "Two virtual hosts claim one domain; the first keeps it."),
    event(
        "drain_held_back",
        "So many streams were lost at once that nobody is drained: the fault is rather here or in the network.",
    ),
    event("drain_refused", "A drain by the admin endpoint was not taken."),
    event("drained", "Nothing is under way any more."),
    event("draining", "The sidecar was told to end: it says goodbye and finishes what is under way."),
    event("duty_failed", "Something that the leader does at times failed; it is tried again."),
    event("ended", "The process ends."),
    event("ended_early", "The process was told to end before it served."),
    event("ending", "The process was told to end, and finishes what is under way."),
    event(
        "explain_failed",
        "What would become of a request could not be told, for a reason within the control plane.",
    ),
    event("failures_unsaid", "More different failures than are told apart within a minute."),
    event("file_unusable", "A watched file of configuration or secrets cannot be used."),
    event("goodbye_failed", "The control plane could not be told that this workload ends."),
    event("goodbye_said", "The control plane was told that this workload ends."),
    event("handshake_failed", "A TLS handshake failed, with peer and reason; once a minute of each."),
    event("health_changed", "The application of a port answers its check, or no longer."),
    event("health_check_refused", "A health check that the control plane orders cannot be done."),
    event("identity_joined", "The sidecar has joined, or found its identity of before."),
    event(
        "identity_not_made",
        "No certificate could be issued for an Envoy that takes its identity by SDS; it keeps the one that it has, and it is tried again.",
    ),
    event("identity_not_written", "A renewed certificate could not be written to disk."),
    event("identity_rejected", "The identity on disk does not count any more; the sidecar joins again."),
    event("identity_unusable", "A new certificate cannot be used; the old one serves."),
    event(
        "instance_probe_failed",
        "Whether the instance that has a name still answers cannot be asked of the other replicas.",
    ),
    event(
        "instance_probe_not_answered",
        "Another replica asked whether an instance answers, and cannot be told.",
    ),
    event(
        "instance_probe_unreadable",
        "Another replica asks something that cannot be read: releases may differ.",
    ),
    event(
        "issuer_imported",
        "An issuer that the owner of an offline root signed is brought to everybody, and signs then.",
    ),
    event("issuer_not_read", "The issuer cannot be read from the store; the one that is known signs on."),
    event(
        "issuer_promoted_early",
        "The new issuer signs although a proxy has not acknowledged its revocation list, since the old one ends.",
    ),
    event("issuer_renewed", "A new issuer of certificates was made or took over."),
    event("issuer_requested", "A key for an issuer was made, for the owner of a root to sign its request."),
    event("issuer_signer_replaced", "Another key of `--ca-cert` signs issuers below the same root."),
    event("join_refused", "A join was refused, and why; once a minute for each source and reason."),
    event("join_waits", "A join was not answered or not let in; it is tried again."),
    event("leadership_lost", "Another replica may lead now."),
    event("leadership_won", "This replica leads: it prunes records and renews the issuer."),
    event(
        "leaf_not_listed",
        "A revoked certificate cannot be listed any more: its issuer is gone. It passes until its end.",
    ),
    event("ledger_entry_unreadable", "A record of an issued certificate cannot be read, and is passed over."),
    event(
        "ledger_entry_waits",
        "The store did not take the record of an issued certificate in time; it waits in memory.",
    ),
    event("ledger_not_written", "Records of issued certificates cannot be written; it is tried again."),
    event("listener_failed", "A listener's socket cannot be used."),
    event("listener_not_bound", "A listener's address cannot be bound; it is tried again."),
    event("mesh_created", "A new mesh: its root, issuer and keys were made."),
    event("mesh_created_elsewhere", "Another replica created the mesh first; this one reads it."),
    event(
        "name_not_resolved",
        "A host name of a cluster cannot be resolved; the addresses of before are used.",
    ),
    event("open_files_few", "The limit of open files is too low for more than a small mesh."),
    event("open_files_limited", "How many files the process may have open."),
    event("open_files_not_raised", "The limit of open files could not be raised."),
    event(
        "operator_context_written",
        "The file with which `weft login` reaches this control plane was written.",
    ),
    event("operator_token_not_replaced", "Another operator's token was asked for, and could not be written."),
    event("operator_token_replaced", "Another operator's token was made; the one before opens nothing."),
    event(
        "own_authority_left",
        "The mesh has left the root of `--ca-cert`, and does not go back to it by itself.",
    ),
    event(
        "own_authority_not_adopted",
        "The mesh cannot move to the authority of `--ca-cert` now; it is tried again.",
    ),
    event(
        "own_authority_waits",
        "The mesh moves to the authority of `--ca-cert` when the rotation that is under way is over.",
    ),
    event("pending_change_unreadable", "What an interrupted apply left behind cannot be read, and is left."),
    event("policies_not_read", "New policies cannot be read from the store; the last ones stay in force."),
    event("policy_unreadable", "A stored policy cannot be read, and has no effect."),
    event("presence_incomplete", "A part of who is connected here cannot be told to other replicas."),
    event(
        "presence_not_told",
        "Other replicas could not be told who is connected here, or where this one is; it is tried again.",
    ),
    event(
        "presence_unreadable",
        "What another replica says of its workloads cannot be read: releases may differ.",
    ),
    event("proxy_connected", "A proxy has opened a stream for its configuration."),
    event("proxy_cut", "A proxy's stream is cut, since it is not part of the mesh any more."),
    event("proxy_disconnected", "A proxy's stream is gone; what that means for its workload now."),
    event("proxy_starts", "The sidecar starts, with its admin endpoint."),
    event("ready", "The sidecar has its configuration and serves."),
    event("renewal_refused", "A member was not given a new certificate, and why."),
    event(
        "replica_unheard",
        "Another replica did not answer in time: what its proxies told is missing from an answer.",
    ),
    event("resource_refused", "A proxy has refused a resource, in its own words; it keeps what it had."),
    event("return_refused", "The control plane does not take this workload back after its goodbye."),
    event("root_rotation_aborted", "A replacement of the root was undone: the old root stays."),
    event("root_rotation_advanced", "A stage of a replacement of the root is over."),
    event(
        "root_rotation_forced",
        "Hardly any of the root's life is left: its replacement goes on, and leaves behind whom it waited for.",
    ),
    event("root_rotation_started", "A new root stands beside the old one."),
    event("roots_file_not_written", "The file of roots for people on this machine could not be written."),
    event("roots_not_replaced", "The roots that the control plane sends cannot be used; those before are."),
    event("roots_replaced", "Other roots are trusted from now on."),
    event(
        "secret_unusable",
        "A secret does not fit the cluster or listener that names it; the one before is used.",
    ),
    event(
        "seen_version_not_written",
        "Beside the seal key, the newest version of the authority's records is not noted: an older store is not noticed by it.",
    ),
    event(
        "server_certificate_not_renewed",
        "The control plane's own certificate could not be renewed; the old one serves on.",
    ),
    event("server_distrusted", "The same of a server's certificate."),
    event("service_not_offered", "The control plane has no such service: it is older, or none of Weft."),
    event("serving", "Everything is up; where the API, xDS and the admin endpoint are."),
    event("session_mode_changed", "A signed-in browser may change things from now on, or no longer."),
    event("sign_in", "A browser was signed in to the page."),
    event("sign_in_refused", "Somebody tried to sign in to the page with a wrong token or code."),
    event("signal_ignored", "SIGHUP does nothing: there is nothing to read again."),
    event(
        "snapshot_not_written",
        "The configuration could not be written to disk: a restart without a control plane would not find it.",
    ),
    event("snapshot_unreadable", "The last configuration on disk cannot be read."),
    event("store_not_compacted", "The store's history cannot be shortened; it is tried again."),
    event(
        "store_not_followed",
        "Changes in the store cannot be read; what is known stays in force, and it is tried again.",
    ),
    event("store_went_back", "The store is at an older revision than before: it was restored."),
    event("store_write_failed", "The file of the store could not be written: often a full disk."),
    event("stream_refused", "A proxy was refused configuration, as it is too old."),
    event("supervisor_not_told", "systemd cannot be told how the process is."),
    event("tap_closed", "Somebody looks no longer: how much was shown, and how much was not."),
    event("tap_opened", "Somebody looks at requests as they end: who, from where, at which."),
    event("telemetry_exported", "The collector takes traces and metrics again."),
    event(
        "telemetry_not_exported",
        "Traces and metrics of the control plane find no collector, and are dropped.",
    ),
    event(
        "upstream_handshake_failed",
        "A TLS handshake with a server failed, with the reason; once a minute of each.",
    ),
    event("worker_failed", "A worker thread ended by a fault in the program."),
    event("worker_unpinned", "A worker could not be bound to its processor."),
    event("workload_joined", "A workload has joined with a token, and was given a certificate."),
    event("workload_left", "A workload says that it ends: peers are not sent to it any more."),
    event("workload_listens", "A sidecar has its inbound listener: callers are sent to it from now on."),
    event(
        "workload_listens_not_written",
        "That a sidecar listens could not be written down; it is tried again.",
    ),
    event("workload_removed", "A workload that was away for so long is taken out of the mesh."),
    event("workload_returned", "A workload that had said goodbye serves again."),
    event("workload_revoked", "A workload was put out of the mesh, and its certificates are to be listed."),
    event(
        "workload_trusted_from_memory",
        "The store does not answer, so a member is let in by what was known of it last.",
    ),
    event("workload_unreadable", "The record of a workload cannot be read, and is passed over."),
];

/// The place of an event in [`LOG_EVENTS`].
#[must_use]
pub fn place_of(name: &str) -> Option<usize> {
    LOG_EVENTS.binary_search_by(|event| event.name.cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_found_by_its_name() {
        for (place, event) in LOG_EVENTS.iter().enumerate() {
            assert_eq!(place_of(event.name), Some(place), "{} is not where it belongs", event.name);
        }
        assert_eq!(place_of("nothing_of_the_kind"), None);
    }
}
