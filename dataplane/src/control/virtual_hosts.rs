//! Virtual hosts that come as resources of their own (VHDS), and the route configurations that take them.
//!
//! ```text
//!   RouteConfiguration with vhds --follow--> waits --first answer of the type, or its time is over--> is used
//!   VirtualHost "CONFIGURATION/HOST" --taken--> CONFIGURATION is put together anew: its own hosts, then those of its name
//! ```
//!
//! They are asked for all at once while any route configuration takes them, and forgotten when none does. Until the
//! first answer has come nobody knows which there are, so that the version before serves on.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use weft_api::names::route_configuration_of;
use weft_routing::rejection::Rejection;

use super::deadlines::DeadlineQueue;
use super::dependencies::{Dependency, DependencyChange};
use super::resource::{Accepted, ChildKey, ChildResource};
use super::table::{Absent, ChildTable, Table};
use crate::decode::ConfigSource;
use crate::route::{Vhds, VirtualHost};

/// The virtual hosts that came by VHDS, and which route configurations wait for them.
#[derive(Debug)]
pub struct VirtualHosts {
    hosts: ChildTable<Arc<VirtualHost>>,
    /// Route configurations with `vhds`.
    vhds_routes: BTreeSet<ChildKey>,
    /// Those of them that are not in use yet.
    waiting: DeadlineQueue<ChildKey>,
    /// The first answer has come since they are asked for.
    answered: bool,
    /// What was told as begun and not as ended.
    asked: bool,
}

impl Default for VirtualHosts {
    fn default() -> Self {
        Self {
            hosts: ChildTable::new(Absent::Goes),
            vhds_routes: BTreeSet::new(),
            waiting: DeadlineQueue::default(),
            answered: false,
            asked: false,
        }
    }
}

impl VirtualHosts {
    /// All of them, by the names of their resources.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &ChildResource<Arc<VirtualHost>>)> {
        self.hosts.iter().map(|((_, name), child)| (name, child))
    }

    /// Those of one route configuration, in the order of their names.
    pub fn of<'a>(&'a self, configuration: &'a str) -> impl Iterator<Item = &'a Accepted<Arc<VirtualHost>>> {
        let own = self.iter().filter(move |(name, _)| route_configuration_of(name) == Some(configuration));
        let mut own: Vec<_> =
            own.filter_map(|(name, child)| Some((name, child.accepted.as_ref()?))).collect();
        own.sort_unstable_by_key(|(name, _)| *name);
        own.into_iter().map(|(_, accepted)| accepted)
    }

    pub(super) fn table(&self) -> &dyn Table {
        &self.hosts
    }

    pub(super) fn table_mut(&mut self) -> &mut dyn Table {
        &mut self.hosts
    }

    /// Whether something of this name can be a virtual host of a route configuration.
    pub(super) fn check((source, name): &ChildKey) -> Result<(), Rejection> {
        if let ConfigSource::File(path) = source {
            let reason = format!("virtual hosts come by ads only, not by the file {}", path.display());
            return Err(Rejection::new("name", reason));
        }
        match route_configuration_of(name) {
            Some(_) => Ok(()),
            None => {
                Err(Rejection::new("name", "must be that of its route configuration, a slash, and its own"))
            }
        }
    }

    /// A version that was accepted.
    pub(super) fn put(&mut self, key: ChildKey, accepted: Accepted<Arc<VirtualHost>>) {
        self.hosts.put(key, accepted);
    }

    /// A version of a route configuration was accepted. With `vhds` it waits, unless it is known what there is.
    pub(super) fn follow(&mut self, key: &ChildKey, vhds: Option<Vhds>, now: Instant) {
        match vhds {
            None => self.unfollow(key),
            Some(vhds) => {
                self.vhds_routes.insert(key.clone());
                if !self.answered {
                    self.waiting
                        .set(key.clone(), vhds.fetch_timeout.map(|fetch_timeout| now + fetch_timeout));
                }
            }
        }
    }

    /// A route configuration went, or takes no virtual hosts any more.
    pub(super) fn unfollow(&mut self, key: &ChildKey) {
        self.vhds_routes.remove(key);
        self.waiting.remove(key);
    }

    /// The route configurations that this virtual host belongs to.
    pub(super) fn routes_of<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a ChildKey> {
        let configuration = route_configuration_of(host);
        self.vhds_routes.iter().filter(move |(_, name)| configuration == Some(&**name))
    }

    /// Whether a route configuration is not used yet, because its virtual hosts are on their way.
    #[must_use]
    pub fn keeps_waiting(&self, key: &ChildKey) -> bool {
        self.waiting.contains(key)
    }

    /// Until when a route configuration waits, `None` for ever; nothing where it does not wait.
    pub(super) fn waits_until(&self, key: &ChildKey) -> Option<Option<Instant>> {
        self.waiting.until(key)
    }

    /// Whether no route configuration waits.
    pub(super) fn is_warm(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next route configuration has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next()
    }

    /// It is known now which there are, be it none; answers who waited for that.
    pub(super) fn answered(&mut self) -> Vec<ChildKey> {
        // What nobody takes was asked for earlier, and says nothing of what will be asked for.
        self.answered = !self.vhds_routes.is_empty();
        self.waiting.take_all()
    }

    /// Whether the first answer has come.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// Takes those whose time is over; they are used with their own virtual hosts alone.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<ChildKey> {
        self.waiting.expired(now)
    }

    /// Whether they have to be asked for since the last time, or no longer.
    pub(super) fn take_change(&mut self) -> Option<DependencyChange> {
        if !self.vhds_routes.is_empty() {
            let begins = !std::mem::replace(&mut self.asked, true);
            return begins.then_some(DependencyChange::Begun(Dependency::VirtualHosts));
        }
        let ends = std::mem::take(&mut self.asked) || !self.hosts.is_empty();
        ends.then_some(DependencyChange::Ended(Dependency::VirtualHosts))
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
