/** Policies as the page knows them: all objects of all kinds that shape traffic, and whom each concerns. */

import { signal } from "@preact/signals";
import type { WeftObject } from "./api/documents";
import { features, listAll } from "./live";

/** Everything that was applied, by kind; `null` until it was read. */
export const objects = signal<WeftObject[] | null>(null);
export const revision = signal(0);

/** Kinds that are policies; services and workloads have pages of their own. */
export function isPolicy(kind: string): boolean {
  return kind !== "Service" && kind !== "Workload";
}

export async function readPolicies(): Promise<void> {
  const lists = await Promise.all(features.value.kinds.filter(isPolicy).map((kind) => listAll(kind)));
  objects.value = lists.flatMap((list) => list.items);
  revision.value = Math.max(0, ...lists.map((list) => list.revision));
}

interface Reference {
  kind?: string;
  name?: string;
  namespace?: string;
}

/** How an object comes to concern a service. */
export type Origin = "service" | "route" | "leads here" | "namespace" | "mesh";

/** What shapes the traffic of a service, the nearest first. */
export function effective(all: WeftObject[], service: string): { object: WeftObject; origin: Origin }[] {
  const order: Origin[] = ["service", "route", "leads here", "namespace", "mesh"];
  const direct = all.map((object) => ({ object, origin: originOf(object, service) }));
  const routes = new Set(
    direct
      .filter(({ origin, object }) => origin === "service" && object.spec.parentRefs)
      .map(({ object }) => keyOf(object)),
  );
  return direct
    .map(({ object, origin }) => ({ object, origin: origin ?? throughRoute(object, routes) }))
    .filter((found): found is { object: WeftObject; origin: Origin } => found.origin !== undefined)
    .sort((one, other) => order.indexOf(one.origin) - order.indexOf(other.origin));
}

export function keyOf({ kind, metadata }: WeftObject): string {
  return `${kind} ${metadata.namespace ?? ""}/${metadata.name}`;
}

function references(value: unknown): Reference[] {
  return Array.isArray(value) ? (value as Reference[]) : [];
}

function originOf(object: WeftObject, service: string): Origin | undefined {
  if (object.kind === "Mesh") return "mesh";
  const own = object.metadata.namespace ?? "";
  const [namespace = ""] = service.split("/");
  const names = (reference: Reference) =>
    (reference.kind ?? "Service") === "Service" &&
    `${reference.namespace ?? own}/${reference.name}` === service;
  const { targetRefs, parentRefs, rules } = object.spec;
  const targets = references(targetRefs);
  if (targets.some(names) || references(parentRefs).some(names)) return "service";
  if (targets.some((target) => target.kind === "Mesh")) return "mesh";
  const isNamespace = (target: Reference) =>
    target.kind === "Namespace" && (target.name ?? own) === namespace;
  if (targets.some(isNamespace)) return "namespace";
  if (targets.length === 0 && !parentRefs && own === namespace) return "namespace";
  const backends = references(rules).flatMap((rule) =>
    references((rule as { backendRefs?: unknown }).backendRefs),
  );
  return backends.some(names) ? "leads here" : undefined;
}

function throughRoute(object: WeftObject, routes: Set<string>): Origin | undefined {
  const own = object.metadata.namespace ?? "";
  const isTargeted = references(object.spec.targetRefs).some((target) =>
    routes.has(`${target.kind} ${target.namespace ?? own}/${target.name}`),
  );
  return isTargeted ? "route" : undefined;
}

/** `AuthorizationPolicy shop/no-refunds/rule`; a name without a kind is an AuthorizationPolicy, as a refusal names it. */
export function policyOf(
  name: string,
): { kind: string; namespace: string; object: string; rule: string } | undefined {
  const match = /^(?:([A-Za-z]+) )?([a-z0-9.-]+)\/([a-z0-9.-]+)(?:\/(\S+))?$/.exec(name.trim());
  if (!match) return undefined;
  const [, kind = "AuthorizationPolicy", namespace = "", object = "", rule = ""] = match;
  return { kind, namespace, object, rule };
}
