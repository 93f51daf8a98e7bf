/** Who is signed in: nobody, or a session of the control plane that reads, or one that may also change. */

import { signal } from "@preact/signals";
import { ApiError, call, get, keepSessionKey, onSignedOut, sessionKey } from "./api/client";
import type { Session, SessionMode } from "./api/documents";
import { go, parts } from "./router";

export type SignedIn = "unknown" | "no" | Session;

const PATH = "/v1/session";
const WANTED = "weft-wanted-path";

export const session = signal<SignedIn>("unknown");

onSignedOut(() => {
  keepSessionKey(null);
  session.value = "no";
});

export function mayChange(): boolean {
  return typeof session.value === "object" && session.value.mode === "Changes";
}

/** Takes a one-time code out of the address, and exchanges it; else asks whether there is a session. */
export async function begin(): Promise<void> {
  const code = parts.value[0] === "login" ? window.location.hash.slice(1) : "";
  if (parts.value[0] === "login") go("login", "replace");
  if (code) {
    await signIn({ code });
    return;
  }
  if (!sessionKey()) {
    session.value = "no";
    return;
  }
  try {
    session.value = await get<Session>(PATH);
    if (parts.value[0] === "login") go("", "replace");
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) {
      session.value = "no";
      throw error;
    }
  }
}

/** By a token or a one-time code. */
export async function signIn(by: { token: string } | { code: string }): Promise<void> {
  try {
    const response = await call(PATH, { method: "POST", body: JSON.stringify(by) });
    const started = (await response.json()) as Session;
    keepSessionKey(started.key ?? null);
    session.value = started;
  } catch (error) {
    session.value = "no";
    throw error;
  }
  const wanted = sessionStorage.getItem(WANTED) ?? "";
  sessionStorage.removeItem(WANTED);
  go(wanted, "replace");
}

/** Where somebody without a session wanted to go: there after the sign-in. */
export function rememberWhere(): void {
  const { pathname, search } = window.location;
  const path = pathname.replace(/^\/ui\//, "");
  if (path !== "" && path !== "login") sessionStorage.setItem(WANTED, path + search);
}

export async function setMode(mode: SessionMode): Promise<void> {
  const response = await call(PATH, { method: "PATCH", body: JSON.stringify({ mode }) });
  session.value = (await response.json()) as Session;
}

export async function signOut(): Promise<void> {
  try {
    await call(PATH, { method: "DELETE" });
  } finally {
    keepSessionKey(null);
    session.value = "no";
    go("login", "replace");
  }
}
