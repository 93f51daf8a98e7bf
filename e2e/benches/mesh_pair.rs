//! A pair of weft-proxy beside a pair of Envoy.
//!
//! Path: load generator, client's sidecar, mutual TLS 1.3, server's sidecar, server; HTTP/1.1 with keep-alive, 64
//! connections, one worker each. Listeners and clusters have the shape that the control plane compiles: retries on the
//! way out; RBAC, access log of refusals, local replies and the caller's identity in a header on the way in. Both pairs
//! run on the same files, but for port numbers.

mod rig;

use std::path::Path;

use clap::Parser as _;
use rig::build::Build;
use rig::configs::{bootstrap, cluster};
use rig::contest::{Effort, Peer, hold};
use rig::origin::{self, Size};
use rig::process::PinnedProcess;
use rig::report::{finish, ratios};
use weft_e2e::harness::{envoy_program, free_port};

/// Where each pair runs while it is its turn.
const PEER_PROCESSOR: usize = 0;
const CLIENT: &str = "spiffe://bench/ns/shop/svc/client";
const SERVER: &str = "spiffe://bench/ns/shop/svc/server";
const SNI: &str = "http.server.shop.bench";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

fn main() -> anyhow::Result<()> {
    let effort = Effort::parse();
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let origin_port = free_port()?;
    let _origin = origin::start(dir, origin_port)?;
    let identities = Identities::issue()?;
    let weft = Build { name: "weft".to_owned(), ..Build::this()? };
    let mut peers = Vec::new();
    for Build { name, program } in std::iter::once(weft).chain(effort.proxy.clone()) {
        let name = format!("{name} pair");
        peers.push(pair(dir, &name, &program, &["run", "--workers", "1"], &identities, origin_port)?);
    }
    let envoy_args = ["--concurrency", "1", "-l", "error"];
    peers.push(pair(dir, "Envoy pair", &envoy_program()?, &envoy_args, &identities, origin_port)?);
    let rows = hold(dir, &peers, &effort)?;
    let goals = ratios(&rows, "weft pair", "Envoy pair", 0.65)?;
    finish("mesh_pair", &effort, &rows, &goals)
}

fn pair(
    dir: &Path,
    name: &str,
    program: &Path,
    args: &[&str],
    identities: &Identities,
    origin: u16,
) -> anyhow::Result<Peer> {
    let (outbound, inbound) = (free_port()?, free_port()?);
    let start = |side: &str, base: u16, config: String| {
        let name = format!("{}-{side}", name.replace(' ', "-"));
        let file = dir.join(format!("{name}.yaml"));
        std::fs::write(&file, config)?;
        let (file, base) = (file.display().to_string(), base.to_string());
        let mut all: Vec<&str> = args.to_vec();
        all.extend(["-c", &file]);
        if program.ends_with("envoy") {
            // Two on one machine must not look like a hot restart of one.
            all.extend(["--base-id", &base]);
        }
        PinnedProcess::start(dir, &name, PEER_PROCESSOR, program, &all)
    };
    let server = start("server", inbound, identities.server_side(inbound, origin)?)?;
    let mut client = start("client", outbound, identities.client_side(outbound, inbound)?)?;
    Size::ALL.into_iter().try_for_each(|size| client.answers(outbound, size.path()))?;
    Ok(Peer { name: name.to_owned(), port: outbound, processes: vec![client, server] })
}

/// Certificates in PEM.
struct Identities {
    root: String,
    client: Identity,
    server: Identity,
}

struct Identity {
    chain: String,
    key: String,
}

impl Identities {
    fn issue() -> anyhow::Result<Self> {
        let mut authority = rcgen::CertificateParams::new(Vec::new())?;
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // A name of its own: a leaf with its issuer's name looks self-signed.
        authority.distinguished_name.push(rcgen::DnType::CommonName, "bench root");
        let key = rcgen::KeyPair::generate()?;
        let root = authority.self_signed(&key)?.pem();
        let issuer = rcgen::Issuer::new(authority, key);
        let sign = |spiffe: &str| {
            let key = rcgen::KeyPair::generate()?;
            let mut leaf = rcgen::CertificateParams::new(Vec::new())?;
            leaf.subject_alt_names.push(rcgen::SanType::URI(spiffe.try_into()?));
            let chain = leaf.signed_by(&key, &issuer)?.pem();
            anyhow::Ok(Identity { chain, key: key.serialize_pem() })
        };
        Ok(Self { root, client: sign(CLIENT)?, server: sign(SERVER)? })
    }

    fn secrets(&self, own: &Identity) -> String {
        let block = |pem: &str| pem.lines().map(|line| format!("\n          {line}")).collect::<String>();
        format!(
            "  secrets:
  - name: identity
    tls_certificate:
      certificate_chain:
        inline_string: |{}
      private_key:
        inline_string: |{}
  - name: bundle
    validation_context:
      trusted_ca:
        inline_string: |{}
",
            block(&own.chain),
            block(&own.key),
            block(&self.root)
        )
    }

    fn client_side(&self, port: u16, server: u16) -> anyhow::Result<String> {
        let secure = format!(
            "{UPSTREAM_HTTP}    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        '@type': {TLS}.UpstreamTlsContext
        sni: {SNI}
        max_session_keys: 0
        common_tls_context:
{TLS_PARAMS}          tls_certificate_sds_secret_configs: [{{name: identity}}]
          combined_validation_context:
            default_validation_context:
              match_typed_subject_alt_names: [{{san_type: URI, matcher: {{exact: '{SERVER}'}}}}]
            validation_context_sds_secret_config: {{name: bundle}}
"
        );
        let chain = format!(
            "    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
{}
          http_filters:
{ROUTER}",
            manager("outbound", "shop/server/http")
        );
        let listener = listener("outbound", port, "", &chain);
        Ok(bootstrap(
            free_port()?,
            &(listener + &cluster("shop/server/http", server, &secure) + &self.secrets(&self.client)),
        ))
    }

    fn server_side(&self, port: u16, origin: u16) -> anyhow::Result<String> {
        let chain = format!(
            "    - filter_chain_match: {{server_names: [{SNI}], transport_protocol: tls}}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          '@type': {TLS}.DownstreamTlsContext
          require_client_certificate: true
          disable_stateless_session_resumption: true
          disable_stateful_session_resumption: true
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
{}            tls_certificate_sds_secret_configs: [{{name: identity}}]
            validation_context_sds_secret_config: {{name: bundle}}
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
{}
          use_remote_address: true
          forward_client_cert_details: SANITIZE_SET
          set_current_client_cert_details: {{uri: true, dns: true}}
{REFUSALS}
          http_filters:
{RBAC}{ROUTER}",
            TLS_PARAMS.replace("          ", "            "),
            manager("inbound", "inbound/shop/server/http"),
        );
        let inspector = "    listener_filters:
    - name: envoy.filters.listener.tls_inspector
      typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}
";
        let listener = listener("inbound", port, inspector, &chain);
        let upstream = cluster("inbound/shop/server/http", origin, UPSTREAM_HTTP);
        Ok(bootstrap(free_port()?, &(listener + &upstream + &self.secrets(&self.server))))
    }
}

fn listener(name: &str, port: u16, inspector: &str, chain: &str) -> String {
    format!(
        "  listeners:
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
{inspector}    filter_chains:
{chain}"
    )
}

fn manager(name: &str, cluster: &str) -> String {
    format!(
        "          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          normalize_path: true
          merge_slashes: true
          path_with_escaped_slashes_action: REJECT_REQUEST
          request_headers_timeout: 10s
          server_header_transformation: PASS_THROUGH
          common_http_protocol_options: {{max_connection_duration: 3600s}}
          http1_safe_max_connection_duration: true
          upgrade_configs: [{{upgrade_type: websocket}}]
          route_config:
            name: {name}
            virtual_hosts:
            - name: all
              domains: ['*']
              routes:
              - match: {{prefix: /}}
                route:
                  cluster: {cluster}
                  timeout: 0s
                  retry_policy: {{num_retries: 2, retry_on: 'connect-failure,refused-stream,reset-before-request'}}"
    )
}

const UPSTREAM_HTTP: &str = "    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}
";

const TLS_PARAMS: &str = "          tls_params:
            tls_minimum_protocol_version: TLSv1_3
            tls_maximum_protocol_version: TLSv1_3
            ecdh_curves: [X25519MLKEM768, X25519, P-256]
";

const ROUTER: &str = "          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
";

/// Callers are judged by their identity.
const RBAC: &str = "          - name: envoy.filters.http.rbac.deny
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules_stat_prefix: deny.}
          - name: envoy.filters.http.rbac.allow
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules_stat_prefix: allow.
              rules:
                action: ALLOW
                policies:
                  shop/bench/0:
                    permissions: [{any: true}]
                    principals:
                    - authenticated: {principal_name: {exact: 'spiffe://bench/ns/shop/svc/client'}}
";

/// Refusals are logged, and say who refused.
const REFUSALS: &str = "          access_log:
          - name: envoy.access_loggers.stdout
            filter: {status_code_filter: {comparison: {value: {default_value: 403, runtime_key: weft.refused}}}}
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                text_format_source: {inline_string: \"refused %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE_DETAILS%\\n\"}
          local_reply_config:
            mappers:
            - filter: {status_code_filter: {comparison: {value: {default_value: 403, runtime_key: weft.refused}}}}
              body_format_override:
                content_type: text/plain; charset=utf-8
                text_format_source: {inline_string: 'denied: %RESPONSE_CODE_DETAILS%'}";
