//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and says in the log what came of it: each proxied connection
/// takes two, and the usual soft limit of 1024 is left from the days of `select`.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current == limit.maximum {
        tracing::info!(
            event = "open_files_limited",
            open_files = shown(limit.current),
            "the limit of open files is at its most"
        );
        return;
    }
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => tracing::info!(
            event = "open_files_limited",
            before = shown(limit.current),
            open_files = shown(wanted.current),
            "the limit of open files is raised"
        ),
        Err(error) => tracing::warn!(
            event = "open_files_not_raised",
            %error,
            open_files = shown(limit.current),
            wanted = shown(wanted.current),
            "the limit of open files cannot be raised; set LimitNOFILE or ulimit -n before the start"
        ),
    }
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}
