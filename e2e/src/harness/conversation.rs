//! Connections that are spoken on all along: what a change underneath must not break.
//!
//! A tunnel ends with the certificates of its connections, by the clock and whatever else changes: one that has lasted for a good
//! part of a certificate's life is opened again, and that has to succeed at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::Calls;
use crate::demo::echo::EchoRequest;

/// Between two words.
const PAUSE: Duration = Duration::from_millis(100);
/// No answer takes longer.
const LIMIT: Duration = Duration::from_secs(10);

/// Open connections, each in a task that asks and waits for the echo, again and again.
#[derive(Debug)]
pub struct Conversations {
    stop: CancellationToken,
    held: Vec<(String, JoinHandle<anyhow::Result<Talk>>)>,
    /// How long each connection lasts at least.
    least: Duration,
}

/// What was said.
#[derive(Debug, Default)]
struct Talk {
    words: u64,
    connections: u32,
}

/// How one connection ended, after so many words.
#[derive(Debug)]
struct EndedTalk {
    words: u64,
    /// None where it was ended by us.
    error: Option<anyhow::Error>,
}

impl Conversations {
    /// None yet; each connection is to last for so long at least.
    #[must_use]
    pub fn lasting(least: Duration) -> Self {
        Self { stop: CancellationToken::new(), held: Vec::new(), least }
    }

    /// Holds a connection of a TCP service that sends back what it is sent.
    pub fn hold_tcp(&mut self, name: &str, address: SocketAddr) {
        self.hold(format!("{name}: TCP"), move |stop| tcp(address, stop));
    }

    /// Holds a WebSocket.
    pub fn hold_web_socket(&mut self, name: &str, sidecar: SocketAddr, host: &str) {
        let host = host.to_owned();
        self.hold(format!("{name}: WebSocket"), move |stop| web_socket(sidecar, host.clone(), stop));
    }

    /// Holds a gRPC stream.
    pub fn hold_grpc(&mut self, name: &str, calls: Calls, authority: &str) {
        let authority = authority.to_owned();
        self.hold(format!("{name}: gRPC"), move |stop| grpc(calls.clone(), authority.clone(), stop));
    }

    fn hold<T>(&mut self, name: String, talk: impl Fn(CancellationToken) -> T + Send + 'static)
    where
        T: Future<Output = anyhow::Result<EndedTalk>> + Send,
    {
        let (stop, least) = (self.stop.clone(), self.least);
        let held = async move {
            let mut said = Talk::default();
            loop {
                let begun = Instant::now();
                let ended = talk(stop.clone()).await.with_context(|| {
                    format!("opening connection {} after {} words", said.connections + 1, said.words)
                })?;
                said.words += ended.words;
                said.connections += 1;
                let Some(error) = ended.error else { return Ok(said) };
                let lasted = begun.elapsed();
                ensure!(lasted >= least, "broken after {lasted:?} and {} words: {error:#}", ended.words);
            }
        };
        self.held.push((name, tokio::spawn(held)));
    }

    /// Ends all of them.
    ///
    /// # Errors
    /// When one broke too soon or was not opened again, or nothing was said on it.
    pub async fn end(self) -> anyhow::Result<()> {
        self.stop.cancel();
        for (name, held) in self.held {
            let said = held.await?.with_context(|| name.clone())?;
            println!("{name}: {} words on {} connections", said.words, said.connections);
            ensure!(said.words > 0, "{name}: nothing was said");
        }
        Ok(())
    }
}

/// What is said the `turn`th time.
fn word(turn: u64) -> String {
    format!("word {turn}\n")
}

async fn answered<T>(answer: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(LIMIT, answer).await.context("no answer")
}

/// Whether to go on, after a pause.
async fn goes_on(stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some()
}

/// Asks and listens until `stop`.
async fn talk(
    stop: CancellationToken,
    mut echoed: impl AsyncFnMut(String) -> anyhow::Result<String>,
) -> EndedTalk {
    let mut words = 0;
    while goes_on(&stop).await {
        let said = word(words);
        let heard = match tokio::time::timeout(LIMIT, echoed(said.clone())).await {
            Ok(Ok(heard)) if heard == said => None,
            Ok(Ok(heard)) => Some(anyhow::anyhow!("the echo of {said:?} is {heard:?}")),
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("no echo within {LIMIT:?}")),
        };
        if heard.is_some() {
            return EndedTalk { words, error: heard };
        }
        words += 1;
    }
    EndedTalk { words, error: None }
}

async fn tcp(address: SocketAddr, stop: CancellationToken) -> anyhow::Result<EndedTalk> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let greeting = answered(stream.read_line(&mut String::new())).await??;
    ensure!(greeting > 0, "closed before the greeting");
    let echoed = async move |word: String| {
        stream.get_mut().write_all(word.as_bytes()).await?;
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).await?;
        Ok(String::from_utf8(back)?)
    };
    Ok(talk(stop, echoed).await)
}

async fn web_socket(sidecar: SocketAddr, host: String, stop: CancellationToken) -> anyhow::Result<EndedTalk> {
    let stream = TcpStream::connect(sidecar).await?;
    let opened = tokio_tungstenite::client_async(format!("ws://{host}/ws"), stream);
    let (mut socket, _) = answered(opened).await??;
    answered(socket.next()).await?.context("no greeting")??;
    let echoed = async move |word: String| {
        socket.send(Message::text(word)).await?;
        Ok(socket.next().await.context("closed")??.into_text()?.to_string())
    };
    Ok(talk(stop, echoed).await)
}

async fn grpc(calls: Calls, authority: String, stop: CancellationToken) -> anyhow::Result<EndedTalk> {
    let (ask, questions) = tokio::sync::mpsc::channel(1);
    let first = "first".to_owned();
    ask.send(EchoRequest { message: first.clone(), count: 0 }).await?;
    let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
    let mut answers = answered(calls.echo(&authority)?.chat(questions)).await??.into_inner();
    let answer = answered(answers.message()).await??.context("the stream ended")?;
    ensure!(answer.message == first, "{answer:?}");
    let echoed = async move |word: String| {
        ask.send(EchoRequest { message: word, count: 0 }).await?;
        Ok(answers.message().await?.context("the stream ended")?.message)
    };
    Ok(talk(stop, echoed).await)
}
