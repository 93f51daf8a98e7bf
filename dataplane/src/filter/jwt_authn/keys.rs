//! Keys that verify: a JSON Web Key Set of RFC 7517, with the algorithms of RFC 7518 and RFC 8037.
//!
//! A key knows which algorithms it may verify: those of its type and size, or the one that it names. A token's `alg` chooses
//! among these, and nothing else: no token makes a secret of a public key, and none goes without a signature. What a token
//! says of where keys are (`jku`, `x5u`, `jwk`, `x5c`) is not read.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use weft_routing::metadata::{MetadataFields, MetadataValue};

use super::json::object;
use super::status::JwtFailure;
use super::token::JsonWebToken;

/// Keys of a set. A token that names none is tried with each: more would let a request cost too much.
const MOST_KEYS: usize = 64;
/// Bytes of a modulus: RFC 7518 section 3.3 wants 2048 bits at least, and 8192 take a millisecond.
const RSA_SIZES: std::ops::RangeInclusive<usize> = 256..=1024;
const ED25519_SIGNATURE: usize = 64;

/// Keys are public, and written down by many hands.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// `alg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureAlgorithm {
    Es256,
    Es384,
    Es512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Hs256,
    Hs384,
    Hs512,
    EdDsa,
}

impl SignatureAlgorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

const RSA: [(SignatureAlgorithm, &RsaParameters); 6] = [
    (SignatureAlgorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (SignatureAlgorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (SignatureAlgorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (SignatureAlgorithm::Ps256, &signature::RSA_PSS_2048_8192_SHA256),
    (SignatureAlgorithm::Ps384, &signature::RSA_PSS_2048_8192_SHA384),
    (SignatureAlgorithm::Ps512, &signature::RSA_PSS_2048_8192_SHA512),
];

/// Why a set has no key to offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("is no JSON object, or one in which a name stands twice")]
    Json,
    #[error("has no list `keys`")]
    NoKeys,
    #[error("has {0} keys, more than the {MOST_KEYS} that are tried")]
    TooMany(usize),
    #[error("has no key that can be used{}", .0.map_or_else(String::new, |why| format!(": {why}")))]
    NoUsable(Option<&'static str>),
}

/// The keys of a provider. What in the set cannot be used is passed over, as RFC 7517 section 5 wants it.
#[derive(Debug)]
pub(super) struct KeySet(Vec<VerifyingKey>);

#[derive(Debug)]
struct VerifyingKey {
    kid: Box<str>,
    /// The one algorithm that it names.
    named: Option<SignatureAlgorithm>,
    verifiers: Vec<(SignatureAlgorithm, Verifier)>,
}

enum Verifier {
    Public(ParsedPublicKey),
    Secret(hmac::Key),
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Public(_) => f.write_str("Public"),
            Self::Secret(_) => f.write_str("Secret"),
        }
    }
}

impl KeySet {
    pub(super) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let fields = object(text).ok_or(KeySetError::Json)?;
        let Some(MetadataValue::List(list)) = fields.get("keys") else { return Err(KeySetError::NoKeys) };
        if list.len() > MOST_KEYS {
            return Err(KeySetError::TooMany(list.len()));
        }
        let (mut keys, mut wrong) = (Vec::new(), None);
        for one in list {
            let MetadataValue::Struct(fields) = one else { continue };
            match VerifyingKey::read(fields) {
                Ok(key) => keys.push(key),
                Err(why) => wrong = wrong.or(Some(why)),
            }
        }
        if keys.is_empty() { Err(KeySetError::NoUsable(wrong)) } else { Ok(Self(keys)) }
    }

    /// Whether one of the keys that may have signed the token did.
    pub(super) fn verify(&self, token: &JsonWebToken<'_>) -> Result<(), JwtFailure> {
        let (kid, wanted) = (token.kid(), token.algorithm);
        let may = |key: &&VerifyingKey| {
            (kid.is_empty() || key.kid.is_empty() || *key.kid == *kid)
                && key.named.is_none_or(|named| named == wanted)
        };
        let mut failure = JwtFailure::NoSuchKey;
        for key in self.0.iter().filter(may) {
            failure = JwtFailure::VerificationFails;
            let verifier = key.verifiers.iter().find(|(algorithm, _)| *algorithm == wanted);
            let Some((_, verifier)) = verifier else { continue };
            if wanted == SignatureAlgorithm::EdDsa && token.signature.len() != ED25519_SIGNATURE {
                return Err(JwtFailure::Ed25519Length);
            }
            if verifier.verifies(token) {
                return Ok(());
            }
        }
        Err(failure)
    }
}

impl Verifier {
    fn verifies(&self, token: &JsonWebToken<'_>) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(token.signed.as_bytes(), &token.signature).is_ok(),
            Self::Secret(key) => hmac::verify(key, token.signed.as_bytes(), &token.signature).is_ok(),
        }
    }
}

impl VerifyingKey {
    fn read(fields: &MetadataFields) -> Result<Self, &'static str> {
        let text = |name: &str| fields.get(name).and_then(MetadataValue::as_text);
        if text("use").is_some_and(|used| used != "sig") {
            return Err("[use] is not sig");
        }
        let algorithm = text("alg").filter(|name| !name.is_empty());
        let named = match algorithm {
            None => None,
            Some(name) => Some(SignatureAlgorithm::named(name).ok_or("[alg] is no algorithm that signs")?),
        };
        let mut verifiers = match text("kty").ok_or("[kty] is missing in [keys]")? {
            "RSA" => rsa(&bytes(fields, "n")?, &bytes(fields, "e")?)?,
            "EC" => vec![elliptic(text("crv"), named, &bytes(fields, "x")?, &bytes(fields, "y")?)?],
            "OKP" if text("crv") == Some("Ed25519") => {
                let key = ParsedPublicKey::new(&signature::ED25519, bytes(fields, "x")?);
                let key = key.map_err(|_| "[x] is no key of Ed25519")?;
                vec![(SignatureAlgorithm::EdDsa, Verifier::Public(key))]
            }
            "OKP" => return Err("[crv] field is not supported for an OKP key"),
            "oct" => secret(&bytes(fields, "k")?),
            _ => return Err("[kty] is not supported in [keys]"),
        };
        if let Some(named) = named {
            verifiers.retain(|(algorithm, _)| *algorithm == named);
        }
        if verifiers.is_empty() {
            return Err("[alg] does not fit [kty] and [crv]");
        }
        Ok(Self { kid: text("kid").unwrap_or_default().into(), named, verifiers })
    }
}

fn bytes(fields: &MetadataFields, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = fields.get(name).and_then(MetadataValue::as_text);
    let text = text.filter(|text| !text.is_empty()).ok_or("a number of the key is missing")?;
    LENIENT.decode(text).map_err(|_| "a number of the key is no Base64")
}

fn without_zeros(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Vec<(SignatureAlgorithm, Verifier)>, &'static str> {
    let (n, e) = (without_zeros(modulus), without_zeros(exponent));
    if !RSA_SIZES.contains(&n.len()) {
        return Err("[n] has less than 2048 bits, or more than 8192");
    }
    // As in Envoy: others are mistakes, and large ones cost time.
    if ![&[3][..], &[1, 0, 1]].contains(&e) {
        return Err("[e] is neither 3 nor 65537");
    }
    let components = RsaPublicKeyComponents { n, e };
    let each = RSA.iter().map(|(algorithm, parameters)| {
        let key = components.to_parsed_public_key(parameters).map_err(|_| "[n] and [e] are no key")?;
        Ok((*algorithm, Verifier::Public(key)))
    });
    each.collect()
}

fn elliptic(
    curve: Option<&str>,
    named: Option<SignatureAlgorithm>,
    x: &[u8],
    y: &[u8],
) -> Result<(SignatureAlgorithm, Verifier), &'static str> {
    let curve = match (curve.unwrap_or_default(), named) {
        ("", Some(SignatureAlgorithm::Es384)) => "P-384",
        ("", Some(SignatureAlgorithm::Es512)) => "P-521",
        ("", _) => "P-256",
        (curve, _) => curve,
    };
    let (algorithm, parameters, size): (_, _, usize) = match curve {
        "P-256" => (SignatureAlgorithm::Es256, &signature::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (SignatureAlgorithm::Es384, &signature::ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (SignatureAlgorithm::Es512, &signature::ECDSA_P521_SHA512_FIXED, 66),
        _ => return Err("[crv] or [alg] field is not supported for an EC key"),
    };
    let mut point = vec![4];
    for coordinate in [x, y].map(without_zeros) {
        let missing = size.checked_sub(coordinate.len());
        point.resize(point.len() + missing.ok_or("[x] or [y] is longer than the curve's")?, 0);
        point.extend_from_slice(coordinate);
    }
    let key =
        ParsedPublicKey::new(parameters, &point).map_err(|_| "[x] and [y] are no point of the curve")?;
    Ok((algorithm, Verifier::Public(key)))
}

fn secret(key: &[u8]) -> Vec<(SignatureAlgorithm, Verifier)> {
    [
        (SignatureAlgorithm::Hs256, hmac::HMAC_SHA256),
        (SignatureAlgorithm::Hs384, hmac::HMAC_SHA384),
        (SignatureAlgorithm::Hs512, hmac::HMAC_SHA512),
    ]
    .map(|(algorithm, digest)| (algorithm, Verifier::Secret(hmac::Key::new(digest, key))))
    .into()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA384,
        RsaEncoding, RsaKeyPair,
    };
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token that `sign` signs.
    fn signed(header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let text = format!("{}.{}", encoded(header.to_string()), encoded("{}"));
        let signature = sign(text.as_bytes());
        format!("{text}.{}", encoded(signature))
    }

    fn keys(keys: &Value) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn verified(keys: &KeySet, token: &str) -> Result<(), JwtFailure> {
        keys.verify(&JsonWebToken::parse(token).unwrap())
    }

    struct Rsa(RsaKeyPair);

    impl Rsa {
        fn new() -> Self {
            Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
        }

        fn jwk(&self) -> Value {
            let key = self.0.public_key();
            let (n, e) = (key.modulus(), key.exponent());
            json!({
                "kty": "RSA",
                "n": encoded(n.big_endian_without_leading_zero()),
                "e": encoded(e.big_endian_without_leading_zero()),
            })
        }

        fn sign(&self, encoding: &'static dyn RsaEncoding, text: &[u8]) -> Vec<u8> {
            let mut signature = vec![0; self.0.public_modulus_len()];
            self.0.sign(encoding, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        }

        fn token(&self, header: &Value) -> String {
            signed(header, |text| self.sign(&RSA_PKCS1_SHA256, text))
        }
    }

    fn with(mut jwk: Value, more: &Value) -> Value {
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    fn elliptic(algorithm: &'static EcdsaSigningAlgorithm, curve: &str) -> (EcdsaKeyPair, Value) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)});
        (pair, jwk)
    }

    #[test]
    fn each_type_of_key_verifies_what_it_signed() {
        let rsa = Rsa::new();
        let set = keys(&json!([rsa.jwk()]));
        assert_eq!(verified(&set, &rsa.token(&json!({"alg": "RS256"}))), Ok(()));
        let pss = signed(&json!({"alg": "PS384"}), |text| rsa.sign(&RSA_PSS_SHA384, text));
        assert_eq!(verified(&set, &pss), Ok(()));
        let other = keys(&json!([Rsa::new().jwk()]));
        assert_eq!(verified(&other, &pss), Err(JwtFailure::VerificationFails));
        for (algorithm, curve, name) in [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", "ES256"),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", "ES384"),
            (&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", "ES512"),
        ] {
            let (pair, jwk) = elliptic(algorithm, curve);
            let random = SystemRandom::new();
            let token =
                signed(&json!({"alg": name}), |text| pair.sign(&random, text).unwrap().as_ref().to_vec());
            assert_eq!(verified(&keys(&json!([jwk])), &token), Ok(()), "{name}");
        }
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key())});
        let set = keys(&json!([jwk]));
        let token = signed(&json!({"alg": "EdDSA"}), |text| pair.sign(text).as_ref().to_vec());
        assert_eq!(verified(&set, &token), Ok(()));
        let short = signed(&json!({"alg": "EdDSA"}), |_| vec![1; 63]);
        assert_eq!(verified(&set, &short), Err(JwtFailure::Ed25519Length));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let token = signed(&json!({"alg": "HS256"}), |text| hmac::sign(&key, text).as_ref().to_vec());
        let set = keys(&json!([{"kty": "oct", "k": encoded("secret")}]));
        assert_eq!(verified(&set, &token), Ok(()));
    }

    #[test]
    fn a_public_key_is_nobodys_secret() {
        let rsa = Rsa::new();
        let set = keys(&json!([rsa.jwk()]));
        // The classic: the key's text, or its bytes, as the secret of an HMAC.
        for secret in [rsa.jwk().to_string().into_bytes(), rsa.0.public_key().as_ref().to_vec()] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            let token = signed(&json!({"alg": "HS256"}), |text| hmac::sign(&key, text).as_ref().to_vec());
            assert_eq!(verified(&set, &token), Err(JwtFailure::VerificationFails));
        }
        let named = keys(&json!([with(rsa.jwk(), &json!({"alg": "RS256"}))]));
        let pss = signed(&json!({"alg": "PS384"}), |text| rsa.sign(&RSA_PSS_SHA384, text));
        assert_eq!(verified(&named, &pss), Err(JwtFailure::NoSuchKey), "the key names another algorithm");
        let (_, jwk) = elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
        assert_eq!(
            verified(&keys(&json!([jwk])), &rsa.token(&json!({"alg": "RS256"}))),
            Err(JwtFailure::VerificationFails),
            "a key of another type"
        );
    }

    #[test]
    fn the_key_that_a_token_names_is_the_one_that_verifies() {
        let (old, new) = (Rsa::new(), Rsa::new());
        let set = keys(&json!([
            with(old.jwk(), &json!({"kid": "old"})),
            with(new.jwk(), &json!({"kid": "new", "use": "sig", "alg": "RS256"})),
        ]));
        let token = |pair: &Rsa, kid: &str| pair.token(&json!({"alg": "RS256", "kid": kid}));
        assert_eq!(verified(&set, &token(&new, "new")), Ok(()));
        assert_eq!(verified(&set, &token(&new, "old")), Err(JwtFailure::VerificationFails));
        for kid in ["../../dev/null", "x' UNION SELECT 'k", "new\u{0}"] {
            assert_eq!(verified(&set, &token(&new, kid)), Err(JwtFailure::NoSuchKey), "{kid}");
        }
        assert_eq!(
            verified(&set, &new.token(&json!({"alg": "RS256"}))),
            Ok(()),
            "without a name each is tried"
        );
        // What a token says of where its key is, is not looked at.
        let own = json!({"alg": "RS256", "jwk": Rsa::new().jwk(), "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"});
        assert_eq!(verified(&set, &Rsa::new().token(&own)), Err(JwtFailure::VerificationFails));
    }

    #[test]
    fn keys_that_cannot_be_used_are_passed_over_and_a_set_without_others_is_none() {
        let rsa = Rsa::new();
        let (_, curve) = elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
        let wrong = json!([
            with(rsa.jwk(), &json!({"use": "enc"})),
            with(rsa.jwk(), &json!({"alg": "RSA-OAEP"})),
            with(rsa.jwk(), &json!({"alg": "ES256"})),
            with(rsa.jwk(), &json!({"n": encoded([255; 128])})),
            with(rsa.jwk(), &json!({"n": encoded([255; 1025])})),
            with(rsa.jwk(), &json!({"e": encoded([1])})),
            with(rsa.jwk(), &json!({"n": "!"})),
            with(curve.clone(), &json!({"crv": "secp256k1"})),
            with(curve.clone(), &json!({"alg": "ES384"})),
            with(curve.clone(), &json!({"y": encoded([1; 32])})),
            with(curve, &json!({"y": encoded([1; 33])})),
            {"kty": "OKP", "crv": "X25519", "x": encoded([1; 32])},
            {"kty": "OKP", "crv": "Ed25519", "x": encoded([1; 31])},
            {"kty": "oct"},
            {"kty": "new"},
            {},
            7,
        ]);
        for one in wrong.as_array().unwrap() {
            let text = json!({"keys": [one]}).to_string();
            let error = KeySet::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, KeySetError::NoUsable(_)), "{text}: {error}");
        }
        let mut with_a_good_one = wrong.as_array().unwrap().clone();
        with_a_good_one.push(rsa.jwk());
        assert_eq!(verified(&keys(&with_a_good_one.into()), &rsa.token(&json!({"alg": "RS256"}))), Ok(()));
        let parse = |text: String| KeySet::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parse("[]".into()), KeySetError::Json);
        assert_eq!(parse("{}".into()), KeySetError::NoKeys);
        let many = vec![json!({"kty": "oct", "k": "AAAA"}); MOST_KEYS + 1];
        assert_eq!(parse(json!({ "keys": many }).to_string()), KeySetError::TooMany(MOST_KEYS + 1));
    }
}
