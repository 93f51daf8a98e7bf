//! How a store that is a server of its own fares.

/// What an etcd cluster says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCondition {
    /// Version of the member that was asked.
    pub version: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// The most that the file may have; none where the member does not tell.
    pub quota: Option<u64>,
    /// Alarms that are raised in the cluster; none where this user may not ask.
    pub alarms: Option<Vec<String>>,
}
