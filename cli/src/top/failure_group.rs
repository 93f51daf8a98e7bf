//! Failures that are the same, as one line with their number.

use weft_api::rest::RequestRecord;

/// Requests of one edge that ended alike.
#[derive(Clone, Debug)]
pub struct FailureGroup {
    /// How many of those that the API listed.
    pub count: usize,
    /// The newest of them.
    pub newest: RequestRecord,
}

/// Failures of one kind are one group; the group with the newest failure comes first.
pub fn grouped(records: Vec<RequestRecord>) -> Vec<FailureGroup> {
    let mut groups: Vec<FailureGroup> = Vec::new();
    for record in records {
        match groups.iter_mut().find(|group| is_alike(&group.newest, &record)) {
            Some(group) => group.count += 1,
            None => groups.push(FailureGroup { count: 1, newest: record }),
        }
    }
    groups
}

fn is_alike(one: &RequestRecord, other: &RequestRecord) -> bool {
    let ends = |record: &RequestRecord| (record.hop, record.status);
    (&one.source, &one.destination, &one.reason) == (&other.source, &other.destination, &other.reason)
        && ends(one) == ends(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_alike_is_one_line_and_the_newest_stands_for_it() {
        let record = |id: &str, status| RequestRecord {
            id: id.to_owned(),
            status: Some(status),
            ..RequestRecord::default()
        };
        let groups = grouped(vec![record("c", 403), record("b", 503), record("a", 403)]);
        let told: Vec<_> = groups.iter().map(|group| (group.newest.id.as_str(), group.count)).collect();
        assert_eq!(told, [("c", 2), ("b", 1)]);
    }
}
