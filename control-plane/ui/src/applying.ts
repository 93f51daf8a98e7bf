/** Trying a set of documents, and applying it. */

import { ApiError, call, get, objectPath } from "./api/client";
import type { ApplyResult, Violation, WeftObject } from "./api/documents";
import { listAll } from "./live";

export type Checked =
  | { state: "good"; result: ApplyResult }
  | { state: "refused"; title: string; violations: Violation[] };

const YAML = "application/yaml";
/** How long an apply waits for proxies. */
const PATIENCE = "15s";

/** What would happen. */
export function tryOut(text: string, signal: AbortSignal): Promise<Checked> {
  return send("/v1/apply?dryRun=true", text, signal);
}

/**
 * Applies, and waits until proxies have it. Of an object that was read before, only what was read is replaced: one that
 * changed meanwhile is left alone.
 */
export async function apply(text: string, of?: WeftObject): Promise<Checked> {
  let guard = "";
  if (of) {
    const { namespace = "default", name, generation } = of.metadata;
    const { revision } = await listAll(of.kind);
    const now = await get<WeftObject>(objectPath(of.kind, namespace, name)).catch(() => null);
    if (now?.metadata.generation !== generation) {
      return { state: "refused", title: "it was changed meanwhile: open it again", violations: [] };
    }
    guard = `&ifRevision=${revision}`;
  }
  return send(`/v1/apply?wait=${PATIENCE}${guard}`, text);
}

async function send(path: string, text: string, signal?: AbortSignal): Promise<Checked> {
  try {
    const options = { method: "POST", body: text, contentType: YAML };
    const response = await call(path, signal ? { ...options, signal } : options);
    return { state: "good", result: (await response.json()) as ApplyResult };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const { title, detail, violations = [] } = error.problem;
    return { state: "refused", title: detail ? `${title}: ${detail}` : title, violations };
  }
}

/** What happened, or would, in a sentence for each document. */
export function outcomes({ documents, dryRun }: ApplyResult): string[] {
  return documents.map(({ kind, namespace, name, outcome }) => {
    const what = outcome.toLowerCase();
    const verb = what === "unchanged" ? "is so already" : dryRun ? `would be ${what}` : `is ${what}`;
    return `${kind} ${namespace ? `${namespace}/` : ""}${name} ${verb}`;
  });
}
