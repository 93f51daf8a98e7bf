//! Why a request was refused or failed, in words: one table, for what sidecars answer and for what the control plane
//! explains.
//!
//! A sidecar knows an answer of its own by Envoy's response flag, and fills the sentence in with format commands. The control
//! plane knows more, and fills in what was reported: details, the failure of TLS in words, who was expected.

mod table;
mod transport;

pub use table::CAUSES;
pub use transport::in_words;

use crate::rest::Hop;

/// One reason, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause {
    /// At which hop; at either without one.
    pub hop: Option<Hop>,
    /// Envoy's letters of the flag by which it is known; any where it is empty.
    pub flag: &'static str,
    /// What stands in the response code details; anything where it is empty. No sidecar can tell by them.
    pub details: &'static str,
    /// Only where it is known why the connection failed. No sidecar can tell by that.
    pub needs_failure: bool,
    /// The sentence, with [`Blank`]s.
    pub reason: &'static str,
    /// What to look at, with [`Blank`]s.
    pub remedy: &'static str,
}

/// What is filled into a sentence, written as `{NAME}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    /// `{workload}`: beside which the sidecar stands.
    Workload,
    /// `{upstream}`: the address that was tried.
    Upstream,
    /// `{failure}`: why there is no connection.
    Failure,
    /// `{authority}`: the host that the request names.
    Authority,
    /// `{destination}`: what the route leads to.
    Destination,
}

impl Blank {
    const ALL: [(&'static str, Self); 5] = [
        ("{workload}", Self::Workload),
        ("{upstream}", Self::Upstream),
        ("{failure}", Self::Failure),
        ("{authority}", Self::Authority),
        ("{destination}", Self::Destination),
    ];
}

/// A sentence with its blanks filled in.
#[must_use]
pub fn fill(sentence: &str, mut value: impl FnMut(Blank) -> String) -> String {
    let mut filled = String::with_capacity(sentence.len() + 64);
    let mut rest = sentence;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let known = Blank::ALL.into_iter().find(|(name, _)| from.starts_with(name));
        let (name, text) = known.map_or(("{", "{".to_owned()), |(name, blank)| (name, value(blank)));
        filled.push_str(&text);
        rest = &from[name.len()..];
    }
    filled.push_str(rest);
    filled
}

/// How a request ended at one hop, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending<'a> {
    /// The sidecar that saw it: the caller's, or that of the called workload.
    pub hop: Hop,
    /// The workload beside that sidecar.
    pub workload: &'a str,
    /// Envoy's letters of what went wrong.
    pub flags: &'a [String],
    /// Envoy's response code details, or why a connection was ended.
    pub details: &'a str,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The address that was tried, and what it stands for.
    pub upstream: Option<&'a str>,
    /// What the route leads to: `NAMESPACE/SERVICE port NAME`.
    pub destination: Option<&'a str>,
    /// The host that the request names.
    pub authority: Option<&'a str>,
    /// The caller's identity, or its address where it has none.
    pub peer: Option<&'a str>,
    /// The route that it matched.
    pub route: &'a str,
    /// Why there is no connection to the server.
    pub upstream_failure: &'a str,
    /// Why the caller's connection failed.
    pub downstream_failure: &'a str,
    /// The identity that the server should have.
    pub expected: Option<&'a str>,
    /// The policies by which members of the destination that fail are left alone for a while.
    pub ejecting: Option<&'a str>,
    /// How far the clock of the sidecar's machine is off, in milliseconds; ahead of the control plane's where it is positive.
    pub clock_offset: Option<i64>,
}

/// Why a request ended as it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What went wrong, in one sentence that begins with the workload.
    pub reason: String,
    /// What to look at, or to change.
    pub remedy: Option<String>,
    /// The rule that refused it.
    pub policy: Option<String>,
}

/// The flag of a request for which there was no member that would take it.
const NO_HEALTHY: &str = "UH";
/// What a machine finds whose clock is off.
const TIMES: [&str; 2] = ["has expired", "not valid yet"];
/// What stands before the name of a rule in the details of a refusal.
const REFUSED: &str = "rbac_access_denied_matched_policy[";

/// Says why a request ended as it did, and what to look at.
#[must_use]
pub fn explain(ending: &Ending<'_>) -> Explanation {
    let mut said = why(ending);
    if let Some(policies) = ending.ejecting.filter(|_| ending.flags.iter().any(|flag| flag == NO_HEALTHY)) {
        said.reason
            .push_str(&format!("; outlier detection of {policies} leaves those that fail alone for a while"));
    }
    let is_of_time = TIMES.iter().any(|words| said.reason.contains(words));
    if let Some(offset) = ending.clock_offset.filter(|_| is_of_time) {
        said.reason.push_str(&format!("; {}", clock_in_words(ending.workload, offset)));
    }
    said
}

/// That a machine's clock is off, and how far.
#[must_use]
pub fn clock_in_words(workload: &str, offset_ms: i64) -> String {
    let side = if offset_ms < 0 { "behind" } else { "ahead of" };
    format!("the clock of {workload} is {} {side} the control plane's", span(offset_ms.unsigned_abs() / 1000))
}

/// A span in one unit: two would be one too many.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or(format!("{seconds}s"), |(length, letter)| {
        format!("{}{letter}", (seconds + length / 2) / length)
    })
}

fn why(ending: &Ending<'_>) -> Explanation {
    if let Some(rule) = refused_by(ending.details) {
        return refusal(ending, rule);
    }
    if !ending.downstream_failure.is_empty() {
        return handshake(ending);
    }
    if let Some(cause) = CAUSES.iter().find(|cause| cause.fits(ending)) {
        let value = |blank| ending.value(blank);
        let remedy = Some(fill(cause.remedy, value)).filter(|text| !text.is_empty());
        return Explanation { reason: fill(cause.reason, value), remedy, policy: None };
    }
    other(ending)
}

impl Cause {
    fn fits(&self, ending: &Ending<'_>) -> bool {
        self.hop.is_none_or(|hop| hop == ending.hop)
            && (self.flag.is_empty() || ending.flags.iter().any(|flag| flag == self.flag))
            && (self.details.is_empty() || ending.details.contains(self.details))
            && (!self.needs_failure || !ending.upstream_failure.is_empty())
    }
}

impl Ending<'_> {
    fn value(&self, blank: Blank) -> String {
        let known = |value: Option<&str>, unknown: &str| value.unwrap_or(unknown).to_owned();
        match blank {
            Blank::Workload => self.workload.to_owned(),
            Blank::Upstream => known(self.upstream, "its address"),
            Blank::Failure if self.upstream_failure.is_empty() => in_words(self.details, self.expected),
            Blank::Failure => in_words(self.upstream_failure, self.expected),
            Blank::Authority => known(self.authority, "that the request names"),
            Blank::Destination => known(self.destination, "the service"),
        }
    }
}

/// The rule that details name; empty where nothing allowed it.
fn refused_by(details: &str) -> Option<&str> {
    let (_, rest) = details.split_once(REFUSED)?;
    let (rule, _) = rest.split_once(']')?;
    Some(if rule == "none" { "" } else { rule })
}

fn refusal(ending: &Ending<'_>, rule: &str) -> Explanation {
    let (workload, peer) = (ending.workload, ending.peer.unwrap_or("the caller"));
    if rule.is_empty() {
        let allowed = Some(ending.route).filter(|route| !route.is_empty());
        let allowed = allowed.map(|route| format!(": {route}")).unwrap_or_default();
        return Explanation {
            reason: format!("{workload}: no AuthorizationPolicy allows {peer} to do this{allowed}"),
            remedy: Some("add a rule to an AuthorizationPolicy with action Allow, or one of its own".into()),
            policy: None,
        };
    }
    let policy = rule.rsplit_once('/').map_or(rule, |(policy, _)| policy);
    let (namespace, name) = policy.split_once('/').unwrap_or(("default", policy));
    Explanation {
        reason: format!("{workload}: rule {rule} denies this to {peer}"),
        remedy: Some(format!("weft get authorizationpolicy {name} -n {namespace}")),
        policy: Some(rule.to_owned()),
    }
}

fn handshake(ending: &Ending<'_>) -> Explanation {
    let (workload, peer) = (ending.workload, ending.peer.unwrap_or("a client"));
    let words = in_words(ending.downstream_failure, None);
    Explanation {
        reason: format!("{workload}: no connection from {peer}: {words}"),
        remedy: Some(
            "weft proxy list shows who has a certificate, and until when; callers outside of the mesh have none"
                .into(),
        ),
        policy: None,
    }
}

/// Whether the name of a route is that of a rule, `NAMESPACE/NAME/RULE`.
fn is_rule(route: &str) -> bool {
    route.contains('/') && !route.contains(' ')
}

/// Answers that are nobody's failure but the application's, or that a route gives.
fn other(ending: &Ending<'_>) -> Explanation {
    let Ending { workload, details, .. } = *ending;
    let status = ending.status.map_or("nothing".to_owned(), |status| status.to_string());
    let upstream = ending.value(Blank::Upstream);
    let (reason, remedy) = match (details, ending.hop) {
        ("via_upstream", Hop::Inbound) => (
            format!("{workload}: the application on {upstream} answered {status} itself"),
            Some("look into the application's log".to_owned()),
        ),
        ("via_upstream", Hop::Outbound) => (
            format!("{workload}: {} at {upstream} answered {status}", ending.value(Blank::Destination)),
            Some(
                "the next hop says why, if its sidecar refused; else look into its application's log"
                    .to_owned(),
            ),
        ),
        // Of what is compiled, nothing else answers so; a name of words is a sentence.
        ("direct_response", _) if ending.status == Some(500) && is_rule(ending.route) => (
            format!("{workload}: rule {} has no backend that exists", ending.route),
            Some(
                "weft get httproutes and weft get services show where it leads, and what there is".to_owned(),
            ),
        ),
        ("direct_response", _) if !ending.route.is_empty() => (format!("{workload}: {}", ending.route), None),
        ("direct_response", _) => {
            (format!("{workload}: a route answers {status} to {}", ending.value(Blank::Authority)), None)
        }
        ("", _) => (format!("{workload}: answered {status}"), None),
        (details, _) => (format!("{workload}: answered {status} ({details})"), None),
    };
    Explanation { reason, remedy, policy: None }
}

#[cfg(test)]
mod tests;
