//! How much of their requests Envoys tell: all, unless that is more than anybody is shown. Then a part, which grows again
//! when there are fewer. A weft-proxy counts by itself.

use std::collections::HashMap;
use std::time::Instant;

use weft_api::WorkloadId;
use weft_api::rest::SHOWN_PER_SECOND;

/// All requests, as a number of those of a million.
pub const ALL: u32 = 1_000_000;
/// The smallest part: of 200,000 requests a second there are 200 left.
const LEAST: u32 = 1_000;

#[derive(Debug)]
struct ToldPart {
    of_a_million: u32,
    told: u64,
    since: Instant,
}

/// The part that each Envoy tells.
#[derive(Debug, Default)]
pub struct TapSampling(HashMap<WorkloadId, ToldPart>);

impl TapSampling {
    /// An Envoy told of so many requests. Each stands for as many as are returned.
    pub fn told(&mut self, workload: &WorkloadId, requests: u64) -> f64 {
        let Some(part) = self.0.get_mut(workload) else { return 1.0 };
        part.told += requests;
        f64::from(ALL) / f64::from(part.of_a_million)
    }

    /// The part that an Envoy is to tell from now on, by what it told since the last time.
    pub fn adapt(&mut self, now: Instant, workload: &WorkloadId) -> u32 {
        let fresh = || ToldPart { of_a_million: ALL, told: 0, since: now };
        let part = self.0.entry(workload.clone()).or_insert_with(fresh);
        let elapsed = now.saturating_duration_since(part.since).as_secs_f64();
        if elapsed <= 0.0 {
            return part.of_a_million;
        }
        // An integer of requests a second is as good as a fraction.
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let (rate, most) = (part.told as f64 / elapsed, SHOWN_PER_SECOND as f64);
        let factor = if rate > most {
            most / rate
        } else if rate < most / 2.0 {
            2.0
        } else {
            1.0
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1,000 and 1,000,000"
        )]
        let wanted = (f64::from(part.of_a_million) * factor).clamp(LEAST.into(), ALL.into()) as u32;
        *part = ToldPart { of_a_million: wanted, told: 0, since: now };
        wanted
    }

    /// Forgets those that are not asked any more.
    pub fn keep(&mut self, is_asked: impl Fn(&WorkloadId) -> bool) {
        self.0.retain(|workload, _| is_asked(workload));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn part_falls_with_what_is_told_and_grows_again() {
        let (mut sampling, start) = (TapSampling::default(), Instant::now());
        let workload = WorkloadId::try_new("shop", "web-1").unwrap();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(sampling.adapt(start, &workload), ALL);
        assert!((sampling.told(&workload, 2000) - 1.0).abs() < 1e-9);
        assert_eq!(sampling.adapt(after(1), &workload), ALL / 10);
        assert!((sampling.told(&workload, 190) - 10.0).abs() < 1e-9);
        assert_eq!(sampling.adapt(after(2), &workload), ALL / 10);
        assert_eq!(sampling.adapt(after(3), &workload), ALL / 5);
        sampling.told(&workload, 1 << 40);
        assert_eq!(sampling.adapt(after(4), &workload), LEAST);
        sampling.keep(|_| false);
        assert_eq!(sampling.adapt(after(5), &workload), ALL);
    }
}
