//! Certificates of one test's mesh.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, ServerName};
use time::{Duration, OffsetDateTime};
use weft_dataplane::runtime::{
    CertifiedIdentity, DownstreamTls, DownstreamTlsSpec, SanMatch, TrustSpec, UpstreamTls, UpstreamTlsSpec,
};
use weft_routing::matcher::StringMatch;

pub const WEB: &str = "spiffe://test/ns/shop/svc/web";
pub const CART: &str = "spiffe://test/ns/shop/svc/cart";

/// A certificate authority of one test.
pub struct Authority {
    pub issuer: Issuer<'static, KeyPair>,
    pub root: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("test root")
    }

    /// One whose certificates say that they are from an issuer of this name.
    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// A list of revoked serial numbers, in PEM; `until` is how long it is good for, which may be over.
    pub fn revokes(&self, serials: &[u64], until: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now - Duration::minutes(1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: now - Duration::hours(2),
            next_update: now + until,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A leaf with this serial number.
    pub fn numbered(&self, uri: &str, serial: u64) -> CertifiedIdentity {
        let (chain, key) =
            self.pem_with(&[uri], |params| params.serial_number = Some(SerialNumber::from(serial)));
        CertifiedIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    pub fn pem(&self, uris: &[&str]) -> (String, String) {
        self.pem_with(uris, |_| {})
    }

    pub fn pem_with(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    pub fn identity(&self, uris: &[&str]) -> CertifiedIdentity {
        let (chain, key) = self.pem(uris);
        CertifiedIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    pub fn trust(&self, names: &[&str]) -> TrustSpec {
        TrustSpec {
            roots: vec![self.root.clone()],
            sans: names.iter().map(|name| SanMatch::Uri(StringMatch::exact(name))).collect(),
            ..TrustSpec::default()
        }
    }

    pub fn server(&self, name: &str) -> Arc<DownstreamTls> {
        let spec = DownstreamTlsSpec {
            identity: Some(self.identity(&[name])),
            trust: Some(self.trust(&[])),
            require_client_certificate: true,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            allow_tls12: false,
        };
        Arc::new(DownstreamTls::prepare(&spec).unwrap())
    }

    pub fn client(&self, name: &str, expects: &str) -> Arc<UpstreamTls> {
        let spec = UpstreamTlsSpec {
            identity: Some(self.identity(&[name])),
            trust: Some(self.trust(&[expects])),
            sni: Some("http.web.shop.test".into()),
            ..UpstreamTlsSpec::default()
        };
        Arc::new(UpstreamTls::prepare(&spec).unwrap())
    }
}

/// The test looks at the server through its own proxy elsewhere; here any certificate will do.
#[derive(Debug)]
pub struct Anyone(pub Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
