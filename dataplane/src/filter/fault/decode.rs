//! From Envoy's `HTTPFault`.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::FaultDelay;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as wire;
use http::StatusCode;
use weft_routing::decode::matcher;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use wire::fault_abort::ErrorType;

use super::super::Override;
use super::{Abort, AbortStatus, Delay, Fault, FaultSettings, FaultStats, Given};
use crate::decode::fields;
use crate::fraction::Fraction;
use crate::stats::{StatsRegistry, StatsScope};

pub(in super::super) fn filter(
    given: &wire::HttpFault,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Fault, Rejection> {
    let stats = FaultStats::register(registry, scope);
    Ok(Fault { settings: Arc::new(settings(given, notes)?), stats, active: Arc::default() })
}

pub(in super::super) fn per_route(given: &wire::HttpFault, notes: &mut Notes) -> Result<Override, Rejection> {
    Ok(Override::Fault(Arc::new(settings(given, notes)?)))
}

fn settings(given: &wire::HttpFault, notes: &mut Notes) -> Result<FaultSettings, Rejection> {
    refuse(&given.response_rate_limit, "response_rate_limit")?;
    for (key, field) in [
        (&given.delay_percent_runtime, "fault.delay_percent_runtime"),
        (&given.abort_percent_runtime, "fault.abort_percent_runtime"),
        (&given.delay_duration_runtime, "fault.delay_duration_runtime"),
        (&given.abort_http_status_runtime, "fault.abort_http_status_runtime"),
        (&given.abort_grpc_status_runtime, "fault.abort_grpc_status_runtime"),
        (&given.max_active_faults_runtime, "fault.max_active_faults_runtime"),
        (&given.response_rate_limit_percent_runtime, "fault.response_rate_limit_percent_runtime"),
    ] {
        notes.ignored(key, field);
    }
    notes.ignored(&given.filter_metadata, "fault.filter_metadata");
    let headers = given.headers.iter().enumerate();
    let headers = headers.map(|(index, one)| matcher::header(one).within(|| format!("headers[{index}]")));
    Ok(FaultSettings {
        delay: given.delay.as_ref().map(|given| delay(given).within(|| "delay")).transpose()?,
        abort: given.abort.as_ref().map(|given| abort(given).within(|| "abort")).transpose()?,
        upstream_cluster: given.upstream_cluster.as_str().into(),
        downstream_nodes: given.downstream_nodes.iter().map(|node| node.as_str().into()).collect(),
        headers: headers.collect::<Result<_, _>>()?,
        max_active: given.max_active_faults.as_ref().map(|most| most.value),
    })
}

fn delay(given: &FaultDelay) -> Result<Delay, Rejection> {
    let span = match &given.fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(span)) => {
            let span = fields::duration(Some(span), "fixed_delay")?.unwrap_or_default();
            if span.is_zero() {
                return Err(Rejection::new("fixed_delay", "must be greater than zero"));
            }
            Given::Fixed(span)
        }
        Some(FaultDelaySecifier::HeaderDelay(_)) => Given::ByHeader,
        None => return Err(Rejection::new("fixed_delay", "fixed_delay or header_delay is needed")),
    };
    Ok(Delay { share: Fraction::decode(given.percentage.as_ref(), "percentage")?, span })
}

fn abort(given: &wire::FaultAbort) -> Result<Abort, Rejection> {
    let status = match &given.error_type {
        Some(ErrorType::HttpStatus(status)) => {
            let known = u16::try_from(*status).ok().filter(|status| (200..600).contains(status));
            let status = known.and_then(|status| StatusCode::from_u16(status).ok());
            let wrong = || Rejection::new("http_status", "is not within 200 and 599");
            Given::Fixed(AbortStatus::Http(status.ok_or_else(wrong)?))
        }
        Some(ErrorType::GrpcStatus(status)) => Given::Fixed(AbortStatus::Grpc(*status)),
        Some(ErrorType::HeaderAbort(_)) => Given::ByHeader,
        None => {
            let needed = "http_status, grpc_status or header_abort is needed";
            return Err(Rejection::new("http_status", needed));
        }
    };
    let body = if given.response_body.is_empty() { "fault filter abort" } else { &given.response_body };
    Ok(Abort { share: Fraction::decode(given.percentage.as_ref(), "percentage")?, status, body: body.into() })
}
