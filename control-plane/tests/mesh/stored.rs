//! Data directories of earlier commits (`tests/stored`): each opens with the code of today, with everything in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;
use weft_api::JoinToken;
use weft_api::ResourceKind;
use weft_api::rest::{Object, ObjectList, Sync, TokenList};
use weft_control_plane::clock::Clock;

use crate::peer::{Member, declared, join_by};
use crate::plane::Plane;
use crate::proxy::{Held, Sidecar, endpoints};

const DAY: Duration = Duration::from_secs(24 * 3600);
const KINDS: [&str; 7] =
    ["mesh", "services", "workloads", "httproutes", "tcproutes", "trafficpolicies", "authorizationpolicies"];

/// A stored mesh, and a clock that goes on from when it was taken.
struct Stored {
    data: Arc<TempDir>,
    rest: TempDir,
    clock: Clock,
}

impl Stored {
    fn unpack(commit: &str) -> Self {
        Self::unpack_after(commit, Duration::ZERO)
    }

    /// With the clock so long after the end of that mesh.
    fn unpack_after(commit: &str, later: Duration) -> Self {
        let archive =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored").join(format!("{commit}.tar.gz"));
        let (data, rest) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for (into, parts) in [
            (data.path(), &["--strip-components=2", "mesh/data"][..]),
            (rest.path(), &["--strip-components=1", "--exclude=mesh/data", "mesh"]),
        ] {
            let unpacked =
                Command::new("tar").arg("-xpzf").arg(&archive).arg("-C").arg(into).args(parts).status();
            assert!(unpacked.expect("tar runs").success(), "{}", archive.display());
        }
        let taken: u64 = std::fs::read_to_string(rest.path().join("taken")).unwrap().trim().parse().unwrap();
        let (start, began) = (SystemTime::UNIX_EPOCH + Duration::from_secs(taken) + later, Instant::now());
        Self { data: Arc::new(data), rest, clock: Clock::from_fn(move || start + began.elapsed()) }
    }

    async fn open(&self) -> anyhow::Result<Plane> {
        Plane::start_by(Arc::clone(&self.data), &[], self.clock.clone()).await
    }

    fn expected<T: DeserializeOwned>(&self, what: &str) -> T {
        let text = std::fs::read(self.path("expected", &format!("{what}.json"))).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn member(&self, name: &str) -> Member {
        Member::load(&format!("shop/{name}"), &self.path("identity", name), self.clock.clone())
    }

    /// A token of that mesh, for a control plane that listens elsewhere now.
    fn token(&self, name: &str, plane: &Plane) -> JoinToken {
        let mut token: JoinToken =
            std::fs::read_to_string(self.path("tokens", name)).unwrap().parse().unwrap();
        token.control_planes = plane.running.xds.to_string().parse().unwrap();
        token
    }

    async fn join(&self, token: &str, name: &str, plane: &Plane) -> Result<Member, tonic::Status> {
        join_by(&self.token(token, plane), declared(name, "127.0.0.99"), self.clock.clone()).await
    }

    fn path(&self, folder: &str, name: &str) -> PathBuf {
        self.rest.path().join(folder).join(name)
    }
}

/// What an operator wrote, without what is computed when it is read.
fn written(object: &Object) -> Option<Value> {
    let by_a_file = !object.metadata["generation"].is_null();
    let mut value = serde_json::to_value(object).unwrap();
    value.as_object_mut().unwrap().remove("status");
    by_a_file.then_some(value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_mesh_keeps_documents_workloads_tokens_and_authority() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    for kind in KINDS {
        let (before, now): (ObjectList, _) =
            (stored.expected(kind), plane.client.list(kind, None).await.unwrap());
        let of = |list: &ObjectList| list.items.iter().filter_map(written).collect::<Vec<_>>();
        assert_eq!(of(&now), of(&before), "{kind}");
        assert_eq!(now.revision, before.revision, "{kind}");
        let names = |list: &ObjectList| {
            list.items.iter().map(|object| object.metadata["name"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&now), names(&before), "{kind}");
        for (joined, before) in now.items.iter().zip(&before.items).filter(|(now, _)| written(now).is_none())
        {
            assert_eq!(joined.spec, before.spec, "{joined:?}");
            assert_eq!(joined.metadata["labels"], before.metadata["labels"], "{joined:?}");
        }
    }
    let tokens: TokenList = stored.expected("tokens");
    assert_eq!(plane.client.tokens().await.unwrap().items, tokens.items);
    let (status, _, body) = plane.raw("GET", "/v1/ca", Some(&plane.token), Vec::new()).await;
    let authority: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &authority["trustDomain"]), (200, &Value::from("mesh.local")), "{authority}");
    assert_eq!(authority["root"]["spkiSha256"], stored.member("web-1").root_spki_sha256());
    let (status, ..) = plane.raw("GET", "/v1/ca", Some("weftop.nobody"), Vec::new()).await;
    assert_eq!(status, 401, "another token is not let in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_stored_authority_get_their_versions_when_they_are_sealed_anew() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    let seal = plane.client.ca().await.unwrap().seal.unwrap();
    assert_eq!(
        (seal.version, seal.problem),
        (None, None),
        "an earlier release may come back to it for a while"
    );
    let done = plane.client.reseal().await.unwrap();
    assert!(done.records >= 2, "{done:?}");
    plane.running.end().await;
    let plane = stored.open().await.unwrap();
    assert_eq!(plane.client.ca().await.unwrap().seal.unwrap().version, Some(1));
    stored.member("web-1").renew(plane.running.xds).await.expect("certificates are issued on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_stored_mesh_are_served_with_what_they_kept() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    let xds = plane.running.xds;
    let web = stored.member("web-1");
    let mut sidecar = Sidecar::start(&web, xds).await;
    let complete = |held: &Held| {
        Sidecar::has(held, ResourceKind::Route, "outbound/shop")
            && Sidecar::has(held, ResourceKind::Listener, "inbound")
            && Sidecar::has(held, ResourceKind::Cluster, "shop/payments/ledger")
            && Sidecar::serves(held, "shop/catalog/http", 2)
            && Sidecar::has(held, ResourceKind::Secret, "bundle")
    };
    sidecar.until("everything", complete).await;
    let _sidecar = sidecar.go_on();
    plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    plane.until("shop/web-left", "away", |status| status.health == "Draining").await;

    let renewed = web.renew(xds).await.expect("a certificate of that time renews");
    renewed.renew(xds).await.expect("and so does the new one");
    let catalog = stored.member("catalog-1").renew(xds).await.expect("one that stands beside an Envoy too");
    let _catalog = Sidecar::start(&catalog, xds).await.go_on();
    plane.until("shop/catalog-1", "in sync", |status| status.sync == Sync::Synced).await;
    let gone = stored.member("web-gone").renew(xds).await.map(|_| ()).unwrap_err();
    assert!(matches!(gone.code(), Code::PermissionDenied | Code::Unauthenticated), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_stored_mesh_open_what_they_did_and_no_more() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    let new = stored.join("unused", "payments-new", &plane).await.expect("an unused token is good");
    let _new = Sidecar::start(&new, plane.running.xds).await.go_on();
    plane
        .until("shop/payments-new", "in sync and healthy", |status| {
            status.sync == Sync::Synced && status.health == "Healthy"
        })
        .await;
    stored.join("catalog", "catalog-new", &plane).await.expect("one that is partly used, too");
    for ended in ["catalog", "spent", "revoked"] {
        let refused = stored.join(ended, &format!("{ended}-again"), &plane).await.map(|_| ()).unwrap_err();
        assert!(
            matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated),
            "{ended}: {refused}"
        );
    }
}

/// What today's code writes into the directory, it reads again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_mesh_opens_again_after_it_was_used() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    stored.join("unused", "payments-new", &plane).await.unwrap();
    let renewed = stored.member("web-1").renew(plane.running.xds).await.unwrap();
    let revision = plane.apply(&crate::plane::service("later")).await.revision;
    plane.running.end().await;

    let plane = stored.open().await.unwrap();
    let services = plane.client.list("services", None).await.unwrap();
    assert_eq!(services.revision, revision);
    assert!(services.items.iter().any(|service| service.metadata["name"] == "later"));
    assert!(plane.status("shop/payments-new").await.is_some());
    let _web = Sidecar::start(&renewed, plane.running.xds).await.go_on();
    plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
}

/// The issuer holds for 30 days. Who comes back later finds a mesh that has a new one, and joins again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_mesh_whose_issuer_is_over_gets_a_new_one() {
    let stored = Stored::unpack_after("127df7c", 31 * DAY);
    let plane = stored.open().await.unwrap();
    let request = weft_api::rest::TokenRequest {
        service: "shop/web".to_owned(),
        ..weft_api::rest::TokenRequest::default()
    };
    let token: JoinToken = plane.client.create_token(&request).await.unwrap().token.parse().unwrap();
    let joined = join_by(&token, declared("web-new", "127.0.0.98"), stored.clock.clone()).await.unwrap();
    let _joined = Sidecar::start(&joined, plane.running.xds).await.go_on();
    plane.until("shop/web-new", "in sync", |status| status.sync == Sync::Synced).await;
}

/// The root holds for a year, and nothing can be issued below one that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_mesh_whose_root_is_over_is_refused_with_what_to_do() {
    let stored = Stored::unpack_after("127df7c", 366 * DAY);
    let refused =
        format!("{:#}", stored.open().await.map(|_| ()).expect_err("nothing can be issued any more"));
    assert!(refused.contains("root") && refused.contains("expired"), "{refused}");
}

/// C1 and H1, stored: a joiner that holds the name of a file's Workload, and one whose label another service selects,
/// keep what their tokens gave them and lose the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joiners_of_a_stored_mesh_lose_what_only_a_file_may_grant() {
    let stored = Stored::unpack("127df7c");
    let plane = stored.open().await.unwrap();
    let mut caller = Sidecar::start(&stored.member("web-1"), plane.running.xds).await;
    let known = |held: &Held| {
        ["canary", "legacy", "catalog"].iter().all(|service| {
            held.contains_key(&(ResourceKind::Endpoint.short(), format!("shop/{service}/http")))
        })
    };
    caller.until("the endpoints", known).await;
    let addresses = |service: &str| {
        let key = (ResourceKind::Endpoint.short(), format!("shop/{service}/http"));
        let all = endpoints(&caller.held[&key].1).into_iter();
        all.map(|(address, _)| address).collect::<Vec<_>>()
    };
    assert_eq!(addresses("legacy"), ["10.2.0.99"], "the file says where it is");
    assert_eq!(addresses("canary"), Vec::<String>::new(), "a label makes no member");
    assert_eq!(addresses("catalog").len(), 2);
    let as_legacy = stored.member("legacy-1").renew(plane.running.xds).await;
    assert!(as_legacy.is_err(), "the name is the file's now");
}
