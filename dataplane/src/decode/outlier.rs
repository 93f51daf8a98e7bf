//! `OutlierDetection`.

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection as PbOutlier;
use envoy_types::pb::google::protobuf::UInt32Value;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::fields::{self, number};
use crate::outlier::{OutlierDetection, RateDetection};

/// Reads when an endpoint is left alone.
pub(super) fn outlier(given: Option<&PbOutlier>) -> Result<Option<OutlierDetection>, Rejection> {
    let Some(given) = given else { return Ok(None) };
    let at = "outlier_detection";
    refuse(&given.monitors, "monitors").within(|| at)?;
    refuse(fields::flag(given.detect_degraded_hosts.as_ref()), "detect_degraded_hosts").within(|| at)?;
    let default = OutlierDetection::default();
    let or = |value: &Option<UInt32Value>, default: u32| number(value.as_ref()).unwrap_or(default);
    let time = |value: &Option<_>, default, field: &str| {
        fields::duration(value.as_ref(), field).within(|| at).map(|given| given.unwrap_or(default))
    };
    let base_ejection_time =
        time(&given.base_ejection_time, default.base_ejection_time, "base_ejection_time")?;
    Ok(Some(OutlierDetection {
        consecutive_5xx: or(&given.consecutive_5xx, default.consecutive_5xx),
        consecutive_gateway_failure: or(
            &given.consecutive_gateway_failure,
            default.consecutive_gateway_failure,
        ),
        consecutive_local_origin_failure: or(
            &given.consecutive_local_origin_failure,
            default.consecutive_local_origin_failure,
        ),
        split_local_origin: given.split_external_local_origin_errors,
        interval: time(&given.interval, default.interval, "interval")?,
        base_ejection_time,
        max_ejection_time: time(&given.max_ejection_time, default.max_ejection_time, "max_ejection_time")?
            .max(base_ejection_time),
        max_ejection_time_jitter: time(
            &given.max_ejection_time_jitter,
            default.max_ejection_time_jitter,
            "max_ejection_time_jitter",
        )?,
        max_ejection_percent: or(&given.max_ejection_percent, default.max_ejection_percent),
        always_eject_one_host: fields::flag(given.always_eject_one_host.as_ref()),
        enforcing_5xx: or(&given.enforcing_consecutive_5xx, default.enforcing_5xx),
        enforcing_gateway_failure: or(
            &given.enforcing_consecutive_gateway_failure,
            default.enforcing_gateway_failure,
        ),
        enforcing_local_origin_failure: or(
            &given.enforcing_consecutive_local_origin_failure,
            default.enforcing_local_origin_failure,
        ),
        rates: rates(given),
    }))
}

fn rates(given: &PbOutlier) -> RateDetection {
    let default = RateDetection::default();
    let or = |value: &Option<UInt32Value>, default: u32| number(value.as_ref()).unwrap_or(default);
    let hosts = |value: &Option<UInt32Value>, default: usize| {
        number(value.as_ref()).map_or(default, |hosts| hosts as usize)
    };
    RateDetection {
        success_rate_minimum_hosts: hosts(
            &given.success_rate_minimum_hosts,
            default.success_rate_minimum_hosts,
        ),
        success_rate_request_volume: or(
            &given.success_rate_request_volume,
            default.success_rate_request_volume,
        ),
        success_rate_stdev_factor: or(&given.success_rate_stdev_factor, default.success_rate_stdev_factor),
        failure_percentage_threshold: or(
            &given.failure_percentage_threshold,
            default.failure_percentage_threshold,
        ),
        failure_percentage_minimum_hosts: hosts(
            &given.failure_percentage_minimum_hosts,
            default.failure_percentage_minimum_hosts,
        ),
        failure_percentage_request_volume: or(
            &given.failure_percentage_request_volume,
            default.failure_percentage_request_volume,
        ),
        enforcing_success_rate: or(&given.enforcing_success_rate, default.enforcing_success_rate),
        enforcing_local_origin_success_rate: or(
            &given.enforcing_local_origin_success_rate,
            default.enforcing_local_origin_success_rate,
        ),
        enforcing_failure_percentage: or(
            &given.enforcing_failure_percentage,
            default.enforcing_failure_percentage,
        ),
        enforcing_failure_percentage_local_origin: or(
            &given.enforcing_failure_percentage_local_origin,
            default.enforcing_failure_percentage_local_origin,
        ),
    }
}
