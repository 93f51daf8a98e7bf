//! A token of RFC 7519 in the compact form of RFC 7515, taken apart and not believed yet.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use weft_routing::metadata::{MetadataFields, MetadataValue};

use super::json::{object, whole};
use super::keys::SignatureAlgorithm;
use super::status::JwtFailure;

/// How long tokens may be valid from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenLifetime {
    Any,
    /// They have to end.
    Finite,
    Below(Duration),
}

/// A token as it says of itself.
#[derive(Debug)]
pub(super) struct JsonWebToken<'a> {
    pub(super) header: MetadataFields,
    pub(super) payload: MetadataFields,
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) audiences: Vec<Box<str>>,
    expires: Option<u64>,
    not_before: u64,
    /// Header and payload as they were signed.
    pub(super) signed: &'a str,
    /// The payload as it came.
    pub(super) payload_text: &'a str,
    pub(super) signature: Vec<u8>,
}

impl<'a> JsonWebToken<'a> {
    /// Takes a token apart. There is one way to write it: no padding, no white space, no bits left over.
    pub(super) fn parse(text: &'a str) -> Result<Self, JwtFailure> {
        let mut parts = text.split('.');
        let (Some(header_text), Some(payload_text), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtFailure::BadFormat);
        };
        if header_text.is_empty() || payload_text.is_empty() || signature.is_empty() {
            return Err(JwtFailure::BadFormat);
        }
        let header = URL_SAFE_NO_PAD.decode(header_text).map_err(|_| JwtFailure::HeaderBase64)?;
        let header = object(&header).ok_or(JwtFailure::HeaderJson)?;
        let algorithm = header.get("alg").and_then(MetadataValue::as_text).ok_or(JwtFailure::HeaderAlg)?;
        let algorithm = SignatureAlgorithm::named(algorithm).ok_or(JwtFailure::AlgNotSupported)?;
        if header.get("kid").is_some_and(|kid| kid.as_text().is_none()) {
            return Err(JwtFailure::HeaderKid);
        }
        if header.contains_key("crit") {
            return Err(JwtFailure::HeaderCrit);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload_text).map_err(|_| JwtFailure::PayloadBase64)?;
        let payload = object(&payload).ok_or(JwtFailure::PayloadJson)?;
        for name in ["iss", "sub"] {
            text_claim(&payload, name)?;
        }
        number(&payload, "iat")?;
        let not_before = number(&payload, "nbf")?.unwrap_or(0);
        let expires = number(&payload, "exp")?;
        text_claim(&payload, "jti")?;
        let audiences = audiences(&payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| JwtFailure::SignatureBase64)?;
        let signed = &text[..header_text.len() + 1 + payload_text.len()];
        Ok(Self {
            header,
            payload,
            algorithm,
            audiences,
            expires,
            not_before,
            signed,
            payload_text,
            signature,
        })
    }

    /// The key that it says it was signed with; empty where it names none.
    pub(super) fn kid(&self) -> &str {
        self.header.get("kid").and_then(MetadataValue::as_text).unwrap_or_default()
    }

    pub(super) fn issuer(&self) -> &str {
        self.payload.get("iss").and_then(MetadataValue::as_text).unwrap_or_default()
    }

    pub(super) fn subject(&self) -> &str {
        self.payload.get("sub").and_then(MetadataValue::as_text).unwrap_or_default()
    }

    /// Whether it is valid at this second, give or take so many.
    pub(super) fn is_timely(&self, now: u64, skew: u64) -> Result<(), JwtFailure> {
        if now.saturating_add(skew) < self.not_before {
            return Err(JwtFailure::NotYetValid);
        }
        match self.expires {
            Some(end) if now > end.saturating_add(skew) => Err(JwtFailure::Expired),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it is valid for no longer than it may be.
    pub(super) fn is_short_enough(&self, now: u64, lifetime: TokenLifetime) -> bool {
        match (lifetime, self.expires) {
            (TokenLifetime::Any, _) => true,
            (TokenLifetime::Finite | TokenLifetime::Below(_), None) => false,
            (TokenLifetime::Finite, Some(_)) => true,
            (TokenLifetime::Below(most), Some(end)) => Duration::from_secs(end.saturating_sub(now)) < most,
        }
    }
}

fn text_claim(payload: &MetadataFields, name: &'static str) -> Result<(), JwtFailure> {
    match payload.get(name) {
        Some(value) if value.as_text().is_none() => Err(JwtFailure::NotText(name)),
        Some(_) | None => Ok(()),
    }
}

/// Seconds; a fraction does not count.
fn number(payload: &MetadataFields, name: &'static str) -> Result<Option<u64>, JwtFailure> {
    match payload.get(name) {
        None => Ok(None),
        Some(MetadataValue::Number(value)) => {
            whole(value.trunc()).filter(|_| *value >= 0.0).ok_or(JwtFailure::OutOfRange(name)).map(Some)
        }
        Some(
            MetadataValue::Null
            | MetadataValue::Bool(_)
            | MetadataValue::Text(_)
            | MetadataValue::List(_)
            | MetadataValue::Struct(_),
        ) => Err(JwtFailure::NotInteger(name)),
    }
}

fn audiences(payload: &MetadataFields) -> Result<Vec<Box<str>>, JwtFailure> {
    match payload.get("aud") {
        None => Ok(Vec::new()),
        Some(MetadataValue::Text(one)) => Ok(vec![one.clone()]),
        Some(MetadataValue::List(several)) => {
            let each = several.iter().map(|one| one.as_text().map(Box::from).ok_or(JwtFailure::Audience));
            each.collect()
        }
        Some(
            MetadataValue::Null
            | MetadataValue::Bool(_)
            | MetadataValue::Number(_)
            | MetadataValue::Struct(_),
        ) => Err(JwtFailure::Audience),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    fn failure(header: &str, payload: &str) -> JwtFailure {
        JsonWebToken::parse(&written(header, payload)).unwrap_err()
    }

    const RS256: &str = r#"{"alg":"RS256"}"#;

    #[test]
    fn a_token_is_written_in_one_way() {
        let good = written(RS256, r#"{"iss":"me"}"#);
        assert_eq!(JsonWebToken::parse(&good).unwrap().issuer(), "me");
        let (start, _) = good.rsplit_once('.').unwrap();
        for (text, wanted) in [
            (format!("{start}."), JwtFailure::BadFormat),
            (start.to_owned(), JwtFailure::BadFormat),
            (format!("{good}."), JwtFailure::BadFormat),
            (format!(".{good}"), JwtFailure::BadFormat),
            (format!("{good}.x"), JwtFailure::BadFormat),
            (format!("{good}="), JwtFailure::SignatureBase64),
            (format!("{start}.c2lu IA"), JwtFailure::SignatureBase64),
            (format!("{start}.c2+n"), JwtFailure::SignatureBase64),
            // The last two bits of "Zg" are 0; those of "Zh" would be lost.
            (format!("{start}.Zh"), JwtFailure::SignatureBase64),
            (String::new(), JwtFailure::BadFormat),
        ] {
            assert_eq!(JsonWebToken::parse(&text).unwrap_err(), wanted, "{text}");
        }
    }

    #[test]
    fn a_header_names_an_algorithm_that_signs_and_nothing_that_must_be_understood() {
        let (json, alg) = (JwtFailure::HeaderJson, JwtFailure::AlgNotSupported);
        for (header, wanted) in [
            (r#"{"alg":"none"}"#, alg),
            (r#"{"alg":"None"}"#, alg),
            (r#"{"alg":"rs256"}"#, alg),
            (r#"{"alg":"RS256 "}"#, alg),
            (r#"{"alg":["RS256"]}"#, JwtFailure::HeaderAlg),
            ("{}", JwtFailure::HeaderAlg),
            (r#"{"alg":"RS256","alg":"none"}"#, json),
            (r#"{"alg":"none","alg":"RS256"}"#, json),
            (r#"{"alg":"RS256","kid":1}"#, JwtFailure::HeaderKid),
            (r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, JwtFailure::HeaderCrit),
            (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, JwtFailure::HeaderCrit),
            ("[]", json),
        ] {
            assert_eq!(failure(header, "{}"), wanted, "{header}");
        }
    }

    #[test]
    fn claims_have_their_types() {
        for (payload, wanted) in [
            (r#"{"iss":1}"#, JwtFailure::NotText("iss")),
            (r#"{"sub":null}"#, JwtFailure::NotText("sub")),
            (r#"{"jti":{}}"#, JwtFailure::NotText("jti")),
            (r#"{"exp":"9999999999"}"#, JwtFailure::NotInteger("exp")),
            (r#"{"exp":-1}"#, JwtFailure::OutOfRange("exp")),
            (r#"{"exp":-0.5}"#, JwtFailure::OutOfRange("exp")),
            (r#"{"nbf":1e300}"#, JwtFailure::OutOfRange("nbf")),
            (r#"{"iat":true}"#, JwtFailure::NotInteger("iat")),
            (r#"{"aud":1}"#, JwtFailure::Audience),
            (r#"{"aud":["a",1]}"#, JwtFailure::Audience),
            (r#"{"sub":"a","sub":"b"}"#, JwtFailure::PayloadJson),
        ] {
            assert_eq!(failure(RS256, payload), wanted, "{payload}");
        }
    }

    #[test]
    fn a_token_is_valid_between_its_times_give_or_take_the_skew() {
        let text = written(RS256, r#"{"nbf":1000,"exp":2000}"#);
        let token = JsonWebToken::parse(&text).unwrap();
        for (now, wanted) in [
            (939, Err(JwtFailure::NotYetValid)),
            (940, Ok(())),
            (2060, Ok(())),
            (2061, Err(JwtFailure::Expired)),
        ] {
            assert_eq!(token.is_timely(now, 60), wanted, "{now}");
        }
        let below = |seconds| TokenLifetime::Below(Duration::from_secs(seconds));
        assert!(token.is_short_enough(1500, below(501)) && !token.is_short_enough(1500, below(500)));
        let endless = written(RS256, "{}");
        let endless = JsonWebToken::parse(&endless).unwrap();
        assert!(endless.is_timely(u64::MAX, 60).is_ok());
        assert!(endless.is_short_enough(0, TokenLifetime::Any));
        assert!(!endless.is_short_enough(0, TokenLifetime::Finite) && !endless.is_short_enough(0, below(9)));
        // RFC 7519 section 4.1.4: it ended in 1970.
        let long_ago = written(RS256, r#"{"exp":0}"#);
        assert_eq!(JsonWebToken::parse(&long_ago).unwrap().is_timely(100, 60), Err(JwtFailure::Expired));
    }
}
