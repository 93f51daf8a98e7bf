use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use weft_store::Leadership;

use super::*;
use crate::ca::tests::Mesh;
use crate::ca::{DEFAULT_SPREAD, ROOT_LIFE, Serial};

impl Mesh {
    pub(in crate::ca) async fn rotate(&self) {
        self.authority.rotate_root(self.store.as_ref(), DEFAULT_SPREAD, None, None).await.unwrap();
    }

    pub(in crate::ca) async fn advance(&self, leader: &Leadership, stage: RotationStage) {
        self.authority.advance_rotation(self.store.as_ref(), stage, leader.guard()).await.unwrap();
    }

    pub(in crate::ca) async fn whole_rotation(&self, leader: &Leadership) {
        self.rotate().await;
        for stage in STAGES {
            self.advance(leader, stage).await;
        }
    }

    pub(in crate::ca) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.authority.bundle()
    }

    /// Whether somebody who trusts these roots alone takes this chain.
    pub(in crate::ca) fn is_taken(
        &self,
        chain: &[CertificateDer<'static>],
        roots: &[CertificateDer<'static>],
    ) -> bool {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().unwrap();
        let now = u64::try_from(self.hand.clock().unix_seconds()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        verifier.verify_client_cert(&chain[0], &chain[1..], now).is_ok()
    }

    pub(in crate::ca) fn own_chain(&self) -> Vec<CertificateDer<'static>> {
        self.authority.issue_control_plane(&[]).unwrap().chain
    }
}

const STAGES: [RotationStage; 3] =
    [RotationStage::DistributingRoot, RotationStage::RenewingLeaves, RotationStage::MovingControlPlanes];

#[tokio::test]
async fn each_stage_signs_under_what_everybody_trusts() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let old = mesh.roots();
    mesh.rotate().await;
    let both = mesh.roots();
    assert_eq!((old.len(), both.len()), (1, 2));
    let new: Vec<_> = both.iter().filter(|root| !old.contains(root)).cloned().collect();
    assert_eq!(mesh.authority.lists().len(), 2, "the list of the new issuer is there before its first leaf");

    let leaf = || mesh.leaf("shop/web", "shop/web-1").0.chain;
    assert!(mesh.is_taken(&leaf(), &old) && mesh.is_taken(&mesh.own_chain(), &old));
    assert!(!mesh.is_taken(&leaf(), &new), "the new root signs nothing yet");

    mesh.advance(&leader, STAGES[0]).await;
    assert_eq!(mesh.roots(), both);
    assert!(mesh.is_taken(&leaf(), &new) && !mesh.is_taken(&leaf(), &old));
    assert!(mesh.is_taken(&mesh.own_chain(), &old) && !mesh.is_taken(&mesh.own_chain(), &new));

    mesh.advance(&leader, STAGES[1]).await;
    assert!(mesh.is_taken(&mesh.own_chain(), &new));
    assert!(mesh.is_taken(&mesh.own_chain(), &old), "the new root comes signed by the old one");

    mesh.advance(&leader, STAGES[2]).await;
    assert_eq!(mesh.roots(), new);
    assert_eq!(mesh.authority.rotation(), None);
    assert_eq!(mesh.authority.lists().len(), 1, "lists of the old root's issuers are gone with them");
    assert!(mesh.is_taken(&mesh.own_chain(), &old) && mesh.is_taken(&mesh.own_chain(), &new));
    assert!(!mesh.is_taken(&leaf(), &old), "workloads send no way to the old root");
}

#[tokio::test]
async fn mesh_is_known_by_all_roots_that_have_not_ended() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let mut known = vec![mesh.roots()];
    for _ in 0..3 {
        mesh.whole_rotation(&leader).await;
        known.push(mesh.roots());
        mesh.hand.forward(Duration::days(20));
        for _ in 0..2 {
            mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
        }
    }
    for roots in &known {
        assert!(mesh.is_taken(&mesh.own_chain(), roots));
    }
    mesh.hand.forward(ROOT_LIFE - Duration::days(50));
    assert_eq!(mesh.authority.prune_roots(mesh.store.as_ref(), leader.guard()).await.unwrap(), 2);
    mesh.authority.reload(mesh.store.as_ref()).await.unwrap();
    assert_eq!(mesh.authority.prune_roots(mesh.store.as_ref(), leader.guard()).await.unwrap(), 0);
}

#[tokio::test]
async fn tokens_name_the_root_that_stays_whatever_becomes_of_the_rotation() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let old = mesh.authority.root_spki_sha256();
    mesh.rotate().await;
    assert_eq!(mesh.authority.root_spki_sha256(), old);
    mesh.advance(&leader, STAGES[0]).await;
    assert_eq!(mesh.authority.root_spki_sha256(), old);
    mesh.authority.abort_rotation(mesh.store.as_ref(), None).await.unwrap();
    assert_eq!(mesh.authority.root_spki_sha256(), old);
    for stage in &STAGES[1..] {
        mesh.advance(&leader, *stage).await;
    }
    assert_eq!(mesh.authority.root_spki_sha256(), old);
    mesh.whole_rotation(&leader).await;
    assert_ne!(mesh.authority.root_spki_sha256(), old);
}

#[tokio::test]
async fn undone_rotation_signs_under_the_old_root_by_an_issuer_that_is_known() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let (old, issuer) = (mesh.roots(), mesh.authority.chain().issuer.serial.clone());
    mesh.rotate().await;
    mesh.authority.abort_rotation(mesh.store.as_ref(), None).await.unwrap();
    assert_eq!((mesh.roots(), mesh.authority.rotation()), (old.clone(), None));
    assert_eq!(mesh.authority.lists().len(), 1);

    mesh.rotate().await;
    mesh.advance(&leader, STAGES[0]).await;
    mesh.advance(&leader, STAGES[1]).await;
    let lists = mesh.authority.lists().len();
    mesh.authority.abort_rotation(mesh.store.as_ref(), None).await.unwrap();
    let rotation = mesh.authority.rotation().unwrap();
    assert_eq!((rotation.stage, rotation.aborted), (RotationStage::RenewingLeaves, true));
    assert_eq!(mesh.authority.chain().issuer.serial, issuer, "its list stands in every bundle");
    assert_eq!((mesh.authority.lists().len(), mesh.roots().len()), (lists, 2));
    assert!(mesh.is_taken(&mesh.own_chain(), &old));
    let again = mesh.authority.abort_rotation(mesh.store.as_ref(), None).await;
    assert!(matches!(again, Err(RotationError::Undone)), "{again:?}");
    mesh.advance(&leader, STAGES[1]).await;
    mesh.advance(&leader, STAGES[2]).await;
    assert_eq!((mesh.roots(), mesh.authority.lists().len()), (old, 1));
}

/// A crash between any two steps leaves a state from which another replica goes on; one that was succeeded does nothing.
#[tokio::test]
async fn stage_is_taken_once_by_whoever_leads() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    mesh.rotate().await;
    let twice = mesh.authority.rotate_root(mesh.store.as_ref(), DEFAULT_SPREAD, None, None).await;
    assert!(matches!(twice, Err(RotationError::UnderWay)), "{twice:?}");
    mesh.advance(&leader, STAGES[0]).await;
    let again = mesh.authority.advance_rotation(mesh.store.as_ref(), STAGES[0], leader.guard()).await;
    assert!(matches!(again, Err(RotationError::None)), "{again:?}");
    let guard = leader.guard();
    mesh.store.commit(Txn::new().delete(&guard.key)).await.unwrap();
    mesh.authority.advance_rotation(mesh.store.as_ref(), STAGES[1], guard).await.unwrap_err();
    assert_eq!(mesh.authority.rotation().unwrap().stage, STAGES[1]);
}

/// The old root's issuer is renewed below it for as long as the first stage is held.
#[tokio::test]
async fn issuers_are_renewed_in_every_stage() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let old = mesh.authority.chain().root.serial.clone();
    mesh.rotate().await;
    let renew = async || {
        mesh.hand.forward(Duration::days(16));
        for _ in 0..2 {
            mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
        }
        mesh.authority.chain()
    };
    let renewed = renew().await;
    assert_eq!((renewed.generation, &renewed.root.serial), (2, &old));
    mesh.advance(&leader, STAGES[0]).await;
    let renewed = renew().await;
    assert_eq!(renewed.generation, 4);
    assert_ne!(renewed.root.serial, old);
    let below: Vec<Serial> = mesh.authority.state().issuers_below(&old).into_iter().cloned().collect();
    assert_eq!(below.len(), 2, "issuers that signed leaves are kept for their lists");
}

#[tokio::test]
async fn first_stage_may_be_held_for_longer_than_an_issuer_lives() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    mesh.rotate().await;
    for _ in 0..4 {
        mesh.hand.forward(Duration::days(16));
        for _ in 0..2 {
            mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
            mesh.authority.renew_coming_issuer(mesh.store.as_ref(), leader.guard()).await.unwrap();
        }
        mesh.authority.prune_issuers(mesh.store.as_ref(), &leader).await.unwrap();
    }
    mesh.advance(&leader, STAGES[0]).await;
    let chain = mesh.authority.chain();
    assert!(mesh.authority.lists().iter().any(|list| list.issuer == chain.issuer.serial));
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!(leaf.not_after, mesh.hand.clock().now().replace_nanosecond(0).unwrap() + Duration::hours(24));
}

#[tokio::test]
async fn renewals_are_spread_and_each_has_its_point() {
    let rotation = RootRotation {
        stage: RotationStage::RenewingLeaves,
        started_at: 0,
        stage_since: 1000,
        spread: 100,
        aborted: false,
        by: None,
    };
    let points: Vec<i64> =
        (0..200).map(|number| rotation.renewal_of(&format!("{number:040}"), 900).unwrap()).collect();
    assert!(points.iter().all(|point| (1000..=1100).contains(point)));
    let early = points.iter().filter(|point| **point < 1050).count();
    assert!((60..140).contains(&early), "{early} of 200 in the first half");
    assert_eq!(rotation.renewal_of("0", 1001), None, "it was made in this stage");
    let first = RootRotation { stage: RotationStage::DistributingRoot, ..rotation };
    assert_eq!(first.renewal_of("0", 900), None);
}

#[tokio::test]
async fn root_is_due_at_two_thirds_of_its_life() {
    let mesh = Mesh::new().await;
    mesh.hand.forward(ROOT_LIFE * 2 / 3 - Duration::hours(1));
    assert!(!mesh.authority.root_is_due());
    mesh.hand.forward(Duration::hours(2));
    assert!(mesh.authority.root_is_due() && !mesh.authority.root_is_late());
    mesh.hand.forward(ROOT_LIFE / 3 - Duration::days(30));
    assert!(mesh.authority.root_is_late());
}
