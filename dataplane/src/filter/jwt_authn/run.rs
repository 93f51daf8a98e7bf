//! Judges the tokens of a request, and passes on what they say.

use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use weft_routing::matcher::UndecidedAs;

use super::super::Override;
use super::super::request::{Flow, Request};
use super::audiences::Audiences;
use super::locations::{FoundToken, TokenLocations};
use super::payload::{ToldMetadata, tell, write_headers};
use super::status::JwtFailure;
use super::token::JsonWebToken;
use super::{FailureReply, JwtAuthn, Otherwise, ProviderKeys, TokenRequirement, Tolerance, remote};
use crate::engine::reply::Reply;

/// Under which name other filters find what was found out.
const METADATA: &str = "envoy.filters.http.jwt_authn";
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// Bytes of the path that a refusal repeats.
const LONGEST_REALM: usize = 256;

/// What became of a requirement; the outer error is an answer that has nothing to do with tokens.
type Judged = Result<Result<(), JwtFailure>, Box<Reply>>;

/// What the tokens of a request said so far.
#[derive(Default)]
struct Verified {
    told: ToldMetadata,
    route_again: bool,
}

impl JwtAuthn {
    pub(in super::super) async fn on_request(
        &self,
        request: &mut Request<'_>,
        special: Option<&Override>,
    ) -> Flow {
        let worker = request.stream.connection.worker.clone();
        if self.bypasses_preflights && is_preflight(request) {
            worker.shard.inc(self.stats.cors_preflight_bypassed);
            worker.shard.inc(self.stats.allowed);
            return Flow::Continue;
        }
        let requirement = match special.and_then(Override::jwt_authn) {
            Some(name) => match self.named.get(name) {
                Some(requirement) => Some(requirement),
                None => return self.wrong_name(request, name),
            },
            None => {
                let random = worker.random();
                let rule = self.rules.iter().find(|(matches, _)| matches.matches(&request.head(), random));
                rule.and_then(|(_, requirement)| requirement.as_ref())
            }
        };
        let mut verified = Verified::default();
        let judged = match requirement {
            None => Ok(Ok(())),
            Some(requirement) => {
                let realm = realm(request);
                match self.judge(requirement, request, &mut verified).await {
                    Ok(Err(failure)) => return self.refuse(request, failure, &realm),
                    judged => judged,
                }
            }
        };
        match judged {
            Err(reply) => return Flow::Reply(reply),
            Ok(_) => worker.shard.inc(self.stats.allowed),
        }
        if !verified.told.is_empty() {
            let metadata = request.stream.metadata.get_or_insert_default();
            verified.told.into_iter().for_each(|(name, value)| metadata.set(METADATA, name, value));
        }
        if verified.route_again { Flow::RouteAgain } else { Flow::Continue }
    }

    /// Boxed, since requirements may stand in each other.
    fn judge<'a>(
        &'a self,
        requirement: &'a TokenRequirement,
        request: &'a mut Request<'_>,
        verified: &'a mut Verified,
    ) -> Pin<Box<dyn Future<Output = Judged> + 'a>> {
        Box::pin(async move {
            match requirement {
                TokenRequirement::Nothing => Ok(Ok(())),
                TokenRequirement::Provider { provider, audiences, locations } => {
                    let wanted = WantedToken { provider: Some(*provider), audiences: audiences.as_ref() };
                    self.judge_tokens(locations, &wanted, None, request, verified).await
                }
                TokenRequirement::Optional { tolerance, locations } => {
                    let wanted = WantedToken { provider: None, audiences: None };
                    self.judge_tokens(locations, &wanted, Some(*tolerance), request, verified).await
                }
                TokenRequirement::Any { requirements, otherwise } => {
                    let mut failure = JwtFailure::Missing;
                    for one in requirements {
                        match self.judge(one, request, verified).await? {
                            Ok(()) => return Ok(Ok(())),
                            Err(one) if !one.is_of_another() || failure == JwtFailure::Missing => {
                                failure = one
                            }
                            Err(_) => {}
                        }
                    }
                    Ok(match otherwise {
                        Otherwise::AllowMissingOrFailed => Ok(()),
                        Otherwise::AllowMissing if failure == JwtFailure::Missing => Ok(()),
                        Otherwise::AllowMissing | Otherwise::Refuse => Err(failure),
                    })
                }
                TokenRequirement::All(requirements) => {
                    for one in requirements {
                        if let Err(failure) = self.judge(one, request, verified).await? {
                            return Ok(Err(failure));
                        }
                    }
                    Ok(Ok(()))
                }
            }
        })
    }

    /// Judges all tokens in some places, the last first. All have to be good: a server must not take a bad one beside a good
    /// one for what was verified.
    async fn judge_tokens(
        &self,
        locations: &TokenLocations,
        wanted: &WantedToken<'_>,
        tolerance: Option<Tolerance>,
        request: &mut Request<'_>,
        verified: &mut Verified,
    ) -> Judged {
        locations.sanitize(&mut request.parts.headers);
        let failed = |failure| match tolerance {
            Some(Tolerance::MissingOrFailed) => Ok(()),
            Some(Tolerance::Missing) if failure == JwtFailure::Missing => Ok(()),
            Some(Tolerance::Missing) | None => Err(failure),
        };
        let Ok(mut tokens) = locations.find(request.parts) else { return Ok(failed(JwtFailure::TooMany)) };
        if tokens.is_empty() {
            return Ok(failed(JwtFailure::Missing));
        }
        let mut outcome = Ok(());
        while let Some(found) = tokens.pop() {
            match self.judge_one(&found, wanted, request, verified).await? {
                Ok(()) => {}
                Err(failure) if tolerance == Some(Tolerance::MissingOrFailed) => outcome = failed(failure),
                Err(failure) => return Ok(failed(failure)),
            }
        }
        Ok(outcome)
    }

    async fn judge_one(
        &self,
        found: &FoundToken<'_>,
        wanted: &WantedToken<'_>,
        request: &mut Request<'_>,
        verified: &mut Verified,
    ) -> Judged {
        if wanted.provider.is_some() {
            request.stream.connection.worker.shard.inc(self.stats.jwt_cache_miss);
        }
        let token = match JsonWebToken::parse(&found.text) {
            Ok(token) => token,
            Err(failure) => return Ok(Err(failure)),
        };
        if !found.issuers.include(token.issuer()) {
            return Ok(Err(JwtFailure::UnknownIssuer));
        }
        let Some(provider) = wanted.provider.or_else(|| self.by_issuer(token.issuer())) else {
            return Ok(Err(JwtFailure::UnknownIssuer));
        };
        let provider = &self.providers[provider];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Err(failure) = provider.accepts(&token, now, wanted.audiences) {
            return Ok(Err(failure));
        }
        let judged = match &provider.keys {
            ProviderKeys::Given(keys) => keys.verify(&token),
            ProviderKeys::Fetched(source) => match remote::keys(source, &self.stats, request).await? {
                Ok(keys) => keys.verify(&token),
                Err(failure) => Err(failure),
            },
        };
        if judged.is_ok() {
            let any = write_headers(provider, &token, &mut request.parts.headers);
            verified.route_again |= any && provider.clear_route_cache;
            if !provider.forward {
                found.remove(request.parts);
            }
            tell(provider, token, &mut verified.told);
        }
        Ok(judged)
    }

    fn refuse(&self, request: &Request<'_>, failure: JwtFailure, realm: &str) -> Flow {
        request.stream.connection.worker.shard.inc(self.stats.denied);
        let text = failure.to_string();
        let reply = Reply::new(failure.status(), details(&text));
        if self.failure == FailureReply::StatusAlone {
            return Flow::Reply(Box::new(reply));
        }
        let error = if failure == JwtFailure::Missing { "" } else { ", error=\"invalid_token\"" };
        let mut reply = reply.body(text);
        if let Ok(challenge) = HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}")) {
            reply = reply.header(WWW_AUTHENTICATE, challenge);
        }
        Flow::Reply(Box::new(reply))
    }

    /// A route names a requirement that this listener does not have.
    fn wrong_name(&self, request: &Request<'_>, name: &str) -> Flow {
        request.stream.connection.worker.shard.inc(self.stats.denied);
        let names: Vec<&str> = self.named.keys().map(AsRef::as_ref).collect();
        let text = format!("Wrong requirement_name: {name}. It should be one of [{}]", names.join(","));
        let reply = Reply::new(StatusCode::FORBIDDEN, details(&text));
        Flow::Reply(Box::new(match self.failure {
            FailureReply::Reason => reply.body(format!("Failed JWT authentication: {text}")),
            FailureReply::StatusAlone => reply,
        }))
    }
}

/// Whose token a requirement wants.
struct WantedToken<'a> {
    /// `None` takes the one of the token's issuer.
    provider: Option<usize>,
    audiences: Option<&'a Audiences>,
}

impl super::TokenProvider {
    /// Whether a token would do, once its signature is verified.
    fn accepts(
        &self,
        token: &JsonWebToken<'_>,
        now: u64,
        audiences: Option<&Audiences>,
    ) -> Result<(), JwtFailure> {
        token.is_timely(now, self.clock_skew)?;
        if !audiences.unwrap_or(&self.audiences).allow(&token.audiences) {
            return Err(JwtFailure::AudienceNotAllowed);
        }
        let subject = token.subject().as_bytes();
        let is_allowed =
            self.subjects.as_ref().is_none_or(|wanted| wanted.matches(subject, UndecidedAs::Miss));
        if is_allowed && token.is_short_enough(now, self.lifetime) {
            Ok(())
        } else {
            Err(JwtFailure::VerificationFails)
        }
    }
}

/// Response code details have no white space: they stand in a line of the access log.
fn details(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect();
    format!("jwt_authn_access_denied{{{text}}}")
}

/// What was asked for, as a refusal repeats it.
fn realm(request: &Request<'_>) -> String {
    let head = request.head();
    let original = head.headers.get(ORIGINAL_PATH).and_then(|path| path.to_str().ok());
    let path = original.unwrap_or(head.path);
    let end = (0..=LONGEST_REALM.min(path.len())).rev().find(|end| path.is_char_boundary(*end));
    format!("{}://{}{}", head.scheme, head.authority, &path[..end.unwrap_or(0)])
}

fn is_preflight(request: &Request<'_>) -> bool {
    let has = |name: HeaderName| request.parts.headers.get(name).is_some_and(|value| !value.is_empty());
    request.parts.method == Method::OPTIONS && has(ORIGIN) && has(ACCESS_CONTROL_REQUEST_METHOD)
}
