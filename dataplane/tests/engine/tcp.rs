//! TCP proxying.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Setup, chain};

async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = tcp.into_split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
                writer.write_all(b"the end").await
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_pass_and_a_half_close_is_not_the_end() {
    let mut setup = Setup::new();
    setup.cluster("app", &[echo().await], |_| {});
    let terminal = setup.tcp("app");
    setup.listener("in", vec![chain(1, terminal, None)], |_| {});
    let mut proxy = setup.start().await;
    let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    let (mut reader, mut writer) = tcp.split();
    let writing = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let reading = async { reader.read_to_end(&mut got).await.unwrap() };
    tokio::join!(writing, reading);
    assert_eq!(got.len(), sent.len() + 7);
    assert!(got.starts_with(&sent) && got.ends_with(b"the end"));
    proxy.wait_for(&setup, "tcp.tcp.downstream_cx_rx_bytes_total", 3_000_000).await;
    proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 0).await;
}

#[tokio::test]
async fn bytes_are_counted_while_the_connection_is_open() {
    let mut setup = Setup::new();
    setup.cluster("app", &[echo().await], |_| {});
    let terminal = setup.tcp("app");
    setup.listener("in", vec![chain(1, terminal, None)], |_| {});
    let mut proxy = setup.start().await;
    let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
    for sent in [5, 10] {
        tcp.write_all(b"hello").await.unwrap();
        tcp.read_exact(&mut [0; 5]).await.unwrap();
        proxy.wait_for(&setup, "cluster.app.upstream_cx_tx_bytes_total", sent).await;
        proxy.wait_for(&setup, "cluster.app.upstream_cx_rx_bytes_total", sent).await;
        proxy.wait_for(&setup, "tcp.tcp.downstream_cx_tx_bytes_total", sent).await;
    }
    tcp.shutdown().await.unwrap();
    proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 0).await;
    proxy.wait_for(&setup, "cluster.app.upstream_cx_tx_bytes_total", 10).await;
}

#[tokio::test]
async fn without_an_endpoint_the_connection_is_closed() {
    let mut setup = Setup::new();
    setup.cluster("app", &[], |_| {});
    let terminal = setup.tcp("app");
    setup.listener("in", vec![chain(1, terminal, None)], |_| {});
    let proxy = setup.start().await;
    let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(tcp.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn few_connections_are_spread_over_the_workers() {
    let mut setup = Setup::new();
    setup.cluster("app", &[echo().await], |_| {});
    let terminal = setup.tcp("app");
    setup.listener("in", vec![chain(1, terminal, None)], |_| {});
    let mut proxy = setup.start_with(2).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut tcp = TcpStream::connect(proxy.address).await.unwrap();
        tcp.write_all(b"x").await.unwrap();
        tcp.read_exact(&mut [0]).await.unwrap();
        held.push(tcp);
    }
    let shards = proxy.engine().shards().await;
    for shard in &shards {
        let totals = weft_dataplane::stats::StatsSnapshot::sum([shard]);
        let active = setup.value(&totals, "listener.in.downstream_cx_active");
        assert!((3..=5).contains(&active), "{active} of 8");
    }
}
