/** A control plane that is none: the bundle as the real one serves it, and generated documents. For tests and for a designer. */

import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import type { WeftObject } from "../src/api/documents";
import { featuresOf } from "../src/api/features";
import * as changes from "./changes";
import type { FakeMesh } from "./documents";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const KINDS: Record<string, string> = {
  js: "text/javascript",
  css: "text/css",
  html: "text/html",
  svg: "image/svg+xml",
};
/** As control-plane/src/api/ui.rs has it; a test of the running mesh reads that one. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const NEW_PATHS = [
  "/v1/edges/series",
  "/v1/watch/edges",
  "/v1/requests",
  "/v1/taps",
  "/v1/history",
  "/v1/access",
  "/v1/principals",
  "/v1/audit",
  "/v1/check",
];

export interface Fake {
  url: string;
  /** Calls other than reading, as method and path. */
  written: string[];
  close(): Promise<void>;
}

export interface Options {
  /** Whether it can do what an older control plane cannot. */
  isNew: boolean;
  /** Between two lists of edges, in milliseconds. */
  every?: number;
  port?: number;
}

export async function fake(mesh: FakeMesh, options: Options): Promise<Fake> {
  const written: string[] = [];
  const server = createServer((request, response) => {
    answer(mesh, options, written, request, response).catch((error) => {
      response.writeHead(500).end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/ui/`, written, close: () => close(server) };
}

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

type Answer = (url: URL, body: string) => unknown;

async function answer(
  mesh: FakeMesh,
  options: Options,
  written: string[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? "/", "http://fake");
  if (url.pathname.startsWith("/ui")) return file(url.pathname, response);
  if (request.method !== "GET") written.push(`${request.method} ${request.url}`);
  if (options.isNew && url.pathname === "/v1/watch/edges") return events(mesh, options, response);
  if (options.isNew && url.pathname === "/v1/taps") return taps(mesh, response);
  const body = await read(request);
  const found = lookUp(mesh, options, request.method ?? "GET", url)?.(url, body);
  response.writeHead(found === undefined ? 404 : 200, { "Content-Type": "application/json" });
  response.end(JSON.stringify(found ?? { title: "Not Found", status: 404, code: "not_found" }));
}

async function read(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
}

async function file(path: string, response: ServerResponse): Promise<void> {
  const isAsset = path.startsWith("/ui/assets/");
  const name = isAsset ? path.slice("/ui/".length) : "index.html";
  const bytes = await readFile(DIST + name);
  response.writeHead(200, {
    "Content-Type": KINDS[name.split(".").pop() ?? ""] ?? "application/octet-stream",
    "Content-Security-Policy": POLICY,
  });
  response.end(bytes);
}

function events(mesh: FakeMesh, { every = 2_000 }: Options, response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let tick = 0;
  const send = () => {
    tick += 1;
    response.write(`event: edges\ndata: ${JSON.stringify({ items: mesh.edges(tick) })}\n\n`);
  };
  send();
  const timer = setInterval(send, every);
  response.on("close", () => clearInterval(timer));
}

function taps(mesh: FakeMesh, response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const unheard = [{ workload: "shop/payments-1", reason: "it is not connected: see `weft proxy list`" }];
  response.write(`event: listening\ndata: ${JSON.stringify({ heard: 5, unheard })}\n\n`);
  response.write(`event: notShown\ndata: ${JSON.stringify({ requests: 412 })}\n\n`);
  const timer = setInterval(() => {
    for (const record of mesh.requests) {
      response.write(`event: request\ndata: ${JSON.stringify({ ...record, at: Date.now() })}\n\n`);
    }
  }, 40);
  response.on("close", () => clearInterval(timer));
}

const session = { key: "fake", mode: "ReadOnly", expiresAt: Math.floor(Date.now() / 1000) + 43_200 };

function lookUp(mesh: FakeMesh, { isNew }: Options, method: string, { pathname }: URL): Answer | undefined {
  const list = (items: WeftObject[]) => () => ({ items, revision: 7 });
  if (method === "PATCH" && pathname === "/v1/session") {
    return (_, body) => ({ ...session, ...JSON.parse(body), key: undefined });
  }
  if (pathname === "/v1/session") return () => session;
  if (pathname === "/openapi.json") return () => description(isNew);
  if (pathname === "/v1/edges") return () => ({ items: mesh.edges(Math.floor(Date.now() / 2000)) });
  if (pathname === "/v1/proxies") return () => ({ items: mesh.proxies, revision: 7 });
  if (/^\/v1\/proxies\/.*\/config$/.test(pathname)) return isNew ? changes.configuration : configuration;
  if (pathname === "/v1/ca") return () => mesh.authority;
  if (pathname === "/v1/service") return list(mesh.services);
  if (pathname === "/v1/workload") return list(mesh.workloads);
  if (pathname === "/v1/apply") return applied;
  if (isNew && pathname in OF_CHANGES) return OF_CHANGES[pathname];
  const [, number] = /^\/v1\/history\/(\d+)$/.exec(pathname) ?? [];
  if (isNew && number) return () => changes.revision(Number(number));
  if (isNew && pathname === "/v1/edges/series") {
    return ({ searchParams }) => ({
      step: "5s",
      points: mesh.points(searchParams.get("destination") ?? "", 5),
    });
  }
  if (isNew && pathname === "/v1/requests") return ({ searchParams }) => requests(mesh, searchParams);
  if (isNew && pathname.startsWith("/v1/requests/")) {
    return () => mesh.requests.find((record) => pathname.endsWith(record.id));
  }
  const [, , , namespace, kind, name] = pathname.split("/");
  const all = [...mesh.policies, ...mesh.services];
  if (name) {
    const found = all.find(
      ({ kind: own, metadata }) =>
        own.toLowerCase() === kind &&
        metadata.name === name &&
        (metadata.namespace ?? "default") === namespace,
    );
    return () => found;
  }
  return list(mesh.policies.filter((policy) => `/v1/${policy.kind.toLowerCase()}` === pathname));
}

const OF_CHANGES: Record<string, Answer> = {
  "/v1/history": ({ searchParams }) => changes.history(searchParams),
  "/v1/diff": () => changes.diff(),
  "/v1/rollback": rolledBack,
  "/v1/access": () => ({ name: "operator", isOperator: true, rules: [] }),
  "/v1/principals": () => changes.PRINCIPALS,
  "/v1/audit": ({ searchParams }) => changes.audit(searchParams),
  "/v1/check": () => changes.CHECK,
};

function rolledBack({ searchParams }: URL): unknown {
  const dryRun = searchParams.get("dryRun") === "true";
  const { documents } = changes.history(new URLSearchParams({ limit: "1" })).items[0] ?? { documents: [] };
  return { revision: dryRun ? 0 : 48, dryRun, documents, wait: { targeted: 6, acked: 6 } };
}

function requests(mesh: FakeMesh, words: URLSearchParams): unknown {
  const matches = (name: string, value: string | undefined) => !words.has(name) || words.get(name) === value;
  const items = mesh.requests.filter(
    (one) => matches("source", one.source) && matches("destination", one.destination),
  );
  return { items, dropped: 0 };
}

function description(isNew: boolean): unknown {
  const paths = ["/v1/edges", "/v1/proxies", ...(isNew ? NEW_PATHS : [])];
  const asked = Object.fromEntries(paths.map((path) => [path, {}]));
  if (!isNew) return { paths: asked, components: { schemas: {} } };
  const takes = (name: string) => ({ post: { parameters: [{ name }] } });
  const kinds = [...featuresOf(null).kinds, "Role", "RoleBinding"];
  const documents = { anyOf: kinds.map((kind) => ({ $ref: `#/components/schemas/${kind}` })) };
  return {
    paths: { ...asked, "/v1/rollback": takes("dryRun"), "/v1/diff": takes("to") },
    components: { schemas: { Documents: documents } },
  };
}

function configuration(): unknown {
  const resource = {
    name: "shop/cart:http",
    version: "9d1c",
    resource: { connectTimeout: "5s", type: "EDS" },
  };
  return { revision: 7, CDS: [resource], EDS: [], LDS: [{ ...resource, name: "outbound" }] };
}

function applied(url: URL, body: string): unknown {
  const dryRun = url.searchParams.get("dryRun") === "true";
  const documents = [
    { kind: "HTTPRoute", namespace: "shop", name: "catalog-split", outcome: "Updated", generation: 2 },
  ];
  const line = body.split("\n").findIndex((text) => text.includes("weigth"));
  if (line < 0) return { revision: dryRun ? 0 : 8, dryRun, documents, wait: { targeted: 6, acked: 6 } };
  return {
    revision: 0,
    dryRun,
    documents,
    warnings: [
      { code: "unknown_field", path: "spec.rules[0]", message: "unknown field", line: line + 1, column: 5 },
    ],
  };
}
