/**
 * The graph of the mesh, from four lists of the API: a node for each service with its versions, and a link for each pair
 * of services that talk, with what its edges (by port and version) come to together. Pure: lists in, graph out.
 */

import type { Edge, ProxyStatus, WeftObject } from "../api/documents";
import { failedShare, type Tone, toneOf, worst } from "./tone";

export interface Instance {
  /** `NAMESPACE/WORKLOAD`. */
  id: string;
  version: string;
  zone: string;
  health: string;
  address: string;
  proxy: ProxyStatus | undefined;
}

export interface Version {
  name: string;
  instances: number;
  healthy: number;
  zones: string[];
  /** Requests a second of the edges that name it; absent where none does. */
  rate?: number;
  tone: Tone;
}

export interface ServiceNode {
  /** `NAMESPACE/SERVICE`. */
  id: string;
  namespace: string;
  name: string;
  instances: Instance[];
  versions: Version[];
  /** What it is asked, requests a second. */
  rate: number;
  /** The worst of what leads to it. */
  tone: Tone;
}

/** Everything from one service to another by one protocol. */
export interface Link {
  id: string;
  source: string;
  destination: string;
  protocol: "Http" | "Tcp";
  edges: Edge[];
  rate: number;
  success?: number;
  failed: number;
  denied: number;
  p50Ms?: number;
  p99Ms?: number;
  mtls: boolean;
  tone: Tone;
}

export interface Graph {
  nodes: ServiceNode[];
  links: Link[];
}

export interface Lists {
  services: WeftObject[];
  workloads: WeftObject[];
  proxies: ProxyStatus[];
  edges: Edge[];
}

export function buildGraph({ services, workloads, proxies, edges }: Lists): Graph {
  const links = linksOf(edges);
  const instances = instancesOf(workloads, proxies);
  const objects = new Map(services.map((service) => [idOf(service), service]));
  const ids = new Set([...objects.keys(), ...links.flatMap((link) => [link.source, link.destination])]);
  const incoming = grouped(links, (link) => link.destination);
  const nodes = [...ids]
    .sort()
    .map((id) => nodeOf(id, objects.get(id), instances.get(id) ?? [], incoming.get(id) ?? []));
  return { nodes, links };
}

function grouped<T>(items: T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group) group.push(item);
    else groups.set(key(item), [item]);
  }
  return groups;
}

export function idOf(object: WeftObject): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}

function nodeOf(
  id: string,
  object: WeftObject | undefined,
  instances: Instance[],
  incoming: Link[],
): ServiceNode {
  const [namespace = "", name = ""] = id.split("/");
  const edges = incoming.flatMap((link) => link.edges);
  return {
    id,
    namespace,
    name,
    instances,
    versions: versionsOf(object, instances, edges),
    rate: sum(
      incoming.filter((link) => link.protocol === "Http"),
      (link) => link.rate,
    ),
    tone: worst(incoming.map((link) => link.tone)),
  };
}

/** Instances by the service that they are members of. */
export function instancesOf(workloads: WeftObject[], proxies: ProxyStatus[]): Map<string, Instance[]> {
  const byId = new Map(proxies.map((proxy) => [proxy.id, proxy]));
  const found = new Map<string, Instance[]>();
  const add = (service: string, instance: Instance) => {
    const there = found.get(service);
    if (there) there.push(instance);
    else found.set(service, [instance]);
  };
  for (const workload of workloads) {
    const instance = instanceOf(workload, byId.get(idOf(workload)));
    if (instance.proxy?.client) continue;
    for (const service of membership(workload, instance.proxy)) add(service, instance);
    byId.delete(instance.id);
  }
  for (const proxy of byId.values()) {
    const { id, health, address } = proxy;
    if (proxy.service && !proxy.client)
      add(proxy.service, { id, version: "", zone: "", health, address, proxy });
  }
  return found;
}

function instanceOf(workload: WeftObject, proxy: ProxyStatus | undefined): Instance {
  const locality = (workload.spec.locality ?? {}) as { region?: string; zone?: string };
  return {
    id: idOf(workload),
    version: workload.metadata.labels?.version ?? "",
    zone: [locality.region, locality.zone].filter(Boolean).join("/"),
    health: String(workload.status?.health ?? proxy?.health ?? ""),
    address: String(workload.spec.address ?? proxy?.address ?? ""),
    proxy,
  };
}

function membership(workload: WeftObject, proxy: ProxyStatus | undefined): Set<string> {
  const named = Array.isArray(workload.spec.services) ? workload.spec.services.map(String) : [];
  const within = (name: string) =>
    name.includes("/") ? name : `${workload.metadata.namespace ?? ""}/${name}`;
  const services = new Set(named.map(within));
  if (proxy?.service) services.add(proxy.service);
  return services;
}

function versionsOf(object: WeftObject | undefined, instances: Instance[], edges: Edge[]): Version[] {
  const names = new Set(instances.map((instance) => instance.version));
  const versionOf = subsetVersions(object);
  const bySubset = grouped(
    edges.filter((edge) => edge.subset !== undefined),
    (edge) => versionOf(edge.subset ?? ""),
  );
  for (const name of bySubset.keys()) names.add(name);
  return [...names].sort().map((name) => {
    const own = instances.filter((instance) => instance.version === name);
    const asked = bySubset.get(name);
    const version: Version = {
      name,
      instances: own.length,
      healthy: own.filter((instance) => instance.health === "Healthy").length,
      zones: [...new Set(own.map((instance) => instance.zone).filter(Boolean))].sort(),
      tone: worst((asked ?? []).map(toneOf)),
    };
    if (asked) version.rate = sum(asked, (edge) => edge.rate);
    return version;
  });
}

/** A subset is shown as the version that its labels name. */
function subsetVersions(object: WeftObject | undefined): (subset: string) => string {
  const subsets = (object?.spec.subsets ?? []) as { name: string; matchLabels?: Record<string, string> }[];
  const versions = new Map(
    subsets.map((subset) => [subset.name, subset.matchLabels?.version ?? subset.name]),
  );
  return (subset) => versions.get(subset) ?? subset;
}

function linksOf(edges: Edge[]): Link[] {
  const groups = grouped(
    edges.filter((edge) => edge.route === undefined),
    (edge) => linkId(edge.source, edge.destination, edge.protocol ?? "Http"),
  );
  return [...groups].map(([id, group]) => linkOf(id, group));
}

export function linkId(source: string, destination: string, protocol: "Http" | "Tcp"): string {
  return `${source}>${destination}${protocol === "Tcp" ? ">tcp" : ""}`;
}

function linkOf(id: string, edges: Edge[]): Link {
  const first = edges[0] as Edge;
  const rate = sum(edges, (edge) => edge.rate);
  const share = (part: (edge: Edge) => number) =>
    rate > 0 ? sum(edges, (edge) => part(edge) * edge.rate) / rate : 0;
  const link: Link = {
    id,
    source: first.source,
    destination: first.destination,
    protocol: first.protocol ?? "Http",
    edges,
    rate,
    failed: share(failedShare),
    denied: share((edge) => edge.denied ?? 0),
    mtls: edges.every((edge) => edge.mtls),
    tone: worst(edges.map(toneOf)),
  };
  if (edges.some((edge) => typeof edge.success === "number"))
    link.success = share((edge) => edge.success ?? 1);
  const p50 = slowest(edges, (edge) => edge.p50Ms);
  const p99 = slowest(edges, (edge) => edge.p99Ms);
  if (p50 !== undefined) link.p50Ms = p50;
  if (p99 !== undefined) link.p99Ms = p99;
  return link;
}

/** Percentiles of several edges cannot be added: the slowest stands for all. */
function slowest(edges: Edge[], part: (edge: Edge) => number | null | undefined): number | undefined {
  const values = edges.map(part).filter((value) => typeof value === "number");
  return values.length > 0 ? Math.max(...values) : undefined;
}

function sum<T>(items: T[], part: (item: T) => number): number {
  return items.reduce((total, item) => total + part(item), 0);
}

/** What the words in the address leave of the mesh. */
export function filtered(whole: Graph, words: URLSearchParams): Graph {
  const namespace = words.get("ns");
  const text = words.get("q")?.toLowerCase() ?? "";
  const isTroubled = words.get("only") === "trouble";
  const matches = (id: string) =>
    (!namespace || id.startsWith(`${namespace}/`)) && (!text || id.toLowerCase().includes(text));
  if (!namespace && !text && !isTroubled) return whole;
  const links = whole.links.filter(
    (link) =>
      (matches(link.source) || matches(link.destination)) &&
      (!isTroubled || ["failing", "refused", "warning"].includes(link.tone)),
  );
  const ends = new Set(links.flatMap((link) => [link.source, link.destination]));
  const nodes = whole.nodes.filter((node) => ends.has(node.id) || (!isTroubled && matches(node.id)));
  return { nodes, links };
}
