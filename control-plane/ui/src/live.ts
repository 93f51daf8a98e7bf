/**
 * What the page knows of the mesh, kept fresh while it is looked at: lists that are asked again and again, and edges, which
 * come as a stream where the control plane has one.
 */

import { batch, computed, signal } from "@preact/signals";
import { access, mayRead } from "./access";
import type { AccessInfo } from "./api/changes";
import { ApiError, follow, get } from "./api/client";
import type {
  AuthorityStatus,
  Edge,
  EdgeList,
  ObjectList,
  ProxyList,
  ProxyStatus,
  WeftObject,
} from "./api/documents";
import { type Features, featuresOf } from "./api/features";
import { buildGraph } from "./graph/model";

export const features = signal<Features>(featuresOf(null));
/** Whether it is known what can be asked, and what the caller may ask. */
export const isIntroduced = signal(false);
export const edges = signal<Edge[] | null>(null);
export const services = signal<WeftObject[] | null>(null);
export const workloads = signal<WeftObject[]>([]);
export const proxies = signal<ProxyStatus[] | null>(null);
export const authority = signal<AuthorityStatus | null>(null);
/** When edges were last heard of; milliseconds since 1970. */
export const heardAt = signal(0);
/** Control planes that did not answer in time: traffic is missing. */
export const unheard = signal(0);
/** Why there is nothing new, in words. */
export const trouble = signal<string | null>(null);

export const graph = computed(() =>
  buildGraph({
    services: services.value ?? [],
    workloads: workloads.value,
    proxies: proxies.value ?? [],
    edges: edges.value ?? [],
  }),
);

/** Whether the first answers are there. */
export const isLoaded = computed(
  () => edges.value !== null && services.value !== null && proxies.value !== null,
);

const EDGES_EVERY = 2_000;
const LISTS_EVERY = 4_000;
const AUTHORITY_EVERY = 60_000;
const LONGEST_PAUSE = 15_000;
/** Numbers that are older than this are said to be old, and a stream that is silent for so long is opened again. */
export const SILENCE = 10_000;

/** Begins to ask, and asks until the returned function is called. */
export function watchMesh(): () => void {
  const ending = new AbortController();
  const { signal } = ending;
  forget();
  const start = async () => {
    const description = await get<unknown>("/openapi.json", signal).catch(() => null);
    if (signal.aborted) return;
    features.value = featuresOf(description);
    if (features.value.access) {
      access.value = await get<AccessInfo>("/v1/access", signal).catch(() => null);
      if (signal.aborted) return;
    }
    isIntroduced.value = true;
    void again(signal, LISTS_EVERY, () => readLists(signal));
    void again(signal, AUTHORITY_EVERY, () => readAuthority(signal));
    void again(signal, EDGES_EVERY, () =>
      features.value.watchEdges && mayRead("Traffic") ? followEdges(signal) : readEdges(signal),
    );
  };
  void start();
  return () => ending.abort();
}

/** What somebody else saw who was signed in before. */
function forget(): void {
  batch(() => {
    [access.value, edges.value, services.value, proxies.value, authority.value] = [
      null,
      null,
      null,
      null,
      null,
    ];
    isIntroduced.value = false;
    [workloads.value, heardAt.value, unheard.value, trouble.value] = [[], 0, 0, null];
  });
}

/** Every so often while the page is seen; more and more seldom while it fails. */
async function again(signal: AbortSignal, pause: number, what: () => Promise<void>): Promise<void> {
  let wait = pause;
  while (!signal.aborted) {
    try {
      await what();
      wait = pause;
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && error.status === 401)) return;
      trouble.value = error instanceof Error ? error.message : String(error);
      wait = Math.min(wait * 2, Math.max(pause, LONGEST_PAUSE));
    }
    await rest(wait, signal);
    await untilSeen(signal);
  }
}

export function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function untilSeen(signal: AbortSignal): Promise<void> {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", () => resolve(), { once: true, signal });
    signal.addEventListener("abort", () => resolve());
  });
}

function heard(list: EdgeList): void {
  batch(() => {
    edges.value = list.items;
    unheard.value = list.unheard ?? 0;
    heardAt.value = Date.now();
    trouble.value = null;
  });
}

async function readEdges(signal: AbortSignal): Promise<void> {
  if (!mayRead("Traffic")) return heard({ items: [] });
  heard(await get<EdgeList>("/v1/edges", signal));
}

/** Until the stream ends, says nothing any more, or nobody looks: a browser has few connections to one host. */
async function followEdges(signal: AbortSignal): Promise<void> {
  if (edges.value === null) await readEdges(signal);
  const leaving = new AbortController();
  const leave = () => {
    if (document.visibilityState === "hidden") leaving.abort();
  };
  let listened = Date.now();
  const watchdog = setInterval(() => {
    if (Date.now() - listened > SILENCE) leaving.abort();
  }, EDGES_EVERY);
  document.addEventListener("visibilitychange", leave);
  try {
    await follow("/v1/watch/edges", AbortSignal.any([signal, leaving.signal]), ({ event, data }) => {
      listened = Date.now();
      if (event === "edges") heard(JSON.parse(data) as EdgeList);
    });
  } catch (error) {
    if (!leaving.signal.aborted) throw error;
  } finally {
    clearInterval(watchdog);
    document.removeEventListener("visibilitychange", leave);
  }
}

async function readLists(signal: AbortSignal): Promise<void> {
  const [listed, joined, connected] = await Promise.all([
    listAll("Service", signal),
    listAll("Workload", signal),
    mayRead("Proxy") ? get<ProxyList>("/v1/proxies", signal) : { items: [] },
  ]);
  batch(() => {
    services.value = listed.items;
    workloads.value = joined.items;
    proxies.value = connected.items;
  });
}

async function readAuthority(signal: AbortSignal): Promise<void> {
  authority.value = await get<AuthorityStatus>("/v1/ca", signal);
}

/** All pages of a list; nothing of a kind that is not the caller's to read. */
export async function listAll(kind: string, signal?: AbortSignal): Promise<ObjectList> {
  const items: WeftObject[] = [];
  let [after, revision] = ["", 0];
  if (!mayRead(kind)) return { items, revision };
  for (;;) {
    const page = after ? `?continue=${encodeURIComponent(after)}` : "";
    const list = await get<ObjectList>(`/v1/${kind.toLowerCase()}${page}`, signal);
    items.push(...list.items);
    revision = list.revision;
    if (!list.continue) return { items, revision };
    after = list.continue;
  }
}
