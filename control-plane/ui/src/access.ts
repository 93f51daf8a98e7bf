/** What whoever is signed in may do, as the control plane tells it; one that does not tell is asked and may refuse. */

import { signal } from "@preact/signals";
import type { AccessInfo } from "./api/changes";

export const access = signal<AccessInfo | null>(null);

/** `*` is all kinds but these, which are named or not meant. */
const NAMED_ONLY = new Set(["Role", "RoleBinding"]);

/** Whether a kind may be read, in one namespace at least. */
export function mayRead(kind: string): boolean {
  return allows(access.value, "Read", kind);
}

export function allows(info: AccessInfo | null, verb: string, kind: string): boolean {
  if (info === null || info.isOperator) return true;
  return info.rules.some(
    ({ verbs, kinds }) =>
      verbs.includes(verb) && (kinds.includes(kind) || (kinds.includes("*") && !NAMED_ONLY.has(kind))),
  );
}

/** What is of no namespace takes a right in all of them. */
export function mayReadEverywhere(kind: string): boolean {
  const info = access.value;
  if (info === null || info.isOperator) return true;
  const everywhere = info.rules.filter(({ namespaces }) => namespaces.includes("*"));
  return allows({ ...info, rules: everywhere }, "Read", kind);
}
