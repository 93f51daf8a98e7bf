//! A share of requests.

mod decode;

/// Parts of a million.
const WHOLE: u32 = 1_000_000;

/// A share of requests, chosen at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    /// How many parts of a million one of the numerator is.
    unit: u32,
}

impl Fraction {
    pub const ALL: Self = Self { numerator: 1, unit: WHOLE };
    pub const NONE: Self = Self { numerator: 0, unit: WHOLE };

    /// Whether this request is one of the share; `random` is spread evenly.
    pub fn holds(self, random: u64) -> bool {
        random % u64::from(WHOLE) < u64::from(self.numerator) * u64::from(self.unit)
    }

    /// The same with a numerator that is no larger than this one's.
    #[must_use]
    pub fn at_most(self, numerator: u32) -> Self {
        Self { numerator: self.numerator.min(numerator), ..self }
    }
}
