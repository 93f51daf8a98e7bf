//! The mesh's state out of its store, and into another: by the program itself, as operators call it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use tempfile::TempDir;
use tonic::Code;
use weft_api::client::ApiClient;
use weft_api::rest::{PROBLEM_JSON, Sync};
use weft_control_plane::clock::Clock;
use weft_store::{Backup, Location, StoreExt};

use crate::etcd_server::EtcdServer;
use crate::peer::{Member, declared, join};
use crate::plane::{Plane, service};
use crate::proxy::Sidecar;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weft-control-plane");

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(args: &[&str]) -> Output {
    let mut command = command(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What it says when it does what it was asked.
async fn done(args: &[&str]) -> String {
    let output = run(args).await;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says when it refuses.
async fn refused(args: &[&str]) -> String {
    let output = run(args).await;
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory with the seal key of a mesh and nothing else.
fn with_seal_key(plane: &Plane) -> Arc<TempDir> {
    let directory = TempDir::new().unwrap();
    std::fs::copy(plane.seal_key(), directory.path().join("seal.key")).unwrap();
    Arc::new(directory)
}

async fn is_member(member: &Member, plane: &Plane) -> Result<(), Code> {
    member.renew(plane.running.xds).await.map(drop).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_a_running_control_plane_is_the_same_mesh_when_it_is_restored() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let unused = plane.join_token("shop/cart").await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let (directory, place) = (plane.directory(), TempDir::new().unwrap());
    let (data, file) = (directory.path(), place.path().join("mesh.backup"));
    let said = done(&["backup", "--data-dir", text(data), text(&file)]).await;
    assert!(said.contains("mesh.local") && said.contains(text(&plane.seal_key())), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "no draft stays");
    let before = std::fs::read(&file).unwrap();
    let said = refused(&["backup", "--data-dir", text(data), text(&file)]).await;
    assert!(said.contains("exists") && std::fs::read(&file).unwrap() == before, "{said}");
    let said = refused(&["--data-dir", text(data), "restore", text(&file)]).await;
    assert!(said.contains("there is a store already"), "{said}");
    // All that happens after the backup is lost, but certificates.
    let renewed = web.renew(plane.running.xds).await.unwrap();
    let late = join(&plane.join_token("shop/web").await, declared("web-2", "127.0.0.3")).await.unwrap();
    plane.apply(&service("late")).await;
    let (root, operator, copy) = (web.root_spki_sha256(), plane.token.clone(), with_seal_key(&plane));
    plane.running.end().await;

    let lost = TempDir::new().unwrap();
    let said = done(&["restore", "--data-dir", text(lost.path()), text(&file)]).await;
    assert!(said.contains("seal key") && said.contains(text(&lost.path().join("seal.key"))), "{said}");
    let refusal = Plane::start_by(Arc::new(lost), &[], Clock::system()).await.err().unwrap().to_string();
    assert!(refusal.contains("seal.key is missing"), "{refusal}");
    let said = done(&["restore", "--data-dir", text(copy.path()), text(&file)]).await;
    assert!(!said.contains("before the start"), "{said}");

    let plane = Plane::start_in(copy, &[]).await;
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 2);
    let old = ApiClient::try_new(&format!("http://{}", plane.running.api), &operator, &[]).unwrap();
    assert_eq!(old.ca().await.unwrap().root.spki_sha256, root);
    for (name, member) in [("before", &web), ("after", &renewed)] {
        assert_eq!(is_member(member, &plane).await, Ok(()), "the certificate of {name} the backup");
    }
    let _stream = Sidecar::start(&renewed, plane.running.xds).await.go_on();
    plane.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    assert_eq!(is_member(&late, &plane).await, Err(Code::PermissionDenied));
    let mut token = unused;
    token.control_planes = plane.running.xds.to_string().parse().unwrap();
    join(&token, declared("cart-1", "127.0.0.4")).await.unwrap();
    // Revoking what was taken over lists the certificates that the backup did not know.
    plane.client.revoke_proxy("shop/web-1").await.unwrap();
    assert!(is_member(&renewed, &plane).await.is_err());
    let (_, _, body) = plane.raw("GET", "/v1/backup", Some(&plane.token), Vec::new()).await;
    let entries = Backup::decode(&*body).unwrap().snapshot.entries;
    let lists = entries.iter().filter(|entry| entry.key.starts_with("mesh/crls/"));
    let lists = lists.map(|entry| serde_json::from_slice::<serde_json::Value>(&entry.value).unwrap());
    let listed: usize = lists.map(|list| list["revoked"].as_array().unwrap().len()).sum();
    assert_eq!(
        listed, 4,
        "by its join, before the loss, and one more with each of the two that were asked about"
    );
    assert!(plane.apply(&service("more")).await.revision > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_an_instance_that_came_after_the_restore_is_not_anothers() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let first = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let gone = join(&plane.join_token("shop/web").await, declared("web-2", "127.0.0.3")).await.unwrap();
    plane.client.revoke_proxy("shop/web-2").await.unwrap();
    let (directory, place) = (plane.directory(), TempDir::new().unwrap());
    let file = place.path().join("mesh.backup");
    done(&["--data-dir", text(directory.path()), "backup", text(&file)]).await;
    let renewed = first.renew(plane.running.xds).await.unwrap();
    let copy = with_seal_key(&plane);
    plane.running.end().await;
    done(&["--data-dir", text(copy.path()), "restore", text(&file)]).await;

    let plane = Plane::start_in(copy, &[]).await;
    assert!(is_member(&gone, &plane).await.is_err(), "what was revoked before the backup stays revoked");
    // Records are in whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let again = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.5")).await.unwrap();
    assert_eq!(is_member(&renewed, &plane).await, Err(Code::PermissionDenied));
    assert_eq!(is_member(&again, &plane).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_is_cut_or_changed_or_something_else_is_refused_and_nothing_is_made() {
    let plane = Plane::start().await;
    let (directory, place) = (plane.directory(), TempDir::new().unwrap());
    let (file, into) = (place.path().join("good"), place.path().join("data"));
    done(&["--data-dir", text(directory.path()), "backup", text(&file)]).await;
    let good = std::fs::read(&file).unwrap();
    let mut changed = good.clone();
    changed[good.len() / 2] ^= 1;
    for (name, bytes, word) in [
        ("cut", &good[..good.len() - 1], "end mark"),
        ("changed", &changed, "not as it was written"),
        ("other", b"apiVersion: weft.dev/v1".as_slice(), "not a backup"),
    ] {
        let bad = place.path().join(name);
        std::fs::write(&bad, bytes).unwrap();
        let said = refused(&["--data-dir", text(&into), "restore", text(&bad)]).await;
        assert!(said.contains(word) && said.contains(text(&bad)), "{name}: {said}");
        assert!(!into.join("weft.redb").exists(), "{name}");
    }
    let none = refused(&["--data-dir", text(&into), "backup", text(&place.path().join("none"))]).await;
    assert!(none.contains("weft.redb"), "{none}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_over_the_api_is_whole_and_two_at_a_time() {
    let plane = Plane::start().await;
    for n in 0..20 {
        plane.apply(&service(&format!("s{n}"))).await;
    }
    let (status, kind, body) = plane.raw("GET", "/v1/backup", Some(&plane.token), Vec::new()).await;
    assert_eq!((status, kind.as_str()), (200, "application/octet-stream"));
    let backup = Backup::decode(&*body).unwrap();
    assert_eq!(backup.name, "mesh.local");
    assert!(backup.snapshot.entries.iter().any(|entry| entry.key.as_str() == "mesh/root"));
    assert!(!backup.snapshot.entries.iter().any(|entry| entry.key.as_str() == "leader"), "it is leased");
    let (status, kind, _) = plane.raw("GET", "/v1/backup", None, Vec::new()).await;
    assert_eq!((status, kind.as_str()), (401, PROBLEM_JSON));
}

/// Each kill leaves a whole file or none, and the mesh as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_neither_backup_nor_restore_leaves_a_half() {
    let plane = Plane::start().await;
    let many: String = (0..300).map(|n| service(&format!("service-with-a-long-name-{n:04}"))).collect();
    plane.apply(&many).await;
    let (directory, place) = (plane.directory(), TempDir::new().unwrap());
    let data = text(directory.path());
    let whole = place.path().join("whole");
    let began = Instant::now();
    done(&["--data-dir", data, "backup", text(&whole)]).await;
    let takes = began.elapsed();
    let rounds = if std::env::var_os("WEFT_SOAK").is_some() { 300 } else { 25 };
    let mut halves = 0;
    for round in 0..rounds {
        let (file, into) = (place.path().join(format!("{round}")), place.path().join(format!("{round}.d")));
        kill(&["--data-dir", data, "backup", text(&file)], takes);
        if file.exists() {
            Backup::decode(std::fs::File::open(&file).unwrap()).unwrap();
        }
        kill(&["--data-dir", text(&into), "restore", text(&whole)], takes);
        if into.join("weft.redb").exists() {
            let store = weft_store::open(Location::Embedded(into.join("weft.redb"))).await.unwrap();
            let found = store.list_all("").await.unwrap().entries.len();
            let taken = Backup::decode(std::fs::File::open(&whole).unwrap()).unwrap();
            assert_eq!(found, taken.snapshot.entries.len() + 1, "the records, and when they were restored");
        } else {
            halves += 1;
            done(&["--data-dir", text(&into), "restore", text(&whole)]).await;
        }
    }
    assert!(halves > 0, "no kill came early enough to matter");
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 300);
}

fn kill(args: &[&str], takes: Duration) {
    let mut child = command(args).spawn().unwrap();
    std::thread::sleep(takes.mul_f64(rand::rng().random_range(0.0..1.2)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_is_copied_from_a_directory_to_etcd_and_back() {
    let etcd = EtcdServer::start().await;
    let endpoint = etcd.endpoint();
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let directory = plane.directory();
    let data = text(directory.path()).to_owned();
    let copy = ["--data-dir", &data, "store", "copy", "--from", &data, "--to", &endpoint];
    let said = refused(&copy).await;
    assert!(said.contains("in use by another process"), "{said}");
    plane.running.end().await;
    let said = eventually(&copy).await;
    assert!(said.contains("/weft/") && said.contains("put it away"), "{said}");
    let said = refused(&copy).await;
    assert!(said.contains("there is a store already"), "{said}");

    let plane = Plane::start_in(Arc::clone(&directory), &["--etcd", &endpoint]).await;
    assert_eq!(plane.client.list("services", None).await.unwrap().items.len(), 2);
    assert_eq!(is_member(&web, &plane).await, Ok(()));
    let renewed = web.renew(plane.running.xds).await.unwrap();
    let back = with_seal_key(&plane);
    let to = text(back.path());
    let copy = ["--data-dir", to, "store", "copy", "--from", &endpoint, "--to", to];
    let said = refused(&copy).await;
    assert!(said.contains("is held there"), "{said}");
    // Of etcd, a backup is taken whether anybody uses it or not.
    let place = TempDir::new().unwrap();
    let file = place.path().join("file");
    done(&["--etcd", &endpoint, "backup", text(&file)]).await;
    plane.running.end().await;
    eventually(&copy).await;
    let plane = Plane::start_in(back, &[]).await;
    assert_eq!(is_member(&renewed, &plane).await, Ok(()), "nothing is lost by a copy");
    drop(plane);
    let said = done(&["--etcd", &endpoint, "--etcd-prefix", "/other/", "restore", text(&file)]).await;
    assert!(said.contains("prefix /other/"), "{said}");
    let other = ["--etcd", &endpoint, "--etcd-prefix", "/other/"];
    let plane = Plane::start_in(Arc::new(copy_of(&data)), &other).await;
    assert_eq!(is_member(&renewed, &plane).await, Ok(()));
}

/// As soon as whoever served has let go.
async fn eventually(args: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = run(args).await;
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&output.stderr));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn copy_of(data: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::copy(Path::new(data).join("seal.key"), directory.path().join("seal.key")).unwrap();
    directory
}
