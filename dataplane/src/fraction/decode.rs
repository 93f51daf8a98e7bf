//! Reads a share of requests.

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use weft_routing::rejection::{Notes, Rejection};

use super::{Fraction, WHOLE};
use crate::decode::fields;

impl Fraction {
    /// Reads a share; one that is absent is none.
    pub(crate) fn decode(given: Option<&FractionalPercent>, field: &str) -> Result<Self, Rejection> {
        let Some(given) = given else { return Ok(Self::NONE) };
        Ok(Self { numerator: given.numerator, unit: fields::parts_of_a_million(given, field)? })
    }

    /// This percentage, 0 to 100, to a hundredth of a percent.
    pub(crate) fn of_percent(percent: f64) -> Self {
        Self { numerator: (percent * 100.0).round() as u32, unit: WHOLE / 10_000 }
    }

    /// Reads the default value of a share that Envoy's runtime may change, and there is no runtime here; `absent` where
    /// none is given.
    pub(crate) fn of_runtime(
        given: Option<&RuntimeFractionalPercent>,
        absent: Self,
        field: &str,
        notes: &mut Notes,
    ) -> Result<Self, Rejection> {
        let Some(given) = given else { return Ok(absent) };
        notes.ignored(&given.runtime_key, &format!("{field}.runtime_key"));
        Self::decode(given.default_value.as_ref(), &format!("{field}.default_value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_holds_for_its_part_of_all_numbers() {
        let quarter = FractionalPercent { numerator: 25, denominator: 0 };
        let quarter = Fraction::decode(Some(&quarter), "x").unwrap();
        assert!(quarter.holds(249_999) && !quarter.holds(250_000));
        assert!(Fraction::ALL.holds(u64::MAX) && !Fraction::NONE.holds(0));
        assert!(!quarter.at_most(10).holds(100_000) && quarter.at_most(100).holds(100_000));
        let unknown = FractionalPercent { numerator: 1, denominator: 9 };
        assert_eq!(Fraction::decode(Some(&unknown), "x").unwrap_err().field, "x.denominator");
    }
}
