//! How the judgement of a token ended, in Envoy's words.

use http::StatusCode;

/// Why a token, or its absence, does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtFailure {
    #[error("Jwt is missing")]
    Missing,
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    BadFormat,
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderBase64,
    #[error("Jwt header is an invalid JSON")]
    HeaderJson,
    #[error("Jwt header [alg] field is required and must be a string")]
    HeaderAlg,
    #[error("Jwt header [alg] is not supported")]
    AlgNotSupported,
    #[error("Jwt header [kid] field is not a string")]
    HeaderKid,
    /// Not Envoy's: it passes over what RFC 7515 section 4.1.11 has refused.
    #[error("Jwt header [crit] names what is not supported")]
    HeaderCrit,
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadBase64,
    #[error("Jwt payload is an invalid JSON")]
    PayloadJson,
    #[error("Jwt payload [{0}] field is not a string")]
    NotText(&'static str),
    #[error("Jwt payload [{0}] field is not an integer")]
    NotInteger(&'static str),
    #[error("Jwt payload [{0}] field is not a positive 64 bit integer")]
    OutOfRange(&'static str),
    #[error("Jwt payload [aud] field is not a string or string list")]
    Audience,
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureBase64,
    #[error("Jwt issuer is not configured")]
    UnknownIssuer,
    #[error("Jwt not yet valid")]
    NotYetValid,
    #[error("Jwt is expired")]
    Expired,
    #[error("Audiences in Jwt are not allowed")]
    AudienceNotAllowed,
    #[error("Jwt verification fails")]
    VerificationFails,
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoSuchKey,
    #[error("Jwt ED25519 signature is wrong length")]
    Ed25519Length,
    #[error("Jwks remote fetch is failed")]
    FetchFailed,
    /// In Envoy's list, and given by it to nobody.
    #[error("Found multiple Jwt tokens")]
    TooMany,
}

impl JwtFailure {
    pub(super) fn status(self) -> StatusCode {
        if self == Self::AudienceNotAllowed { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }

    /// Whether the token, if there was one, was for somebody else: of several failures another one tells more.
    pub(super) fn is_of_another(self) -> bool {
        matches!(self, Self::Missing | Self::UnknownIssuer)
    }
}
