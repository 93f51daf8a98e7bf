//! From Envoy's `JwtAuthentication` and `PerRouteConfig`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as wire_core;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as wire;
use http::HeaderName;
use http::uri::Uri;
use weft_routing::decode::{matcher, route};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};
use wire::jwt_provider::JwksSourceSpecifier;
use wire::jwt_requirement::RequiresType;
use wire::per_route_config::RequirementSpecifier;
use wire::requirement_rule::RequirementType;
use wire_core::http_uri::HttpUpstreamType;

use super::super::Override;
use super::audiences::Audiences;
use super::key_cache::KeySource;
use super::keys::KeySet;
use super::locations::TokenLocations;
use super::token::TokenLifetime;
use super::{
    FailureReply, JwtAuthn, JwtAuthnStats, Otherwise, ProviderKeys, TokenProvider, TokenRequirement,
    Tolerance,
};
use crate::decode::fields;
use crate::stats::{StatsRegistry, StatsScope};

/// Seconds by which clocks may differ, where nothing is said.
const CLOCK_SKEW: u32 = 60;
/// How long fetched keys do, where nothing is said.
const CACHE_DURATION: Duration = Duration::from_secs(600);
/// Of one fetch, where nothing is said: Envoy has the field required.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long nobody asks again after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
const BACKOFF: Duration = Duration::from_secs(1);
/// How deep requirements may stand in each other.
const DEPTH: usize = 8;

type Providers = BTreeMap<String, wire::JwtProvider>;

pub(in super::super) fn filter(
    given: &wire::JwtAuthentication,
    scope: &StatsScope,
    notes: &mut Notes,
    registry: &mut StatsRegistry,
) -> Result<Arc<JwtAuthn>, Rejection> {
    refuse(&given.filter_state_rules, "filter_state_rules")?;
    // By name, so that the one that is first of several of an issuer is the same in every process.
    let providers: Providers = given.providers.clone().into_iter().collect();
    let each = providers
        .iter()
        .map(|(name, one)| provider(one, notes).within(|| format!("providers[{name}]")))
        .collect::<Result<Vec<_>, _>>()?;
    let named = given.requirement_map.iter().map(|(name, one)| {
        let read = requirement(one, &providers, DEPTH).within(|| format!("requirement_map[{name}]"))?;
        Ok((Box::<str>::from(name.as_str()), read))
    });
    let rules =
        given.rules.iter().enumerate().map(|(index, rule)| {
            self::rule(rule, given, &providers, notes).within(|| format!("rules[{index}]"))
        });
    Ok(Arc::new(JwtAuthn {
        rules: rules.collect::<Result<_, _>>()?,
        named: named.collect::<Result<_, _>>()?,
        providers: each,
        bypasses_preflights: given.bypass_cors_preflight,
        failure: if given.strip_failure_response { FailureReply::StatusAlone } else { FailureReply::Reason },
        stats: JwtAuthnStats::register(registry, scope, &given.stat_prefix),
    }))
}

fn rule(
    given: &wire::RequirementRule,
    filter: &wire::JwtAuthentication,
    providers: &Providers,
    notes: &mut Notes,
) -> Result<(weft_routing::route::RouteMatch, Option<TokenRequirement>), Rejection> {
    let matches = given.r#match.as_ref().ok_or_else(|| Rejection::new("match", "is missing"))?;
    let matches = route::route_match(matches, notes).within(|| "match")?;
    let requirement = match &given.requirement_type {
        None => None,
        Some(RequirementType::Requires(one)) => {
            Some(requirement(one, providers, DEPTH).within(|| "requires")?)
        }
        Some(RequirementType::RequirementName(name)) => {
            let one = filter.requirement_map.get(name);
            let one = one.ok_or_else(|| {
                Rejection::new("requirement_name", format!("{name:?} is not in requirement_map"))
            })?;
            Some(requirement(one, providers, DEPTH)?)
        }
    };
    Ok((matches, requirement))
}

fn requirement(
    given: &wire::JwtRequirement,
    providers: &Providers,
    depth: usize,
) -> Result<TokenRequirement, Rejection> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(Rejection::new("", format!("has more than {DEPTH} requirements in each other")));
    };
    let of_all = |tolerance| -> Result<_, Rejection> {
        let mut locations = TokenLocations::default();
        providers.values().try_for_each(|one| add(&mut locations, one))?;
        Ok(TokenRequirement::Optional { tolerance, locations })
    };
    match &given.requires_type {
        None => Ok(TokenRequirement::Nothing),
        Some(RequiresType::ProviderName(name)) => {
            of_provider(name, None, providers).within(|| "provider_name")
        }
        Some(RequiresType::ProviderAndAudiences(both)) => {
            let audiences = (!both.audiences.is_empty()).then(|| Audiences::new(&both.audiences));
            of_provider(&both.provider_name, audiences, providers).within(|| "provider_and_audiences")
        }
        Some(RequiresType::RequiresAny(list)) => any(list, providers, deeper).within(|| "requires_any"),
        Some(RequiresType::RequiresAll(list)) => {
            several(&list.requirements).within(|| "requires_all")?;
            let each = list.requirements.iter().map(|one| requirement(one, providers, deeper));
            Ok(TokenRequirement::All(each.collect::<Result<_, _>>().within(|| "requires_all")?))
        }
        Some(RequiresType::AllowMissingOrFailed(_)) => of_all(Tolerance::MissingOrFailed),
        Some(RequiresType::AllowMissing(_)) => of_all(Tolerance::Missing),
        Some(RequiresType::ExtractOnlyWithoutValidation(_)) => {
            Err(Rejection::unsupported("extract_only_without_validation"))
        }
    }
}

fn several(requirements: &[wire::JwtRequirement]) -> Result<(), Rejection> {
    if requirements.len() < 2 {
        return Err(Rejection::new("requirements", "has less than two"));
    }
    Ok(())
}

/// As in Envoy, what may be missing or fail is no requirement of its own beside others: it is asked when none is met.
fn any(
    list: &wire::JwtRequirementOrList,
    providers: &Providers,
    depth: usize,
) -> Result<TokenRequirement, Rejection> {
    several(&list.requirements)?;
    let (mut requirements, mut otherwise) = (Vec::new(), Otherwise::Refuse);
    for one in &list.requirements {
        match &one.requires_type {
            Some(RequiresType::AllowMissingOrFailed(_)) => otherwise = Otherwise::AllowMissingOrFailed,
            Some(RequiresType::AllowMissing(_)) if otherwise == Otherwise::Refuse => {
                otherwise = Otherwise::AllowMissing;
            }
            Some(RequiresType::AllowMissing(_)) => {}
            _ => requirements.push(requirement(one, providers, depth)?),
        }
    }
    if requirements.is_empty() {
        let requires_type = Some(match otherwise {
            Otherwise::AllowMissing => RequiresType::AllowMissing(Default::default()),
            Otherwise::Refuse | Otherwise::AllowMissingOrFailed => {
                RequiresType::AllowMissingOrFailed(Default::default())
            }
        });
        return requirement(&wire::JwtRequirement { requires_type }, providers, depth);
    }
    Ok(TokenRequirement::Any { requirements, otherwise })
}

fn of_provider(
    name: &str,
    audiences: Option<Audiences>,
    providers: &Providers,
) -> Result<TokenRequirement, Rejection> {
    let unknown = || Rejection::new("", format!("there is no provider {name:?}"));
    let place = providers.keys().position(|one| one == name).ok_or_else(unknown)?;
    let mut locations = TokenLocations::default();
    add(&mut locations, providers.get(name).ok_or_else(unknown)?)?;
    Ok(TokenRequirement::Provider { provider: place, audiences, locations })
}

fn add(locations: &mut TokenLocations, provider: &wire::JwtProvider) -> Result<(), Rejection> {
    let headers = provider.from_headers.iter().map(|header| {
        Ok((header_name(&header.name, "from_headers.name")?, header.value_prefix.as_str().into()))
    });
    let headers = headers.collect::<Result<Vec<_>, Rejection>>()?;
    locations.add(&provider.issuer, &headers, &provider.from_params, &provider.from_cookies);
    if !provider.forward_payload_header.is_empty() {
        locations.will_write(&header_name(&provider.forward_payload_header, "forward_payload_header")?);
    }
    for claim in &provider.claim_to_headers {
        locations.will_write(&header_name(&claim.header_name, "claim_to_headers.header_name")?);
    }
    Ok(())
}

fn header_name(name: &str, field: &str) -> Result<HeaderName, Rejection> {
    let known = HeaderName::try_from(name).ok().filter(|name| *name != http::header::HOST);
    known.ok_or_else(|| Rejection::new(field, format!("{name:?} is not the name of a header")))
}

fn provider(given: &wire::JwtProvider, notes: &mut Notes) -> Result<TokenProvider, Rejection> {
    // Who reads it would let requests on by it.
    refuse(&given.failed_status_in_metadata, "failed_status_in_metadata")?;
    notes.ignored(&given.jwt_cache_config, "jwt_authn.jwt_cache_config");
    // It is read once more where a requirement names the provider, and wrong there too.
    add(&mut TokenLocations::default(), given)?;
    let payload_header = &given.forward_payload_header;
    let claims = given.claim_to_headers.iter().map(|claim| {
        let name = header_name(&claim.header_name, "claim_to_headers.header_name")?;
        let path = match (claim.claim_name.as_str(), &claim.claim_path[..]) {
            ("", []) => return Err(Rejection::new("claim_to_headers.claim_name", "is missing")),
            (name, []) => name.split('.').map(Box::from).collect(),
            ("", path) => path.iter().map(|segment| segment.key.as_str().into()).collect(),
            (_, _) => {
                return Err(Rejection::new("claim_to_headers.claim_path", "is given beside claim_name"));
            }
        };
        Ok((path, name))
    });
    let normalized = given.normalize_payload_in_metadata.as_ref();
    let named = |name: &String| (!name.is_empty()).then(|| name.as_str().into());
    Ok(TokenProvider {
        issuer: given.issuer.as_str().into(),
        audiences: Audiences::new(&given.audiences),
        subjects: given.subjects.as_ref().map(matcher::string).transpose().within(|| "subjects")?,
        lifetime: lifetime(given)?,
        keys: keys(given, notes)?,
        forward: given.forward,
        payload_header: match payload_header.as_str() {
            "" => None,
            name => Some((header_name(name, "forward_payload_header")?, given.pad_forward_payload_header)),
        },
        claim_headers: claims.collect::<Result<_, _>>()?,
        payload_in_metadata: named(&given.payload_in_metadata),
        header_in_metadata: named(&given.header_in_metadata),
        space_delimited: normalized
            .map(|one| one.space_delimited_claims.iter().map(|claim| claim.as_str().into()).collect())
            .unwrap_or_default(),
        clock_skew: u64::from(match given.clock_skew_seconds {
            0 => CLOCK_SKEW,
            seconds => seconds,
        }),
        clear_route_cache: given.clear_route_cache,
    })
}

fn lifetime(given: &wire::JwtProvider) -> Result<TokenLifetime, Rejection> {
    Ok(match fields::duration(given.max_lifetime.as_ref(), "max_lifetime")? {
        Some(most) => TokenLifetime::Below(most),
        None if given.require_expiration => TokenLifetime::Finite,
        None => TokenLifetime::Any,
    })
}

fn keys(given: &wire::JwtProvider, notes: &mut Notes) -> Result<ProviderKeys, Rejection> {
    match &given.jwks_source_specifier {
        Some(JwksSourceSpecifier::LocalJwks(source)) => {
            let text = fields::content(source).within(|| "local_jwks")?;
            let keys = KeySet::parse(&text).map_err(|error| Rejection::new("local_jwks", error.to_string()));
            keys.map(ProviderKeys::Given)
        }
        Some(JwksSourceSpecifier::RemoteJwks(remote)) => {
            let source = source(remote, notes).within(|| "remote_jwks")?;
            Ok(ProviderKeys::Fetched(Arc::new(source)))
        }
        None => Err(Rejection::new("jwks_source_specifier", "local_jwks or remote_jwks is needed")),
    }
}

fn source(given: &wire::RemoteJwks, notes: &mut Notes) -> Result<KeySource, Rejection> {
    let from = given.http_uri.as_ref().ok_or_else(|| Rejection::new("http_uri", "is missing"))?;
    let cluster = match &from.http_upstream_type {
        Some(HttpUpstreamType::Cluster(cluster)) if !cluster.is_empty() => cluster.as_str().into(),
        Some(HttpUpstreamType::Cluster(_)) | None => {
            return Err(Rejection::new("http_uri.cluster", "is missing"));
        }
    };
    let wrong = || Rejection::new("http_uri.uri", format!("{:?} is no URI of a host", from.uri));
    let uri: Uri = from.uri.parse().map_err(|_| wrong())?;
    let authority = uri.authority().cloned().ok_or_else(wrong)?;
    let path = uri.path_and_query().cloned().ok_or_else(wrong)?;
    let mut cache_duration = CACHE_DURATION;
    if let Some(given) = fields::duration(given.cache_duration.as_ref(), "cache_duration")? {
        if given < Duration::from_millis(1) {
            return Err(Rejection::new("cache_duration", "is less than 1ms"));
        }
        cache_duration = given;
    }
    let ahead = given.async_fetch.as_ref();
    // Keys are fetched when they are needed first: no listener waits for them.
    notes.ignored(
        ahead.is_some_and(|ahead| !ahead.fast_listener),
        "jwt_authn.remote_jwks.async_fetch.fast_listener",
    );
    let after_failure = ahead.and_then(|ahead| ahead.failed_refetch_duration.as_ref());
    let after_failure = fields::duration(after_failure, "async_fetch.failed_refetch_duration")?;
    let (retries, backoff, longest_backoff) = match &given.retry_policy {
        Some(policy) => retries(policy, notes).within(|| "retry_policy")?,
        None => (0, BACKOFF, BACKOFF),
    };
    Ok(KeySource {
        cluster,
        authority,
        path,
        timeout: fields::timeout(from.timeout.as_ref(), Some(TIMEOUT), "http_uri.timeout")?,
        cache_duration,
        retries,
        backoff,
        longest_backoff,
        after_failure: after_failure.unwrap_or(AFTER_FAILURE),
        keeps_old: ahead.is_some(),
    })
}

fn retries(
    given: &wire_core::RetryPolicy,
    notes: &mut Notes,
) -> Result<(u32, Duration, Duration), Rejection> {
    notes.ignored(&given.retry_on, "jwt_authn.remote_jwks.retry_policy.retry_on");
    notes.ignored(&given.retry_priority, "jwt_authn.remote_jwks.retry_policy.retry_priority");
    let hosts = &given.retry_host_predicate;
    notes.ignored(hosts, "jwt_authn.remote_jwks.retry_policy.retry_host_predicate");
    let waits = given.retry_back_off.as_ref();
    let base = fields::duration(waits.and_then(|waits| waits.base_interval.as_ref()), "base_interval")?;
    let base = base.unwrap_or(BACKOFF);
    let longest = fields::duration(waits.and_then(|waits| waits.max_interval.as_ref()), "max_interval")?;
    let longest = longest.unwrap_or(base.saturating_mul(10));
    if longest < base {
        return Err(Rejection::new("retry_back_off.max_interval", "is less than base_interval"));
    }
    Ok((fields::number(given.num_retries.as_ref()).unwrap_or(1), base, longest))
}

pub(in super::super) fn per_route(given: &wire::PerRouteConfig) -> Result<Override, Rejection> {
    match &given.requirement_specifier {
        Some(RequirementSpecifier::Disabled(true)) => Ok(Override::Disabled),
        Some(RequirementSpecifier::Disabled(false)) => {
            Err(Rejection::new("disabled", "may only be true; name a requirement instead"))
        }
        Some(RequirementSpecifier::RequirementName(name)) if !name.is_empty() => {
            Ok(Override::JwtAuthn(name.as_str().into()))
        }
        Some(RequirementSpecifier::RequirementName(_)) | None => {
            Err(Rejection::new("requirement_specifier", "disabled or requirement_name is needed"))
        }
    }
}
