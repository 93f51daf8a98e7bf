use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize, SanType,
    SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;

use super::*;
use crate::ca::new_key;

/// An authority as somebody else makes them.
pub(crate) struct ForeignCa {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from(rand::random::<u64>() >> 1 | 1));
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::hours(1), now + Duration::days(3650));
    params
}

fn plain(_: &mut CertificateParams) {}

impl ForeignCa {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(new_key().unwrap(), name, plain)
    }

    pub(crate) fn root_with(key: KeyPair, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params(name);
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, key }
    }

    fn issuer(&self) -> Issuer<'static, &KeyPair> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key).unwrap()
    }

    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (key, mut params) = (new_key().unwrap(), params(name));
        params.not_after -= Duration::days(1);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Self { certificate, key }
    }

    /// Signs a request, as the owner of an offline root does.
    pub(crate) fn sign(
        &self,
        request: &[u8],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let (_, parsed) = X509CertificationRequest::from_der(request).unwrap();
        let key = SubjectPublicKeyInfo::from_der(parsed.certification_request_info.subject_pki.raw).unwrap();
        let name = parsed.certification_request_info.subject.iter_common_name().next().unwrap();
        let mut params = params(name.as_str().unwrap());
        params.not_after = OffsetDateTime::now_utc() + Duration::days(200);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        change(&mut params);
        params.signed_by(&key, &self.issuer()).unwrap().der().clone()
    }
}

pub(crate) fn pem_of(chain: &[&CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|der| {
            let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        })
        .collect()
}

fn check(below: Below, chain: &[&ForeignCa]) -> Result<FitChain, Unfit> {
    let chain: Vec<_> = chain.iter().map(|ca| &ca.certificate).collect();
    check_text(below, &pem_of(&chain))
}

fn check_text(below: Below, pem: &str) -> Result<FitChain, Unfit> {
    let trust_domain = TrustDomain::try_new("mesh.test").unwrap();
    let (now, least_life) = (OffsetDateTime::now_utc(), Duration::hours(48));
    Fitness { trust_domain: &trust_domain, below, now, least_life }.check(pem, "chain")
}

/// The field that is named, with a remedy.
fn refused(outcome: Result<FitChain, Unfit>, field: &str, words: &str) {
    let unfit = outcome.expect_err(field);
    assert_eq!(unfit.field, field, "{unfit}");
    assert!(unfit.to_string().contains(words) && !unfit.remedy.is_empty(), "{unfit}");
}

fn refused_root(field: &str, words: &str, change: impl FnOnce(&mut CertificateParams)) {
    let root = ForeignCa::root_with(new_key().unwrap(), "Root", change);
    refused(check(Below::Issuers, &[&root]), field, words);
}

#[test]
fn roots_and_chains_that_fit_are_taken() {
    let root = ForeignCa::root("Root");
    let middle = root.below("Middle", plain);
    let low = middle.below("Low", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let chain = check(Below::Leaves, &[&low, &middle, &root]).unwrap();
    assert_eq!((chain.below_root().len(), chain.root().certificate == root.certificate), (2, true));
    check(Below::Issuers, &[&middle, &root]).unwrap();
    check(Below::Issuers, &[&root]).unwrap();
    for key in [
        KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
    ] {
        check(Below::Issuers, &[&ForeignCa::root_with(key.unwrap(), "Root", plain)]).unwrap();
    }
}

#[test]
fn certificate_that_is_no_ca_is_refused() {
    refused_root("basicConstraints", "CA:TRUE", |params| params.is_ca = IsCa::ExplicitNoCa);
    refused_root("basicConstraints", "CA:TRUE", |params| params.is_ca = IsCa::NoCa);
    let root = ForeignCa::root("Root");
    let middle = root.below("Middle", |params| params.is_ca = IsCa::ExplicitNoCa);
    let low = middle.below("Low", plain);
    refused(check(Below::Leaves, &[&low, &middle, &root]), "basicConstraints", "certificate 2");
}

#[test]
fn path_too_short_for_what_stands_below_is_refused() {
    let constrain = |length| {
        move |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length))
    };
    refused_root("basicConstraints", "pathlen:1", constrain(0));
    let root = ForeignCa::root_with(new_key().unwrap(), "Root", constrain(1));
    let middle = root.below("Middle", plain);
    refused(check(Below::Issuers, &[&middle, &root]), "basicConstraints", "pathlen:2");
    check(Below::Leaves, &[&middle, &root]).unwrap();
    let last = root.below("Middle", constrain(0));
    refused(check(Below::Issuers, &[&last, &root]), "basicConstraints", "weft ca csr");
}

#[test]
fn usages_that_a_ca_or_its_leaves_need_are_demanded() {
    refused_root("keyUsage", "cRLSign", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    refused_root("extKeyUsage", "clientAuth", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let root = ForeignCa::root("Root");
    let low = root.below("Low", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    refused(check(Below::Leaves, &[&low, &root]), "keyUsage", "cRLSign");
    check(Below::Issuers, &[&low, &root]).unwrap();
}

#[test]
fn constraints_that_a_proxy_cannot_judge_or_that_exclude_the_mesh_are_refused() {
    let constrain = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        move |params: &mut CertificateParams| {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded });
        }
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let net = GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]));
    refused_root("nameConstraints", "Envoy", constrain(vec![net], vec![]));
    for excluded in ["mesh.test", "shop.mesh.test", ".test", "test"] {
        refused_root("nameConstraints", excluded, constrain(vec![], vec![dns(excluded)]));
    }
    let other = constrain(vec![], vec![dns("other.test")]);
    check(Below::Issuers, &[&ForeignCa::root_with(new_key().unwrap(), "Root", other)]).unwrap();
    // permittedSubtrees of the URI host mesh.test
    let content = [&[0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 0x86, 0x09][..], b"mesh.test"].concat();
    refused_root("nameConstraints", "URI", |params| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 30], content));
    });
}

#[test]
fn critical_extension_that_nobody_understands_is_refused() {
    let policies = |critical| {
        move |params: &mut CertificateParams| {
            let mut extension =
                CustomExtension::from_oid_content(&[2, 5, 29, 36], vec![0x30, 0x03, 0x80, 0x01, 0]);
            extension.set_criticality(critical);
            params.custom_extensions.push(extension);
        }
    };
    refused_root("extensions", "2.5.29.36", policies(true));
    check(Below::Issuers, &[&ForeignCa::root_with(new_key().unwrap(), "Root", policies(false))]).unwrap();
}

#[test]
fn kinds_of_keys_and_signatures_are_named() {
    for algorithm in [&PKCS_ECDSA_P521_SHA512, &PKCS_ED25519] {
        let root = ForeignCa::root_with(KeyPair::generate_for(algorithm).unwrap(), "Root", plain);
        refused(check(Below::Issuers, &[&root]), "subjectPublicKeyInfo", "P-256 or P-384");
    }
}

#[test]
fn life_too_short_or_not_begun_is_refused() {
    let now = OffsetDateTime::now_utc();
    refused_root("notAfter", "longer", |params| params.not_after = now + Duration::hours(47));
    refused_root("notBefore", "clock", |params| params.not_before = now + Duration::hours(1));
    let root = ForeignCa::root("Root");
    let long = root.below("Low", |params| params.not_after += Duration::days(10));
    refused(check(Below::Leaves, &[&long, &root]), "notAfter", "before what it signed");
    check(Below::Issuers, &[&long, &root]).unwrap();
}

#[test]
fn other_trust_domain_and_missing_or_giant_fields_are_refused() {
    refused_root("subjectAltName", "trust domain", |params| {
        params.subject_alt_names = vec![SanType::URI("spiffe://other.test".try_into().unwrap())];
    });
    refused_root("subject", "name", |params| params.distinguished_name = DistinguishedName::new());
    refused_root("serialNumber", "20 bytes", |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[1; 21]));
    });
}

#[test]
fn chain_is_read_in_order_and_to_its_end() {
    let root = ForeignCa::root("Root");
    let middle = root.below("Middle", plain);
    let low = middle.below("Low", plain);
    refused(check(Below::Leaves, &[&root, &middle, &low]), "issuer", "lowest certificate first");
    refused(check(Below::Leaves, &[&low, &root]), "issuer", "certificate 1");
    refused(check(Below::Leaves, &[&low, &middle]), "issuer", "up to and with the root");
    refused(check(Below::Leaves, &[]), "PEM", "no certificate");
    refused(check(Below::Leaves, &[&low; 6]), "PEM", "the most is 5");
    let key = format!("{}{}", pem_of(&[&root.certificate]), root.key.serialize_pem());
    refused(check_text(Below::Issuers, &key), "PEM", "private key");
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    refused(check_text(Below::Issuers, request), "PEM", "no certificate");
    refused(check_text(Below::Issuers, &" ".repeat(MAX_CHAIN_BYTES + 1)), "PEM", "bytes");
    let cut = pem_of(&[&root.certificate]).replace("-----END", "----END");
    refused(check_text(Below::Issuers, &cut), "PEM", "");
    let told = format!("subject=CN = Root\n{}", pem_of(&[&root.certificate]));
    check_text(Below::Issuers, &told).unwrap();
}

#[test]
fn signature_by_somebody_of_the_same_name_is_refused() {
    let (root, other) = (ForeignCa::root("Root"), ForeignCa::root("Root"));
    let low = root.below("Low", plain);
    check(Below::Leaves, &[&low, &root]).unwrap();
    refused(check(Below::Leaves, &[&low, &other]), "signatureValue", "really signed");
    let mut der = root.certificate.to_vec();
    *der.last_mut().unwrap() ^= 1;
    let text = pem_of(&[&CertificateDer::from(der)]);
    refused(check_text(Below::Issuers, &text), "signatureValue", "certificate 1");
}

#[test]
fn no_cut_or_changed_chain_panics() {
    let root = ForeignCa::root("Root");
    let der = root.certificate.to_vec();
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0x55;
        let _ = check_text(Below::Issuers, &pem_of(&[&CertificateDer::from(changed)]));
        let _ = check_text(Below::Issuers, &pem_of(&[&CertificateDer::from(der[..at].to_vec())]));
    }
}
