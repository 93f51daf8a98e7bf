//! The TCP face: a greeting line that says who answers, then every byte comes back.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::Instance;

/// Serves until dropped.
pub async fn serve(listener: TcpListener, instance: Instance) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let greeting = format!("{} {} {}\n", instance.service, instance.version, instance.workload);
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            if write.write_all(greeting.as_bytes()).await.is_ok() {
                drop(tokio::io::copy(&mut read, &mut write).await);
                drop(write.shutdown().await);
            }
        });
    }
}
