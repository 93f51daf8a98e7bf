use std::time::Duration as StdDuration;

use tokio_util::sync::CancellationToken;
use weft_store::{Location, StoreExt};

use super::*;
use crate::clock::tests::Hand;

struct Fixture {
    store: Arc<dyn Store>,
    tokens: Tokens,
    hand: Hand,
}

async fn fixture() -> Fixture {
    let store = weft_store::open(Location::Memory).await.unwrap();
    let hand = Hand::new();
    Fixture { tokens: Tokens::new(Arc::clone(&store), hand.clock()), store, hand }
}

fn grant() -> TokenGrant {
    TokenGrant::of("shop/web".parse().unwrap())
}

async fn create(tokens: &Tokens, grant: TokenGrant) -> JoinToken {
    tokens.create(grant, &"127.0.0.1:7401".parse().unwrap(), [9; 32]).await.unwrap().0
}

#[tokio::test]
async fn secret_is_stored_as_a_hash_only() {
    let Fixture { store, tokens, .. } = fixture().await;
    let token = create(&tokens, grant()).await;
    let stored = store.list_all("").await.unwrap().entries;
    let record: TokenRecord = serde_json::from_slice(&stored[0].value).unwrap();
    assert_eq!(record.secret_sha256, <[u8; 32]>::from(Sha256::digest(token.secret)));
    let secret = serde_json::to_string(&token.secret).unwrap();
    assert!(!String::from_utf8(stored[0].value.to_vec()).unwrap().contains(&secret));
}

#[tokio::test]
async fn unknown_id_and_wrong_secret_get_the_same_answer() {
    let Fixture { tokens, .. } = fixture().await;
    let token = create(&tokens, grant()).await;
    let mut answers = Vec::new();
    for (id, secret) in [
        (token.id.as_str(), &[0; 32][..]),
        (&token.id, &token.secret[..31]),
        (&token.id, &[]),
        ("t-0000000000000000", &token.secret),
        ("../mesh/root", &token.secret),
        ("", &token.secret),
    ] {
        answers.push(tokens.present(id, secret).await.unwrap_err().to_string());
    }
    assert!(answers.iter().all(|answer| *answer == TokenError::Invalid.to_string()), "{answers:?}");
    tokens.present(&token.id, &token.secret).await.unwrap();
}

#[tokio::test]
async fn token_for_one_use_is_used_once_however_many_ask() {
    let Fixture { store, tokens, .. } = fixture().await;
    let token = create(&tokens, grant()).await;
    let mut presented = Vec::new();
    for _ in 0..8 {
        presented.push(tokens.present(&token.id, &token.secret).await.unwrap());
    }
    let commits = presented.iter().map(|presented| store.commit(presented.spend(Txn::new()).unwrap()));
    let done = futures::future::join_all(commits).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
    let again = tokens.present(&token.id, &token.secret).await.unwrap();
    assert!(matches!(again.spend(Txn::new()), Err(TokenError::UsedUp)));
}

#[tokio::test]
async fn token_expires_and_is_pruned_a_day_later() {
    let Fixture { store, tokens, hand } = fixture().await;
    let token = create(&tokens, grant()).await;
    let leader = store.elect("leader", "test", StdDuration::from_secs(60)).await;
    let life = |presented: &PresentedToken| presented.check_life(&hand.clock());
    life(&tokens.present(&token.id, &token.secret).await.unwrap()).unwrap();
    hand.forward(DEFAULT_TTL);
    let presented = tokens.present(&token.id, &token.secret).await.unwrap();
    assert!(matches!(life(&presented), Err(TokenError::Expired)));
    assert_eq!(tokens.prune(&leader).await.unwrap(), 0);
    hand.forward(Duration::hours(25));
    assert_eq!(tokens.prune(&leader).await.unwrap(), 1);
    assert!(tokens.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn revoked_token_is_invalid_and_gone_from_the_list() {
    let Fixture { tokens, .. } = fixture().await;
    let token = create(&tokens, grant()).await;
    assert_eq!(tokens.list().await.unwrap()[0].id, token.id);
    assert!(tokens.revoke(&token.id).await.unwrap());
    assert!(!tokens.revoke(&token.id).await.unwrap());
    assert!(matches!(tokens.present(&token.id, &token.secret).await, Err(TokenError::Invalid)));
}

#[tokio::test]
async fn grants_out_of_bounds_are_refused() {
    let Fixture { tokens, .. } = fixture().await;
    for (ttl, uses) in
        [(Duration::ZERO, 1), (MAX_TTL + Duration::SECOND, 1), (DEFAULT_TTL, 0), (DEFAULT_TTL, 10_001)]
    {
        let refused =
            tokens.create(TokenGrant { ttl, uses, ..grant() }, &"cp:1".parse().unwrap(), [0; 32]).await;
        assert!(matches!(refused, Err(TokenError::Ttl(_) | TokenError::Uses(_))));
    }
}

#[tokio::test]
async fn token_is_known_soon_after_it_is_made_and_no_longer_once_it_is_revoked() {
    let Fixture { store, tokens, .. } = fixture().await;
    let known = KnownTokens::follow(&store, CancellationToken::new());
    let token = create(&tokens, grant()).await;
    let becomes = async |good: bool| {
        let turned = async {
            while known.is_good(&token.id, &token.secret) != good {
                tokio::time::sleep(StdDuration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(StdDuration::from_secs(20), turned).await.expect("heard of in time");
    };
    becomes(true).await;
    assert!(!known.is_good(&token.id, &[0; 32]) && !known.is_good("t-0", &token.secret));
    tokens.revoke(&token.id).await.unwrap();
    becomes(false).await;
}
