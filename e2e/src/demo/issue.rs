//! A stand-in for a provider of identities: it publishes keys, and gives everybody the token that they ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use clap::Args;
use http::StatusCode;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use super::serve::told_to_end;
use crate::tokens::{SigningKey, TokenIssuer};

/// `weft-demo issue`.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Where it listens: `GET /keys`, and `GET /token?CLAIM=VALUE&…`
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7480")]
    pub http: SocketAddr,
    /// The `iss` of its tokens
    #[arg(long, value_name = "NAME", default_value = "https://login.example.com")]
    pub issuer: String,
    /// How long a token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub valid: Duration,
}

struct Issuing {
    issuer: TokenIssuer,
    valid: Duration,
}

/// Gives out tokens until the process is told to end.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(args: IssueArgs) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.http).await.with_context(|| args.http.to_string())?;
    let issuing = Issuing { issuer: TokenIssuer::new(&args.issuer)?, valid: args.valid };
    let router = Router::new()
        .route("/keys", get(async |issuing: State<Arc<Issuing>>| issuing.issuer.key_set().to_string()))
        .route("/token", get(token))
        .with_state(Arc::new(issuing));
    tokio::select! {
        ended = axum::serve(listener, router).into_future() => ended.context("HTTP"),
        () = told_to_end() => Ok(()),
    }
}

/// A parameter is a claim; a value with a comma is a list.
async fn token(
    State(issuing): State<Arc<Issuing>>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<String, (StatusCode, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut claims: Map<String, Value> = asked
        .into_iter()
        .map(|(name, value)| match value.split_once(',') {
            Some(_) => (name, value.split(',').collect()),
            None => (name, value.into()),
        })
        .collect();
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + issuing.valid.as_secs()).into());
    let token = issuing.issuer.token(SigningKey::Elliptic, claims);
    token.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
