//! The TLS contexts: of the mesh one for all inbound chains and one for each port of a service, and that of servers outside.
//!
//! Within the mesh TLS 1.3 only, key exchange groups set explicitly (Envoy's defaults differ by build), no session resumption,
//! secrets by SDS on the same stream. The SAN list stands in the context, the bundle in the secret: Envoy merges
//! both and would OR matchers that stood in both.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext, downstream_tls_context, tls_parameters,
};
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use weft_api::names::{BUNDLE_SECRET, IDENTITY_SECRET, SYSTEM_ROOTS_SECRET, SpiffeId};
use weft_api::resource::{ResourceKind, ResourceRef};

use super::wire;
use crate::kinds::external_service::ExternalTls;
use crate::value::{Hostname, SubjectAltName};

const CURVES: [&str; 3] = ["X25519MLKEM768", "X25519", "P-256"];

/// What a listener offers. A client that names none still speaks its protocol: the codec looks at the first bytes.
pub(super) const HTTP_ALPN: [&str; 2] = ["h2", "http/1.1"];

/// The server's side: a client certificate of the mesh is required.
pub(super) fn downstream(alpn: &[&str]) -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: alpn.iter().map(|&name| name.to_owned()).collect(),
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(secret(
                BUNDLE_SECRET,
            ))),
            ..common()
        }),
        require_client_certificate: Some(BoolValue { value: true }),
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(
            downstream_tls_context::SessionTicketKeysType::DisableStatelessSessionResumption(true),
        ),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", wire::any(&context))
}

/// The client's side: the server must hold one of `identities`, exactly.
pub(super) fn upstream(sni: String, identities: &[SpiffeId]) -> TransportSocket {
    let names = identities.iter().map(|identity| san(SanType::Uri, &identity.to_string()));
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            match_typed_subject_alt_names: names.collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(BUNDLE_SECRET)),
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
            ..common()
        }),
        sni,
        max_session_keys: Some(wire::uint32(0)),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", wire::any(&context))
}

/// The client's side with a server outside: it must hold one of the names, of an authority that the policy names or that the
/// machine's system trusts, and is shown no certificate of ours. TLS 1.2 is spoken too, since not all out there know 1.3.
pub(super) fn outside(tls: &ExternalTls, server: &Hostname) -> TransportSocket {
    let names = if tls.subject_alt_names.is_empty() {
        vec![san(SanType::Dns, server.as_str())]
    } else {
        let name = |name: &SubjectAltName| {
            let kind = match name {
                SubjectAltName::Dns(_) => SanType::Dns,
                SubjectAltName::Ip(_) => SanType::IpAddress,
                SubjectAltName::Uri(_) => SanType::Uri,
            };
            san(kind, &name.to_string())
        };
        tls.subject_alt_names.iter().map(name).collect()
    };
    let named = CertificateValidationContext { match_typed_subject_alt_names: names, ..Default::default() };
    let validation = match &tls.ca_certificates {
        Some(pem) => ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(wire::text(pem.clone())),
            ..named
        }),
        // A secret without a source is one of the proxy's bootstrap.
        None => ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(named),
            validation_context_sds_secret_config: Some(SdsSecretConfig {
                name: SYSTEM_ROOTS_SECRET.to_owned(),
                sds_config: None,
            }),
            ..Default::default()
        }),
    };
    outside_by(validation, server.as_str().to_owned())
}

/// The same, however the server is verified.
pub(super) fn outside_by(validation: ValidationContextType, sni: String) -> TransportSocket {
    let context = UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            // What servers of the internet speak; a client of Envoy has no 1.3 unless told.
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: tls_parameters::TlsProtocol::TlSv12 as i32,
                tls_maximum_protocol_version: tls_parameters::TlsProtocol::TlSv13 as i32,
                ..Default::default()
            }),
            validation_context_type: Some(validation),
            ..Default::default()
        }),
        sni,
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", wire::any(&context))
}

pub(super) fn san(kind: SanType, name: &str) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher { san_type: kind as i32, matcher: Some(wire::exact(name)), ..Default::default() }
}

/// No TLS: for members without a sidecar.
pub(super) fn plaintext() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", wire::any(&RawBuffer {}))
}

/// The secrets that both contexts name.
pub(super) fn refs() -> [ResourceRef; 2] {
    [IDENTITY_SECRET, BUNDLE_SECRET].map(|name| ResourceRef::new(ResourceKind::Secret, name))
}

fn common() -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: tls_parameters::TlsProtocol::TlSv13 as i32,
            tls_maximum_protocol_version: tls_parameters::TlsProtocol::TlSv13 as i32,
            ecdh_curves: CURVES.map(str::to_owned).to_vec(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(IDENTITY_SECRET)],
        ..Default::default()
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(wire::ads()) }
}

fn socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}
