//! TLS contexts and secrets.

use std::collections::HashMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, Secret, TlsCertificate, TlsParameters,
    UpstreamTlsContext, secret,
};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::trust::trust;
use super::{ConfigSource, ResourceReference, fields};
use crate::runtime::{
    CertifiedIdentity, DownstreamTls, DownstreamTlsSpec, TlsError, TrustSpec, UpstreamTls, UpstreamTlsSpec,
};

/// A secret that is ready to be used.
#[derive(Debug, Clone)]
pub enum SecretPlan {
    /// Certificate chain and key.
    Identity(CertifiedIdentity),
    /// What peers are checked against.
    Trust(Arc<TrustSpec>),
}

/// The secrets that are known at the moment.
pub type KnownSecrets = HashMap<(ConfigSource, Arc<str>), SecretPlan>;

impl SecretPlan {
    /// Reads a secret.
    ///
    /// # Errors
    /// When it is of a kind that is not supported, or its content cannot be used.
    pub fn decode(resource: &Secret, notes: &mut Notes) -> Result<Self, Rejection> {
        match &resource.r#type {
            Some(secret::Type::TlsCertificate(certificate)) => {
                identity(certificate, notes).within(|| "tls_certificate").map(Self::Identity)
            }
            Some(secret::Type::ValidationContext(context)) => {
                let trust = trust(context, notes).within(|| "validation_context")?;
                Ok(Self::Trust(Arc::new(trust)))
            }
            Some(secret::Type::SessionTicketKeys(_)) => Err(Rejection::unsupported("session_ticket_keys")),
            Some(secret::Type::GenericSecret(_)) => Err(Rejection::unsupported("generic_secret")),
            None => Err(Rejection::new("type", "the secret is empty")),
        }
    }
}

/// What a transport socket is.
#[derive(Debug, Clone)]
pub(super) enum Socket<T> {
    Plaintext,
    Tls(Arc<T>),
}

/// A certificate, here or by reference.
#[derive(Debug, Clone)]
enum OwnCertificate {
    None,
    Inline(CertifiedIdentity),
    Sds(ResourceReference),
}

/// A validation context, here, by reference, or a reference completed by what is here.
#[derive(Debug, Clone)]
enum Validation {
    None,
    Inline(Arc<TrustSpec>),
    Sds(ResourceReference),
    Combined(Arc<TrustSpec>, ResourceReference),
}

#[derive(Debug, Clone)]
struct CommonPlan {
    certificate: OwnCertificate,
    validation: Validation,
    alpn: Vec<Vec<u8>>,
    allow_tls12: bool,
}

/// `DownstreamTlsContext`.
#[derive(Debug, Clone)]
pub(super) struct DownstreamPlan {
    common: CommonPlan,
    require_client_certificate: bool,
}

/// `UpstreamTlsContext`.
#[derive(Debug, Clone)]
pub(super) struct UpstreamPlan {
    common: CommonPlan,
    sni: Option<String>,
}

impl CommonPlan {
    fn references(&self) -> impl Iterator<Item = &ResourceReference> {
        let own = match &self.certificate {
            OwnCertificate::Sds(reference) => Some(reference),
            OwnCertificate::None | OwnCertificate::Inline(_) => None,
        };
        let trust = match &self.validation {
            Validation::Sds(reference) | Validation::Combined(_, reference) => Some(reference),
            Validation::None | Validation::Inline(_) => None,
        };
        own.into_iter().chain(trust)
    }

    /// Certificate and trust, `None` while a secret is missing.
    fn resolve(&self, secrets: &KnownSecrets) -> Option<(Option<CertifiedIdentity>, Option<TrustSpec>)> {
        let find =
            |reference: &ResourceReference| secrets.get(&(reference.source.clone(), reference.name.clone()));
        let identity = match &self.certificate {
            OwnCertificate::None => None,
            OwnCertificate::Inline(identity) => Some(identity.clone()),
            OwnCertificate::Sds(reference) => match find(reference)? {
                SecretPlan::Identity(identity) => Some(identity.clone()),
                SecretPlan::Trust(_) => return None,
            },
        };
        let sent = |reference| match find(reference) {
            Some(SecretPlan::Trust(trust)) => Some(trust),
            Some(SecretPlan::Identity(_)) | None => None,
        };
        let trust = match &self.validation {
            Validation::None => None,
            Validation::Inline(trust) => Some(trust.as_ref().clone()),
            Validation::Sds(reference) => Some(sent(reference)?.as_ref().clone()),
            Validation::Combined(own, reference) => Some(merge(own, sent(reference)?)),
        };
        Some((identity, trust))
    }
}

/// The default context, with what the secret adds: lists are joined, roots and lists of revoked ones replaced.
fn merge(own: &TrustSpec, sent: &TrustSpec) -> TrustSpec {
    let or = |a: &Vec<_>, b: &Vec<_>| if a.is_empty() { b.clone() } else { a.clone() };
    TrustSpec {
        roots: or(&sent.roots, &own.roots),
        crls: Arc::clone(if sent.crls.is_empty() { &own.crls } else { &sent.crls }),
        only_leaf_crl: own.only_leaf_crl || sent.only_leaf_crl,
        sans: own.sans.iter().chain(&sent.sans).cloned().collect(),
        certificate_hashes: own.certificate_hashes.iter().chain(&sent.certificate_hashes).copied().collect(),
    }
}

impl DownstreamPlan {
    pub(super) fn references(&self) -> impl Iterator<Item = &ResourceReference> {
        self.common.references()
    }

    /// The prepared context, `None` while a secret is missing.
    pub(super) fn prepare(&self, secrets: &KnownSecrets) -> Option<Result<DownstreamTls, Rejection>> {
        let (identity, trust) = self.common.resolve(secrets)?;
        let spec = DownstreamTlsSpec {
            identity,
            trust,
            require_client_certificate: self.require_client_certificate,
            alpn: self.common.alpn.clone(),
            allow_tls12: self.common.allow_tls12,
        };
        Some(DownstreamTls::prepare(&spec).map_err(|error| unusable(&error)))
    }
}

impl UpstreamPlan {
    pub(super) fn references(&self) -> impl Iterator<Item = &ResourceReference> {
        self.common.references()
    }

    /// The prepared context, `None` while a secret is missing.
    pub(super) fn prepare(&self, secrets: &KnownSecrets) -> Option<Result<UpstreamTls, Rejection>> {
        let (identity, trust) = self.common.resolve(secrets)?;
        let spec = UpstreamTlsSpec {
            identity,
            trust,
            sni: self.sni.clone(),
            alpn: self.common.alpn.clone(),
            allow_tls12: self.common.allow_tls12,
        };
        Some(UpstreamTls::prepare(&spec).map_err(|error| unusable(&error)))
    }
}

fn unusable(error: &TlsError) -> Rejection {
    let field = match error {
        TlsError::NoTrust => ".require_client_certificate",
        TlsError::NoCertificate => ".common_tls_context.tls_certificates",
        TlsError::BadServerName(_) => ".sni",
        TlsError::Unreadable { .. } | TlsError::Certificate(_) | TlsError::Refused(_) => "",
    };
    Rejection::new(format!("transport_socket.typed_config{field}"), error.to_string())
}

/// Reads a listener's transport socket.
pub(super) fn downstream(
    socket: Option<&TransportSocket>,
    notes: &mut Notes,
) -> Result<Socket<DownstreamPlan>, Rejection> {
    let Some((socket, config)) = typed(socket)? else { return Ok(Socket::Plaintext) };
    if fields::holds::<RawBuffer>(config) {
        return Ok(Socket::Plaintext);
    }
    if !fields::holds::<DownstreamTlsContext>(config) {
        return Err(fields::unknown_extension(&socket.name, Some(config), ""));
    }
    let context: DownstreamTlsContext = fields::unpack(config, "typed_config")?;
    refuse(fields::flag(context.require_sni.as_ref()), "typed_config.require_sni")?;
    refuse(context.ocsp_staple_policy != 0, "typed_config.ocsp_staple_policy")?;
    notes.ignored(&context.session_timeout, "tls.session_timeout");
    notes.ignored(context.prefer_client_ciphers, "tls.prefer_client_ciphers");
    notes.ignored(&context.full_scan_certs_on_sni_mismatch, "tls.full_scan_certs_on_sni_mismatch");
    // Sessions are never resumed: keys for tickets have no effect, and asking for none is what is done.
    let tickets = matches!(
        &context.session_ticket_keys_type,
        Some(
            SessionTicketKeysType::SessionTicketKeys(_)
                | SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)
        )
    );
    notes.ignored(tickets, "tls.session_ticket_keys");
    let require_client_certificate = fields::flag(context.require_client_certificate.as_ref());
    let common = common(&context.common_tls_context.unwrap_or_default(), notes)
        .within(|| "typed_config.common_tls_context")?;
    if matches!(common.certificate, OwnCertificate::None) {
        let field = "typed_config.common_tls_context.tls_certificates";
        return Err(Rejection::new(field, "a listener needs a certificate"));
    }
    Ok(Socket::Tls(Arc::new(DownstreamPlan { common, require_client_certificate })))
}

/// Reads a cluster's transport socket.
pub(super) fn upstream(
    socket: Option<&TransportSocket>,
    notes: &mut Notes,
) -> Result<Socket<UpstreamPlan>, Rejection> {
    let Some((socket, config)) = typed(socket)? else { return Ok(Socket::Plaintext) };
    if fields::holds::<RawBuffer>(config) {
        return Ok(Socket::Plaintext);
    }
    if !fields::holds::<UpstreamTlsContext>(config) {
        return Err(fields::unknown_extension(&socket.name, Some(config), ""));
    }
    let context: UpstreamTlsContext = fields::unpack(config, "typed_config")?;
    refuse(context.auto_host_sni, "typed_config.auto_host_sni")?;
    refuse(context.auto_sni_san_validation, "typed_config.auto_sni_san_validation")?;
    notes.ignored(&context.max_session_keys, "tls.max_session_keys");
    notes.ignored(&context.enforce_rsa_key_usage, "tls.enforce_rsa_key_usage");
    notes.ignored(context.allow_renegotiation, "tls.allow_renegotiation");
    let common = common(&context.common_tls_context.unwrap_or_default(), notes)
        .within(|| "typed_config.common_tls_context")?;
    let sni = (!context.sni.is_empty()).then_some(context.sni);
    Ok(Socket::Tls(Arc::new(UpstreamPlan { common, sni })))
}

type TypedSocket<'a> = (&'a TransportSocket, &'a envoy_types::pb::google::protobuf::Any);

fn typed(socket: Option<&TransportSocket>) -> Result<Option<TypedSocket<'_>>, Rejection> {
    let Some(socket) = socket else { return Ok(None) };
    match &socket.config_type {
        Some(ConfigType::TypedConfig(config)) => Ok(Some((socket, config))),
        None if socket.name.ends_with("raw_buffer") => Ok(None),
        None => Err(fields::unknown_extension(&socket.name, None, "")),
    }
}

fn common(context: &CommonTlsContext, notes: &mut Notes) -> Result<CommonPlan, Rejection> {
    refuse(&context.tls_certificate_provider_instance, "tls_certificate_provider_instance")?;
    refuse(&context.custom_tls_certificate_selector, "custom_tls_certificate_selector")?;
    refuse(&context.tls_certificate_certificate_provider, "tls_certificate_certificate_provider")?;
    refuse(
        &context.tls_certificate_certificate_provider_instance,
        "tls_certificate_certificate_provider_instance",
    )?;
    refuse(&context.custom_handshaker, "custom_handshaker")?;
    notes.ignored(&context.key_log, "tls.key_log");
    let allow_tls12 = match &context.tls_params {
        Some(params) => parameters(params, notes).within(|| "tls_params")?,
        None => true,
    };
    let inline = context.tls_certificates.as_slice();
    let by_sds = context.tls_certificate_sds_secret_configs.as_slice();
    notes.ignored(inline.len() + by_sds.len() > 1, "tls.certificates beyond the first");
    let certificate = match (inline.first(), by_sds.first()) {
        (Some(certificate), _) => {
            OwnCertificate::Inline(identity(certificate, notes).within(|| "tls_certificates[0]")?)
        }
        (None, Some(sds)) => {
            OwnCertificate::Sds(reference(sds).within(|| "tls_certificate_sds_secret_configs[0]")?)
        }
        (None, None) => OwnCertificate::None,
    };
    Ok(CommonPlan {
        certificate,
        validation: validation(context.validation_context_type.as_ref(), notes)?,
        alpn: context.alpn_protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
        allow_tls12,
    })
}

fn reference(sds: &SdsSecretConfig) -> Result<ResourceReference, Rejection> {
    if sds.sds_config.is_none() {
        // Without a source the secret is one of the bootstrap's own, which share the table of sent ones.
        return Ok(ResourceReference {
            source: ConfigSource::Ads,
            name: sds.name.as_str().into(),
            fetch_timeout: None,
        });
    }
    ResourceReference::decode(&sds.name, sds.sds_config.as_ref(), "sds_config")
}

fn validation(context: Option<&ValidationContextType>, notes: &mut Notes) -> Result<Validation, Rejection> {
    match context {
        None => Ok(Validation::None),
        Some(ValidationContextType::ValidationContext(context)) => {
            let trust = trust(context, notes).within(|| "validation_context")?;
            Ok(Validation::Inline(Arc::new(trust)))
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(sds)) => {
            Ok(Validation::Sds(reference(sds).within(|| "validation_context_sds_secret_config")?))
        }
        Some(ValidationContextType::CombinedValidationContext(both)) => {
            let at = "combined_validation_context";
            refuse(&both.validation_context_certificate_provider, "validation_context_certificate_provider")
                .within(|| at)?;
            refuse(
                &both.validation_context_certificate_provider_instance,
                "validation_context_certificate_provider_instance",
            )
            .within(|| at)?;
            let default = both.default_validation_context.clone().unwrap_or_default();
            let own = trust(&default, notes).within(|| format!("{at}.default_validation_context"))?;
            match &both.validation_context_sds_secret_config {
                Some(sds) => Ok(Validation::Combined(Arc::new(own), reference(sds).within(|| at)?)),
                None => Ok(Validation::Inline(Arc::new(own))),
            }
        }
        Some(
            ValidationContextType::ValidationContextCertificateProvider(_)
            | ValidationContextType::ValidationContextCertificateProviderInstance(_),
        ) => Err(Rejection::unsupported("validation_context_certificate_provider")),
    }
}

/// Whether TLS 1.2 is allowed; older versions never are.
fn parameters(params: &TlsParameters, notes: &mut Notes) -> Result<bool, Rejection> {
    let version = |value: i32, field: &str| {
        TlsProtocol::try_from(value).map_err(|_| Rejection::new(field, "unknown version"))
    };
    let least = version(params.tls_minimum_protocol_version, "tls_minimum_protocol_version")?;
    let most = version(params.tls_maximum_protocol_version, "tls_maximum_protocol_version")?;
    if !matches!(most, TlsProtocol::TlsAuto | TlsProtocol::TlSv13) {
        return Err(Rejection::new("tls_maximum_protocol_version", "TLS 1.3 cannot be switched off"));
    }
    // The cryptographic library offers safe suites and curves only, so that a list can only narrow the choice.
    notes.ignored(&params.cipher_suites, "tls.cipher_suites");
    notes.ignored(&params.ecdh_curves, "tls.ecdh_curves");
    notes.ignored(&params.signature_algorithms, "tls.signature_algorithms");
    refuse(&params.compliance_policies, "compliance_policies")?;
    Ok(least != TlsProtocol::TlSv13)
}

fn identity(certificate: &TlsCertificate, notes: &mut Notes) -> Result<CertifiedIdentity, Rejection> {
    refuse(&certificate.pkcs12, "pkcs12")?;
    refuse(&certificate.private_key_provider, "private_key_provider")?;
    refuse(&certificate.password, "password")?;
    notes.ignored(&certificate.ocsp_staple, "tls.ocsp_staple");
    notes.ignored(&certificate.watched_directory, "tls.watched_directory");
    let chain = fields::data(certificate.certificate_chain.as_ref(), "certificate_chain")?;
    let key = fields::data(certificate.private_key.as_ref(), "private_key")?;
    let chain = chain.ok_or_else(|| Rejection::new("certificate_chain", "is missing"))?;
    let key = key.ok_or_else(|| Rejection::new("private_key", "is missing"))?;
    CertifiedIdentity::from_pem(&chain, &key)
        .map_err(|error| Rejection::new("certificate_chain", error.to_string()))
}
