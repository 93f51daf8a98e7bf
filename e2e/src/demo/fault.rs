//! Faults planted at run time: a share of the requests is delayed, or answered with a status.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use http::StatusCode;

/// What to do to how many requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InjectedFault {
    /// Answer with this in place of the work; none leaves the answer alone.
    pub status: Option<StatusCode>,
    /// Share of requests, from 0 to 1.
    pub rate: f64,
    /// Wait so long first.
    pub delay: Duration,
}

/// The faults of one instance: one for all requests, replaced by the next.
///
/// A lock because requests read it all the time and a person writes it now and then; nothing is awaited under it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<RwLock<Option<InjectedFault>>>);

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}% of requests", self.rate * 100.0)?;
        if !self.delay.is_zero() {
            write!(f, " wait {},", humantime::format_duration(self.delay))?;
        }
        match self.status {
            Some(status) => write!(f, " are answered {status}"),
            None => Ok(()),
        }
    }
}

impl InjectedFault {
    /// Reads `status=503&rate=0.3&delay=200ms`. Nothing at all, or `rate=0`, lifts the fault.
    ///
    /// # Errors
    /// Names the parameter that cannot be read.
    pub fn parse(query: &str) -> Result<Option<Self>, String> {
        let mut fault = Self { status: None, rate: 1.0, delay: Duration::ZERO };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?}: write KEY=VALUE"))?;
            match key {
                "status" => {
                    let status = value.parse().map_err(|_| format!("status {value:?} is not 100 to 999"))?;
                    fault.status = Some(status);
                }
                "rate" => {
                    let rate: f64 = value.parse().map_err(|_| format!("rate {value:?} is not 0 to 1"))?;
                    if !(0.0..=1.0).contains(&rate) {
                        return Err(format!("rate {value:?} is not 0 to 1"));
                    }
                    fault.rate = rate;
                }
                "delay" => {
                    let delay = humantime::parse_duration(value);
                    fault.delay =
                        delay.map_err(|_| format!("delay {value:?} is not a duration such as 200ms"))?;
                }
                _ => return Err(format!("{key:?} is not one of status, rate, delay")),
            }
        }
        let idle = fault.rate == 0.0 || (fault.status.is_none() && fault.delay.is_zero());
        Ok((!idle).then_some(fault))
    }
}

impl Faults {
    /// Replaces the fault.
    pub fn plant(&self, fault: Option<InjectedFault>) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
    }

    /// Lets the fault have its effect on one request: waits, and returns the status to answer with.
    pub async fn strike(&self) -> Option<StatusCode> {
        let fault = (*self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))?;
        if rand::random::<f64>() >= fault.rate {
            return None;
        }
        tokio::time::sleep(fault.delay).await;
        fault.status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_documented_form() {
        let fault = InjectedFault::parse("status=503&rate=0.3&delay=200ms").unwrap().unwrap();
        assert_eq!(fault.status, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(fault.delay, Duration::from_millis(200));
        assert_eq!(fault.to_string(), "30% of requests wait 200ms, are answered 503 Service Unavailable");
    }

    #[test]
    fn nothing_lifts_the_fault_and_nonsense_is_named() {
        assert_eq!(InjectedFault::parse(""), Ok(None));
        assert_eq!(InjectedFault::parse("rate=0&status=500"), Ok(None));
        assert!(InjectedFault::parse("rate=2").unwrap_err().contains("rate"));
        assert!(InjectedFault::parse("speed=2").unwrap_err().contains("speed"));
    }

    #[tokio::test(start_paused = true)]
    async fn full_rate_strikes_every_request() {
        let faults = Faults::default();
        assert_eq!(faults.strike().await, None);
        faults.plant(InjectedFault::parse("status=503&delay=1s").unwrap());
        assert_eq!(faults.strike().await, Some(StatusCode::SERVICE_UNAVAILABLE));
    }
}
