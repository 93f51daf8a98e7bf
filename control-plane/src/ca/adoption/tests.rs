use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::*;
use crate::ca::fitness::tests::{ForeignCa, pem_of};
use crate::ca::tests::Mesh;
use crate::ca::{Renewal, RotationStage};

fn plain(_: &mut CertificateParams) {}

impl Mesh {
    async fn request(&self) -> CertificateRequest {
        self.authority.certificate_request(self.store.as_ref()).await.unwrap()
    }

    async fn import(&self, chain: &[&CertificateDer<'_>]) -> Result<(), AdoptionError> {
        self.authority.import(self.store.as_ref(), &pem_of(chain), DEFAULT_SPREAD, None).await
    }

    /// The field that an import is refused for.
    async fn refused(&self, chain: &[&CertificateDer<'_>]) -> (&'static str, String) {
        match self.import(chain).await.expect_err("it does not fit") {
            AdoptionError::Unfit(unfit) => (unfit.field, unfit.to_string()),
            other => panic!("{other}"),
        }
    }
}

const STAGES: [RotationStage; 3] =
    [RotationStage::DistributingRoot, RotationStage::RenewingLeaves, RotationStage::MovingControlPlanes];

#[tokio::test]
async fn mesh_moves_to_an_offline_root_renews_below_it_and_comes_back() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let (ours, root) = (mesh.roots(), ForeignCa::root("Root"));
    let theirs = vec![root.certificate.clone()];
    let request = mesh.request().await;
    assert_eq!(mesh.request().await, request, "there is one at a time");
    let issuer = root.sign(&request.der, plain);
    mesh.import(&[&issuer, &root.certificate]).await.unwrap();
    assert!(mesh.authority.state().vouched);
    assert_eq!(mesh.authority.lists().len(), 2, "its list is there before its first leaf");
    mesh.authority.renew_coming_issuer(mesh.store.as_ref(), leader.guard()).await.unwrap();
    for stage in STAGES {
        mesh.advance(&leader, stage).await;
    }
    assert_eq!((mesh.roots(), mesh.authority.chain().issuer.certificate.clone()), (theirs.clone(), issuer));
    assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &theirs));
    assert!(mesh.is_taken(&mesh.own_chain(), &ours), "a token of before finds the way");
    assert!(!mesh.authority.state().signs_issuers);

    // Nobody here renews it, and another one below the same root takes its place without a rotation.
    mesh.hand.forward(Duration::days(110));
    let renewal = mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    assert_eq!(renewal, Renewal::NotDue);
    let again = mesh.request().await;
    assert_ne!(again.spki_sha256, request.spki_sha256);
    let issuer = root.sign(&again.der, plain);
    mesh.import(&[&issuer, &root.certificate]).await.unwrap();
    assert_eq!(mesh.authority.rotation(), None);
    let third = root.sign(&mesh.request().await.der, plain);
    let busy = mesh.import(&[&third, &root.certificate]).await;
    assert!(matches!(busy, Err(AdoptionError::IssuerComing)), "{busy:?}");
    let renewal = mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, false).await.unwrap();
    assert_eq!(renewal, Renewal::Waiting);
    let renewal = mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    assert_eq!((renewal, mesh.authority.chain().issuer.certificate.clone()), (Renewal::Renewed, issuer));
    assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &theirs));

    // Nobody here can vouch for ours by theirs: the way ends when the control planes move, and tokens say so.
    let old = mesh.authority.root_spki_sha256();
    mesh.rotate().await;
    assert!(!mesh.authority.state().vouched);
    mesh.advance(&leader, STAGES[0]).await;
    assert!(mesh.is_taken(&mesh.own_chain(), &theirs));
    assert_eq!(mesh.authority.root_spki_sha256(), old);
    mesh.advance(&leader, STAGES[1]).await;
    assert!(!mesh.is_taken(&mesh.own_chain(), &theirs));
    assert_ne!(mesh.authority.root_spki_sha256(), old);
    mesh.advance(&leader, STAGES[2]).await;
    assert!(mesh.is_taken(&mesh.own_chain(), &mesh.roots()) && mesh.roots() != theirs);
}

#[tokio::test]
async fn rotation_to_an_offline_root_can_be_undone_at_any_stage() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let (ours, root) = (mesh.roots(), ForeignCa::root("Root"));
    for stages in 0..3 {
        let issuer = root.sign(&mesh.request().await.der, plain);
        mesh.import(&[&issuer, &root.certificate]).await.unwrap();
        for stage in &STAGES[..stages] {
            mesh.advance(&leader, *stage).await;
        }
        mesh.authority.abort_rotation(mesh.store.as_ref(), None).await.unwrap();
        if stages > 0 {
            mesh.advance(&leader, STAGES[1]).await;
            mesh.advance(&leader, STAGES[2]).await;
        }
        assert_eq!((mesh.roots(), mesh.authority.rotation()), (ours.clone(), None));
        assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &ours));
        assert_eq!(mesh.authority.lists().len(), 1);
    }
}

#[tokio::test]
async fn import_takes_the_certificate_of_the_open_request_alone() {
    let mesh = Mesh::new().await;
    let root = ForeignCa::root("Root");
    let other = root.below("Other", plain);
    let none = mesh.import(&[&other.certificate, &root.certificate]).await;
    assert!(matches!(none, Err(AdoptionError::NoRequest)), "{none:?}");
    let request = mesh.request().await;
    let (field, words) = mesh.refused(&[&other.certificate, &root.certificate]).await;
    assert!(field == "subjectPublicKeyInfo" && words.contains("weft ca csr"), "{words}");
    let (field, words) = mesh.refused(&[&root.sign(&request.der, plain)]).await;
    assert!(field == "issuer" && words.contains("with the root"), "{words}");
    let leaf = root.sign(&request.der, |params| params.is_ca = IsCa::ExplicitNoCa);
    let (field, words) = mesh.refused(&[&leaf, &root.certificate]).await;
    assert!(field == "basicConstraints" && words.contains("CA:TRUE"), "{words}");
    let short = root.sign(&request.der, |params| {
        params.not_after = time::OffsetDateTime::now_utc() + Duration::hours(30);
    });
    assert_eq!(mesh.refused(&[&short, &root.certificate]).await.0, "notAfter");

    let issuer = root.sign(&request.der, plain);
    mesh.import(&[&issuer, &root.certificate]).await.unwrap();
    let twice = mesh.import(&[&issuer, &root.certificate]).await;
    assert!(matches!(twice, Err(AdoptionError::Rotation(RotationError::UnderWay))), "{twice:?}");
    mesh.authority.abort_rotation(mesh.store.as_ref(), None).await.unwrap();
    let spent = mesh.import(&[&issuer, &root.certificate]).await;
    assert!(matches!(spent, Err(AdoptionError::NoRequest)), "{spent:?}");
}

#[tokio::test]
async fn what_cannot_be_told_from_what_the_mesh_has_is_refused() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let root = ForeignCa::root("Root");
    let first = root.sign(&mesh.request().await.der, plain);
    mesh.import(&[&first, &root.certificate]).await.unwrap();
    for stage in STAGES {
        mesh.advance(&leader, stage).await;
    }
    let request = mesh.request().await;
    let parsed = crate::ca::ValidCertificate::try_from_der(first.clone()).unwrap();
    let same_serial = root.sign(&request.der, |params| {
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&parsed.serial.to_bytes()));
    });
    assert_eq!(mesh.refused(&[&same_serial, &root.certificate]).await.0, "serialNumber");
    let (_, read) = x509_parser::parse_x509_certificate(&first).unwrap();
    let name = read.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned();
    let same_name = root.sign(&request.der, |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, name);
    });
    let (field, words) = mesh.refused(&[&same_name, &root.certificate]).await;
    assert!(field == "subject" && words.contains("revocation lists"), "{words}");

    // The root's owner has renewed it: the same name and key.
    let key = rcgen::KeyPair::try_from(root.key.serialize_der()).unwrap();
    let renewed = ForeignCa::root_with(key, "Root", plain);
    let issuer = renewed.sign(&request.der, plain);
    let (field, words) = mesh.refused(&[&issuer, &renewed.certificate]).await;
    assert!(field == "subject" && words.contains("same name and key"), "{words}");
}

#[tokio::test]
async fn list_names_the_key_of_its_issuer_as_the_issuers_certificate_does() {
    let mesh = Mesh::new().await;
    let root = ForeignCa::root("Root");
    let id = vec![7; 20];
    let issuer = root.sign(&mesh.request().await.der, |params| {
        params.key_identifier_method = KeyIdMethod::PreSpecified(id.clone());
    });
    mesh.import(&[&issuer, &root.certificate]).await.unwrap();
    let serial = crate::ca::ValidCertificate::try_from_der(issuer).unwrap().serial;
    let lists = mesh.authority.lists();
    let der = lists.iter().find(|list| list.issuer == serial).unwrap().der();
    let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
    let named = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    assert_eq!(named, Some(id));
}

#[tokio::test]
async fn chain_that_is_long_or_short_of_room_is_vouched_for_only_where_it_is_believed() {
    let root = ForeignCa::root("Root");
    let constrain =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let middle = root.below("Middle", constrain);
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let ours = mesh.roots();
    let issuer = middle.sign(&mesh.request().await.der, plain);
    mesh.import(&[&issuer, &middle.certificate, &root.certificate]).await.unwrap();
    for stage in STAGES {
        mesh.advance(&leader, stage).await;
    }
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!(leaf.chain[1..], [issuer, middle.certificate]);
    assert!(mesh.is_taken(&leaf.chain, &mesh.roots()) && mesh.is_taken(&mesh.own_chain(), &ours));
}
