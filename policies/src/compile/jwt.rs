//! AuthenticationPolicies as Envoy's filter of tokens, before authorization.
//!
//! Providers stand in the listener, since a route cannot have them; whether a token is required stands in the route, so that
//! it takes effect at once on connections that exist. Where it is, authorization refuses as well what comes without
//! verified claims: a connection of a listener that is being replaced has no such filter, or an older one.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
use envoy_types::pb::envoy::config::core::v3::{
    BackoffStrategy, DataSource, HttpUri, RetryPolicy, TransportSocket, data_source, http_uri,
};
use envoy_types::pb::envoy::config::rbac::v3::{
    MetadataSource, Permission, Policy, Principal, SourcedMetadata, permission, principal,
};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    self as wire_jwt, JwksAsyncFetch, JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtRequirement,
    JwtRequirementOrList, PerRouteConfig, RemoteJwks, jwt_provider, jwt_requirement::RequiresType,
    per_route_config,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::{MetadataMatcher, ValueMatcher, value_matcher};
use prost::Message;
use weft_api::names::{Name, ServiceId, cluster_name};
use weft_api::resource::{Resource, ResourceKind, ResourceRef, Version};

use super::compiled::Compiled;
use super::model::Model;
use super::overrides::FilterOverrides;
use super::{http, server, tls, wire};
use crate::kinds::authentication_policy::{JwksSource, JwtProvider};
use crate::kinds::port::{Port, Protocol};
use crate::object::PolicyKey;
use crate::set::{Effective, EffectiveAuthentication};
use crate::value::KeysUrl;

/// The filter, and the name under which authorization finds what it found out.
const FILTER: &str = "envoy.filters.http.jwt_authn";
/// Where a token's payload is in that.
const PAYLOAD: &str = "payload";
/// What a route may name.
const REQUIRED: &str = "required";
const OPTIONAL: &str = "optional";
/// Claims that are lists, written as one text (RFC 8693 section 4.2, and what others do).
const SPACE_DELIMITED: [&str; 2] = ["scope", "scp"];

/// Roots of the machine: Debian, Ubuntu, Alpine, Arch and images made of them have them there.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Of one fetch of keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long fetched keys do: so long a key that was withdrawn may still be believed.
const CACHE_DURATION: Duration = Duration::from_secs(300);
/// How long nobody asks again after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
const RETRIES: u32 = 2;
const BACKOFF: Duration = Duration::from_millis(250);

/// Fields `providers` and `requirement_map` of the filter.
const PROVIDERS: u32 = 1;
const REQUIREMENT_MAP: u32 = 5;

/// What requests to one port have to prove.
#[derive(Debug)]
pub(super) struct PortJwt(Option<Effective<crate::kinds::authentication_policy::JwtAuthentication>>);

impl PortJwt {
    pub(super) fn of(service: &ServiceId, port: &Port, model: &Model<'_>) -> Self {
        if !port.protocol.is_http() {
            return Self(None);
        }
        let EffectiveAuthentication { jwt } = model.set.authentication_for(service, &port.name);
        Self(jwt)
    }

    fn providers(&self) -> impl Iterator<Item = &JwtProvider> {
        self.0.iter().flat_map(|jwt| &jwt.value.providers)
    }

    fn namespace(&self) -> Option<&Name> {
        self.0.as_ref().map(|jwt| &jwt.origin.namespace)
    }

    /// The policy that speaks.
    pub(super) fn origin(&self) -> Option<PolicyKey> {
        self.0.as_ref().map(|jwt| jwt.origin.clone())
    }

    /// The filter of the listener, where tokens are taken.
    pub(super) fn http_filter(&self, model: &Model<'_>) -> Option<HttpFilter> {
        let namespace = self.namespace()?;
        let mut config = Vec::new();
        let providers =
            self.providers().map(|one| (one.name.as_str(), provider(one, namespace, model).encode_to_vec()));
        wire::append_map(&mut config, PROVIDERS, providers);
        let named = |one: &JwtProvider| requirement(RequiresType::ProviderName(one.name.to_string()));
        let each: Vec<JwtRequirement> = self.providers().map(named).collect();
        let optional = requirement(RequiresType::AllowMissing(Default::default()));
        let optional: Vec<JwtRequirement> = each.iter().cloned().chain([optional]).collect();
        let named = [(REQUIRED, any(each)), (OPTIONAL, any(optional))];
        let named = named.into_iter().map(|(name, one)| (name, one.encode_to_vec()));
        wire::append_map(&mut config, REQUIREMENT_MAP, named);
        Some(http::http_filter(FILTER, wire::packed::<JwtAuthentication>(config)))
    }

    /// Tells the filter what the requests of a route need.
    pub(super) fn per_route(&self, overrides: &mut FilterOverrides) {
        let Some(jwt) = &self.0 else { return };
        let name = if jwt.value.required { REQUIRED } else { OPTIONAL };
        let specifier = per_route_config::RequirementSpecifier::RequirementName(name.to_owned());
        overrides.insert(FILTER, wire::any(&PerRouteConfig { requirement_specifier: Some(specifier) }));
    }

    /// The clusters from which keys are fetched outside of the mesh.
    pub(super) fn clusters(&self) -> Vec<Compiled> {
        let outside = self.providers().filter_map(|one| Some((outside_cluster(&one.jwks)?, &one.jwks)));
        let compiled = outside.filter_map(|(name, keys)| {
            let uri = keys.uri.as_ref()?;
            Some(Compiled::new(
                cluster_of(&name, uri, keys.ca_certificates.as_deref()),
                self.origin().into_iter().collect(),
            ))
        });
        compiled.collect()
    }

    /// The clusters of services that have keys.
    pub(super) fn refs(&self, model: &Model<'_>) -> Vec<ResourceRef> {
        let Some(namespace) = self.namespace() else { return Vec::new() };
        let clusters = self.providers().filter_map(|one| mesh_cluster(&one.jwks, namespace, model));
        clusters.map(|name| ResourceRef::new(ResourceKind::Cluster, name)).collect()
    }
}

/// One of several, or the one.
fn any(mut requirements: Vec<JwtRequirement>) -> JwtRequirement {
    match requirements.len() {
        1 => requirements.remove(0),
        _ => requirement(RequiresType::RequiresAny(JwtRequirementOrList { requirements })),
    }
}

fn requirement(requires: RequiresType) -> JwtRequirement {
    JwtRequirement { requires_type: Some(requires) }
}

fn provider(given: &JwtProvider, namespace: &Name, model: &Model<'_>) -> wire_jwt::JwtProvider {
    let from = given.from.clone().unwrap_or_default();
    let headers = from.headers.iter().map(|header| JwtHeader {
        name: header.name.as_str().to_owned(),
        value_prefix: header.prefix.clone(),
    });
    let claims = given.claim_to_headers.iter().map(|claim| JwtClaimToHeader {
        header_name: claim.header.as_str().to_owned(),
        claim_name: claim.claim.clone(),
        ..Default::default()
    });
    wire_jwt::JwtProvider {
        issuer: given.issuer.clone(),
        audiences: given.audiences.clone(),
        forward: given.forward,
        from_headers: headers.collect(),
        from_params: from.params,
        from_cookies: from.cookies,
        claim_to_headers: claims.collect(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(jwt_provider::NormalizePayload {
            space_delimited_claims: SPACE_DELIMITED.map(str::to_owned).to_vec(),
        }),
        jwks_source_specifier: keys(&given.jwks, namespace, model),
        ..Default::default()
    }
}

fn keys(
    given: &JwksSource,
    namespace: &Name,
    model: &Model<'_>,
) -> Option<jwt_provider::JwksSourceSpecifier> {
    if let Some(keys) = &given.inline {
        return Some(jwt_provider::JwksSourceSpecifier::LocalJwks(text(keys)));
    }
    let cluster = outside_cluster(given).or_else(|| mesh_cluster(given, namespace, model));
    let uri = HttpUri {
        uri: given.uri.as_ref()?.to_string(),
        http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(
            // A service that does not exist has no keys either: fetching fails, and so does every token.
            cluster.unwrap_or_else(|| "unresolved".to_owned()),
        )),
        timeout: Some(wire::duration(FETCH_TIMEOUT)),
    };
    Some(jwt_provider::JwksSourceSpecifier::RemoteJwks(RemoteJwks {
        http_uri: Some(uri),
        cache_duration: Some(wire::duration(CACHE_DURATION)),
        async_fetch: Some(JwksAsyncFetch {
            fast_listener: true,
            failed_refetch_duration: Some(wire::duration(AFTER_FAILURE)),
        }),
        retry_policy: Some(RetryPolicy {
            num_retries: Some(wire::uint32(RETRIES)),
            retry_back_off: Some(BackoffStrategy {
                base_interval: Some(wire::duration(BACKOFF)),
                ..Default::default()
            }),
            ..Default::default()
        }),
    }))
}

fn text(text: &str) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

/// The cluster of a service of the mesh that has keys.
fn mesh_cluster(keys: &JwksSource, namespace: &Name, model: &Model<'_>) -> Option<String> {
    let backend = keys.backend_ref.as_ref()?;
    let service = backend.service(namespace);
    let port = model.set.service(&service)?.spec.backend_port(backend.port)?;
    port.protocol.is_http().then(|| cluster_name(&service, port.name.as_str(), None))
}

/// The name of the cluster of a server outside. No service's cluster is called so: those begin with a namespace, which has no
/// dots. Other roots make another cluster.
fn outside_cluster(keys: &JwksSource) -> Option<String> {
    let uri = keys.uri.as_ref().filter(|_| keys.backend_ref.is_none())?;
    let roots = keys.ca_certificates.as_ref().map_or_else(String::new, |roots| {
        format!("/{}", Version::of(ResourceKind::Cluster, "roots", roots.as_bytes()))
    });
    Some(format!("jwks.https/{}:{}{roots}", uri.host(), uri.port()))
}

fn cluster_of(name: &str, uri: &KeysUrl, roots: Option<&str>) -> Arc<Resource> {
    let discovery = if uri.address().is_some() { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let server = (uri.host().to_owned(), uri.port());
    server::cluster(name, discovery, server, Protocol::Http, Some(outside(uri, roots)))
}

/// TLS to a server outside: its certificate is of one of the roots, and for the host.
fn outside(uri: &KeysUrl, roots: Option<&str>) -> TransportSocket {
    let san_type = match uri.address() {
        Some(_) => SanType::IpAddress,
        None => SanType::Dns,
    };
    let trusted = match roots {
        Some(roots) => text(roots),
        None => DataSource {
            specifier: Some(data_source::Specifier::Filename(SYSTEM_ROOTS.to_owned())),
            ..Default::default()
        },
    };
    let validation = CertificateValidationContext {
        trusted_ca: Some(trusted),
        match_typed_subject_alt_names: vec![tls::san(san_type, uri.host())],
        ..Default::default()
    };
    let sni = if uri.address().is_some() { String::new() } else { uri.host().to_owned() };
    tls::outside_by(ValidationContextType::ValidationContext(validation), sni)
}

/// A principal whose token says this at a path of claims.
pub(super) fn claim(path: &[&str], value: value_matcher::MatchPattern) -> Principal {
    let segment = |key: &str| PathSegment { segment: Some(path_segment::Segment::Key(key.to_owned())) };
    let matcher = MetadataMatcher {
        filter: FILTER.to_owned(),
        path: std::iter::once(PAYLOAD).chain(path.iter().copied()).map(segment).collect(),
        value: Some(ValueMatcher { match_pattern: Some(value) }),
        ..Default::default()
    };
    Principal {
        identifier: Some(principal::Identifier::SourcedMetadata(SourcedMetadata {
            metadata_matcher: Some(matcher),
            metadata_source: MetadataSource::Dynamic as i32,
        })),
    }
}

/// What a Deny takes where a token is required: requests of which none was verified. Every provider has an issuer, so that
/// every token that was verified names it.
pub(super) fn without_token() -> Policy {
    let verified = claim(&["iss"], value_matcher::MatchPattern::PresentMatch(true));
    Policy {
        permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: vec![Principal { identifier: Some(principal::Identifier::NotId(Box::new(verified))) }],
        ..Default::default()
    }
}
