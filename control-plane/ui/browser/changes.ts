/** What was changed in the mesh that exists nowhere, by whom, and what a change of it would do. */

import type {
  AuditRecord,
  CheckResult,
  DiffResult,
  DocumentDiff,
  HistoryEntry,
  HistoryList,
  Outcome,
  ProxyResource,
  RevisionChanges,
} from "../src/api/changes";
import type { WeftObject } from "../src/api/documents";

/** Not a round time: nothing may depend on one. */
const NOW = Date.now() - 90_000;
const HOUR = 3_600_000;

function split(weight: number): WeftObject {
  return {
    apiVersion: "weft.dev/v1",
    kind: "HTTPRoute",
    metadata: { namespace: "shop", name: "catalog-split", uid: "HTTPRoute-catalog-split" },
    spec: {
      parentRefs: [{ kind: "Service", name: "catalog", port: 80 }],
      rules: [
        {
          name: "everyone",
          matches: ["/", "/items", "/search", "/images"].map((value) => ({
            path: { type: "PathPrefix", value },
          })),
          backendRefs: [
            { name: "catalog", port: 80, subset: "v1", weight: 100 - weight },
            { name: "catalog", port: 80, subset: "v2", weight },
          ],
        },
      ],
    },
  };
}

const WHY = [
  "",
  "the canary looks <b>well</b>",
  "rollback to 3: the canary fails",
  "try version 2",
  "",
  "first routes",
  "",
];

export const NEWEST = 47;

function entry(revision: number): HistoryEntry {
  const isFirst = revision === 1;
  const document = {
    kind: "HTTPRoute",
    namespace: "shop",
    name: "catalog-split",
    outcome: (isFirst ? "Created" : "Updated") as Outcome,
    generation: revision,
  };
  const more = Array.from({ length: revision === 44 ? 11 : 0 }, (_, index) => ({
    ...document,
    kind: "Service",
    name: `svc-${index}`,
  }));
  return {
    revision,
    id: `id-${revision}`,
    author: revision % 3 === 0 ? "dora" : "operator",
    client: revision % 3 === 0 ? "page" : "weft/0.1.0",
    message: WHY[revision % WHY.length] ?? "",
    at: NOW - (NEWEST - revision) * HOUR,
    changes: 1 + more.length,
    documents: [document, ...more],
  };
}

export function history(words: URLSearchParams): HistoryList {
  const before = Number(words.get("before") ?? NEWEST + 1);
  const limit = Number(words.get("limit") ?? 20);
  const isOther = (words.get("name") ?? "catalog-split") !== "catalog-split";
  const revisions = Array.from(
    { length: Math.max(0, Math.min(limit, before - 1)) },
    (_, at) => before - 1 - at,
  );
  const items = isOther ? [] : revisions.map(entry);
  const last = items.at(-1)?.revision ?? 1;
  return { items, newest: NEWEST, oldest: 1, ...(last > 1 ? { before: last } : {}) };
}

function diffOf(before: number, after: number, outcome: Outcome = "Updated"): DocumentDiff {
  const one = { kind: "HTTPRoute", namespace: "shop", name: "catalog-split", outcome };
  if (outcome === "Created") return { ...one, after: split(after) };
  return { ...one, before: split(before), after: split(after) };
}

export function revision(number: number): RevisionChanges | undefined {
  if (number < 1 || number > NEWEST) return undefined;
  const documents = [diffOf(number - 1, number, number === 1 ? "Created" : "Updated")];
  return { ...entry(number), documents };
}

/** With each word that an edge may have. */
export function diff(): DiffResult {
  const edge = (source: string, destination: string) => ({
    source: `shop/${source}`,
    destination: `shop/${destination}`,
    port: "http",
  });
  const policy = "AuthorizationPolicy shop/no-payments-for-load";
  return {
    revision: NEWEST,
    changes: true,
    documents: [diffOf(20, 50)],
    resources: [
      {
        type: "RouteConfiguration",
        name: "outbound/shop",
        outcome: "Updated",
        proxies: ["shop/web-v1"],
        proxyCount: 6,
      },
      {
        type: "Cluster",
        name: "shop/catalog/http/v2",
        outcome: "Created",
        proxies: ["shop/web-v1"],
        proxyCount: 1,
      },
    ],
    resourceCount: 2,
    proxies: [
      { id: "shop/web-v1", userAgent: "envoy 1.40.0", resources: 2 },
      {
        id: "shop/cart-v1",
        userAgent: "weft-proxy 0.1.0",
        resources: 1,
        warnings: ["it refuses outbound/shop at present: no such cluster"],
      },
    ],
    edges: [
      {
        ...edge("load", "payments"),
        effect: "Refused",
        reasons: [{ message: `${policy} rule load refuses it`, policy, rule: "load" }],
      },
      {
        ...edge("cart", "payments"),
        effect: "MayBeRefused",
        reasons: [
          {
            message: `${policy} rule admin refuses it, depending on path`,
            policy,
            rule: "admin",
            dependsOn: ["path"],
          },
        ],
      },
      { ...edge("web", "cart"), effect: "Eased" },
      { ...edge("web", "catalog"), effect: "Unaffected" },
    ],
  };
}

export const ROLES: WeftObject[] = [
  {
    apiVersion: "weft.dev/v1",
    kind: "Role",
    metadata: { name: "shop-developer" },
    spec: {
      rules: [
        { verbs: ["Read", "Write"], kinds: ["HTTPRoute", "TrafficPolicy"], namespaces: ["shop"] },
        { verbs: ["Read"], kinds: ["*"], namespaces: ["*"] },
      ],
    },
  },
  {
    apiVersion: "weft.dev/v1",
    kind: "RoleBinding",
    metadata: { name: "shop-developers" },
    spec: { role: "shop-developer", subjects: [{ principal: "dora" }, { principal: "emil" }] },
  },
];

export const PRINCIPALS = {
  items: [
    { name: "dora", createdAt: NOW / 1000 - 86_400, tokenAt: NOW / 1000 - 3_600, roles: ["shop-developer"] },
    { name: "emil", createdAt: NOW / 1000 - 86_400, tokenAt: NOW / 1000 - 86_400, roles: [] },
  ],
};

/** So many that they take three pages. */
const RECORDS: AuditRecord[] = Array.from({ length: 120 }, (_, index) => {
  const at = NOW - index * 60_000;
  const isRefused = index % 7 === 3;
  return {
    at,
    who: index % 3 === 0 ? "dora" : "operator",
    client: index % 2 === 0 ? "page" : "weft/0.1.0",
    from: "127.0.0.1",
    call: isRefused ? "DELETE /v1/namespaces/shop/services/cart" : "POST /v1/apply",
    ...(isRefused ? { about: "Delete Service in shop" } : { revision: Math.max(1, NEWEST - index) }),
    outcome: isRefused ? "Refused" : "Done",
    count: isRefused ? 4 : 1,
  };
});

export function audit(words: URLSearchParams): { items: AuditRecord[]; before?: number } {
  const [who, before] = [words.get("who"), Number(words.get("before") ?? Number.MAX_SAFE_INTEGER)];
  const matching = RECORDS.filter((record) => (!who || record.who === who) && record.at < before);
  const items = matching.slice(0, Number(words.get("limit") ?? 50));
  const last = items.at(-1);
  return { items, ...(last && items.length < matching.length ? { before: last.at } : {}) };
}

export const CHECK: CheckResult = {
  findings: [
    {
      code: "policy_selects_nothing",
      severity: "Warning",
      what: "selects nothing",
      where: "TrafficPolicy shop/old",
      remedy: "delete it, or name a Service that exists",
    },
    {
      code: "certificate_ends",
      severity: "Failure",
      what: "its certificate ends in 2 h and nobody renews it",
      where: "shop/cart-v1",
      remedy: "look at `weft proxy status shop/cart-v1`",
    },
    { code: "application_sockets", severity: "NotKnown", what: "no sidecar tells", where: "shop/web-v1" },
    { code: "store", severity: "Ok", what: "answers in 2 ms" },
  ],
  omitted: { policy_selects_nothing: 3 },
  complete: false,
};

export function configuration(): Record<string, unknown> {
  const cluster = (timeout: string) => ({ name: "shop/cart:http", connectTimeout: timeout, type: "EDS" });
  const list: ProxyResource[] = [
    {
      name: "shop/cart:http",
      version: "9d1c",
      resource: cluster("5s"),
      state: "Refused",
      acknowledged: { version: "77aa", resource: cluster("1s") },
    },
    { name: "shop/catalog:http", version: "1b2c", resource: cluster("5s"), state: "Acknowledged" },
    { name: "shop/gone:http", state: "Unwanted", acknowledged: { version: "0a0a", resource: cluster("9s") } },
  ];
  const listener: ProxyResource = { name: "outbound", version: "3c4d", resource: {}, state: "Sent" };
  return { revision: NEWEST, CDS: list, EDS: [], LDS: [listener] };
}
