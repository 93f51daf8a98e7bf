use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints, IsCa, PKCS_RSA_SHA256, RsaKeySize};
use tempfile::TempDir;

use super::*;
use crate::ca::fitness::tests::{ForeignCa, pem_of};
use crate::ca::tests::{Mesh, settings};
use crate::ca::{Adopted, RotationStage};

/// The two files of an own authority.
struct Files {
    dir: TempDir,
}

impl Files {
    fn of(chain: &[&ForeignCa], key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let chain: Vec<_> = chain.iter().map(|ca| &ca.certificate).collect();
        fs::write(dir.path().join("ca.pem"), pem_of(&chain)).unwrap();
        fs::write(dir.path().join("ca.key"), key).unwrap();
        fs::set_permissions(dir.path().join("ca.key"), Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    fn read(&self) -> Result<OwnAuthority, CaError> {
        let (certificate, key) = (self.dir.path().join("ca.pem"), self.dir.path().join("ca.key"));
        OwnAuthority::read(&certificate, &key, &settings(), OffsetDateTime::now_utc())
    }

    fn refused(&self) -> String {
        self.read().expect_err("it does not fit").to_string()
    }
}

fn own(chain: &[&ForeignCa]) -> OwnAuthority {
    Files::of(chain, &chain[0].key.serialize_pem()).read().unwrap()
}

#[test]
fn key_has_to_be_the_owners_alone_plain_single_and_that_of_the_certificate() {
    let (root, other) = (ForeignCa::root("Root"), ForeignCa::root("Other"));
    let key = root.key.serialize_pem();
    let exposed = Files::of(&[&root], &key);
    fs::set_permissions(exposed.dir.path().join("ca.key"), Permissions::from_mode(0o640)).unwrap();
    assert!(exposed.refused().contains("chmod 600"), "{}", exposed.refused());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(Files::of(&[&root], &encrypted).refused().contains("openssl pkey"));
    let traditional = key.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1);
    assert!(Files::of(&[&root], &traditional).refused().contains("encrypted"));
    assert!(
        Files::of(&[&root], &[key.clone(), other.key.serialize_pem()].concat())
            .refused()
            .contains("one private key")
    );
    assert!(Files::of(&[&root], "hello").refused().contains("one private key"));
    assert!(Files::of(&[&root], &other.key.serialize_pem()).refused().contains("--ca-key"));
    let missing = Files::of(&[&root], &key);
    fs::remove_file(missing.dir.path().join("ca.key")).unwrap();
    assert!(missing.refused().contains("no such file"));
    fs::remove_file(missing.dir.path().join("ca.pem")).unwrap();
    assert!(missing.refused().contains("ca.pem"));
    for said in [exposed.refused(), missing.refused()] {
        assert!(!said.contains(&key[30..60]), "{said}");
    }
}

#[tokio::test]
async fn mesh_is_founded_below_an_own_intermediate_and_renews_its_issuers() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let root = ForeignCa::root_with(rsa, "Root", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(2));
    });
    let middle = root.below("Middle", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
    let mesh = Mesh::founded_by(Some(own(&[&middle, &root]))).await;
    assert_eq!(mesh.authority.bundle(), std::slice::from_ref(&root.certificate));
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!(leaf.chain.len(), 3);
    assert_eq!(leaf.chain[2], middle.certificate);
    assert!(mesh.is_taken(&leaf.chain, std::slice::from_ref(&root.certificate)));
    assert!(mesh.is_taken(&mesh.own_chain(), std::slice::from_ref(&root.certificate)));
    assert!(!mesh.authority.root_is_due());

    let leader = mesh.leader().await;
    mesh.hand.forward(time::Duration::days(16));
    for _ in 0..2 {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    assert_eq!(mesh.authority.chain().generation, 2);
    assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &[root.certificate]));
}

#[tokio::test]
async fn own_authority_that_excludes_the_control_planes_names_founds_nothing() {
    let root = ForeignCa::root_with(crate::ca::new_key().unwrap(), "Root", |params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("mesh.test".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    Mesh::founded_by(Some(own(&[&root]))).await;
    let error = Mesh::try_founded_by(Some(own(&[&root])), &["localhost"]).await.err().expect("localhost");
    assert!(
        error.to_string().contains("nameConstraints") && error.to_string().contains("--xds-name"),
        "{error}"
    );
    let elsewhere = ForeignCa::root_with(crate::ca::new_key().unwrap(), "Root", |params| {
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("other.test".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    let error = Mesh::try_founded_by(Some(own(&[&elsewhere])), &[]).await.err().expect("other.test");
    assert!(error.to_string().contains("nameConstraints"), "{error}");
}

/// From ours to theirs, to another key below theirs, and back to ours, which is not left again by itself.
#[tokio::test]
async fn mesh_moves_to_an_own_authority_and_back() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let (ours, old) = (mesh.roots(), mesh.authority.root_spki_sha256());
    let root = ForeignCa::root("Root");
    let theirs = vec![root.certificate.clone()];

    let mesh = mesh.reopened_with(own(&[&root])).await;
    assert_eq!(mesh.authority.adopt(mesh.store.as_ref()).await.unwrap(), Adopted::Begun);
    assert_eq!(mesh.authority.adopt(mesh.store.as_ref()).await.unwrap(), Adopted::Already);
    assert!(mesh.authority.state().vouched, "the old root's key is here");
    mesh.advance(&leader, RotationStage::DistributingRoot).await;
    assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &theirs));
    mesh.advance(&leader, RotationStage::RenewingLeaves).await;
    mesh.advance(&leader, RotationStage::MovingControlPlanes).await;
    assert_eq!(mesh.roots(), theirs);
    assert!(mesh.is_taken(&mesh.own_chain(), &ours), "who knows the mesh by our root finds the way");
    assert_ne!(mesh.authority.root_spki_sha256(), old);

    // Another key below the same root: nothing is rotated, and the next issuer is signed by it.
    let middle = root.below("Middle", |_| {});
    let mesh = mesh.reopened_with(own(&[&middle, &root])).await;
    assert_eq!(mesh.authority.adopt(mesh.store.as_ref()).await.unwrap(), Adopted::Already);
    mesh.hand.forward(time::Duration::days(16));
    for _ in 0..2 {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!((leaf.chain.len(), &leaf.chain[2]), (3, &middle.certificate));
    assert!(mesh.is_taken(&leaf.chain, &theirs));

    mesh.whole_rotation(&leader).await;
    assert_ne!(mesh.roots(), theirs);
    assert!(mesh.is_taken(&mesh.leaf("shop/web", "shop/web-1").0.chain, &mesh.roots()));
    assert_eq!(mesh.authority.adopt(mesh.store.as_ref()).await.unwrap(), Adopted::Left);
}
