use std::net::IpAddr;

use super::*;
use crate::listener::calls::RunningCall;

const SIZE: ConnectionLimits = ConnectionLimits { greeting: 4, strangers: 4, members: 2 };

fn source(last: u8) -> SourceAddress {
    IpAddr::from([192, 0, 2, last]).into()
}

async fn filled(pool: ConnectionClass, sources: &[u8]) -> (Arc<ConnectionPools>, Vec<ConnectionPermit>) {
    let pools = ConnectionPools::new(SIZE);
    let mut guests = Vec::new();
    for last in sources {
        guests.push(pools.enter(pool, source(*last)).await.unwrap());
    }
    (pools, guests)
}

/// Lets a newcomer look for a place, and says who was turned out for it, if anybody.
async fn turned_out(
    pools: &Arc<ConnectionPools>,
    pool: ConnectionClass,
    newcomer: u8,
    guests: &mut Vec<ConnectionPermit>,
) -> Option<usize> {
    let entering = pools.enter(pool, source(newcomer));
    let mut entering = std::pin::pin!(entering);
    let first = tokio::time::timeout(LOOK_AGAIN / 2, entering.as_mut()).await;
    let out = guests.iter().position(|permit| permit.out.is_cancelled());
    if let Some(out) = out {
        assert!(first.is_err(), "it waits until the other one is gone");
        drop(guests.remove(out));
        guests.push(entering.await.unwrap());
    } else if let Ok(permit) = first {
        guests.extend(permit);
    }
    out
}

#[tokio::test(start_paused = true)]
async fn silent_connections_go_first_and_the_oldest_of_them() {
    let (pools, mut guests) = filled(ConnectionClass::Greeting, &[1, 2, 3, 4]).await;
    guests[0].activity.note_activity();
    assert_eq!(turned_out(&pools, ConnectionClass::Greeting, 5, &mut guests).await, Some(1));
    assert_eq!(guests.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn source_that_opens_many_turns_out_its_own() {
    let (pools, mut guests) = filled(ConnectionClass::Greeting, &[1, 2, 2, 2]).await;
    assert_eq!(turned_out(&pools, ConnectionClass::Greeting, 3, &mut guests).await, Some(1));
    let (pools, mut guests) = filled(ConnectionClass::Stranger, &[1, 2, 2, 3]).await;
    assert_eq!(turned_out(&pools, ConnectionClass::Stranger, 2, &mut guests).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn handshakes_of_many_sources_are_waited_for() {
    let (pools, mut guests) = filled(ConnectionClass::Greeting, &[1, 2, 3, 4]).await;
    guests.iter().for_each(|permit| permit.activity.note_activity());
    let mut entering = std::pin::pin!(pools.enter(ConnectionClass::Greeting, source(5)));
    assert!(tokio::time::timeout(SLOW_GREETING / 2, entering.as_mut()).await.is_err());
    assert!(guests.iter().all(|permit| !permit.out.is_cancelled()), "a restart of all proxies is no attack");
    drop(guests.pop());
    entering.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn slow_handshake_goes_when_others_wait() {
    let (pools, mut guests) = filled(ConnectionClass::Greeting, &[1, 2, 3, 4]).await;
    guests.iter().for_each(|permit| permit.activity.note_activity());
    tokio::time::sleep(SLOW_GREETING).await;
    assert_eq!(turned_out(&pools, ConnectionClass::Greeting, 5, &mut guests).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn one_source_with_all_handshakes_does_not_keep_others_waiting() {
    let (pools, mut guests) = filled(ConnectionClass::Greeting, &[1, 1, 1, 1]).await;
    guests.iter().for_each(|permit| permit.activity.note_activity());
    assert!(pools.enter(ConnectionClass::Greeting, source(1)).await.is_none(), "its next one is refused");
    assert_eq!(turned_out(&pools, ConnectionClass::Greeting, 2, &mut guests).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn stranger_with_a_call_stays_and_one_without_goes() {
    let (pools, mut guests) = filled(ConnectionClass::Stranger, &[1, 1, 2, 3]).await;
    let calls: Vec<_> = [0, 1, 3].map(|at| RunningCall::start(&guests[at].activity)).into();
    assert_eq!(turned_out(&pools, ConnectionClass::Stranger, 4, &mut guests).await, Some(2));
    let newest = RunningCall::start(&guests[3].activity);
    assert!(
        pools.enter(ConnectionClass::Stranger, source(5)).await.is_none(),
        "all have calls: there is no room"
    );
    tokio::time::sleep(QUIET_CALL).await;
    drop((calls, newest));
    let _moving: Vec<_> = guests[1..].iter().map(|permit| RunningCall::start(&permit.activity)).collect();
    let _quiet = RunningCall::start(&guests[0].activity);
    tokio::time::sleep(QUIET_CALL / 2).await;
    let _others: Vec<_> = guests[1..].iter().map(|permit| RunningCall::start(&permit.activity)).collect();
    tokio::time::sleep(QUIET_CALL / 2).await;
    assert_eq!(
        turned_out(&pools, ConnectionClass::Stranger, 5, &mut guests).await,
        Some(0),
        "on its call nothing moves"
    );
}

#[tokio::test(start_paused = true)]
async fn strangers_take_no_place_of_members_and_members_are_never_turned_out() {
    let (pools, mut guests) = filled(ConnectionClass::Stranger, &[1, 1, 1, 1]).await;
    let member = pools.enter(ConnectionClass::Greeting, source(1)).await.unwrap();
    assert!(member.becomes(ConnectionClass::Member).await);
    let second = pools.enter(ConnectionClass::Member, source(2)).await.unwrap();
    assert_eq!(turned_out(&pools, ConnectionClass::Member, 3, &mut guests).await, None);
    assert_eq!(guests.len(), 4, "there is no room for a third");
    drop(second);
    assert_eq!(turned_out(&pools, ConnectionClass::Member, 3, &mut guests).await, None);
    assert_eq!(guests.len(), 5);
    let table = pools.lock();
    assert_eq!(
        (table.of_pool[&ConnectionClass::Member], table.of_pool.get(&ConnectionClass::Greeting)),
        (2, None)
    );
}
