//! How much a joiner, a member and a stranger may have.

use super::*;
use crate::ca::{LEAVES_OF_AN_INSTANCE, Serial};

#[tokio::test]
async fn flood_of_one_workload_is_held_back() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(fixture.renew(&leaf, new_csr()).await.map_or_else(|status| status.code(), |_| Code::Ok));
    }
    assert!(codes.iter().filter(|code| **code == Code::Ok).count() <= 5, "{codes:?}");
    assert_eq!(codes[9], Code::ResourceExhausted);
}

/// A leaf more of an instance, as if it had been issued.
fn note(fixture: &Fixture, instance: &str, number: u64) {
    let now = fixture.mesh.hand.clock().unix_seconds();
    fixture.joining.ledger.issued().note(LedgerEntry {
        serial: Serial::from_bytes(&[&instance.as_bytes()[10..], &number.to_be_bytes()].concat()),
        issuer: fixture.mesh.authority.lists()[0].issuer.clone(),
        service: "shop/web".parse().unwrap(),
        workload: "shop/web-1".parse().unwrap(),
        instance: instance.to_owned(),
        key_origin: KeyOrigin::Workload,
        issued_at: now,
        expires_at: now + 3600,
    });
}

#[tokio::test]
async fn an_instance_has_no_more_live_certificates_than_a_list_can_hold() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 2, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let instance = fixture.record("shop/web-1").await.instance;
    (2..LEAVES_OF_AN_INSTANCE).for_each(|n| note(&fixture, &instance, n as u64));
    fixture.renew(&leaf, new_csr()).await.expect("the last that fits");
    let refused = fixture.renew(&leaf, new_csr()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("there are 16 live certificates of this instance"), "{refused}");
    let other = fixture.join(request(&token, "web-2")).await.unwrap().certificate_chain_der.remove(0);
    fixture.renew(&other, new_csr()).await.expect("others have room of their own");
    fixture.mesh.hand.forward(Duration::hours(2));
    fixture.renew(&leaf, new_csr()).await.expect("those that have ended take none");
}

#[tokio::test]
async fn a_join_that_is_repeated_makes_no_more_certificates_than_a_list_can_hold() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let request = request(&token, "web-1");
    fixture.join(request.clone()).await.unwrap();
    let instance = fixture.record("shop/web-1").await.instance;
    (1..LEAVES_OF_AN_INSTANCE).for_each(|n| note(&fixture, &instance, n as u64));
    assert_eq!(fixture.join(request).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_name_has_no_more_live_certificates_than_a_list_can_hold() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 3, &[]).await;
    (0..LEAVES_OF_A_NAME).for_each(|n| note(&fixture, &format!("i-{n:016x}"), 1));
    let refused = fixture.join(request(&token, "web-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("`weft proxy revoke shop/web-1`"), "{refused}");
    let revocations = revocations(&fixture);
    let id = "shop/web-1".parse().unwrap();
    let revoked = revocations.revoke(&id).await.unwrap().unwrap();
    assert_eq!((revoked.instances, revoked.leaves), (LEAVES_OF_A_NAME, LEAVES_OF_A_NAME));
    assert_eq!(revocations.revoke(&id).await.unwrap(), Some(revoked), "the same again");
    fixture.join(request(&token, "web-1")).await.expect("what was revoked takes no room");
    let revoked = revocations.revoke(&id).await.unwrap().unwrap();
    assert_eq!((revoked.instances, revoked.leaves), (LEAVES_OF_A_NAME + 1, LEAVES_OF_A_NAME + 1));
}

/// Goodbyes and returns change the record that a revocation removes.
#[tokio::test]
async fn who_says_goodbye_and_comes_back_without_end_is_revoked_all_the_same() {
    let fixture = fixture().await;
    let token = fixture.token("shop/web", 1, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let flips = async {
        let mut refused = 0;
        for _ in 0..500 {
            let there = fixture.leave(&leaf).await.is_ok() | fixture.come_back(&leaf).await.is_ok();
            refused += usize::from(!there);
            tokio::task::yield_now().await;
        }
        refused
    };
    let (refused, revoked) =
        tokio::join!(flips, async { revocations(&fixture).revoke(&"shop/web-1".parse().unwrap()).await });
    assert_eq!(revoked.unwrap().unwrap().leaves, 1);
    assert!(refused > 400, "{refused}");
    assert_eq!(fixture.come_back(&leaf).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn stranger_without_a_token_takes_no_join_and_no_renewal_from_others() {
    let fixture = fixture_of(SigningLimits::new(1)).await;
    let token = fixture.token("shop/web", 2, &[]).await;
    let leaf = fixture.join(request(&token, "web-1")).await.unwrap().certificate_chain_der.remove(0);
    let stranger: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    let mut codes = Vec::new();
    for _ in 0..1000 {
        let mut bogus = Request::new(JoinRequest { secret: vec![0; 32], ..request(&token, "web-9") });
        bogus.extensions_mut().insert(ConnectInfo(stranger));
        codes.push(fixture.joining.join(bogus).await.unwrap_err().code());
    }
    assert_eq!(codes[0], Code::Unauthenticated);
    assert_eq!(codes[999], Code::ResourceExhausted, "it is not even looked up");
    fixture.renew(&leaf, new_csr()).await.expect("renewals have a bucket of their own");
    fixture.join(request(&token, "web-2")).await.expect("joins take from theirs with a token only");
}

#[tokio::test]
async fn joins_under_a_name_take_nothing_from_the_renewals_of_whoever_has_it() {
    let fixture = fixture().await;
    let db = fixture.token("shop/db", 1, &[]).await;
    let leaf = fixture.join(request(&db, "db-1")).await.unwrap().certificate_chain_der.remove(0);
    let web = fixture.token("shop/web", 1, &[]).await;
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(fixture.join(request(&web, "db-1")).await.unwrap_err().code());
    }
    assert_eq!(codes[0], Code::AlreadyExists);
    assert_eq!(codes[29], Code::ResourceExhausted, "the bucket is the token's (M5)");
    fixture.renew(&leaf, new_csr()).await.unwrap();
}
