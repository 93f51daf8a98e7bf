//! Join tokens as people carry them: one string that says where to join, how to recognise the mesh, and a secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ControlPlanes, ServiceId};

const PREFIX: &str = "weft1.";

/// A join token: where the control plane is, the fingerprint of the mesh's root, and a secret of 256 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Where xDS and join are: each replica.
    pub control_planes: ControlPlanes,
    /// The service that the token is for, for the joiner to know: the control plane decides by its own record. Tokens
    /// made before they carried it have none.
    pub service: Option<ServiceId>,
    /// Public id, under which the token is listed and revoked.
    pub id: String,
    /// The secret; the control plane keeps only its hash.
    pub secret: [u8; 32],
    /// SHA-256 of the root certificate's `SubjectPublicKeyInfo`: the first TLS connection is verified by it.
    pub root_spki_sha256: [u8; 32],
}

/// A token that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: {0}; make one with `weft token create --service NAMESPACE/SERVICE`")]
pub struct InvalidToken(&'static str);

#[derive(Serialize, Deserialize)]
struct TokenFields {
    cp: ControlPlanes,
    #[serde(default, rename = "svc", skip_serializing_if = "Option::is_none")]
    service: Option<ServiceId>,
    id: String,
    key: String,
    ca: String,
}

impl JoinToken {
    /// SHA-256 of the secret, the only form that is stored.
    #[must_use]
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = TokenFields {
            cp: self.control_planes.clone(),
            service: self.service.clone(),
            id: self.id.clone(),
            key: URL_SAFE_NO_PAD.encode(self.secret),
            ca: URL_SAFE_NO_PAD.encode(self.root_spki_sha256),
        };
        let json = serde_json::to_vec(&wire).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

// A token is a secret: it never shows in logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("control_planes", &self.control_planes)
            .field("service", &self.service)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(InvalidToken("it does not begin with weft1."))?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| InvalidToken("it is cut or mistyped"))?;
        let wire: TokenFields =
            serde_json::from_slice(&json).map_err(|_| InvalidToken("it is cut or mistyped"))?;
        let bytes = |text: &str| -> Result<[u8; 32], InvalidToken> {
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidToken("it is mistyped"))?;
            bytes.try_into().map_err(|_| InvalidToken("a part has the wrong length"))
        };
        Ok(Self {
            secret: bytes(&wire.key)?,
            root_spki_sha256: bytes(&wire.ca)?,
            control_planes: wire.cp,
            service: wire.service,
            id: wire.id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            control_planes: "127.0.0.1:7401,[2001:db8::1]:7401".parse().unwrap(),
            service: Some("shop/web".parse().unwrap()),
            id: "t-1".into(),
            secret: [7; 32],
            root_spki_sha256: [9; 32],
        }
    }

    #[test]
    fn token_reads_back_what_it_writes() {
        assert_eq!(token().to_string().parse::<JoinToken>().unwrap(), token());
    }

    #[test]
    fn token_of_before_there_could_be_several_control_planes_reads() {
        let key = URL_SAFE_NO_PAD.encode([7; 32]);
        let json = format!(r#"{{"cp":"10.0.0.1:7401","id":"t-1","key":"{key}","ca":"{key}"}}"#);
        let token: JoinToken = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)).parse().unwrap();
        assert_eq!(token.control_planes.to_string(), "10.0.0.1:7401");
        assert_eq!(token.service, None);
    }

    #[test]
    fn cut_token_is_refused_with_the_remedy() {
        let text = token().to_string();
        let error = text[..text.len() - 5].parse::<JoinToken>().unwrap_err().to_string();
        assert!(error.contains("weft token create"), "{error}");
    }

    #[test]
    fn debug_form_hides_the_secret() {
        assert!(!format!("{:?}", token()).contains('7'.to_string().repeat(2).as_str()));
    }
}
