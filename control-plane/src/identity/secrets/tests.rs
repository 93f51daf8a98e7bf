use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use time::Duration as Span;

use super::*;
use crate::ca::tests::Mesh;
use crate::presence::workloads::tests::record;
use crate::tls::{identify, provider};

struct Fixture {
    mesh: Mesh,
    ledger: Ledger,
    secrets: Secrets,
    updates: mpsc::Receiver<SecretUpdate>,
}

async fn fixture() -> Fixture {
    let mesh = Mesh::new().await;
    let shutdown = CancellationToken::new();
    let ledger = Ledger::spawn(Arc::clone(&mesh.store), shutdown.clone());
    let (secrets, updates) = spawn(Arc::clone(&mesh.authority), ledger.clone(), mesh.hand.clock(), shutdown);
    Fixture { mesh, ledger, secrets, updates }
}

impl Fixture {
    async fn next(&mut self) -> SecretUpdate {
        // The clock is looked at once a minute; with paused time that is no time.
        tokio::time::timeout(Duration::from_secs(600), self.updates.recv()).await.expect("an update").unwrap()
    }
}

fn decode(update: &SecretUpdate) -> Type {
    let secret = Secret::decode(update.resource.body.clone()).unwrap();
    assert_eq!(secret.name, &*update.resource.name);
    secret.r#type.unwrap()
}

fn bytes(source: Option<DataSource>) -> Vec<u8> {
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Chain and key of an identity, after rustls agreed that they belong together.
fn identity(update: &SecretUpdate) -> (Vec<CertificateDer<'static>>, Vec<u8>) {
    let Type::TlsCertificate(certificate) = decode(update) else { panic!("not a certificate") };
    let chain = bytes(certificate.certificate_chain);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().unwrap();
    let pem = bytes(certificate.private_key);
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider()).unwrap().keys_match().unwrap();
    (chain, pem)
}

#[tokio::test]
async fn bundle_comes_first_and_holds_the_root() {
    let mut fixture = fixture().await;
    let update = fixture.next().await;
    assert_eq!((update.holder.clone(), &*update.resource.name), (None, "bundle"));
    let Type::ValidationContext(context) = decode(&update) else { panic!("not a bundle") };
    assert!(context.match_typed_subject_alt_names.is_empty(), "names would be added to those of the cluster");
    let roots = bytes(context.trusted_ca);
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&roots).collect::<Result<_, _>>().unwrap();
    assert_eq!(roots, fixture.mesh.authority.bundle());
    assert_eq!(
        update.resource.version,
        bundle(&roots, &fixture.mesh.authority.lists(), 0).version,
        "the same has the same version"
    );
}

#[tokio::test]
async fn held_identity_is_the_workloads_own_and_in_the_ledger() {
    let mut fixture = fixture().await;
    fixture.next().await;
    let record = record("shop/web-1", "i-7");
    fixture.secrets.hold(&record).await;
    let update = fixture.next().await;
    assert_eq!(
        (update.holder.clone(), &*update.resource.name),
        (Some((record.id.clone(), record.instance.clone())), "identity")
    );
    let (chain, _) = identity(&update);
    let peer = identify(&chain[0], fixture.mesh.authority.trust_domain()).unwrap();
    assert_eq!((peer.workload.as_ref(), peer.service()), (Some(&record.id), Some(&record.service)));
    assert_eq!(chain.len(), 2);
    let entry = async {
        loop {
            if let Some(entry) = fixture.ledger.find(&peer.serial, peer.not_after).await.unwrap() {
                break entry;
            }
            tokio::task::yield_now().await;
        }
    };
    let entry = tokio::time::timeout(Duration::from_secs(10), entry).await.unwrap();
    assert_eq!((entry.key_origin, entry.instance.as_str()), (KeyOrigin::ControlPlane, "i-7"));
}

#[tokio::test]
async fn asked_again_gives_the_same_and_another_instance_a_new_one() {
    let mut fixture = fixture().await;
    fixture.next().await;
    fixture.secrets.hold(&record("shop/web-1", "i-1")).await;
    let first = fixture.next().await;
    fixture.secrets.hold(&record("shop/web-1", "i-1")).await;
    assert_eq!(fixture.next().await.resource.version, first.resource.version);
    fixture.secrets.hold(&record("shop/web-1", "i-2")).await;
    let second = fixture.next().await;
    assert_ne!(identity(&second).1, identity(&first).1);
}

#[tokio::test(start_paused = true)]
async fn identity_is_replaced_with_a_new_key_at_half_of_its_life() {
    let mut fixture = fixture().await;
    fixture.next().await;
    fixture.secrets.hold(&record("shop/web-1", "i-1")).await;
    let mut old = identity(&fixture.next().await);
    for _ in 0..3 {
        fixture.mesh.hand.forward(Span::minutes(11 * 60 + 50));
        let early = tokio::time::timeout(Duration::from_secs(300), fixture.updates.recv()).await;
        assert!(early.is_err(), "before half of its life");
        fixture.mesh.hand.forward(Span::minutes(2 * 60 + 40));
        let new = identity(&fixture.next().await);
        assert_ne!(new.0[0], old.0[0]);
        assert_ne!(new.1, old.1, "a new key each time");
        old = new;
    }
}

#[tokio::test(start_paused = true)]
async fn released_identity_is_not_renewed() {
    let mut fixture = fixture().await;
    fixture.next().await;
    let record = record("shop/web-1", "i-1");
    fixture.secrets.hold(&record).await;
    fixture.next().await;
    fixture.secrets.release(&record.id).await;
    fixture.mesh.hand.forward(Span::hours(20));
    assert!(tokio::time::timeout(Duration::from_secs(600), fixture.updates.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn identity_of_one_that_is_away_lapses_unless_it_comes_back_before() {
    let mut fixture = fixture().await;
    fixture.next().await;
    let record = record("shop/web-1", "i-1");
    fixture.secrets.hold(&record).await;
    let first = fixture.next().await;
    fixture.secrets.let_lapse(&record.id).await;
    fixture.secrets.hold(&record).await;
    assert_eq!(fixture.next().await.resource.version, first.resource.version, "it came back before");
    fixture.mesh.hand.forward(Span::minutes(14 * 60 + 30));
    let second = fixture.next().await;
    assert_ne!(second.resource.version, first.resource.version, "one that is there is renewed");
    fixture.secrets.let_lapse(&record.id).await;
    for _ in 0..3 {
        fixture.mesh.hand.forward(Span::hours(15));
        assert!(tokio::time::timeout(Duration::from_secs(600), fixture.updates.recv()).await.is_err());
    }
    fixture.secrets.hold(&record).await;
    assert_ne!(identity(&fixture.next().await).1, identity(&second).1, "a new key for one that comes back");
}

#[tokio::test(start_paused = true)]
async fn identity_that_cannot_be_made_is_tried_again() {
    let mut fixture = fixture().await;
    fixture.next().await;
    let leader = fixture.mesh.leader().await;
    fixture.mesh.hand.forward(Span::days(30) - Span::minutes(3));
    fixture.secrets.hold(&record("shop/web-1", "i-1")).await;
    let none = tokio::time::timeout(Duration::from_secs(120), fixture.updates.recv()).await;
    assert!(none.is_err(), "the issuer ends in three minutes");
    for _ in 0..2 {
        fixture.mesh.authority.renew_issuer(fixture.mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    fixture.mesh.hand.forward(Span::seconds(6));
    let identity_of = async {
        loop {
            let update = fixture.next().await;
            // The bundle brings the list of the new issuer.
            if update.holder.is_some() {
                break update;
            }
        }
    };
    identity(&identity_of.await);
}

/// Whom a burst of revocations concerns is everybody: it is one bundle.
#[tokio::test(start_paused = true)]
async fn revocations_within_a_second_make_one_bundle() {
    let mut fixture = fixture().await;
    let first = fixture.next().await;
    let mesh = &fixture.mesh;
    let leaves: Vec<_> = (0..20).map(|n| mesh.leaf("shop/web", &format!("shop/web-{n}")).0).collect();
    let mut listed = Vec::new();
    for leaf in &leaves {
        listed.push((leaf.issuer.clone(), leaf.serial.clone()));
        let txn = weft_store::Txn::new();
        let (txn, _) = mesh.authority.listing(mesh.store.as_ref(), txn, &listed).await.unwrap();
        mesh.store.commit(txn).await.unwrap();
        mesh.authority.reload(mesh.store.as_ref()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut versions = vec![first.resource.version];
    while let Ok(Some(update)) = tokio::time::timeout(Duration::from_secs(5), fixture.updates.recv()).await {
        versions.push(update.resource.version);
    }
    assert!((2..=3).contains(&versions.len()), "at once and once more: {versions:?}");
    let lists = fixture.mesh.authority.lists();
    assert_eq!(lists[0].revoked.len(), 20);
    let newest = bundle(&fixture.mesh.authority.bundle(), &lists, 0).version;
    assert_eq!(*versions.last().unwrap(), newest, "the last one has all of them");
}
