use rcgen::{CertificateParams, Issuer, SanType};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::*;

/// A leaf that the mesh's own issuer would never make, and the root of the private authority that signed it.
fn forged(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, CertificateDer<'static>) {
    let root_key = crate::ca::new_key().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_der = root.self_signed(&root_key).unwrap().der().clone();
    let issuer = Issuer::new(root, root_key);
    let key = crate::ca::new_key().unwrap();
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![uri("spiffe://mesh.test/ns/shop/svc/web"), dns("web-1.web.shop.mesh.test")];
    change(&mut leaf);
    let leaf = leaf.signed_by(&key, &issuer).unwrap().der().clone();
    (root_der, leaf)
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

#[test]
fn certificates_that_are_no_identity_are_refused_by_name() {
    let mesh = weft_api::TrustDomain::try_new("mesh.test").unwrap();
    let read = |change: &dyn Fn(&mut CertificateParams)| {
        let (_, leaf) = forged(|leaf| change(leaf));
        identify(&leaf, &mesh)
    };
    read(&|_| {}).expect("the unchanged one is an identity");
    let two = read(&|leaf| leaf.subject_alt_names.push(uri("spiffe://mesh.test/control-plane")));
    assert_eq!(two, Err(PeerError::UriNames(2)));
    assert_eq!(read(&|leaf| leaf.subject_alt_names.truncate(0)), Err(PeerError::UriNames(0)));
    for foreign in
        ["spiffe://other.test/ns/shop/svc/web", "https://mesh.test/ns/shop/svc/web", "spiffe://mesh.test/"]
    {
        let read = read(&|leaf| leaf.subject_alt_names[0] = uri(foreign));
        assert!(matches!(read, Err(PeerError::Foreign(..))), "{foreign}: {read:?}");
    }
    for name in [
        "web-1.cart.shop.mesh.test",
        "web-1.web.shop.other.test",
        ".web.shop.mesh.test",
        "a.b.web.shop.mesh.test",
    ] {
        let read = read(&|leaf| leaf.subject_alt_names[1] = dns(name));
        assert!(matches!(read, Err(PeerError::Workload(_))), "{name}: {read:?}");
    }
    let read = read(&|leaf| leaf.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]);
    assert_eq!(read, Err(PeerError::Authority));
}

#[test]
fn verifier_refuses_what_the_chain_alone_would_accept() {
    let mesh = weft_api::TrustDomain::try_new("mesh.test").unwrap();
    let verify = |change: &dyn Fn(&mut CertificateParams)| {
        let (root, leaf) = forged(|leaf| change(leaf));
        let clients = ClientCertificates::Required;
        let verifier = verifier::ClientVerifier::try_new(&[root], mesh.clone(), clients, provider()).unwrap();
        verifier.verify_client_cert(&leaf, &[], UnixTime::now())
    };
    verify(&|_| {}).unwrap();
    let error =
        verify(&|leaf| leaf.subject_alt_names.push(uri("spiffe://mesh.test/ns/shop/svc/pay"))).unwrap_err();
    assert!(error.to_string().contains("UriNames(2)"), "{error}");
    verify(&|leaf| leaf.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).unwrap_err();
    verify(&|leaf| leaf.subject_alt_names[0] = uri("spiffe://other.test/ns/shop/svc/web")).unwrap_err();
}
