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
        let token = signed(&json!({"alg": name}), |text| pair.sign(&random, text).unwrap().as_ref().to_vec());
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
    assert_eq!(verified(&set, &new.token(&json!({"alg": "RS256"}))), Ok(()), "without a name each is tried");
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
