//! What is refused, with the exact place and words that people see.

use weft_policies::parse;

struct Case {
    text: &'static str,
    expected: &'static [(&'static str, &'static str, usize, usize, &'static str)],
}

/// Each line: code, path, line, column, part of `message (hint)`.
const CASES: &[Case] = &[
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  prots: []\n",
        expected: &[
            ("required", "spec.ports", 4, 1, "ports is missing"),
            ("unknown_field", "spec.prots", 5, 3, "did you mean ports?"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - {name: http, port: 80, protocol: HTTP, targetprot: 1}\n    - {name: http, port: 70000, protocol: htp}\n",
        expected: &[
            ("unknown_field", "spec.ports[0].targetprot", 6, 46, "did you mean targetPort?"),
            ("invalid_value", "spec.ports[1].port", 7, 26, "must be from 1 to 65535, got \"70000\""),
            ("invalid_value", "spec.ports[1].protocol", 7, 43, "did you mean HTTP?"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n    - {name: http, port: 80, protocol: HTTP}\n    - {name: http, port: 80, protocol: TCP}\n  healthCheck: {grpc: {}, timeout: 20s}\n",
        expected: &[
            ("duplicate", "spec.ports[1].name", 7, 14, "http is already used by ports[0]"),
            ("duplicate", "spec.ports[1].port", 7, 26, "80 is already used by ports[0]"),
            ("protocol_mismatch", "spec.healthCheck", 8, 16, "no port of this service speaks"),
            ("inconsistent", "spec.healthCheck.timeout", 8, 36, "must not exceed the interval of 10s"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Servise\nmetadata: {name: a}\nspec: {}\n",
        expected: &[("unknown_kind", "kind", 2, 7, "did you mean Service?")],
    },
    Case {
        text: "apiVersion: weft.dev/v2\nkind: Service\nmetadata: {name: a}\nspec: {}\n",
        expected: &[("unknown_kind", "apiVersion", 1, 13, "use weft.dev/v1")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: a}\nspec:\n  hosts: [a.b.mesh, '*.example.com', 10.0.0.1]\n  ports: []\n  resolution: Fixed\n  tls: {sni: 10.0.0.1}\n",
        expected: &[
            ("invalid_value", "spec.hosts[2]", 5, 38, "an IP address is not a host name"),
            ("invalid_value", "spec.resolution", 7, 15, "\"Fixed\" is not one of"),
            ("invalid_value", "spec.tls.sni", 8, 14, "an IP address is not a host name"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: a}\nspec:\n  hosts: [a.b.mesh, '*.example.com']\n  ports:\n  - {name: http, port: 80, targetPort: 8080, protocol: HTTP}\n  - {name: http, port: 80, protocol: GRPC}\n  resolution: Static\n  tls:\n    caCertificates: nothing\n  clients: [{kind: Service, name: web}]\n",
        expected: &[
            ("invalid_value", "spec.hosts[0]", 5, 11, "names that end in .mesh"),
            ("inconsistent", "spec.ports[0].targetPort", 7, 40, "leave targetPort out"),
            ("duplicate", "spec.ports[1].name", 8, 12, "http is already used by ports[0]"),
            ("duplicate", "spec.ports[1].port", 8, 24, "80 is already used by ports[0]"),
            ("not_supported", "spec.ports[1].protocol", 8, 28, "make an ExternalService for each host"),
            ("inconsistent", "spec.resolution", 9, 15, "write resolution: DNS"),
            ("not_supported", "spec.tls.mode", 10, 3, "TLS of the proxy's own to several hosts"),
            ("invalid_value", "spec.tls.caCertificates", 11, 21, "holds no certificate"),
            ("not_supported", "spec.clients[0].kind", 12, 14, "name its namespace"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: a}\nspec:\n  hosts: [a.example.com, b.example.com]\n  ports: [{name: tls, port: 443, protocol: TLS}]\n  resolution: Static\n  endpoints: [{address: api.example.com}, {address: 169.254.169.254}, {address: 192.0.2.1}, {address: 192.0.2.1}]\n  tls:\n    caCertificates: |\n      -----BEGIN PRIVATE KEY-----\n      AAAA\n      -----END PRIVATE KEY-----\n    subjectAltNames: ['*.example.com']\n",
        expected: &[("invalid_value", "spec.tls.subjectAltNames[0]", 14, 23, "not the wildcard")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: a}\nspec:\n  hosts: [a.example.com, b.example.com]\n  ports: [{name: tls, port: 443, protocol: TLS}]\n  resolution: Static\n  endpoints: [{address: api.example.com}, {address: 169.254.169.254}, {address: 192.0.2.1}, {address: 192.0.2.1}]\n  tls:\n    caCertificates: |\n      -----BEGIN PRIVATE KEY-----\n      AAAA\n      -----END PRIVATE KEY-----\n",
        expected: &[
            (
                "inconsistent",
                "spec.endpoints[0].address",
                8,
                25,
                "with resolution Static, endpoints are IP addresses",
            ),
            ("invalid_value", "spec.endpoints[1].address", 8, 53, "metadata services of clouds"),
            ("duplicate", "spec.endpoints[3].address", 8, 103, "is already used by endpoints[2]"),
            ("inconsistent", "spec.tls.mode", 9, 3, "it is the application that speaks TLS"),
            ("required", "spec.tls.sni", 9, 3, "of several hosts, say which name"),
            ("invalid_value", "spec.tls.caCertificates", 11, 7, "block 0 is not a certificate"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: RateLimitPolicy\nmetadata: {name: a}\nspec: {}\n",
        expected: &[("not_supported", "kind", 2, 1, "kind RateLimitPolicy is not supported yet")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {name: A_b, labels: {version: 1}}\nspec:\n  address: 10.0.0.300\n  ports: {HTTP: 80}\n  proxy: {type: Nginx}\n",
        expected: &[
            ("invalid_value", "metadata.name", 3, 18, "not a name"),
            ("wrong_type", "metadata.labels.version", 3, 41, "write it in quotes: \"1\""),
            ("invalid_value", "spec.address", 5, 12, "not an IP address"),
            ("invalid_value", "spec.ports.HTTP", 6, 17, "not a name"),
            ("invalid_value", "spec.proxy.type", 7, 17, "\"Nginx\" is not one of"),
        ],
    },
    Case {
        text: "a: 1\na: 2\n---\nb: &x 1\nc: *x\n",
        expected: &[
            ("duplicate_key", "a", 2, 1, "\"a\" stands twice, first on line 1"),
            ("unsupported_syntax", "b", 4, 4, "anchors are refused"),
            ("unsupported_syntax", "c", 5, 4, "aliases are refused"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: [\n",
        expected: &[("syntax", "spec[0]", 5, 1, "cannot be read")],
    },
    Case {
        text: "- 1\n",
        expected: &[("wrong_type", "", 1, 3, "a document is a mapping, not the number 1")],
    },
    Case {
        text: "kind: Service\nspec: !!python/object {}\n",
        expected: &[("unsupported_syntax", "spec", 2, 7, "is refused")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: a}]\n  rules:\n    - matches:\n        - path: {type: Exact, value: a//b}\n          headers: [{name: 'x y', value: a}]\n      timeouts: {request: 10}\n",
        expected: &[
            ("invalid_value", "spec.rules[0].matches[0].headers[0].name", 9, 28, "not a header name"),
            ("wrong_type", "spec.rules[0].timeouts.request", 10, 27, "must be a string"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: a}, {name: a}]\n  rules:\n    - name: one\n      matches:\n        - path: {type: Exact, value: a//b}\n        - path: {type: RegularExpression, value: '(a'}\n      filters:\n        - {type: RequestMirror, requestMirror: {backendRef: {name: b}}}\n        - {type: URLRewrite, requestRedirect: {}}\n      backendRefs: [{name: a, weight: 0}]\n      timeouts: {request: 1s, backendRequest: 2s}\n      sessionPersistence: {}\n    - name: one\n",
        expected: &[
            ("duplicate", "spec.parentRefs[1]", 5, 27, "is already used by parentRefs[0]"),
            (
                "invalid_value",
                "spec.rules[0].matches[0].path.value",
                9,
                38,
                "must begin with /, got \"a//b\"",
            ),
            (
                "invalid_value",
                "spec.rules[0].matches[1].path.value",
                10,
                50,
                "is not a valid expression: unclosed group",
            ),
            (
                "not_supported",
                "spec.rules[0].filters[0].type",
                12,
                12,
                "filter RequestMirror is not supported yet",
            ),
            ("required", "spec.rules[0].filters[1].urlRewrite", 13, 11, "needs it"),
            (
                "inconsistent",
                "spec.rules[0].filters[1].requestRedirect",
                13,
                47,
                "does not go with type URLRewrite",
            ),
            ("inconsistent", "spec.rules[0].backendRefs", 14, 20, "all weights are 0"),
            (
                "inconsistent",
                "spec.rules[0].timeouts.backendRequest",
                15,
                47,
                "must not exceed request, which is 1s",
            ),
            (
                "not_supported",
                "spec.rules[0].sessionPersistence",
                16,
                7,
                "sessionPersistence is not supported yet",
            ),
            ("duplicate", "spec.rules[1].name", 17, 13, "one is already used by rules[0]"),
        ],
    },
    Case {
        text: "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: edge}]\n",
        expected: &[(
            "not_supported",
            "spec.parentRefs[0].kind",
            5,
            16,
            "a Gateway as parent is not supported yet",
        )],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: TCPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: a}]\n  rules: [{backendRefs: []}, {backendRefs: [{name: b}]}]\n",
        expected: &[
            ("invalid_value", "spec.rules", 6, 10, "exactly one rule"),
            ("required", "spec.rules[0].backendRefs", 6, 25, "at least one backend"),
        ],
    },
    Case {
        text: "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: r}\nspec:\n  hostnames: [a.example, A.example]\n  parentRefs: [{kind: Service, name: a}]\n  rules:\n    - matches:\n        - {method: {}, headers: [{name: a, value: b}, {name: A, value: c}]}\n        - method: {service: a/b, method: c.d}\n        - method: {type: RegularExpression, service: '(a'}\n      filters:\n        - {type: RequestMirror, requestMirror: {backendRef: {name: b}}}\n        - {type: ExtensionRef}\n      timeouts: {request: 1s, backendRequest: 2s}\n      sessionPersistence: {}\n",
        expected: &[
            ("duplicate", "spec.hostnames[1]", 5, 26, "a.example is already used by hostnames[0]"),
            ("required", "spec.rules[0].matches[0].method", 9, 20, "names a service, a method or both"),
            ("duplicate", "spec.rules[0].matches[0].headers[1].name", 9, 62, "is already used by headers[0]"),
            ("invalid_value", "spec.rules[0].matches[1].method.service", 10, 29, "write package.Service"),
            ("invalid_value", "spec.rules[0].matches[1].method.method", 10, 42, "write Method"),
            ("invalid_value", "spec.rules[0].matches[2].method.service", 11, 54, "is not a valid expression"),
            (
                "not_supported",
                "spec.rules[0].filters[0].type",
                13,
                12,
                "filter RequestMirror is not supported",
            ),
            ("required", "spec.rules[0].filters[1].extensionRef", 14, 11, "needs it"),
            (
                "not_supported",
                "spec.rules[0].filters[1].type",
                14,
                12,
                "filter ExtensionRef is not supported",
            ),
            ("inconsistent", "spec.rules[0].timeouts.backendRequest", 15, 47, "must not exceed request"),
            ("not_supported", "spec.rules[0].sessionPersistence", 16, 7, "is not supported yet"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: t, namespace: shop}\nspec:\n  targetRefs: [{kind: Namespace, name: other}, {kind: HTTPRoute, name: r}]\n  loadBalancer: {type: Maglev, hashOn: [{type: Header, name: a b}, {type: SourceAddress, ttl: 1s}]}\n  locality: {mode: Strict}\n  retry: {budget: {percent: 20}, codes: [200], on: []}\n  connection: {connectTimeout: 0s}\n",
        expected: &[
            ("not_supported", "spec.targetRefs[0].name", 5, 34, "put the policy into namespace other"),
            ("inconsistent", "spec.loadBalancer", 6, 17, "cannot be set on a route"),
            ("invalid_value", "spec.loadBalancer.hashOn[0].name", 6, 62, "not a header name"),
            ("inconsistent", "spec.loadBalancer.hashOn[1].ttl", 6, 95, "is of cookies only"),
            ("inconsistent", "spec.locality", 7, 13, "cannot be set on a route"),
            ("not_supported", "spec.locality.mode", 7, 14, "mode Strict is not supported yet"),
            ("inconsistent", "spec.retry", 8, 10, "budget cannot be set on a route"),
            ("invalid_value", "spec.retry.codes[0]", 8, 42, "statuses from 400 to 599"),
            ("inconsistent", "spec.retry.on", 8, 52, "an empty list retries nothing"),
            ("inconsistent", "spec.connection", 9, 15, "cannot be set on a route"),
            ("invalid_value", "spec.connection.connectTimeout", 9, 32, "must be longer than zero"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: HTTPRoute, name: r}]\n  action: Deny\n  mode: Shadow\n  rules:\n    - from: [{}, {identities: ['spiffe://mesh.local/other']}]\n",
        expected: &[(
            "invalid_value",
            "spec.rules[0].from[1].identities[0]",
            9,
            32,
            "spiffe://mesh.local/other",
        )],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: HTTPRoute, name: r}]\n  action: Deny\n  mode: Shadow\n  rules:\n    - from: [{}, {claims: [{name: a}, {}, {a: null}, {a: []}, {a: {}}]}]\n      to: [{grpcMethods: [List]}]\n",
        expected: &[
            ("invalid_value", "spec.targetRefs[0].kind", 5, 23, "target the Service"),
            ("required", "spec.rules[0].from[0]", 9, 14, "an entry of from names at least one caller"),
            (
                "required",
                "spec.rules[0].from[1].claims[1]",
                9,
                39,
                "an entry of claims names at least one claim",
            ),
            ("invalid_value", "spec.rules[0].from[1].claims[2].a", 9, 47, "has no value"),
            ("invalid_value", "spec.rules[0].from[1].claims[3].a", 9, 58, "is no list of one value and more"),
            (
                "invalid_value",
                "spec.rules[0].from[1].claims[4].a",
                9,
                67,
                "has no claim within, or is deeper than 8",
            ),
            (
                "invalid_value",
                "spec.rules[0].to[0].grpcMethods[0]",
                10,
                27,
                "write package.Service/Method or package.Service/*, got \"List\"",
            ),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: AuthenticationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: HTTPRoute, name: r}]\n  mtls: {mode: Strict}\n",
        expected: &[
            ("invalid_value", "spec.targetRefs[0].kind", 5, 23, "target the Service"),
            ("not_supported", "spec.mtls", 6, 3, "mtls of an AuthenticationPolicy is not supported yet"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: AuthenticationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Mesh, name: mesh}]\n",
        expected: &[("required", "spec.jwt", 4, 1, "a policy without it says nothing")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: AuthenticationPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Mesh, name: mesh}]\n  jwt:\n    providers:\n    - {name: a, issuer: a, jwks: {}}\n    - {name: a, issuer: '', jwks: {uri: 'http://a.test/'}}\n    - {name: b, issuer: a, jwks: {uri: 'https://a.test/', backendRef: {name: a}, caCertificates: x}}\n    - {name: c, issuer: a, jwks: {inline: '{\"keys\":[]}'}, from: {}, claimToHeaders: [{claim: a..b, header: Host}]}\n    - {name: d, issuer: a, jwks: {inline: '{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}'}}\n    - {name: e, issuer: a, jwks: {inline: '{\"keys\":[{\"kty\":\"RSA\",\"n\":\"a\",\"e\":\"a\",\"d\":\"a\"}]}'}}\n",
        expected: &[
            ("required", "spec.jwt.providers[0].jwks", 8, 34, "inline or uri is needed"),
            ("duplicate", "spec.jwt.providers[1].name", 9, 14, "a is already used by providers[0]"),
            ("invalid_value", "spec.jwt.providers[1].issuer", 9, 25, "has between 1 and 512 bytes"),
            (
                "invalid_value",
                "spec.jwt.providers[1].jwks.uri",
                9,
                41,
                "keys that come in plain text could be anybody's",
            ),
            (
                "inconsistent",
                "spec.jwt.providers[2].jwks.uri",
                10,
                40,
                "a service of the mesh is called by mTLS already",
            ),
            (
                "inconsistent",
                "spec.jwt.providers[2].jwks.caCertificates",
                10,
                98,
                "has no meaning beside backendRef: the mesh knows its own",
            ),
            (
                "invalid_value",
                "spec.jwt.providers[3].jwks.inline",
                11,
                43,
                "has no list keys, or an empty one",
            ),
            ("required", "spec.jwt.providers[3].from", 11, 65, "names no place"),
            (
                "invalid_value",
                "spec.jwt.providers[3].claimToHeaders[0].claim",
                11,
                94,
                "a dot leads into an object: write NAME or NAME.NAME, got \"a..b\"",
            ),
            (
                "invalid_value",
                "spec.jwt.providers[3].claimToHeaders[0].header",
                11,
                108,
                "is a header that proxies write themselves, got \"host\"",
            ),
            (
                "invalid_value",
                "spec.jwt.providers[4].jwks.inline",
                12,
                43,
                "keys[0] is a secret, which everybody who may read the policy would have",
            ),
            ("invalid_value", "spec.jwt.providers[5].jwks.inline", 13, 43, "keys[0] is a private key"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: other}\nspec:\n  defaults: {view: OnDemand, outbound: Allow}\n",
        expected: &[
            ("invalid_value", "spec", 5, 3, "there is one Mesh"),
            ("not_supported", "spec.defaults.view", 5, 14, "view: OnDemand is not supported yet"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec:\n  tracing: {}\n",
        expected: &[("required", "spec.tracing.endpoint", 5, 3, "endpoint is missing")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec:\n  tracing:\n    endpoint: https://otel.example:4317\n    sampling: 101\n",
        expected: &[
            ("invalid_value", "spec.tracing.endpoint", 6, 15, "write http://HOST:PORT"),
            ("invalid_value", "spec.tracing.sampling", 7, 15, "from 0 to 100"),
        ],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec:\n  tracing: {endpoint: 127.0.0.1, sampling: 0.001}\n",
        expected: &[("invalid_value", "spec.tracing.endpoint", 5, 23, "such as http://127.0.0.1:4317")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: mesh}\nspec:\n  tracing: {endpoint: \"http://127.0.0.1\", sampling: 0.001}\n",
        expected: &[("invalid_value", "spec.tracing.sampling", 5, 53, "write 0.01, or 0 for none")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: TelemetryPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Service, name: s}]\n  accessLogs:\n  - {sink: File, file: ../cron.d/x}\n",
        expected: &[("invalid_value", "spec.accessLogs[0].file", 7, 24, "such as access.log")],
    },
    Case {
        text: "apiVersion: weft.dev/v1\nkind: TelemetryPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: HTTPRoute, name: r}]\n  accessLogs:\n  - {sink: Stdout, file: a.log}\n  - {sink: Otlp}\n  - {sink: Stdout, endpoint: \"http://a:1\", fields: {a: \"%NOTHING%\"}}\n  tracing: {tags: [{name: a}]}\n  metrics: {labels: [a]}\n",
        expected: &[
            ("invalid_value", "spec.targetRefs[0].kind", 5, 23, "target the Service"),
            ("inconsistent", "spec.accessLogs[0].file", 7, 26, "sink: File only"),
            ("required", "spec.accessLogs[1].endpoint", 8, 5, "write endpoint"),
            ("inconsistent", "spec.accessLogs[2].endpoint", 9, 30, "sink: Otlp only"),
            ("inconsistent", "spec.accessLogs[2].fields", 9, 52, "format: Json only"),
            ("invalid_value", "spec.accessLogs[2].fields.a", 9, 56, "both proxies know"),
            ("required", "spec.tracing.tags[0]", 10, 20, "write value: TEXT, or header: NAME"),
            ("not_supported", "spec.metrics", 11, 3, "metrics is not supported yet"),
        ],
    },
    Case {
        text: "{\"apiVersion\": \"weft.dev/v1\", \"kind\": \"Service\",\n  \"metadata\": {\"name\": \"a\"},\n  \"spec\": {\"ports\": [{\"name\": \"x\", \"port\": \"80\", \"protocol\": \"TCP\"}]}}",
        expected: &[("wrong_type", "spec.ports[0].port", 3, 44, "write it without quotes: 80")],
    },
];

#[test]
fn every_violation_is_told_at_once_with_its_place() {
    let mut wrong = String::new();
    for case in CASES {
        let found = parse("file.yaml", case.text).unwrap_err();
        assert!(found.iter().all(|one| one.source == "file.yaml"));
        let fits = found.len() == case.expected.len()
            && found.iter().zip(case.expected).all(|(one, (code, path, line, column, words))| {
                (one.code.as_str(), one.path.as_str(), one.line, one.column) == (*code, *path, *line, *column)
                    && one.to_string().contains(words)
            });
        if !fits {
            let listing: String = found.iter().map(|one| format!("  {} {one}\n", one.code)).collect();
            wrong += &format!("{}\ngives\n{listing}\n", case.text);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn violations_of_many_documents_name_document_and_object() {
    let good = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: a, port: 1, protocol: TCP}]}\n";
    let bad =
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: b, namespace: shop}\nspec: {ports: []}\n";
    let text = format!("# first\n---\n{good}---\n---\n{bad}---\n{bad}");
    let found = parse("many.yaml", &text).unwrap_err();
    let places: Vec<_> = found.iter().map(|one| (one.document, one.line, one.object.as_str())).collect();
    assert_eq!(places, [(1, 12, "Service shop/b"), (2, 17, "Service shop/b")]);
}

#[test]
fn limits_hold_for_depth_and_size() {
    let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
    assert_eq!(parse("x", &deep).unwrap_err()[0].code, "too_large");
    let blocks = format!("{}x", "- ".repeat(100_000));
    assert_eq!(parse("x", &blocks).unwrap_err()[0].code, "too_large");
    let long = format!("a: \"{}\"\n", "é".repeat(600 * 1024));
    assert_eq!(parse("x", &long).unwrap_err()[0].code, "too_large");
    let short = format!("# {}\n", "x".repeat(600 * 1024));
    assert_eq!(parse("x", &short).unwrap().len(), 0);
}

#[test]
fn an_entity_bomb_stays_small() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for pair in "abcdefghijkl".as_bytes().windows(2) {
        let (from, to) = (pair[0] as char, pair[1] as char);
        text += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(", "));
    }
    let found = parse("x", &text).unwrap_err();
    assert!(found.iter().all(|one| one.code == "unsupported_syntax"), "{found:?}");
}

#[test]
fn a_service_whose_server_name_would_not_fit_dns_is_refused() {
    let long = "n".repeat(63);
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {long}, namespace: {long}}}\nspec: {{ports: [{{name: http, port: 1, protocol: TCP}}, {{name: https, port: 2, protocol: TCP}}]}}\n"
    );
    let found = parse("x", &text).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, "spec.ports[1].name");
}

#[test]
fn an_empty_text_has_no_documents() {
    for text in ["", "\n", "---\n", "# only words\n---\n# more\n", "\u{feff}"] {
        assert_eq!(parse("x", text).unwrap().len(), 0, "{text:?}");
    }
}

#[test]
fn a_text_made_to_be_slow_is_refused_after_its_first_flaws() {
    let head = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\nspec:\n";
    let many: String = (0..60_000).map(|key| format!("  k{key}: 1\n")).collect();
    assert_eq!(parse("x", &format!("{head}{many}")).unwrap_err().len(), 100);
    let last: String = std::iter::repeat_n("  k59999: 1\n", 10_000).collect();
    assert_eq!(parse("x", &format!("{head}{many}{last}")).unwrap_err().len(), 100);
}
