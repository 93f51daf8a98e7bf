use std::collections::HashMap;
use std::sync::Mutex;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use weft_api::JoinToken;
use weft_api::join::{ProxyType, Upstream, Workload};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use weft_policies::PolicySet;

use super::*;
use crate::ca::tests::Mesh;
use crate::identity::instances::InstanceLookup;
use crate::identity::revocation::Revocations;
use crate::identity::tokens::{DEFAULT_TTL, TokenGrant};
use crate::tls::identify;

struct Fixture {
    mesh: Mesh,
    joining: JoinServer,
    known: Arc<Mutex<Seen>>,
}

/// What the reconciler would have seen.
#[derive(Debug, Default)]
struct Seen {
    records: Vec<WorkloadRecord>,
    policies: Arc<PolicySet>,
    /// Whether whoever has a name answers.
    answers: bool,
}

impl InstanceLookup for Mutex<Seen> {
    fn record(&self, id: &WorkloadId) -> Option<WorkloadRecord> {
        self.lock().unwrap().records.iter().find(|record| record.id == *id).cloned()
    }

    fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.lock().unwrap().policies)
    }
}

/// Nothing was seen yet.
#[derive(Debug)]
pub(super) struct Nothing;

impl InstanceLookup for Nothing {
    fn record(&self, _: &WorkloadId) -> Option<WorkloadRecord> {
        None
    }

    fn policies(&self) -> Arc<PolicySet> {
        Arc::default()
    }
}

async fn fixture() -> Fixture {
    fixture_of(SigningLimits::new(64)).await
}

async fn fixture_of(limits: SigningLimits) -> Fixture {
    let mesh = Mesh::new().await;
    let known = Arc::new(Mutex::new(Seen::default()));
    let joining = joining(&mesh, Arc::clone(&mesh.store), &known, limits);
    Fixture { mesh, joining, known }
}

fn joining(
    mesh: &Mesh,
    store: Arc<dyn Store>,
    known: &Arc<Mutex<Seen>>,
    limits: SigningLimits,
) -> JoinServer {
    let ledger = Ledger::spawn(Arc::clone(&store), CancellationToken::new());
    let workloads = WorkloadStore::new(Arc::clone(&store), mesh.hand.clock());
    let instances = Instances::new(ledger, workloads, Arc::clone(known) as _, mesh.hand.clock());
    let seen = Arc::clone(known);
    JoinServer::new(
        store,
        Arc::clone(&mesh.authority),
        Arc::new(limits),
        instances,
        Arc::new(move |_| {
            let answers = seen.lock().unwrap().answers;
            Box::pin(async move { answers })
        }),
        mesh.hand.clock(),
    )
}

fn revocations(fixture: &Fixture) -> Revocations {
    Revocations::new(
        Arc::clone(&fixture.mesh.store),
        Arc::clone(&fixture.mesh.authority),
        fixture.joining.ledger.clone(),
        fixture.joining.workloads.clone(),
        fixture.mesh.hand.clock(),
    )
}

impl Fixture {
    async fn token(&self, service: &str, uses: u32, allow: &[&str]) -> JoinToken {
        let allow_labels = allow.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let grant = TokenGrant { uses, allow_labels, ..TokenGrant::of(service.parse().unwrap()) };
        self.grant(grant).await
    }

    async fn grant(&self, grant: TokenGrant) -> JoinToken {
        let root = self.mesh.authority.root_spki_sha256();
        self.joining.tokens.create(grant, &"127.0.0.1:7401".parse().unwrap(), root).await.unwrap().0
    }

    /// From this very machine.
    async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Status> {
        self.join_from("127.0.0.1", request).await
    }

    async fn join_from(&self, source: &str, request: JoinRequest) -> Result<JoinResponse, Status> {
        let mut request = Request::new(request);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(source.parse().unwrap(), 40_000)));
        self.joining.join(request).await.map(Response::into_inner)
    }

    async fn renew(&self, leaf: &[u8], csr_der: Vec<u8>) -> Result<RenewResponse, Status> {
        let request = self.as_peer(leaf, RenewRequest { csr_der }).await?;
        self.joining.renew(request).await.map(Response::into_inner)
    }

    async fn come_back(&self, leaf: &[u8]) -> Result<ReturnResponse, Status> {
        let request = self.as_peer(leaf, ReturnRequest::default()).await?;
        self.joining.r#return(request).await.map(Response::into_inner)
    }

    async fn leave(&self, leaf: &[u8]) -> Result<LeaveResponse, Status> {
        let request = self.as_peer(leaf, LeaveRequest {}).await?;
        self.joining.leave(request).await.map(Response::into_inner)
    }

    /// A call as the middleware lets it through.
    async fn as_peer<T>(&self, leaf: &[u8], message: T) -> Result<Request<T>, Status> {
        let peer =
            identify(&CertificateDer::from(leaf.to_vec()), self.mesh.authority.trust_domain()).unwrap();
        let member = self.joining.instances.of(&peer).await?;
        let mut request = Request::new(message);
        let (workload, service) = (peer.workload.clone(), peer.service().cloned());
        let identity = PeerIdentity { spiffe: peer.spiffe, workload, service, instance: None };
        request.extensions_mut().insert(identity);
        if let Some(member) = member {
            request.extensions_mut().insert(member);
        }
        Ok(request)
    }

    async fn record(&self, id: &str) -> WorkloadRecord {
        self.joining.workloads.find(&id.parse().unwrap()).await.unwrap().unwrap().record
    }
}

fn csr(key: &KeyPair) -> Vec<u8> {
    // A name that the joiner would like to have; nobody reads it.
    let mut params = CertificateParams::new(vec!["control-plane.mesh.test".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI("spiffe://mesh.test/control-plane".try_into().unwrap()));
    params.serialize_request(key).unwrap().der().to_vec()
}

fn new_csr() -> Vec<u8> {
    csr(&crate::ca::new_key().unwrap())
}

fn request(token: &JoinToken, name: &str) -> JoinRequest {
    JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: new_csr(),
        workload: Some(Workload {
            name: name.to_owned(),
            address: "127.0.0.2".to_owned(),
            app_ports: HashMap::from([("http".to_owned(), 8080)]),
            proxy_type: ProxyType::Weft.into(),
            inbound: "127.0.0.2:15006".to_owned(),
            upstreams: vec![Upstream {
                service: "shop/payments".to_owned(),
                port: "http".to_owned(),
                bind: "127.0.0.2:9001".to_owned(),
            }],
            ..Workload::default()
        }),
    }
}

fn declared(mut request: JoinRequest, change: impl FnOnce(&mut Workload)) -> JoinRequest {
    change(request.workload.as_mut().unwrap());
    request
}

#[tokio::test]
async fn token_fixes_namespace_and_service_whatever_the_request_says() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let key = crate::ca::new_key().unwrap();
    let answer = fixture.join(JoinRequest { csr_der: csr(&key), ..request(&token, "web-1") }).await.unwrap();

    assert_eq!((answer.namespace.as_str(), answer.service.as_str()), ("shop", "web"));
    let leaf = CertificateDer::from(answer.certificate_chain_der[0].clone());
    let peer = identify(&leaf, fixture.mesh.authority.trust_domain()).unwrap();
    assert_eq!(peer.spiffe.to_string(), "spiffe://mesh.test/ns/shop/svc/web");
    assert_eq!(peer.workload.unwrap().to_string(), "shop/web-1");
    let parsed = X509Certificate::from_der(&leaf).unwrap().1;
    assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
    assert_eq!(answer.bundle_der, der(fixture.mesh.authority.bundle()));
    let entry = fixture.joining.ledger.find(&peer.serial, peer.not_after).await.unwrap().unwrap();
    assert_eq!(entry.instance, fixture.record("shop/web-1").await.instance);
}

#[tokio::test]
async fn what_a_workload_declares_is_recorded() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &["version=*"]).await;
    let request = declared(request(&token, "web-1"), |workload| {
        workload.labels.insert("version".to_owned(), "v2".to_owned());
        workload.region = "eu".to_owned();
    });
    fixture.join(request).await.unwrap();
    let declared = fixture.record("shop/web-1").await.declared;
    assert_eq!(declared.labels["version"], "v2");
    assert_eq!((declared.app_ports["http"], declared.region.as_str()), (8080, "eu"));
    assert_eq!(declared.upstreams[0].service.to_string(), "shop/payments");
}

#[tokio::test]
async fn label_that_the_token_does_not_permit_is_refused() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &["version=v1"]).await;
    for (key, value) in [("version", "v2"), ("team", "x")] {
        let request = declared(request(&token, "web-1"), |workload| {
            workload.labels.insert(key.to_owned(), value.to_owned());
        });
        let refused = fixture.join(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    fixture.join(request(&token, "web-1")).await.expect("a refused join used nothing up");
}

#[tokio::test]
async fn used_expired_and_wrong_tokens_let_nobody_in() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let wrong = JoinRequest { secret: vec![0; 32], ..request(&token, "web-1") };
    assert_eq!(fixture.join(wrong).await.unwrap_err().code(), Code::Unauthenticated);
    fixture.join(request(&token, "web-1")).await.unwrap();
    let again = fixture.join(request(&token, "web-2")).await.unwrap_err();
    assert_eq!(again.code(), Code::PermissionDenied);
    assert!(again.message().contains("used up"), "{again}");
    let late = fixture.token("shop/web", 1, &[]).await;
    fixture.mesh.hand.forward(DEFAULT_TTL);
    let late = fixture.join(request(&late, "web-2")).await.unwrap_err();
    assert!(late.message().contains("expired"), "{late}");
}

#[tokio::test]
async fn lost_answer_is_given_again_to_the_same_key_only() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let first = request(&token, "web-1");
    fixture.join(first.clone()).await.unwrap();
    fixture.join(first.clone()).await.expect("the same key, token and name");
    let other_name = declared(first.clone(), |workload| workload.name = "web-2".to_owned());
    assert_eq!(fixture.join(other_name).await.unwrap_err().code(), Code::PermissionDenied);
    let other_key = JoinRequest { csr_der: new_csr(), ..first };
    assert_eq!(fixture.join(other_key).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn of_many_joins_at_once_a_token_admits_as_many_as_it_says() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 3, &[]).await;
    let names: Vec<String> = (0..6).map(|number| format!("web-{number}")).collect();
    let joins = names.iter().map(|name| fixture.join(request(&token, name)));
    let joined = futures::future::join_all(joins).await;
    assert_eq!(joined.iter().filter(|joined| joined.is_ok()).count(), 3, "{joined:?}");
    assert_eq!(fixture.joining.workloads.list().await.unwrap().len(), 3);
    assert_eq!(fixture.joining.ledger.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn name_of_another_service_is_refused_and_of_the_same_taken_over() {
    let fixture = fixture().await;
    let (web, pay) = (fixture.token("shop/web", 2, &[]).await, fixture.token("shop/pay", 1, &[]).await);
    let old = fixture.join(request(&web, "w-1")).await.unwrap();
    let refused = fixture.join(request(&pay, "w-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("shop/web"), "{refused}");

    let new = fixture.join(request(&web, "w-1")).await.unwrap();
    let replaced = fixture.renew(&old.certificate_chain_der[0], new_csr()).await.unwrap_err();
    assert_eq!(replaced.code(), Code::PermissionDenied);
    assert!(replaced.message().contains("another instance"), "{replaced}");
    fixture.leave(&old.certificate_chain_der[0]).await.unwrap_err();
    assert_eq!(fixture.record("shop/w-1").await.left_at, None, "the old one cannot drain the new one");
    fixture.renew(&new.certificate_chain_der[0], new_csr()).await.unwrap();
}

#[tokio::test]
async fn name_of_an_instance_that_answers_is_refused_and_the_same_key_is_the_same_instance() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 3, &[]).await;
    let first = request(&token, "w-1");
    fixture.join(first.clone()).await.unwrap();
    let instance = fixture.record("shop/w-1").await.instance;
    fixture.known.lock().unwrap().answers = true;
    let refused = fixture.join(request(&token, "w-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("--name"), "{refused}");
    assert_eq!(fixture.record("shop/w-1").await.instance, instance, "nothing changed");

    let again = fixture.token("shop/web", 1, &[]).await;
    let same_key = JoinRequest { csr_der: first.csr_der, ..request(&again, "w-1") };
    fixture.join(same_key).await.expect("whoever has the key is the instance");
    assert_eq!(fixture.record("shop/w-1").await.instance, instance);
    fixture.known.lock().unwrap().answers = false;
    fixture.join(request(&token, "w-1")).await.expect("one that does not answer gives way");
    assert_ne!(fixture.record("shop/w-1").await.instance, instance);
}

/// C1: the name of a file's Workload is free to the services that the file grants, and to no other token.
#[tokio::test]
async fn name_that_a_file_holds_is_free_to_the_services_that_it_grants_only() {
    let fixture = fixture().await;
    let documents = "
apiVersion: weft.dev/v1
kind: Service
metadata: {namespace: shop, name: legacy}
spec: {ports: [{name: http, port: 80, protocol: HTTP}], selector: {matchLabels: {app: legacy}}}
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {namespace: shop, name: listed}
spec: {address: 10.0.0.1, services: [legacy], proxy: {type: None}}
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {namespace: shop, name: selected, labels: {app: legacy}}
spec: {address: 10.0.0.2}
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {namespace: shop, name: bare}
spec: {address: 10.0.0.3}
";
    let documents = weft_policies::parse("test", documents).unwrap();
    fixture.known.lock().unwrap().policies = Arc::new(PolicySet::default().apply(&documents).unwrap().set);
    let web = fixture.token("shop/web", 1, &[]).await;
    for name in ["listed", "selected", "bare"] {
        let refused = fixture.join(request(&web, name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{name}: {refused}");
        assert!(refused.message().contains("spec.services"), "{refused}");
    }
    let legacy = fixture.token("shop/legacy", 2, &[]).await;
    fixture.join(request(&legacy, "listed")).await.unwrap();
    let leaf = fixture.join(request(&legacy, "selected")).await.unwrap().certificate_chain_der.remove(0);

    // The file changes after the join: then the joiner is no part of the mesh.
    fixture.known.lock().unwrap().policies = {
        let moved = "
apiVersion: weft.dev/v1
kind: Workload
metadata: {namespace: shop, name: selected}
spec: {address: 10.0.0.2, services: [other]}
";
        Arc::new(PolicySet::default().apply(&weft_policies::parse("test", moved).unwrap()).unwrap().set)
    };
    let refused = fixture.renew(&leaf, new_csr()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

/// L1: an address is any machine's, loopback only on this one, and within what the token permits.
#[tokio::test]
async fn address_is_within_the_token_and_loopback_only_from_this_machine() {
    let fixture = fixture().await;
    let narrow = TokenGrant {
        uses: 9,
        allow_addresses: vec!["10.9.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        ..TokenGrant::of("shop/web".parse().unwrap())
    };
    let (wide, narrow) = (fixture.token("shop/web", 9, &[]).await, fixture.grant(narrow).await);
    let at = |token: &JoinToken, name: &str, address: &str| {
        declared(request(token, name), |workload| workload.address = address.to_owned())
    };
    for (source, address) in
        [("10.9.0.2", "127.0.0.1"), ("10.9.0.2", "::1"), ("10.9.0.2", "0.0.0.0"), ("127.0.0.1", "224.0.0.1")]
    {
        let refused = fixture.join_from(source, at(&wide, "a", address)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{address} from {source}: {refused}");
    }
    let refused = fixture.join_from("10.9.0.2", at(&narrow, "b", "10.8.0.1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("--allow-address 10.8.0.1"), "{refused}");
    for (name, address) in [("c", "10.9.7.7"), ("d", "fd00::7"), ("e", "::ffff:10.9.1.1")] {
        fixture.join_from("10.9.0.2", at(&narrow, name, address)).await.unwrap();
    }
    let record = fixture.record("shop/c").await;
    assert_eq!(record.joined_from, Some("10.9.0.2".parse().unwrap()));
    fixture
        .join_from("127.0.0.1", at(&wide, "f", "127.0.0.9"))
        .await
        .expect("on one machine it is a machine's");
}

#[tokio::test]
async fn workload_without_a_proxy_needs_a_token_that_says_so() {
    let fixture = fixture().await;
    let plain = |token: &JoinToken| {
        declared(request(token, "old-1"), |workload| workload.proxy_type = ProxyType::None.into())
    };
    let usual = fixture.token("shop/web", 1, &[]).await;
    let refused = fixture.join(plain(&usual)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("--allow-no-proxy"), "{refused}");
    let grant = TokenGrant { allow_no_proxy: true, ..TokenGrant::of("shop/web".parse().unwrap()) };
    fixture.join(plain(&fixture.grant(grant).await)).await.unwrap();
}

/// H3: what the ledger does not know counts for nothing, and neither does what has expired.
#[tokio::test]
async fn unknown_and_expired_certificates_are_refused_in_every_call() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let (service, id) = ("shop/web".parse().unwrap(), "shop/web-1".parse().unwrap());
    let key = crate::ca::new_key().unwrap();
    let unlisted = fixture.mesh.authority.issue_workload(&service, &id, &key).unwrap().chain.remove(0);
    fixture.mesh.hand.forward(Duration::SECOND);
    let refused = fixture.renew(&unlisted, new_csr()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    fixture.leave(&unlisted).await.unwrap_err();
    fixture.mesh.hand.forward(Duration::hours(24));
    assert_eq!(fixture.leave(&leaf).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(fixture.come_back(&leaf).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(fixture.record("shop/web-1").await.left_at, None);
}

#[tokio::test]
async fn renewal_keeps_the_identity_and_takes_the_new_key() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let mut leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let instance = fixture.record("shop/web-1").await.instance;
    for _ in 0..3 {
        fixture.mesh.hand.forward(Duration::hours(13));
        let key = crate::ca::new_key().unwrap();
        leaf = fixture.renew(&leaf, csr(&key)).await.unwrap().certificate_chain_der.remove(0);
        let der = CertificateDer::from(leaf.clone());
        let peer = identify(&der, fixture.mesh.authority.trust_domain()).unwrap();
        assert_eq!(peer.workload.unwrap().to_string(), "shop/web-1");
        let parsed = X509Certificate::from_der(&der).unwrap().1;
        assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
        let entry = fixture.joining.ledger.find(&peer.serial, peer.not_after).await.unwrap().unwrap();
        assert_eq!(entry.instance, instance);
    }
}

#[tokio::test]
async fn removed_workload_and_expired_certificate_are_not_renewed() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 2, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let revocations = revocations(&fixture);
    let id = "shop/web-1".parse().unwrap();
    let revoked = revocations.revoke(&id).await.unwrap().expect("there is one");
    assert_eq!((revoked.instances, revoked.leaves), (1, 1));
    let der = CertificateDer::from(leaf.clone());
    let serial = identify(&der, fixture.mesh.authority.trust_domain()).unwrap().serial;
    assert!(fixture.mesh.authority.lists().iter().any(|list| list.revoked.contains(&serial)));
    assert!(!revocations.catch_up(None).await.unwrap(), "nothing was missed");
    assert_eq!(revocations.revoke(&"shop/nobody".parse().unwrap()).await.unwrap(), None);
    let removed = fixture.renew(&leaf, new_csr()).await.unwrap_err();
    assert_eq!((removed.code(), removed.message().contains("removed")), (Code::PermissionDenied, true));

    let leaf = fixture.join(request(&token, "web-2")).await.unwrap().certificate_chain_der.remove(0);
    fixture.mesh.hand.forward(Duration::hours(24));
    assert_eq!(fixture.renew(&leaf, new_csr()).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn renewal_and_goodbye_need_a_workload_certificate() {
    let fixture = fixture().await;
    let nobody = fixture.joining.renew(Request::new(RenewRequest { csr_der: new_csr() })).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let nobody = fixture.joining.leave(Request::new(LeaveRequest {})).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let server = fixture.mesh.authority.issue_control_plane(&[]).unwrap();
    let refused = fixture.renew(&server.chain[0], new_csr()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn goodbye_marks_the_workload_and_a_new_join_clears_it() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 2, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    fixture.leave(&leaf).await.unwrap();
    assert!(fixture.record("shop/web-1").await.left_at.is_some());
    fixture.join(request(&token, "web-1")).await.unwrap();
    assert_eq!(fixture.record("shop/web-1").await.left_at, None);
}

#[tokio::test]
async fn the_same_instance_takes_its_goodbye_back_and_a_replaced_one_cannot() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 2, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    fixture.leave(&leaf).await.unwrap();
    let question = fixture.as_peer(&leaf, ReturnRequest { only_ask: true }).await.unwrap();
    fixture.joining.r#return(question).await.expect("it is still taken");
    assert!(fixture.record("shop/web-1").await.left_at.is_some(), "a question changes nothing");
    fixture.come_back(&leaf).await.unwrap();
    assert_eq!(fixture.record("shop/web-1").await.left_at, None);
    fixture.come_back(&leaf).await.unwrap();

    let successor = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    fixture.leave(&successor).await.unwrap();
    assert_eq!(fixture.come_back(&leaf).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(fixture.record("shop/web-1").await.left_at.is_some());
}

#[tokio::test]
async fn invalid_requests_are_refused_by_field() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let base = || request(&token, "web-1");
    let cases: Vec<(&str, JoinRequest)> = vec![
        ("name", declared(base(), |workload| workload.name = "Web/../x".to_owned())),
        ("address", declared(base(), |workload| workload.address = "0.0.0.0".to_owned())),
        (
            "app_ports",
            declared(base(), |workload| workload.app_ports = HashMap::from([("http".to_owned(), 70_000)])),
        ),
        ("inbound", declared(base(), |workload| workload.inbound = "15006".to_owned())),
        ("proxy_type", declared(base(), |workload| workload.proxy_type = 0)),
        ("upstreams", declared(base(), |workload| workload.upstreams[0].bind.clear())),
        ("zone", declared(base(), |workload| workload.zone = "a b".to_owned())),
        ("workload", JoinRequest { workload: None, ..base() }),
        ("certificate request", JoinRequest { csr_der: vec![0; MAX_CSR_BYTES + 1], ..base() }),
        ("PKCS #10", JoinRequest { csr_der: vec![1, 2, 3], ..base() }),
    ];
    for (word, request) in cases {
        let refused = fixture.join(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{word}: {refused}");
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
    fixture.join(base()).await.expect("a refused join used nothing up");
}

#[tokio::test]
async fn store_outage_does_not_stop_the_renewal_of_a_known_workload() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let record = fixture.record("shop/web-1").await;
    fixture.known.lock().unwrap().records.push(record);
    let renewal = fixture.as_peer(&leaf, RenewRequest { csr_der: new_csr() }).await.unwrap();
    let joining = joining(&fixture.mesh, Arc::new(Away), &fixture.known, SigningLimits::new(1));
    joining.renew(renewal).await.expect("the store's absence stops no renewal");
    let refused = joining.join(Request::new(request(&token, "web-2"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

/// A store that does not answer.
#[derive(Debug)]
struct Away;

mod away {
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::future::{BoxFuture, ready};
    use weft_store::{
        CommitError, Entry, Grant, LeaseError, LeaseId, Listing, Page, ReadError, Revision, Store, Txn,
        TxnLimits, Watch,
    };

    fn read<T: Send + 'static>() -> BoxFuture<'static, Result<T, ReadError>> {
        ready(Err(ReadError::Unavailable { reason: "away".to_owned() })).boxed()
    }

    fn lease<T: Send + 'static>() -> BoxFuture<'static, Result<T, LeaseError>> {
        ready(Err(LeaseError::Unavailable { reason: "away".to_owned() })).boxed()
    }

    impl Store for super::Away {
        fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Entry>, ReadError>> {
            read()
        }
        fn list<'a>(&'a self, _: &'a str, _: Page) -> BoxFuture<'a, Result<Listing, ReadError>> {
            read()
        }
        fn commit(&self, _: Txn) -> BoxFuture<'_, Result<Revision, CommitError>> {
            ready(Err(CommitError::Unavailable { reason: "away".to_owned() })).boxed()
        }
        fn watch<'a>(&'a self, _: &'a str, _: Revision) -> BoxFuture<'a, Result<Watch, ReadError>> {
            read()
        }
        fn grant(&self, _: Duration) -> BoxFuture<'_, Result<Grant, LeaseError>> {
            lease()
        }
        fn renew(&self, _: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
            lease()
        }
        fn revoke(&self, _: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
            lease()
        }
        fn compact(&self, _: Revision) -> BoxFuture<'_, Result<(), ReadError>> {
            read()
        }
        fn limits(&self) -> TxnLimits {
            TxnLimits::default()
        }
        fn resync_interval(&self) -> Option<Duration> {
            None
        }
    }
}

mod limits;
