//! What a control plane tells others about how it is reached.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use clap::Parser as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use weft_control_plane::args::Args;
use weft_control_plane::clock::Clock;
use weft_control_plane::server;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::plane::Plane;
use weft_api::log_event::EventCounts;

#[tokio::test]
async fn tokens_name_every_replica_and_their_service() {
    let plane = Plane::start_with(&["--public", "10.0.0.1,mesh.example:9"]).await;
    let token = plane.join_token("shop/web").await;
    let port = plane.running.xds.port();
    assert_eq!(token.control_planes.to_string(), format!("10.0.0.1:{port},mesh.example:9"));
    assert_eq!(token.service, Some("shop/web".parse().unwrap()));
}

#[tokio::test]
async fn roots_and_address_of_the_api_lie_beside_the_operators_token() {
    let plane = Plane::start().await;
    let directory = plane.directory();
    let roots = directory.path().join("ca.pem");
    assert_eq!(std::fs::metadata(&roots).unwrap().permissions().mode() & 0o777, 0o644);
    let roots: Vec<_> = CertificateDer::pem_file_iter(&roots).unwrap().collect::<Result<_, _>>().unwrap();
    let (_, root) = X509Certificate::from_der(&roots[0]).unwrap();
    let fingerprint: [u8; 32] = Sha256::digest(root.tbs_certificate.subject_pki.raw).into();
    assert_eq!(fingerprint, plane.join_token("shop/web").await.root_spki_sha256);
    let api = std::fs::read_to_string(directory.path().join("api.url")).unwrap();
    assert_eq!(api.trim(), format!("http://{}", plane.running.api));
}

#[tokio::test]
async fn listening_for_other_machines_without_a_name_for_them_is_refused_and_leaves_nothing() {
    let directory = Arc::new(TempDir::new().unwrap());
    let data = directory.path().join("data");
    let flags = ["weft-control-plane", "--data-dir", data.to_str().unwrap(), "--xds-listen", "0.0.0.0:0"];
    let args = Args::try_parse_from(flags).unwrap();
    let refused =
        server::start(&args, Clock::system(), EventCounts::default()).await.unwrap_err().to_string();
    assert!(refused.contains("--xds-listen") && refused.contains("--advertise"), "{refused}");
    assert!(!data.exists());
}
