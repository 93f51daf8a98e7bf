//! A joiner asks for another identity, by its request, its name or what it declares; a forger shows one at every door.

use anyhow::{Context as _, ensure};
use rcgen::{BasicConstraints, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use tonic::Code;
use weft_api::ResourceKind;
use weft_api::join::{Upstream, Workload};
use weft_e2e::harness::{
    Door, Forger, Mesh, NewKey, Presented, Sidecar, XdsStream, channel, described, join_with,
};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use crate::ground::{ANSWER, Attacks, enter, member, not_served, on_the_embedded_store, refused, service};

const WEB: &str = "shop/web";
const WEB_ID: &str = "spiffe://mesh.local/ns/shop/svc/web";

on_the_embedded_store!(
    certificate_request_decides_nothing_but_the_key,
    certificate_request_that_is_none_is_refused,
    workload_names_are_dns_labels,
    declarations_are_read_strictly,
    forged_certificates_open_no_door,
);

/// A certificate request may claim what it likes: the leaf carries what the token says.
pub(crate) async fn certificate_request_decides_nothing_but_the_key(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    for (name, uri, dns) in [
        ("thief-1", "spiffe://mesh.local/control-plane", "control-plane.mesh.local"),
        ("thief-2", "spiffe://mesh.local/ns/shop/svc/catalog", "catalog-1.catalog.shop.mesh.local"),
        ("thief-3", "spiffe://other.mesh/ns/shop/svc/web", "localhost"),
    ] {
        let key = KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::new(vec![dns.to_owned()])?;
        params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into()?));
        params.distinguished_name.push(rcgen::DnType::CommonName, "control-plane");
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        params.custom_extensions.push(basic_constraints_of_an_authority());
        let csr = params.serialize_request(&key)?.der().to_vec();
        let token = mesh.token(WEB).await?.token;
        let address = mesh.next_address();
        let answer = join_with(&token.parse()?, csr, described(name, address)).await?;
        ensure!((&*answer.namespace, &*answer.service) == ("shop", "web"), "{answer:?}");
        has_the_form_of_a_leaf(&answer.certificate_chain_der[0], name)?;
    }
    Ok(())
}

/// `CA:TRUE`, as an extension that is asked for.
fn basic_constraints_of_an_authority() -> rcgen::CustomExtension {
    rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x03, 0x01, 0x01, 0xff])
}

/// SPIFFE X.509-SVID, as short-lived and as narrow as the mesh issues it.
fn has_the_form_of_a_leaf(der: &[u8], name: &str) -> anyhow::Result<()> {
    let (_, leaf) = X509Certificate::from_der(der)?;
    let names = leaf.subject_alternative_name()?.context("no alternative names")?;
    let found: Vec<String> = names.value.general_names.iter().map(written).collect();
    ensure!(found == [format!("URI {WEB_ID}"), format!("DNS {name}.web.shop.mesh.local")], "{found:?}");
    ensure!(names.critical, "the names are not critical");
    ensure!(leaf.subject().as_raw() == [0x30, 0x00], "it has a subject: {}", leaf.subject());
    ensure!(!leaf.is_ca(), "it may sign");
    let usage = leaf.key_usage()?.context("no key usage")?.value;
    ensure!(usage.digital_signature() && usage.flags == 1, "{usage:?}");
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    ensure!(life == 24 * 3600 + 120, "it lives for {life} s");
    ensure!(leaf.raw_serial().len() >= 18, "a serial number of {} bytes", leaf.raw_serial().len());
    let asked_for =
        |parsed: &ParsedExtension<'_>| matches!(parsed, ParsedExtension::UnsupportedExtension { .. });
    ensure!(!leaf.extensions().iter().any(|extension| asked_for(extension.parsed_extension())), "{leaf:?}");
    Ok(())
}

fn written(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => format!("URI {uri}"),
        GeneralName::DNSName(dns) => format!("DNS {dns}"),
        other => format!("{other:?}"),
    }
}

/// Garbage, other keys, and signatures of others: each is refused, and the next honest joiner is served.
async fn certificate_request_that_is_none_is_refused(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let good = NewKey::plain()?.csr().to_vec();
    let with_key = |algorithm| -> anyhow::Result<Vec<u8>> {
        let key = KeyPair::generate_for(algorithm)?;
        Ok(rcgen::CertificateParams::default().serialize_request(&key)?.der().to_vec())
    };
    let changed = |at: usize, by: u8| {
        let mut csr = good.clone();
        csr[at] ^= by;
        csr
    };
    // The public point follows its algorithm: 0x03 0x42 0x00 0x04, then x and y.
    let point = good.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).context("no point")? + 4;
    let mut at_infinity = good.clone();
    at_infinity[point..point + 64].fill(0);
    let other = NewKey::plain()?.csr().to_vec();
    let mut spliced = good.clone();
    spliced[point..point + 64].copy_from_slice(&other[point..point + 64]);
    let padded = |bytes: usize| [good.clone(), vec![0; bytes]].concat();
    let nested = [0x30_u8, 0x80].repeat(4000);

    let mut attacks = Attacks::default();
    for (attack, csr) in [
        ("P-384", with_key(&rcgen::PKCS_ECDSA_P384_SHA384)?),
        ("P-521", with_key(&rcgen::PKCS_ECDSA_P521_SHA512)?),
        ("Ed25519", with_key(&rcgen::PKCS_ED25519)?),
        ("nothing", Vec::new()),
        ("zeroes", vec![0; 200]),
        ("text", b"-----BEGIN CERTIFICATE REQUEST-----".to_vec()),
        ("nested sequences", nested),
        ("a byte too many", padded(1)),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("another signature", changed(good.len() - 1, 1)),
        ("a point off the curve", changed(point + 40, 1)),
        ("the point at infinity", at_infinity),
        ("another's key under this signature", spliced),
        ("just over 16 KiB", padded(16 * 1024)),
        ("60 KiB", padded(60 * 1024)),
        ("4 MiB", padded(4 << 20)),
    ] {
        let token = mesh.token(WEB).await?.token.parse()?;
        let workload = described("csr", mesh.next_address());
        let outcome = join_with(&token, csr, workload).await;
        let codes = [Code::InvalidArgument, Code::OutOfRange, Code::ResourceExhausted];
        attacks.held(attack, refused(outcome, &codes));
    }
    attacks.end()?;
    member(mesh, "web", "honest").await.context("an honest joiner afterwards")?;
    Ok(())
}

async fn workload_names_are_dns_labels(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let (long, longer) = ("a".repeat(64), "a".repeat(5000));
    let mut attacks = Attacks::default();
    for name in [
        "",
        "-",
        "-a",
        "a-",
        "A",
        "web_1",
        "a.b",
        "a/b",
        "../web-1",
        "shop/web-1",
        "a b",
        "a\0",
        "a\nb",
        "*",
        "%2e",
        "аpple",
        "ｗeb",
        "a\u{200b}b",
        &long,
        &longer,
    ] {
        let outcome = member(mesh, "web", name).await;
        attacks.held(
            format!("{:?}", name.chars().take(20).collect::<String>()),
            refused(outcome, &[Code::InvalidArgument]),
        );
    }
    attacks.end()
}

/// L1 among them: what others are told of a joiner is no free text.
async fn declarations_are_read_strictly(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let address = mesh.next_address();
    let honest = || described("liar", address);
    let with = |change: fn(&mut Workload)| {
        let mut workload = honest();
        change(&mut workload);
        workload
    };
    let mut attacks = Attacks::default();
    for (attack, workload) in [
        ("no address", with(|w| w.address = String::new())),
        ("every address", with(|w| w.address = "0.0.0.0".to_owned())),
        ("every IPv6 address", with(|w| w.address = "::".to_owned())),
        ("a multicast address", with(|w| w.address = "224.0.0.1".to_owned())),
        ("an IPv6 multicast address", with(|w| w.address = "ff02::1".to_owned())),
        ("the broadcast address", with(|w| w.address = "255.255.255.255".to_owned())),
        ("an address mapped into IPv6", with(|w| w.address = "::ffff:0.0.0.0".to_owned())),
        ("a host name", with(|w| w.address = "localhost".to_owned())),
        ("an address with a port", with(|w| w.address = "10.0.0.1:80".to_owned())),
        ("an address in octal", with(|w| w.address = "010.0.0.1".to_owned())),
        ("port 0", with(|w| w.app_ports.extend([("http".to_owned(), 0)]))),
        ("port 65536", with(|w| w.app_ports.extend([("http".to_owned(), 65536)]))),
        ("a port's name", with(|w| w.app_ports.extend([("../http".to_owned(), 80)]))),
        ("65 ports", with(|w| w.app_ports.extend((0..65).map(|n| (format!("p-{n}"), 80))))),
        ("no proxy type", with(|w| w.proxy_type = 0)),
        ("an unknown proxy type", with(|w| w.proxy_type = 99)),
        ("a listener on port 0", with(|w| w.inbound = "127.0.0.1:0".to_owned())),
        ("a listener by name", with(|w| w.inbound = "localhost:15006".to_owned())),
        ("a path as region", with(|w| w.region = "../eu".to_owned())),
        ("an escape sequence as zone", with(|w| w.zone = "\u{1b}[2J".to_owned())),
        ("an upstream of no service", with(|w| w.upstreams = vec![upstream("web", "http", "127.0.0.1:1")])),
        ("an upstream on no port", with(|w| w.upstreams = vec![upstream("shop/web", "http", "127.0.0.1")])),
        ("129 upstreams", with(|w| w.upstreams = vec![upstream("shop/web", "http", "127.0.0.1:1"); 129])),
    ] {
        attacks.held(attack, refused(enter(mesh, WEB, workload).await, &[Code::InvalidArgument]));
    }
    for (attack, label, value) in [
        ("a label that the token does not permit", "team", "root"),
        ("a label in another case", "Version", "v1"),
        ("a label with more behind it", "version2", "v1"),
    ] {
        let mut workload = honest();
        workload.labels.insert(label.to_owned(), value.to_owned());
        attacks.held(attack, refused(enter(mesh, WEB, workload).await, &[Code::PermissionDenied]));
    }
    let value = |value: &str| {
        let mut workload = honest();
        workload.labels.insert("version".to_owned(), value.to_owned());
        workload
    };
    for label in ["a b", "\u{1b}[31m", &"v".repeat(64)] {
        attacks.held(
            format!("{label:?}"),
            refused(enter(mesh, WEB, value(label)).await, &[Code::InvalidArgument]),
        );
    }
    attacks.end()
}

fn upstream(service: &str, port: &str, bind: &str) -> Upstream {
    Upstream { service: service.to_owned(), port: port.to_owned(), bind: bind.to_owned() }
}

/// Certificates that the mesh's root did not sign, or not as leaves, at the control plane and at both proxies.
pub(crate) async fn forged_certificates_open_no_door(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog-weft"), service("catalog-envoy")].concat()).await?;
    let weft = mesh.workload("shop/catalog-weft").serving().beside(Sidecar::Weft).start().await?;
    let envoy = mesh.workload("shop/catalog-envoy").serving().beside(Sidecar::Envoy).start().await?;
    mesh.in_sync(&[weft.id(), envoy.id()]).await?;
    let web = member(mesh, "web", "web-1").await?;
    let root = CertificateDer::from(web.answer.bundle_der[0].clone());
    let issuer = web.presented.chain()[1].clone();
    let control_plane = "spiffe://mesh.local/control-plane";
    let doors = Doors {
        mesh,
        inbound: [
            ("weft-proxy", Door::new(weft.inbound(), "shop/catalog-weft")),
            ("Envoy", Door::new(envoy.inbound(), "shop/catalog-envoy")),
        ],
    };

    doors.open(&web.presented).await.context("a true certificate")?;
    let (stranger, namesake) = (Forger::stranger(None)?, Forger::stranger(Some(&root))?);
    let issuers_name = Forger::stranger(Some(&issuer))?;
    let insider = Forger::insider(&web.presented)?;
    let past = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    };
    let mut attacks = Attacks::default();
    for (attack, forged) in [
        ("an authority of its own", stranger.leaf(&[WEB_ID], |_| {})?),
        ("with two URIs", stranger.leaf(&[WEB_ID, control_plane], |_| {})?),
        ("with no URI", stranger.leaf(&[], |_| {})?),
        ("as the control plane", stranger.leaf(&[control_plane], |_| {})?),
        ("that has expired", stranger.leaf(&[WEB_ID], past)?),
        ("that may sign", stranger.leaf(&[WEB_ID], |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))?),
        ("an authority of the root's name", namesake.leaf(&[WEB_ID], |_| {})?),
        ("an authority of the issuer's name", issuers_name.leaf(&[WEB_ID], |_| {})?),
        (
            "signed by a workload's leaf",
            insider.leaf(&["spiffe://mesh.local/ns/shop/svc/catalog-weft"], |_| {})?,
        ),
        ("signed by a workload's leaf as the control plane", insider.leaf(&[control_plane], |_| {})?),
        ("the issuer's certificate without its key", web.presented.clone().with_chain(vec![issuer.clone()])),
        ("the root's certificate without its key", web.presented.clone().with_chain(vec![root.clone()])),
        (
            "another's leaf without its key",
            stranger.leaf(&[WEB_ID], |_| {})?.with_chain(web.presented.chain().to_vec()),
        ),
    ] {
        doors.hold(&mut attacks, attack, Some(&forged)).await;
    }
    doors.hold(&mut attacks, "no certificate", None).await;
    attacks.end()
}

/// Everything that asks for a certificate.
struct Doors<'a> {
    mesh: &'a Mesh,
    inbound: [(&'static str, Door); 2],
}

impl Doors<'_> {
    async fn open(&self, presented: &Presented) -> anyhow::Result<()> {
        self.discovery(Some(presented)).await?;
        for (proxy, door) in &self.inbound {
            door.enter(Some(presented)).await.context(*proxy)?;
        }
        Ok(())
    }

    async fn hold(&self, attacks: &mut Attacks, attack: &str, presented: Option<&Presented>) {
        attacks.held(format!("{attack}, at discovery"), not_served(self.discovery(presented).await));
        for (proxy, door) in &self.inbound {
            let answer = door.ask(presented).await.unwrap_or_default();
            let held = if answer.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("it got {answer}")) };
            attacks.held(format!("{attack}, at {proxy}"), held);
        }
    }

    async fn discovery(&self, presented: Option<&Presented>) -> Result<(), tonic::Status> {
        let mut stream = XdsStream::open(channel(self.mesh.xds(), presented), "shop/web-1").await?;
        stream.ask(ResourceKind::Cluster, &[]).await;
        stream.next(ANSWER).await.map(|_| ())
    }
}
