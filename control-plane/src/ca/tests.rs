use std::path::PathBuf;
use std::time::Duration as StdDuration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;
use time::Duration;
use weft_api::{ServiceId, TrustDomain, WorkloadId};
use weft_store::{CommitError, Leadership, Location, Store, StoreExt};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::clock::tests::Hand;

/// A mesh in memory with a clock that tests turn.
pub(crate) struct Mesh {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) hand: Hand,
    pub(crate) seal_key: PathBuf,
    _dir: TempDir,
}

impl Mesh {
    pub(crate) async fn new() -> Self {
        Self::with_leaf_life(Duration::hours(24)).await
    }

    pub(crate) async fn with_leaf_life(leaf_life: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let seal_key = dir.path().join("seal.key");
        let store = weft_store::open(Location::Memory).await.unwrap();
        let hand = Hand::new();
        let settings = AuthoritySettings { leaf_life, ..settings() };
        let authority = open(store.as_ref(), settings, &seal_key, hand.clock()).await.unwrap();
        Self { store, authority: Arc::new(authority), hand, seal_key, _dir: dir }
    }

    /// A mesh that was made with an own authority.
    pub(crate) async fn founded_by(own: Option<OwnAuthority>) -> Self {
        Self::try_founded_by(own, &[]).await.unwrap()
    }

    pub(crate) async fn try_founded_by(own: Option<OwnAuthority>, names: &[&str]) -> Result<Self, CaError> {
        let dir = tempfile::tempdir().unwrap();
        let seal_key = dir.path().join("seal.key");
        let store = weft_store::open(Location::Memory).await.unwrap();
        let hand = Hand::new();
        let server_names = names.iter().map(|name| ServerName::try_new(name).unwrap()).collect();
        let settings = AuthoritySettings { own: own.map(Arc::new), server_names, ..settings() };
        let authority = open(store.as_ref(), settings, &seal_key, hand.clock()).await?;
        Ok(Self { store, authority: Arc::new(authority), hand, seal_key, _dir: dir })
    }

    /// The same mesh, as a control plane with an own authority opens it.
    pub(crate) async fn reopened_with(mut self, own: OwnAuthority) -> Self {
        let settings = AuthoritySettings { own: Some(Arc::new(own)), ..settings() };
        let opened = open(self.store.as_ref(), settings, &self.seal_key, self.hand.clock()).await.unwrap();
        self.authority = Arc::new(opened);
        self
    }

    pub(super) async fn reopen(&self) -> Result<Authority, CaError> {
        open(self.store.as_ref(), settings(), &self.seal_key, self.hand.clock()).await
    }

    pub(crate) async fn leader(&self) -> Leadership {
        self.store.elect("leader", "test", StdDuration::from_secs(60)).await
    }

    pub(crate) fn leaf(&self, service: &str, workload: &str) -> (IssuedLeaf, rcgen::KeyPair) {
        let key = new_key().unwrap();
        let (service, workload) = (service.parse().unwrap(), workload.parse().unwrap());
        (self.authority.issue_workload(&service, &workload, &key).unwrap(), key)
    }
}

pub(crate) fn settings() -> AuthoritySettings {
    AuthoritySettings {
        trust_domain: TrustDomain::try_new("mesh.test").unwrap(),
        leaf_life: Duration::hours(24),
        issuer_life: ISSUER_LIFE,
        root_life: ROOT_LIFE,
        server_names: Vec::new(),
        own: None,
    }
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn web() -> (ServiceId, WorkloadId) {
    ("shop/web".parse().unwrap(), "shop/web-1".parse().unwrap())
}

#[tokio::test]
async fn leaf_has_exactly_the_profile() {
    let mesh = Mesh::new().await;
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    let parsed = parse(&leaf.chain[0]);

    assert_eq!(parsed.subject().iter().count(), 0, "empty subject");
    let san = parsed.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).unwrap().unwrap();
    assert!(san.critical);
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(
        *names,
        vec![
            GeneralName::URI("spiffe://mesh.test/ns/shop/svc/web"),
            GeneralName::DNSName("web-1.web.shop.mesh.test"),
        ]
    );
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature only: {:?}", usage.value);
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any && extended.other.is_empty());
    assert!(!parsed.is_ca());
    assert!(parsed.get_extension_unique(&OID_X509_EXT_BASIC_CONSTRAINTS).unwrap().unwrap().critical);

    let now = mesh.hand.clock().now();
    assert_eq!(parsed.validity().not_before.to_datetime(), now - BACKDATE);
    assert_eq!(parsed.validity().not_after.to_datetime(), now + Duration::hours(24));
    assert!(parsed.raw_serial().len() <= 20 && parsed.raw_serial()[0] & 0x80 == 0);
    assert!(parsed.raw_serial().len() >= 18, "159 random bits are hardly ever so short");
}

#[tokio::test]
async fn chain_is_root_then_issuer_then_leaf() {
    let mesh = Mesh::new().await;
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    let bundle = mesh.authority.bundle();
    let (root, issuer) = (parse(&bundle[0]), parse(&leaf.chain[1]));
    assert_eq!(leaf.chain.len(), 2, "a workload's chain goes without the root");

    root.verify_signature(None).unwrap();
    issuer.verify_signature(Some(root.public_key())).unwrap();
    parse(&leaf.chain[0]).verify_signature(Some(issuer.public_key())).unwrap();

    let length = |certificate: &X509Certificate<'_>| {
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        constraints.value.path_len_constraint
    };
    assert_eq!((length(&root), length(&issuer)), (None, Some(0)));
    for authority in [&root, &issuer] {
        let usage = authority.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        let life = authority.validity().not_after.to_datetime() - mesh.hand.clock().now();
        assert!(life == ROOT_LIFE || life == ISSUER_LIFE, "{life}");
    }
    for certificate in [&root, &issuer, &parse(&leaf.chain[0])] {
        let has = |found: fn(&ParsedExtension<'_>) -> bool| {
            certificate.extensions().iter().any(|extension| found(extension.parsed_extension()))
        };
        assert!(has(|extension| matches!(extension, ParsedExtension::SubjectKeyIdentifier(_))));
        assert!(has(|extension| matches!(extension, ParsedExtension::AuthorityKeyIdentifier(_))));
        assert!(!has(|extension| matches!(extension, ParsedExtension::NameConstraints(_))));
    }
}

#[tokio::test]
async fn two_control_planes_that_start_at_once_make_one_mesh() {
    let dir = tempfile::tempdir().unwrap();
    let seal_key = dir.path().join("seal.key");
    let store = weft_store::open(Location::Memory).await.unwrap();
    let start = || open(store.as_ref(), settings(), &seal_key, Clock::system());
    let (first, second, third) = tokio::join!(start(), start(), start());
    let roots: Vec<_> = [first, second, third].map(|mesh| mesh.unwrap().root_spki_sha256()).into();
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[tokio::test]
async fn mesh_is_found_again_after_a_restart() {
    let mesh = Mesh::new().await;
    let again = mesh.reopen().await.unwrap();
    assert_eq!(again.root_spki_sha256(), mesh.authority.root_spki_sha256());
    assert_eq!(again.chain().issuer.serial, mesh.authority.chain().issuer.serial);
}

#[tokio::test]
async fn private_keys_are_nowhere_in_the_store() {
    let mesh = Mesh::new().await;
    let seal = SealKey::load(&mesh.seal_key).unwrap().unwrap();
    let mut entries = mesh.store.list_all("").await.unwrap().entries;
    entries.retain(|entry| entry.key.as_str() != "mesh/head");
    let (lists, keys): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|entry| entry.key.as_str().starts_with(crl::PREFIX));
    assert_eq!((lists.len(), keys.len()), (1, 2), "the issuer's revocation list is there from the first day");
    for entry in keys {
        let record: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        let sealed: Sealed = serde_json::from_value(record["sealedKey"].clone()).unwrap();
        let key = seal.open(&entry.key, &sealed).unwrap();
        // PKCS #8 of a P-256 key: the private scalar is the 32 bytes from 36 on.
        let scalar = &key[36..68];
        for field in
            [&record["certificate"], &record["sealedKey"]["ciphertext"], &record["sealedKey"]["nonce"]]
        {
            let bytes = BASE64.decode(field.as_str().unwrap()).unwrap();
            assert!(!bytes.windows(32).any(|window| window == scalar), "{}", entry.key);
        }
    }
}

#[tokio::test]
async fn missing_seal_key_of_an_existing_mesh_is_refused_and_not_replaced() {
    let mesh = Mesh::new().await;
    std::fs::remove_file(&mesh.seal_key).unwrap();
    assert!(matches!(mesh.reopen().await, Err(CaError::Seal(SealError::Missing(_)))));
    assert!(!mesh.seal_key.exists());
}

#[tokio::test]
async fn another_seal_key_is_refused() {
    let mesh = Mesh::new().await;
    std::fs::remove_file(&mesh.seal_key).unwrap();
    SealKey::load_or_create(&mesh.seal_key).unwrap();
    assert!(matches!(mesh.reopen().await, Err(CaError::Seal(SealError::NotHeld { .. }))));
}

#[tokio::test]
async fn store_of_another_mesh_is_refused() {
    let mesh = Mesh::new().await;
    let other = AuthoritySettings { trust_domain: TrustDomain::try_new("other.test").unwrap(), ..settings() };
    let error = open(mesh.store.as_ref(), other, &mesh.seal_key, mesh.hand.clock()).await.unwrap_err();
    assert!(error.to_string().contains("mesh.test"), "{error}");
}

#[tokio::test]
async fn leader_renews_the_issuer_at_half_of_its_life_and_others_follow() {
    let mesh = Mesh::new().await;
    let other = mesh.reopen().await.unwrap();
    let leader = mesh.leader().await;
    let old = mesh.authority.chain();
    mesh.hand.forward(Duration::days(14));
    let renew = async |is_acknowledged| {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, is_acknowledged).await.unwrap()
    };
    assert_eq!(renew(true).await, Renewal::NotDue);
    mesh.hand.forward(Duration::days(2));
    assert_eq!(renew(true).await, Renewal::Announced, "its list goes out before it signs");
    assert_eq!(mesh.authority.lists().len(), 2);
    assert_eq!(renew(false).await, Renewal::Waiting, "not everybody has the list");
    assert_eq!(mesh.authority.chain().generation, 1);
    assert_eq!(renew(true).await, Renewal::Renewed);

    let new = mesh.authority.chain();
    assert_eq!((new.generation, &new.root.serial), (2, &old.root.serial));
    assert_ne!(new.issuer.spki_sha256, old.issuer.spki_sha256, "a new key, never the old one");
    let mut followed = other.subscribe();
    let other = Arc::new(other);
    spawn_follow(Arc::clone(&other), Arc::clone(&mesh.store), CancellationToken::new());
    let newer = followed.wait_for(|state| state.signing.generation == 2);
    tokio::time::timeout(StdDuration::from_secs(10), newer).await.expect("it follows").unwrap();
    assert_eq!(other.chain().issuer.serial, new.issuer.serial);
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!(leaf.issuer, new.issuer.serial);
    assert_eq!(renew(true).await, Renewal::NotDue);
}

#[tokio::test]
async fn issuer_that_not_everybody_acknowledged_signs_at_three_quarters_all_the_same() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let renew = async || mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, false).await.unwrap();
    mesh.hand.forward(Duration::days(16));
    assert_eq!((renew().await, renew().await), (Renewal::Announced, Renewal::Waiting));
    mesh.hand.forward(Duration::days(7));
    assert_eq!(renew().await, Renewal::Renewed);
}

#[tokio::test]
async fn each_issuer_has_a_list_that_outlives_it_and_goes_when_it_has_ended() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    mesh.hand.forward(Duration::days(16));
    for _ in 0..2 {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    let chain = mesh.authority.chain();
    let lists = mesh.authority.lists();
    let newest =
        lists.iter().find(|list| list.issuer == chain.issuer.serial).expect("the list of the newest");
    let der = newest.der();
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der).unwrap();
    list.verify_signature(parse(&chain.issuer.certificate).public_key()).unwrap();
    let next_update = list.next_update().unwrap().to_datetime();
    assert!(
        next_update > chain.issuer.not_after,
        "neither an outage nor its age makes it a reason to refuse"
    );
    assert_eq!(list.iter_revoked_certificates().count(), 0);
    assert_eq!(mesh.authority.prune_issuers(mesh.store.as_ref(), &leader).await.unwrap(), 0);
    mesh.hand.forward(Duration::days(15));
    assert_eq!(
        mesh.authority.prune_issuers(mesh.store.as_ref(), &leader).await.unwrap(),
        1,
        "the first has ended"
    );
}

/// What stands on the list of an issuer, by the bytes that are in the bundle.
fn serials_on(lists: &[RevocationList], issuer: &Serial) -> Vec<Serial> {
    let der = lists.iter().find(|list| list.issuer == *issuer).expect("a list").der();
    let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&der).unwrap();
    list.iter_revoked_certificates().map(|one| Serial::from_bytes(one.raw_serial())).collect()
}

#[tokio::test]
async fn leaves_of_an_issuer_that_signs_no_more_are_listed_too() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    mesh.hand.forward(Duration::days(16));
    let (old, _) = mesh.leaf("shop/web", "shop/web-1");
    for _ in 0..2 {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    let (new, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_ne!(old.issuer, new.issuer);
    let leaves = [(old.issuer.clone(), old.serial.clone()), (new.issuer.clone(), new.serial.clone())];
    let (txn, is_changed) =
        mesh.authority.listing(mesh.store.as_ref(), weft_store::Txn::new(), &leaves).await.unwrap();
    assert!(is_changed);
    mesh.store.commit(txn).await.unwrap();
    mesh.authority.reload(mesh.store.as_ref()).await.unwrap();
    let lists = mesh.authority.lists();
    assert_eq!(serials_on(&lists, &old.issuer), [old.serial]);
    assert_eq!(serials_on(&lists, &new.issuer), [new.serial]);
    let (_, again) =
        mesh.authority.listing(mesh.store.as_ref(), weft_store::Txn::new(), &leaves).await.unwrap();
    assert!(!again, "what stands there is not signed again");
}

#[tokio::test]
async fn one_that_lost_leadership_renews_nothing() {
    let mesh = Mesh::new().await;
    let stale = mesh.leader().await;
    let guard = stale.guard();
    mesh.store.commit(weft_store::Txn::new().delete(&guard.key)).await.unwrap();
    mesh.hand.forward(Duration::days(16));
    let refused = mesh.authority.renew_issuer(mesh.store.as_ref(), &stale, true).await;
    assert!(matches!(refused, Err(CaError::Commit(CommitError::Conflict { .. }))), "{refused:?}");
    assert_eq!(mesh.authority.chain().generation, 1);
}

#[tokio::test]
async fn leaf_ends_with_its_issuer() {
    let mesh = Mesh::new().await;
    mesh.hand.forward(ISSUER_LIFE - Duration::hours(7));
    let (leaf, _) = mesh.leaf("shop/web", "shop/web-1");
    assert_eq!(leaf.not_after, mesh.authority.chain().issuer.not_after);
}

#[tokio::test]
async fn issuer_about_to_end_signs_no_more() {
    let mesh = Mesh::new().await;
    mesh.hand.forward(ISSUER_LIFE - Duration::minutes(5));
    let (service, workload) = web();
    let key = new_key().unwrap();
    let refused = mesh.authority.issue_workload(&service, &workload, &key);
    assert!(matches!(refused, Err(CaError::IssuerEnding(_))), "{refused:?}");
}

#[tokio::test]
async fn clock_before_the_issuer_signs_nothing() {
    let mesh = Mesh::new().await;
    mesh.hand.forward(Duration::minutes(-10));
    let (service, workload) = web();
    let refused = mesh.authority.issue_workload(&service, &workload, &new_key().unwrap());
    assert!(matches!(refused, Err(CaError::ClockBehind(_))), "{refused:?}");
}

#[tokio::test]
async fn leaf_life_out_of_bounds_is_refused() {
    let mesh = Mesh::new().await;
    for leaf_life in [Duration::seconds(9), Duration::days(8)] {
        let settings = AuthoritySettings { leaf_life, ..settings() };
        let refused = open(mesh.store.as_ref(), settings, &mesh.seal_key, mesh.hand.clock()).await;
        assert!(matches!(refused, Err(CaError::LeafLife(_))));
    }
}

#[tokio::test]
async fn ledger_keeps_leaves_until_they_expire() {
    let mesh = Mesh::new().await;
    let leader = mesh.leader().await;
    let ledger = Ledger::spawn(Arc::clone(&mesh.store), CancellationToken::new());
    let mut early = Vec::new();
    for number in 0..150 {
        let (leaf, _) = mesh.leaf("shop/web", &format!("shop/web-{number}"));
        early.push(LedgerEntry::new(&leaf, "i-1", KeyOrigin::Workload));
    }
    let writes = early.iter().map(|entry| ledger.append(entry.clone()));
    for written in futures::future::join_all(writes).await {
        written.unwrap();
    }
    mesh.hand.forward(Duration::hours(2));
    let (late, _) = mesh.leaf("shop/web", "shop/web-late");
    ledger.append(LedgerEntry::new(&late, "i-2", KeyOrigin::ControlPlane)).await.unwrap();

    let found = ledger.find(&late.serial, late.not_after).await.unwrap().unwrap();
    assert_eq!((found.instance.as_str(), found.key_origin), ("i-2", KeyOrigin::ControlPlane));
    assert_eq!(ledger.list().await.unwrap().len(), 151);
    assert_eq!(ledger.prune(&mesh.hand.clock(), &leader).await.unwrap(), 0);
    mesh.hand.forward(Duration::hours(23));
    assert_eq!(
        ledger.prune(&mesh.hand.clock(), &leader).await.unwrap(),
        0,
        "what has ended is shown for a day"
    );
    mesh.hand.forward(Duration::hours(24));
    assert_eq!(ledger.prune(&mesh.hand.clock(), &leader).await.unwrap(), 150);
    assert_eq!(ledger.list().await.unwrap(), vec![(*found).clone()]);
}

#[test]
fn server_names_are_read_as_addresses_or_dns_names() {
    assert_eq!(ServerName::try_new("10.0.0.1").unwrap(), ServerName::Ip("10.0.0.1".parse().unwrap()));
    assert_eq!(ServerName::try_new("[::1]").unwrap(), ServerName::Ip("::1".parse().unwrap()));
    assert_eq!(ServerName::try_new("CP.example").unwrap(), ServerName::Dns("cp.example".into()));
    assert!(ServerName::try_new("not a name").is_err());
}
