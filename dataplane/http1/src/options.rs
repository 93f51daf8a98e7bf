//! What the two ends of a connection are told alike.

use super::encode::FieldCase;
use super::lines::HeadLimits;

/// How messages are read and written.
#[derive(Debug, Clone, Copy)]
pub struct CodecOptions {
    /// How large a head that is read may be.
    pub limits: HeadLimits,
    /// How the names of fields are written.
    pub case: FieldCase,
}
