//! Kuma's policies, and App Mesh's objects.

use serde_json::json;

use super::super::ImportSource;
use super::imported;

pub(super) const KUMA: &str = r#"
type: Mesh
name: default
mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}
networking: {outbound: {passthrough: false}}
---
apiVersion: kuma.io/v1alpha1
kind: MeshService
metadata: {name: cart, namespace: shop}
spec:
  selector: {dataplaneTags: {app: cart}}
  ports: [{port: 80, targetPort: 8080, appProtocol: http}, {port: 9000, appProtocol: grpc}]
---
apiVersion: kuma.io/v1alpha1
kind: MeshHTTPRoute
metadata: {name: cart-route, namespace: shop, labels: {kuma.io/mesh: default}}
spec:
  targetRef: {kind: Mesh}
  to:
  - targetRef: {kind: MeshService, name: cart, sectionName: "80"}
    rules:
    - matches: [{path: {type: PathPrefix, value: /v2}, method: GET, headers: [{type: Present, name: x-beta}], queryParams: [{type: Exact, name: a, value: b}]}]
      default:
        filters:
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: one}], remove: [x-gone]}}
        - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}, hostToBackendHostname: true}}
        backendRefs:
        - {kind: MeshService, name: cart-next, namespace: shop, port: 80, weight: 1}
        - {kind: MeshServiceSubset, name: cart, port: 80, weight: 9, tags: {version: v2}}
    - matches: [{headers: [{type: Absent, name: x-old}]}]
    - matches: [{path: {type: Exact, value: /moved}}]
      default: {filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 301}}]}
---
type: MeshTCPRoute
name: ledger
mesh: default
spec:
  to:
  - targetRef: {kind: MeshService, name: ledger_audit_svc_5432}
    rules: [{default: {backendRefs: [{kind: MeshService, name: ledger-next_audit_svc_5432}]}}]
---
type: MeshTrafficPermission
name: to-cart
mesh: default
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: cart_shop_svc_80}}
  from:
  - {targetRef: {kind: MeshSubset, tags: {kuma.io/service: web_shop_svc_80}}, default: {action: Allow}}
  - {targetRef: {kind: MeshSubset, tags: {k8s.kuma.io/namespace: jobs}}, default: {action: AllowWithShadowDeny}}
  - {targetRef: {kind: MeshSubset, tags: {team: red}}, default: {action: Allow}}
---
type: MeshTimeout
name: times
mesh: default
spec:
  to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 2s, idleTimeout: 1h, http: {requestTimeout: 15s, streamIdleTimeout: 30m, maxStreamDuration: 1m}}}]
  from: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 1s}}]
---
type: MeshRetry
name: again
mesh: default
spec:
  to: [{targetRef: {kind: MeshService, name: cart_shop_svc_80}, default: {http: {numRetries: 4, perTryTimeout: 500ms, backOff: {baseInterval: 25ms, maxInterval: 1s}, retryOn: [GatewayError, "429", ConnectFailure, EnvoyRatelimited]}, grpc: {numRetries: 3}}}]
---
type: MeshCircuitBreaker
name: breaker
mesh: default
spec:
  to: [{targetRef: {kind: MeshService, name: cart_shop_svc_80}, default: {connectionLimits: {maxConnections: 64, maxPendingRequests: 8, maxRequests: 32, maxRetries: 3}, outlierDetection: {interval: 5s, baseEjectionTime: 30s, maxEjectionPercent: 50, detectors: {totalFailures: {consecutive: 10}, gatewayFailures: {consecutive: 5}, successRate: {minimumHosts: 3}}}}}]
---
type: MeshLoadBalancingStrategy
name: balance
mesh: default
spec:
  to: [{targetRef: {kind: MeshService, name: cart_shop_svc_80}, default: {loadBalancer: {type: RoundRobin}, localityAwareness: {disabled: true}}}]
---
type: MeshHealthCheck
name: health
mesh: default
spec:
  to: [{targetRef: {kind: MeshService, name: cart_shop_svc_80}, default: {interval: 10s, timeout: 2s, unhealthyThreshold: 3, healthyThreshold: 1, http: {path: /health, expectedStatuses: [200, 201]}}}]
---
type: MeshAccessLog
name: logs
mesh: default
spec:
  from:
  - targetRef: {kind: Mesh}
    default:
      backends:
      - {type: File, file: {path: /tmp/access.log, format: {type: Json, json: [{key: code, value: "%RESPONSE_CODE%"}]}}}
      - {type: OpenTelemetry, openTelemetry: {endpoint: "otel.test:4317", attributes: [{key: a, value: b}]}}
      - {type: Tcp, tcp: {address: "1.2.3.4:5"}}
---
type: MeshTrace
name: traces
mesh: default
spec:
  default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: "http://otel.test:4317"}}], sampling: {random: 12, client: 40}}
---
type: MeshFaultInjection
name: faults
mesh: default
spec: {from: [{targetRef: {kind: Mesh}, default: {http: [{abort: {httpStatus: 500, percentage: 50}}]}}]}
"#;

#[test]
fn policies_of_kuma_are_carried_where_there_is_a_counterpart() {
    let found = imported(ImportSource::Kuma, KUMA);
    found.is_valid();
    assert_eq!(
        *found.spec("Mesh", "mesh"),
        json!({
            "defaults": {"authorization": "Deny", "outbound": "RegistryOnly"},
            "tracing": {"endpoint": "http://otel.test:4317", "sampling": 12.0},
        })
    );
    let cart = found.spec("Service", "cart");
    assert_eq!(cart["ports"].as_array().unwrap().len(), 2);
    assert_eq!(cart["subsets"], json!([{"name": "version-v2", "matchLabels": {"version": "v2"}}]));
    assert_eq!(cart["healthCheck"]["http"], json!({"path": "/health", "expectedStatuses": [200, 201]}));
    let route = found.spec("HTTPRoute", "cart-route");
    assert_eq!(route["parentRefs"], json!([{"kind": "Service", "name": "cart", "port": 80}]));
    assert_eq!(route["rules"][0]["backendRefs"][1]["subset"], "version-v2");
    assert_eq!(route["rules"][1]["filters"][0]["requestRedirect"]["statusCode"], 301);
    assert_eq!(route["rules"][2], json!({"name": "rest", "backendRefs": [{"name": "cart", "port": 80}]}));
    assert_eq!(found.spec("TCPRoute", "ledger")["rules"][0]["backendRefs"][0]["name"], "ledger-next");
    let allowed = found.spec("AuthorizationPolicy", "to-cart");
    assert_eq!(
        allowed["rules"],
        json!([
            {"from": [{"services": ["web"]}], "to": [{"ports": [80]}]},
            {"from": [{"namespaces": ["jobs"]}], "to": [{"ports": [80]}]},
        ]),
        "a caller that cannot be told is not let pass"
    );
    assert_eq!(found.spec("AuthorizationPolicy", "to-cart-shadow")["mode"], "Shadow");
    let policy = found.spec("TrafficPolicy", "cart-http");
    assert_eq!(policy["targetRefs"], json!([{"kind": "Service", "name": "cart", "sectionName": "http"}]));
    assert_eq!(
        policy["retry"],
        json!({"attempts": 4, "backoff": "25ms", "codes": [429], "on": ["GatewayError", "ConnectFailure"]})
    );
    assert_eq!(policy["outlierDetection"]["consecutive5xx"], 10);
    assert_eq!(
        found.spec("TrafficPolicy", "all-services")["targetRefs"],
        json!([{"kind": "Mesh", "name": "mesh"}])
    );
    assert_eq!(found.spec("TelemetryPolicy", "logs")["accessLogs"].as_array().unwrap().len(), 2);
    for (path, why) in [
        ("spec.to[0].rules[1]", "left out"),
        ("spec.to[0].default.http.maxStreamDuration", "no counterpart"),
        ("spec.to[0].default.grpc", "gRPC"),
        ("spec.from[2]", "no counterpart"),
        ("spec.to[0].default.outlierDetection.detectors.successRate", "no counterpart"),
        ("spec.from[0].default.backends[2]", "standard output"),
        ("spec", "MeshFaultInjection"),
    ] {
        let said = found.notes.iter().any(|note| note.path == path && note.message.contains(why));
        assert!(said, "{path}: {}", super::shown(&found));
    }
}

#[test]
fn second_tries_by_method_are_not_widened_to_all() {
    let text = "{type: MeshRetry, name: a, spec: {to: [{targetRef: {kind: MeshService, name: b}, default: {http: {numRetries: 2, retryOn: [HttpMethodGet]}}}]}}";
    let found = imported(ImportSource::Kuma, text);
    assert!(found.documents.is_empty());
    assert!(found.note("spec.to[0].default.http").contains("by method"));
}

pub(super) const APP_MESH: &str = r#"
[
 {"mesh": {"meshName": "shop", "spec": {"egressFilter": {"type": "ALLOW_ALL"}}, "status": {"status": "ACTIVE"}}},
 {"virtualNode": {"meshName": "shop", "virtualNodeName": "colors-v1", "metadata": {"arn": "a", "uid": "b", "version": 2},
  "spec": {"listeners": [{"portMapping": {"port": 9080, "protocol": "http"},
    "healthCheck": {"protocol": "http", "path": "/ping", "intervalMillis": 5000, "timeoutMillis": 2000, "healthyThreshold": 2, "unhealthyThreshold": 3},
    "outlierDetection": {"maxServerErrors": 5, "interval": {"value": 10, "unit": "s"}, "baseEjectionDuration": {"value": 30, "unit": "s"}, "maxEjectionPercent": 50},
    "connectionPool": {"http": {"maxConnections": 100, "maxPendingRequests": 20}},
    "timeout": {"http": {"perRequest": {"value": 500, "unit": "ms"}}}}],
   "backends": [{"virtualService": {"virtualServiceName": "db.shop.local"}}],
   "serviceDiscovery": {"dns": {"hostname": "colors-v1.shop.local"}},
   "logging": {"accessLog": {"file": {"path": "/dev/stdout", "format": {"json": [{"key": "code", "value": "%RESPONSE_CODE%"}]}}}}}}},
 {"virtualNode": {"meshName": "shop", "virtualNodeName": "colors-v2", "spec": {"listeners": [{"portMapping": {"port": 9080, "protocol": "http"}}]}}},
 {"virtualService": {"meshName": "shop", "virtualServiceName": "colors.shop.local", "spec": {"provider": {"virtualRouter": {"virtualRouterName": "colors-router"}}}}},
 {"virtualRouter": {"meshName": "shop", "virtualRouterName": "colors-router", "spec": {"listeners": [{"portMapping": {"port": 9080, "protocol": "http"}}]}}},
 {"route": {"meshName": "shop", "routeName": "most", "virtualRouterName": "colors-router", "spec": {"priority": 20,
  "httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": [{"virtualNode": "colors-v1", "weight": 9}, {"virtualNode": "colors-v2", "weight": 1, "port": 9080}]},
   "retryPolicy": {"maxRetries": 2, "perRetryTimeout": {"value": 2, "unit": "s"}, "httpRetryEvents": ["gateway-error", "stream-error"], "tcpRetryEvents": ["connection-error"]},
   "timeout": {"perRequest": {"value": 8, "unit": "s"}, "idle": {"value": 9, "unit": "s"}}}}}},
 {"route": {"meshName": "shop", "routeName": "beta", "virtualRouterName": "colors-router", "spec": {"priority": 10,
  "httpRoute": {"match": {"prefix": "/beta", "method": "GET", "headers": [{"name": "x-group", "match": {"prefix": "b"}}]}, "action": {"weightedTargets": [{"virtualNode": "colors-v2", "weight": 1}]}}}}},
 {"route": {"meshName": "shop", "routeName": "odd", "virtualRouterName": "colors-router", "spec": {"priority": 5,
  "httpRoute": {"match": {"prefix": "/", "headers": [{"name": "x", "invert": true, "match": {"exact": "b"}}]}, "action": {"weightedTargets": [{"virtualNode": "colors-v2", "weight": 1}]}}}}}
]"#;

pub(super) const APP_MESH_KUBERNETES: &str = r#"
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {name: stock, namespace: shop}
spec:
  podSelector: {matchLabels: {app: stock}}
  listeners: [{portMapping: {port: 9000, protocol: grpc}}]
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {name: stock, namespace: shop}
spec:
  awsName: stock.shop.svc.cluster.local
  provider: {virtualRouter: {virtualRouterRef: {name: stock}}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualRouter
metadata: {name: stock, namespace: shop}
spec:
  listeners: [{portMapping: {port: 9000, protocol: grpc}}]
  routes:
  - name: lookups
    grpcRoute:
      match: {serviceName: shop.Stock, methodName: Find, metadata: [{name: x-team, match: {exact: blue}}]}
      action: {weightedTargets: [{virtualNodeRef: {name: stock}, weight: 1}]}
      retryPolicy: {maxRetries: 1, perRetryTimeout: {value: 1, unit: s}, grpcRetryEvents: [unavailable]}
"#;

#[test]
fn virtual_services_routers_and_nodes_are_services_and_routes() {
    let found = imported(ImportSource::AppMesh, APP_MESH);
    found.is_valid();
    assert_eq!(found.spec("Mesh", "mesh")["defaults"]["outbound"], "Allow");
    assert_eq!(
        *found.spec("Service", "colors"),
        json!({"hostnames": ["colors.shop.local"], "ports": [{"name": "http", "port": 9080, "protocol": "HTTP"}]})
    );
    let node = found.spec("Service", "colors-v1");
    assert_eq!(node["healthCheck"]["interval"], "5000ms");
    let rules = found.spec("HTTPRoute", "colors")["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "the one with a condition that cannot be said is left out");
    assert_eq!(rules[0]["name"], "beta", "by priority");
    assert_eq!(
        rules[0]["matches"],
        json!([{
            "path": {"type": "PathPrefix", "value": "/beta"},
            "method": "GET",
            "headers": [{"name": "x-group", "type": "RegularExpression", "value": "b.*"}],
        }])
    );
    assert_eq!(rules[1]["backendRefs"][0], json!({"name": "colors-v1", "port": 9080, "weight": 9}));
    let policy = found.spec("TrafficPolicy", "colors-most");
    assert_eq!(policy["targetRefs"][0]["sectionName"], "most");
    assert_eq!(policy["retry"]["on"], json!(["GatewayError", "RefusedStream", "ConnectFailure"]));
    assert_eq!(policy["timeouts"], json!({"streamIdle": "9s", "backendRequest": "2s"}));
    assert_eq!(found.spec("TrafficPolicy", "colors-v1")["outlierDetection"]["baseEjectionTime"], "30s");
    assert!(found.note("virtualNode.spec.backends[0]").contains("what a service calls"));
    assert!(found.note("route.spec.httpRoute").contains("left out"));
}

#[test]
fn objects_of_the_controller_for_kubernetes_are_read_too() {
    let found = imported(ImportSource::AppMesh, APP_MESH_KUBERNETES);
    found.is_valid();
    let stock = found.spec("Service", "stock");
    assert_eq!(stock["hostnames"], json!(["stock.shop.svc.cluster.local"]));
    let rule = &found.spec("GRPCRoute", "stock")["rules"][0];
    assert_eq!(
        rule["matches"],
        json!([{"method": {"service": "shop.Stock", "method": "Find"}, "headers": [{"name": "x-team", "value": "blue"}]}])
    );
    assert!(found.note("spec.routes[0].grpcRoute.retryPolicy.grpcRetryEvents[0]").contains("gRPC"));
}
