//! An issuer of JSON Web Tokens, for trying: it has keys of its own, and signs what it is asked to.

use anyhow::anyhow;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// Text as it stands in tokens and keys.
#[must_use]
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Which of the issuer's keys signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// `ES256`, `kid` `ec`.
    Elliptic,
    /// `RS256`, `kid` `rsa`.
    Rsa,
}

/// An issuer with a key of each type.
#[derive(Debug)]
pub struct TokenIssuer {
    name: String,
    elliptic: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl TokenIssuer {
    /// With new keys; its name is the `iss` of its tokens.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let elliptic = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048);
        Ok(Self {
            name: name.to_owned(),
            elliptic: elliptic.map_err(|error| anyhow!("an elliptic key: {error}"))?,
            rsa: rsa.map_err(|error| anyhow!("an RSA key: {error}"))?,
        })
    }

    /// What it publishes: a JSON Web Key Set.
    #[must_use]
    pub fn key_set(&self) -> Value {
        let (x, y) = self.elliptic.public_key().as_ref()[1..].split_at(32);
        let rsa = self.rsa.public_key();
        json!({"keys": [
            {"kty": "EC", "kid": "ec", "use": "sig", "alg": "ES256", "crv": "P-256", "x": base64url(x), "y": base64url(y)},
            {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
             "n": base64url(rsa.modulus().big_endian_without_leading_zero()),
             "e": base64url(rsa.exponent().big_endian_without_leading_zero())},
        ]})
    }

    /// The RSA key as others take it for a secret.
    #[must_use]
    pub fn rsa_public_key(&self) -> Vec<u8> {
        self.rsa.public_key().as_ref().to_vec()
    }

    /// A token with these claims, and `iss` unless they have it.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn token(&self, key: SigningKey, mut claims: Map<String, Value>) -> anyhow::Result<String> {
        claims.entry("iss").or_insert_with(|| self.name.as_str().into());
        let header = match key {
            SigningKey::Elliptic => json!({"alg": "ES256", "kid": "ec"}),
            SigningKey::Rsa => json!({"alg": "RS256", "kid": "rsa"}),
        };
        self.signed(key, &header.to_string(), &Value::Object(claims).to_string())
    }

    /// A token of this header and this payload, whatever they are.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn signed(&self, key: SigningKey, header: &str, payload: &str) -> anyhow::Result<String> {
        let text = format!("{}.{}", base64url(header), base64url(payload));
        let random = SystemRandom::new();
        let signature = match key {
            SigningKey::Elliptic => {
                let signed = self.elliptic.sign(&random, text.as_bytes());
                signed.map_err(|error| anyhow!("signing: {error}"))?.as_ref().to_vec()
            }
            SigningKey::Rsa => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                let signed = self.rsa.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature);
                signed.map_err(|error| anyhow!("signing: {error}"))?;
                signature
            }
        };
        Ok(format!("{text}.{}", base64url(signature)))
    }
}
