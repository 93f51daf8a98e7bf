//! What can be found, by stable codes, and which area each is of.

/// What was looked at. Each area without a finding is told as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckArea {
    Versions,
    Clocks,
    Store,
    Certificates,
    Listeners,
    Replicas,
    Proxies,
    Applications,
    Services,
    Policies,
    Tokens,
}

impl CheckArea {
    /// All areas, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Versions,
        Self::Clocks,
        Self::Store,
        Self::Certificates,
        Self::Listeners,
        Self::Replicas,
        Self::Proxies,
        Self::Applications,
        Self::Services,
        Self::Policies,
        Self::Tokens,
    ];

    /// The word that stands in place of a code where all is well.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Clocks => "clocks",
            Self::Store => "store",
            Self::Certificates => "certificates",
            Self::Listeners => "listeners",
            Self::Replicas => "replicas",
            Self::Proxies => "proxies",
            Self::Applications => "applications",
            Self::Services => "services",
            Self::Policies => "policies",
            Self::Tokens => "tokens",
        }
    }
}

/// The stable code of something that `weft check` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckCode {
    /// A proxy is newer than the control plane, or more than one minor version older.
    ProxyVersion,
    /// The control planes are of different versions.
    ReplicaVersion,
    /// The clock of a proxy's machine is off by more than half a minute.
    ProxyClock,
    /// The clocks of two control planes differ by more than half a minute.
    ReplicaClock,
    /// The store does not answer, or what is followed of it is old.
    StoreAway,
    /// etcd raises an alarm.
    EtcdAlarm,
    /// etcd is older than 3.5.33.
    EtcdVersion,
    /// The disk of the embedded store, or the quota of etcd, is nearly full.
    StoreRoom,
    /// The root ends within 30 days.
    RootEnds,
    /// A replacement of the root waits for somebody longer than it should.
    RootRotationHeld,
    /// The issuer should have been renewed by now, or the owner of its root has to sign another one soon.
    IssuerEnds,
    /// A workload's certificate should have been renewed by now.
    LeafNotRenewed,
    /// A workload's certificate has ended.
    LeafEnded,
    /// No control plane of this mesh answers where tokens send workloads to.
    PublicUnreachable,
    /// The admin endpoints answer other machines, and ask nobody who they are.
    AdminExposed,
    /// The seal key's file cannot be used at the next start, others may read it, or a key of it is to be used or removed.
    SealKey,
    /// Records of the authority in the store are not the newest, or were changed by somebody without the seal key.
    AuthorityRecords,
    /// A control plane does not answer another one.
    ReplicaUnreachable,
    /// More than a third of the mesh lost its streams at once: nobody is drained.
    ExpiryHeldBack,
    /// A proxy refuses what it is sent.
    ProxyRefuses,
    /// A proxy has no stream, and said no goodbye.
    ProxyAway,
    /// An Envoy that others should call takes no listener from the control plane.
    ProxyWithoutListener,
    /// A file describes a workload that has not joined.
    NotJoined,
    /// A workload joined under a name that a file holds for others.
    NameNotGranted,
    /// An application does not answer the sidecar beside it.
    ApplicationSilent,
    /// An application listens beyond loopback, where it is reached past its sidecar.
    ApplicationExposed,
    /// Nobody sees where an application listens.
    ApplicationNotSeen,
    /// A workload joined as a service that does not exist.
    ServiceMissing,
    /// A service has no members.
    ServiceWithoutMembers,
    /// No member of a service takes requests.
    ServiceWithoutHealthy,
    /// A workload opens a port for a service that does not exist.
    UpstreamUnknown,
    /// A policy names what does not exist, or selects nothing.
    PolicySelectsNothing,
    /// A rule of a policy can never match.
    RuleUnreachable,
    /// A route sends requests to a subset that has no members.
    SubsetEmpty,
    /// No policy says who may call whom, and the default is to allow.
    DefaultAllow,
    /// Somebody took a workload out of balancing.
    WorkloadDrained,
    /// A join token that was made for long ends within a day, or has ended with uses left.
    TokenEnds,
}

impl CheckCode {
    /// The code as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProxyVersion => "proxy_version",
            Self::ReplicaVersion => "replica_version",
            Self::ProxyClock => "proxy_clock",
            Self::ReplicaClock => "replica_clock",
            Self::StoreAway => "store_away",
            Self::EtcdAlarm => "etcd_alarm",
            Self::EtcdVersion => "etcd_version",
            Self::StoreRoom => "store_room",
            Self::RootEnds => "root_ends",
            Self::RootRotationHeld => "root_rotation_held",
            Self::IssuerEnds => "issuer_ends",
            Self::LeafNotRenewed => "leaf_not_renewed",
            Self::LeafEnded => "leaf_ended",
            Self::PublicUnreachable => "public_unreachable",
            Self::AdminExposed => "admin_exposed",
            Self::SealKey => "seal_key",
            Self::AuthorityRecords => "authority_records",
            Self::ReplicaUnreachable => "replica_unreachable",
            Self::ExpiryHeldBack => "expiry_held_back",
            Self::ProxyRefuses => "proxy_refuses",
            Self::ProxyAway => "proxy_away",
            Self::ProxyWithoutListener => "proxy_without_listener",
            Self::NotJoined => "not_joined",
            Self::NameNotGranted => "name_not_granted",
            Self::ApplicationSilent => "application_silent",
            Self::ApplicationExposed => "application_exposed",
            Self::ApplicationNotSeen => "application_not_seen",
            Self::ServiceMissing => "service_missing",
            Self::ServiceWithoutMembers => "service_without_members",
            Self::ServiceWithoutHealthy => "service_without_healthy",
            Self::UpstreamUnknown => "upstream_unknown",
            Self::PolicySelectsNothing => "policy_selects_nothing",
            Self::RuleUnreachable => "rule_unreachable",
            Self::SubsetEmpty => "subset_empty",
            Self::DefaultAllow => "default_allow",
            Self::WorkloadDrained => "workload_drained",
            Self::TokenEnds => "token_ends",
        }
    }

    /// Which area it is of.
    #[must_use]
    pub const fn area(self) -> CheckArea {
        match self {
            Self::ProxyVersion | Self::ReplicaVersion => CheckArea::Versions,
            Self::ProxyClock | Self::ReplicaClock => CheckArea::Clocks,
            Self::StoreAway
            | Self::EtcdAlarm
            | Self::EtcdVersion
            | Self::StoreRoom
            | Self::AuthorityRecords => CheckArea::Store,
            Self::RootEnds
            | Self::RootRotationHeld
            | Self::IssuerEnds
            | Self::LeafNotRenewed
            | Self::LeafEnded => CheckArea::Certificates,
            Self::PublicUnreachable | Self::AdminExposed | Self::SealKey => CheckArea::Listeners,
            Self::ReplicaUnreachable | Self::ExpiryHeldBack => CheckArea::Replicas,
            Self::ProxyRefuses
            | Self::ProxyAway
            | Self::ProxyWithoutListener
            | Self::NotJoined
            | Self::NameNotGranted
            | Self::WorkloadDrained => CheckArea::Proxies,
            Self::ApplicationSilent | Self::ApplicationExposed | Self::ApplicationNotSeen => {
                CheckArea::Applications
            }
            Self::ServiceMissing
            | Self::ServiceWithoutMembers
            | Self::ServiceWithoutHealthy
            | Self::UpstreamUnknown => CheckArea::Services,
            Self::PolicySelectsNothing | Self::RuleUnreachable | Self::SubsetEmpty | Self::DefaultAllow => {
                CheckArea::Policies
            }
            Self::TokenEnds => CheckArea::Tokens,
        }
    }
}
