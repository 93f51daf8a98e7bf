/** Calls of the control plane's API. The session is a cookie that scripts cannot read, and a key that only this origin has. */

import type { Problem } from "./documents";

export const KEY_HEADER = "X-Weft-Session-Key";
const KEY = "weft-session-key";

/** An answer that is no success, or none at all (status 0). */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }

  get status(): number {
    return this.problem.status;
  }
}

export function sessionKey(): string | null {
  return localStorage.getItem(KEY);
}

export function keepSessionKey(key: string | null): void {
  if (key === null) localStorage.removeItem(KEY);
  else localStorage.setItem(KEY, key);
}

/** Told whenever an answer says that there is no session any more. */
let signedOut: () => void = () => {};

export function onSignedOut(listener: () => void): void {
  signedOut = listener;
}

export interface Call {
  method?: string;
  body?: string;
  contentType?: string;
  signal?: AbortSignal;
}

/** One call; throws `ApiError` for everything that is no success. */
export async function call(path: string, options: Call = {}): Promise<Response> {
  const headers = new Headers({ Accept: "application/json" });
  const key = sessionKey();
  if (key) headers.set(KEY_HEADER, key);
  if (options.body !== undefined) headers.set("Content-Type", options.contentType ?? "application/json");
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? "GET",
      headers,
      body: options.body ?? null,
      signal: options.signal ?? null,
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError({ title: "the control plane does not answer", status: 0, code: "unreachable" });
  }
  if (response.ok) return response;
  if (response.status === 401) signedOut();
  throw new ApiError(await problemOf(response));
}

async function problemOf(response: Response): Promise<Problem> {
  const fallback = { title: response.statusText || "refused", status: response.status, code: "unknown" };
  try {
    const body = (await response.json()) as Partial<Problem>;
    return { ...fallback, ...body };
  } catch {
    return fallback;
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await call(path, signal ? { signal } : {});
  return (await response.json()) as T;
}

/** What is sent as one event of a stream. */
export interface StreamEvent {
  event: string;
  data: string;
}

/** Splits a stream of server-sent events, whose lines end with \n; what is incomplete waits for more. */
export class EventParser {
  private rest = "";

  push(text: string): StreamEvent[] {
    this.rest += text;
    const end = this.rest.lastIndexOf("\n\n");
    if (end < 0) return [];
    const whole = this.rest.slice(0, end);
    this.rest = this.rest.slice(end + 2);
    return whole.split("\n\n").flatMap(parseBlock);
  }
}

function parseBlock(block: string): StreamEvent[] {
  let event = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length > 0 ? [{ event, data: data.join("\n") }] : [];
}

/** Follows server-sent events until the signal aborts or the server ends; `EventSource` could not send the session's key. */
export async function follow(
  path: string,
  signal: AbortSignal,
  heard: (event: StreamEvent) => void,
): Promise<void> {
  const response = await call(path, { signal });
  const reader = response.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  const parser = new EventParser();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const event of parser.push(decoder.decode(value, { stream: true }))) heard(event);
  }
}

/** Kinds and names as they stand in a path. */
export function objectPath(kind: string, namespace: string, name: string): string {
  const parts = [namespace, kind.toLowerCase(), name].map(encodeURIComponent);
  return `/v1/namespaces/${parts[0]}/${parts[1]}/${parts[2]}`;
}
