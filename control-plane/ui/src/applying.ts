/** Trying a change, and making it: a set of documents, or going back to a revision. */

import type { DiffResult } from "./api/changes";
import { ApiError, call, get, objectPath } from "./api/client";
import type { ApplyResult, Violation, WeftObject } from "./api/documents";
import { listAll } from "./live";

export type Checked =
  | { state: "good"; result: ApplyResult }
  | { state: "refused"; title: string; violations: Violation[] };

const YAML = "application/yaml";
/** How long a change waits for proxies. */
const PATIENCE = "15s";

/** What would become of the documents. */
export function tryOut(text: string, signal: AbortSignal): Promise<Checked> {
  return send("/v1/apply?dryRun=true", text, signal);
}

/** What an apply of them would do, as far as proxies and requests. */
export async function diff(text: string, signal: AbortSignal): Promise<DiffResult> {
  const response = await call("/v1/diff", { method: "POST", body: text, contentType: YAML, signal });
  return (await response.json()) as DiffResult;
}

/** The same of going back to a revision. */
export async function diffTo(revision: number, signal: AbortSignal): Promise<DiffResult> {
  const options = { method: "POST", body: "", contentType: YAML, signal };
  const response = await call(`/v1/diff?to=${revision}`, options);
  return (await response.json()) as DiffResult;
}

interface RollbackOptions {
  dryRun?: boolean;
  message?: string;
  /** Refused when another revision is the newest. */
  ifRevision?: number;
}

/** Makes the policies what they were after a revision, and waits until proxies have it; or says what that would change. */
export async function rollBack(
  to: number,
  { dryRun, message, ifRevision }: RollbackOptions,
  signal?: AbortSignal,
): Promise<ApplyResult> {
  const words = new URLSearchParams(dryRun ? { dryRun: "true" } : { wait: PATIENCE });
  if (message) words.set("message", message);
  if (ifRevision !== undefined) words.set("ifRevision", String(ifRevision));
  const options = { method: "POST", body: JSON.stringify({ to }) };
  const response = await call(`/v1/rollback?${words}`, signal ? { ...options, signal } : options);
  return (await response.json()) as ApplyResult;
}

/**
 * Applies, and waits until proxies have it. Of an object that was read before, only what was read is replaced: one that
 * changed meanwhile is left alone.
 */
export async function apply(text: string, message: string, of?: WeftObject): Promise<Checked> {
  const words = new URLSearchParams({ wait: PATIENCE });
  if (message) words.set("message", message);
  if (of) {
    const { namespace = "default", name, generation } = of.metadata;
    const { revision } = await listAll(of.kind);
    const now = await get<WeftObject>(objectPath(of.kind, namespace, name)).catch(() => null);
    if (now?.metadata.generation !== generation) {
      return { state: "refused", title: "it was changed meanwhile: open it again", violations: [] };
    }
    words.set("ifRevision", String(revision));
  }
  return send(`/v1/apply?${words}`, text);
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
