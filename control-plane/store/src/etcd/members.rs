//! The members of the cluster that were named, and which one of them is asked.
//!
//! The library can balance between members, but gives a call to any that is not busy, and one that refuses
//! connections never is: under load it gets every try of a call. Here one member is asked until it fails, and
//! then the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, ConnectOptions, Error};
use tokio::sync::OnceCell;

/// The members in the order in which they were named.
pub(super) struct Members {
    members: Box<[EtcdMember]>,
    options: ConnectOptions,
    asked: AtomicUsize,
}

struct EtcdMember {
    endpoint: String,
    /// Made when it is first needed: with a user it logs in, which a member that is down must not hold up.
    client: OnceCell<Client>,
}

/// A member that is asked, as an index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct MemberIndex(usize);

impl Members {
    /// The members at these endpoints, the first of which is asked first.
    pub(super) fn new(endpoints: &[String], options: ConnectOptions) -> Self {
        let member = |endpoint: &String| EtcdMember { endpoint: endpoint.clone(), client: OnceCell::new() };
        Self { members: endpoints.iter().map(member).collect(), options, asked: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// The member to ask now: the one that answered last.
    pub(super) fn asked(&self) -> MemberIndex {
        MemberIndex(self.asked.load(Ordering::Relaxed))
    }

    /// The client of a member. With a user, the error of logging in.
    pub(super) async fn client(&self, asked: MemberIndex) -> Result<Client, Error> {
        let member = &self.members[asked.0];
        let connect = || Client::connect([member.endpoint.as_str()], Some(self.options.clone()));
        member.client.get_or_try_init(connect).await.cloned()
    }

    /// The next calls go to the next member, unless another call has found that out before.
    pub(super) fn turn_from(&self, asked: MemberIndex) {
        let next = (asked.0 + 1) % self.members.len();
        let _ = self.asked.compare_exchange(asked.0, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
