//! What a sidecar answers itself: which sidecar it was, why, and what to look at, in the words of [`weft_api::cause`].

use envoy_types::pb::envoy::config::accesslog::v3::AccessLogFilter;
use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use weft_api::cause::{Blank, CAUSES, Cause, fill};
use weft_api::names::WorkloadId;
use weft_api::rest::Hop;

use super::access_log::{self, LogDirection};
use super::wire;

/// The flags whose answers have a sentence of their own: what stands in no policy. Each sentence stands in each listener.
const ANSWERED: [&str; 10] = ["UF", "UH", "UO", "UPE", "UC", "UR", "UT", "NR", "NC", "DF"];

/// Answers to requests of other workloads, to a port as people call it. On an inbound listener only authorization answers
/// 403, and the filter of tokens where one is for another audience: the details name the rule that refused, the route's name
/// tells who is allowed.
pub(super) fn inbound(workload: &WorkloadId, port: &str) -> LocalReplyConfig {
    let denied = format!("access to {} denied: %RESPONSE_CODE_DETAILS%; %ROUTE_NAME%", wire::literal(port));
    config(LogDirection::Inbound, workload, vec![(access_log::refused(), denied)])
}

/// Answers to the application. With `forwarding`, what is no service is called as it is, but for some addresses.
pub(super) fn outbound(workload: &WorkloadId, forwarding: bool) -> LocalReplyConfig {
    let own = "%REQ(:AUTHORITY):255% is an address of this machine, of its link or of a control plane: nothing is forwarded there";
    let own = forwarding.then(|| (access_log::refused(), own.to_owned()));
    config(LogDirection::Outbound, workload, own.into_iter().collect())
}

fn config(
    side: LogDirection,
    workload: &WorkloadId,
    special: Vec<(AccessLogFilter, String)>,
) -> LocalReplyConfig {
    let special = special.into_iter().map(|(filter, body)| mapper(filter, &format!("{workload}: {body}")));
    let known = CAUSES.iter().filter(|cause| is_answered(cause, side)).map(|cause| {
        let value = |blank| command(blank, workload);
        let mut body = fill(cause.reason, value);
        if !cause.remedy.is_empty() {
            body.push_str("; ");
            body.push_str(&fill(cause.remedy, value));
        }
        mapper(access_log::flags(&[cause.flag]), &body)
    });
    let other = format!("{workload}: %LOCAL_REPLY_BODY% (%RESPONSE_CODE_DETAILS%)");
    let heads = access_log::of_a_bad_head()
        .map(|filter| ending_in(filter, &format!("{other}; weft explain --recent")));
    let rest = mapper(access_log::refused_or_failed(), &other);
    let mappers = known.chain(special).chain(heads).chain([rest]).collect();
    LocalReplyConfig { mappers, ..Default::default() }
}

fn is_answered(cause: &Cause, side: LogDirection) -> bool {
    let hop = match side {
        LogDirection::Inbound => Hop::Inbound,
        LogDirection::Outbound => Hop::Outbound,
    };
    // Other workloads are let in by a route that takes everything, and led to one application.
    let leads_on = match side {
        LogDirection::Inbound => !matches!(cause.flag, "UH" | "NR" | "NC" | "DF"),
        LogDirection::Outbound => true,
    };
    ANSWERED.contains(&cause.flag) && cause.hop.is_none_or(|of| of == hop) && leads_on
}

/// What fills a blank in, as Envoy knows it.
fn command(blank: Blank, workload: &WorkloadId) -> String {
    match blank {
        Blank::Workload => workload.to_string(),
        Blank::Upstream => "%UPSTREAM_HOST%".to_owned(),
        Blank::Failure => "%UPSTREAM_TRANSPORT_FAILURE_REASON%".to_owned(),
        Blank::Authority => "%REQ(:AUTHORITY):255%".to_owned(),
        Blank::Destination => "%UPSTREAM_CLUSTER%".to_owned(),
    }
}

/// A body that ends in the command that tells more. What the caller chose, it is told in bounds.
fn mapper(filter: AccessLogFilter, body: &str) -> ResponseMapper {
    ending_in(filter, &format!("{body}; weft explain --request-id %REQ(X-REQUEST-ID):64%"))
}

fn ending_in(filter: AccessLogFilter, body: &str) -> ResponseMapper {
    ResponseMapper {
        filter: Some(filter),
        body_format_override: Some(SubstitutionFormatString {
            content_type: "text/plain; charset=utf-8".to_owned(),
            ..wire::text_format(body.to_owned())
        }),
        ..Default::default()
    }
}
