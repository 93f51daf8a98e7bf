//! How much of what an endpoint was asked succeeded in an interval, and which endpoints stand out by it: Envoy's success rate
//! and failure percentage.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What one endpoint was asked since the last sweep, and how much of it succeeded.
#[derive(Debug, Default)]
pub(super) struct SuccessRate {
    asked: AtomicU32,
    succeeded: AtomicU32,
}

impl SuccessRate {
    pub(super) fn count(&self, succeeded: bool) {
        self.asked.fetch_add(1, Relaxed);
        if succeeded {
            self.succeeded.fetch_add(1, Relaxed);
        }
    }

    /// What was counted, in percent with its volume; the count starts anew.
    pub(super) fn take(&self) -> (f64, u32) {
        let (succeeded, asked) = (self.succeeded.swap(0, Relaxed), self.asked.swap(0, Relaxed));
        // Workers count on meanwhile: a success may be seen without its request.
        let percent = f64::from(succeeded.min(asked)) * 100.0 / f64::from(asked.max(1));
        (percent, asked)
    }
}

/// When an endpoint stands out. The default is Envoy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateDetection {
    /// Endpoints with enough requests that a success rate needs, 5.
    pub success_rate_minimum_hosts: usize,
    /// Requests in an interval that make an endpoint count, 100.
    pub success_rate_request_volume: u32,
    /// Thousandths of the standard deviation below the mean that are too few successes, 1900.
    pub success_rate_stdev_factor: u32,
    /// Failures in percent that are too many, 85.
    pub failure_percentage_threshold: u32,
    /// Endpoints with enough requests that this needs, 5.
    pub failure_percentage_minimum_hosts: usize,
    /// Requests in an interval that make an endpoint count, 50.
    pub failure_percentage_request_volume: u32,
    /// Percentage of detections by success rate that are enforced, 100.
    pub enforcing_success_rate: u32,
    /// As above, of failures on this side, 100.
    pub enforcing_local_origin_success_rate: u32,
    /// Percentage of detections by failure percentage that are enforced, 0.
    pub enforcing_failure_percentage: u32,
    /// As above, of failures on this side, 0.
    pub enforcing_failure_percentage_local_origin: u32,
}

impl Default for RateDetection {
    fn default() -> Self {
        Self {
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: 85,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            enforcing_success_rate: 100,
            enforcing_local_origin_success_rate: 100,
            enforcing_failure_percentage: 0,
            enforcing_failure_percentage_local_origin: 0,
        }
    }
}

impl RateDetection {
    /// Whether anything can come of it: else requests need not be counted.
    pub(super) fn is_enforced(&self, split_local_origin: bool) -> bool {
        let of_this_side =
            self.enforcing_local_origin_success_rate + self.enforcing_failure_percentage_local_origin;
        self.enforcing_success_rate + self.enforcing_failure_percentage > 0
            || (split_local_origin && of_this_side > 0)
    }

    /// The endpoints whose success rate is too far below the others', of rates with their volumes.
    pub(super) fn below_the_others(&self, rates: &[(usize, f64, u32)]) -> Vec<usize> {
        let counted: Vec<(usize, f64)> = rates
            .iter()
            .filter(|(_, _, volume)| *volume >= self.success_rate_request_volume)
            .map(|(host, rate, _)| (*host, *rate))
            .collect();
        if counted.is_empty() || counted.len() < self.success_rate_minimum_hosts {
            return Vec::new();
        }
        let many = counted.len() as f64;
        let mean = counted.iter().map(|(_, rate)| rate).sum::<f64>() / many;
        let variance = counted.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / many;
        let threshold = mean - f64::from(self.success_rate_stdev_factor) / 1000.0 * variance.sqrt();
        counted.into_iter().filter(|(_, rate)| *rate < threshold).map(|(host, _)| host).collect()
    }

    /// The endpoints that fail too often.
    pub(super) fn failing(&self, rates: &[(usize, f64, u32)]) -> Vec<usize> {
        let enough = |(_, _, volume): &&(usize, f64, u32)| *volume >= self.failure_percentage_request_volume;
        let counted: Vec<_> = rates.iter().filter(enough).collect();
        if counted.len() < self.failure_percentage_minimum_hosts {
            return Vec::new();
        }
        let fails = |rate: f64| 100.0 - rate >= f64::from(self.failure_percentage_threshold);
        counted.into_iter().filter(|(_, rate, _)| fails(*rate)).map(|(host, _, _)| *host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_stands_out_by_the_spread_of_all() {
        let detection = RateDetection::default();
        let mut rates: Vec<_> = (0..5).map(|host| (host, 100.0, 100)).collect();
        assert!(detection.below_the_others(&rates).is_empty(), "all are alike");
        rates[2].1 = 70.0;
        assert_eq!(detection.below_the_others(&rates), [2]);
        rates[1].2 = 99;
        assert!(detection.below_the_others(&rates).is_empty(), "four endpoints tell too little");
    }

    #[test]
    fn an_endpoint_fails_too_often_whatever_the_others_do() {
        let detection = RateDetection::default();
        let mut rates: Vec<_> = (0..5).map(|host| (host, 10.0, 50)).collect();
        rates[0].1 = 16.0;
        assert_eq!(detection.failing(&rates), [1, 2, 3, 4]);
        rates.pop();
        assert!(detection.failing(&rates).is_empty());
    }

    #[test]
    fn a_rate_is_of_one_interval() {
        let rate = SuccessRate::default();
        (0..4).for_each(|number| rate.count(number > 0));
        assert_eq!(rate.take(), (75.0, 4));
        assert_eq!(rate.take().1, 0);
    }
}
