/** Documents of a mesh that exists nowhere, as the API would give them: a shop of five services, or as many as asked for. */

import type {
  AuthorityStatus,
  Edge,
  Point,
  ProxyStatus,
  RequestRecord,
  Sync,
  WeftObject,
} from "../src/api/documents";
import { ROLES } from "./changes";

export interface FakeMesh {
  services: WeftObject[];
  workloads: WeftObject[];
  policies: WeftObject[];
  proxies: ProxyStatus[];
  edges(tick: number): Edge[];
  points(destination: string, step: number): Point[];
  requests: RequestRecord[];
  authority: AuthorityStatus;
}

const NOW = Date.now();
const DAY = 86_400;

/** Numbers that look random and are the same each time. */
function wave(seed: number, tick: number): number {
  return Math.sin(seed * 12.9898 + tick * 0.9) * 0.5 + 0.5;
}

function object(kind: string, namespace: string, name: string, spec: Record<string, unknown>): WeftObject {
  return {
    apiVersion: "weft.dev/v1",
    kind,
    metadata: { namespace, name, uid: `${kind}-${name}`, generation: 1 },
    spec,
  };
}

function service(namespace: string, name: string, versions: string[]): WeftObject {
  const subsets = versions.map((version) => ({ name: version, matchLabels: { version } }));
  const ports = [{ name: "http", port: 80, protocol: "HTTP" }];
  return object("Service", namespace, name, versions.length > 1 ? { ports, subsets } : { ports });
}

function workload(
  namespace: string,
  of: string,
  version: string,
  zone: string,
  health = "Healthy",
): WeftObject {
  const made = object("Workload", namespace, `${of}-${version}`, {
    address: "127.0.0.1",
    services: [`${namespace}/${of}`],
    ...(zone ? { locality: { region: "eu", zone } } : {}),
  });
  made.metadata.labels = { version };
  made.status = { health };
  return made;
}

function proxyOf(made: WeftObject, kind: string, sync: Sync = "Synced"): ProxyStatus {
  const [first = ""] = made.spec.services as string[];
  const issuedAt = Math.floor(NOW / 1000) - 6 * 3600;
  return {
    id: `${made.metadata.namespace}/${made.metadata.name}`,
    service: first,
    proxy: kind,
    userAgent: kind === "Envoy" ? "envoy 1.40.0" : "weft-proxy 0.1.0",
    sync,
    streams: 1,
    connectedAt: issuedAt,
    health: String(made.status?.health ?? "Healthy"),
    types: Object.fromEntries(
      ["CDS", "EDS", "LDS", "RDS"].map((type) => [type, { sent: 6, acked: 6, sync: "Synced" }]),
    ),
    certificate: {
      serial: `5e${made.metadata.name.length}a${"0123456789abcdef".repeat(2)}`.slice(0, 32),
      identity: `spiffe://mesh.local/ns/${first.replace("/", "/svc/")}`,
      issuedAt,
      expiresAt: issuedAt + DAY,
      keyMadeBy: "Workload",
    },
    address: "127.7.0.1:15006",
  };
}

/** Numbers from 0 to 1 without a pattern, the same ones each time (a linear congruential generator). */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Call {
  from: string;
  to: string;
  rate: number;
  subset?: string;
  failed?: number;
  denied?: number;
  ejected?: number;
  p50?: number;
}

function edgeOf(
  { from, to, rate, subset, failed = 0, denied = 0, ejected = 0, p50 = 1 }: Call,
  seed: number,
  tick: number,
): Edge {
  const shaken = rate * (0.92 + 0.16 * wave(seed, tick));
  return {
    source: from,
    destination: to,
    port: "http",
    ...(subset ? { subset } : {}),
    protocol: "Http",
    rate: shaken,
    success: 1 - failed - denied,
    failed,
    denied,
    open: 0,
    ejected,
    retries: 0,
    bytesSent: shaken * 420,
    bytesReceived: shaken * 1800,
    p50Ms: denied > 0.9 ? 0.3 : p50 * (0.9 + 0.2 * wave(seed + 7, tick)),
    p90Ms: p50 * 2.4,
    p99Ms: p50 * (4 + wave(seed + 3, tick)),
    mtls: true,
    windowSeconds: 15,
    state: failed > 0.5 ? "Failing" : "Flowing",
  };
}

const REFUSAL: RequestRecord = {
  id: "7f0c4f0e-9f0a-4c63-8d6e-2f1a55b0c1aa",
  at: NOW - 4_000,
  hop: "shop/load to shop/payments",
  workload: "payments-v1",
  service: "shop/payments",
  source: "shop/load",
  destination: "shop/payments",
  method: "GET",
  authority: "payments",
  path: "/",
  protocol: "HTTP/1.1",
  status: 403,
  flags: "RBAC",
  details: "rbac_access_denied_matched_policy[shop/no-payments-for-load/load]",
  reason: "refused by AuthorizationPolicy shop/no-payments-for-load, rule load",
  remedy: "apply an AuthorizationPolicy that allows shop/load",
  policy: "AuthorizationPolicy shop/no-payments-for-load/load",
  peer: "spiffe://mesh.local/ns/shop/svc/load",
  durationMs: 0.4,
};

/** As a control plane says it that says it: of one object all is well, of the other something is not. */
function withStatus(object: WeftObject): WeftObject {
  if (object.kind === "Role" || object.kind === "RoleBinding") return object;
  const isWell = object.kind === "HTTPRoute";
  object.status = {
    conditions: [
      { type: "Accepted", status: "True", reason: "Accepted", message: "", observedGeneration: 1 },
      {
        type: "Programmed",
        status: isWell ? "True" : "False",
        reason: isWell ? "Programmed" : "RefusedByProxy",
        message: isWell ? "6 of 6 proxies have it" : "1 of 6 proxies refused it",
        observedGeneration: 1,
      },
    ],
    observedGeneration: 1,
    proxies: {
      targeted: 6,
      acked: isWell ? 6 : 5,
      nacked: isWell ? 0 : 1,
      pending: 0,
      away: 0,
      laggards: isWell ? [] : [{ proxy: "shop/web-v1", error: "no such filter" }],
    },
  };
  return object;
}

export function shop(): FakeMesh {
  const services = ["load", "web", "cart", "payments"].map((name) => service("shop", name, ["v1"]));
  services.push(service("shop", "catalog", ["v1", "v2"]));
  const workloads = [
    workload("shop", "load", "v1", ""),
    workload("shop", "web", "v1", "eu-1a"),
    workload("shop", "cart", "v1", "eu-1a"),
    workload("shop", "catalog", "v1", "eu-1a"),
    workload("shop", "catalog", "v2", "eu-1b"),
    workload("shop", "payments", "v1", "eu-1b"),
  ];
  const calls: Call[] = [
    { from: "shop/load", to: "shop/web", rate: 30, p50: 3 },
    { from: "shop/load", to: "shop/payments", rate: 10, denied: 1 },
    { from: "shop/web", to: "shop/cart", rate: 30, p50: 0.8 },
    { from: "shop/web", to: "shop/catalog", rate: 23.9, subset: "v1", p50: 0.5 },
    { from: "shop/web", to: "shop/catalog", rate: 6.1, subset: "v2", failed: 0.3, ejected: 1, p50: 0.8 },
    { from: "shop/cart", to: "shop/payments", rate: 30, p50: 0.8 },
  ];
  return {
    services,
    workloads,
    policies: [
      object("AuthorizationPolicy", "shop", "no-payments-for-load", {
        targetRefs: [{ kind: "Service", name: "payments", sectionName: "http" }],
        action: "Deny",
        rules: [{ name: "load", from: [{ services: ["load"] }] }],
      }),
      object("HTTPRoute", "shop", "catalog-split", {
        parentRefs: [{ kind: "Service", name: "catalog", port: 80 }],
        rules: [
          {
            name: "everyone",
            backendRefs: [
              { name: "catalog", port: 80, subset: "v1", weight: 80 },
              { name: "catalog", port: 80, subset: "v2", weight: 20 },
            ],
          },
        ],
      }),
      ...ROLES,
    ].map(withStatus),
    proxies: workloads.map((one) => proxyOf(one, /web|v2/.test(one.metadata.name) ? "Envoy" : "Weft")),
    edges: (tick) => calls.map((call, index) => edgeOf(call, index, tick)),
    points: (destination, step) => pointsOf(calls, destination, step),
    requests: [REFUSAL, { ...REFUSAL, id: "0b3c", at: NOW - 9_000 }],
    authority: {
      trustDomain: "mesh.local",
      root: { spkiSha256: "3f".repeat(32), expiresAt: NOW / 1000 + 360 * DAY },
      issuer: { expiresAt: NOW / 1000 + 29 * DAY },
      leaves: 6,
    },
  };
}

function pointsOf(calls: Call[], destination: string, step: number): Point[] {
  const own = calls.filter((call) => call.to === destination);
  return Array.from({ length: 120 }, (_, index) => {
    const edges = own.map((call, seed) => edgeOf(call, seed, index / 3));
    const rate = edges.reduce((total, edge) => total + edge.rate, 0);
    const mean = (part: (edge: Edge) => number) =>
      edges.reduce((all, edge) => all + part(edge) * edge.rate, 0) / (rate || 1);
    return {
      at: NOW - (120 - index) * step * 1000,
      rate,
      success: mean((edge) => edge.success ?? 1),
      failed: mean((edge) => edge.failed ?? 0) * (index > 70 ? 1 : 0),
      denied: mean((edge) => edge.denied ?? 0),
      open: 0,
      p50Ms: mean((edge) => edge.p50Ms ?? 0),
      p90Ms: mean((edge) => edge.p90Ms ?? 0),
      p99Ms: mean((edge) => edge.p99Ms ?? 0),
    };
  });
}

/** A mesh of so many services and edges, in layers as real ones have them. */
export function large(count: number, edgeCount: number): FakeMesh {
  const names = Array.from(
    { length: count },
    (_, index) => `team-${index % 12}/svc-${String(index).padStart(3, "0")}`,
  );
  const services = names.map((id) => service(id.split("/")[0] ?? "", id.split("/")[1] ?? "", ["v1"]));
  const workloads = names.map((id) => workload(id.split("/")[0] ?? "", id.split("/")[1] ?? "", "v1", ""));
  const calls: Call[] = [];
  const seen = new Set<string>();
  const next = dice(7);
  while (calls.length < edgeCount) {
    const from = Math.floor(next() * count * 0.8);
    const to = Math.min(count - 1, from + 1 + Math.floor(next() ** 2 * count * 0.4));
    if (from === to || seen.has(`${from} ${to}`)) continue;
    seen.add(`${from} ${to}`);
    const failed = calls.length % 211 === 0 ? 0.2 : 0;
    calls.push({ from: names[from] ?? "", to: names[to] ?? "", rate: 1 + next() * 80, failed, p50: 2 });
  }
  return {
    ...shop(),
    services,
    workloads,
    policies: [],
    proxies: workloads.map((one) => proxyOf(one, "Weft")),
    edges: (tick) =>
      calls.map((call, index) => {
        // Some edges begin to fail, and are well again.
        const failed = (index + tick * 7) % 301 === 0 ? 0.3 : (call.failed ?? 0);
        return edgeOf({ ...call, failed, rate: call.rate * (1 + wave(index, tick)) }, index, tick);
      }),
  };
}
