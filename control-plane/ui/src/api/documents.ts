/** The documents of the REST API, as far as the page reads them. What may be absent is what an older control plane lacks. */

import type { AppliedDocument } from "./changes";

export interface Metadata {
  name: string;
  namespace?: string;
  labels?: Record<string, string>;
  generation?: number;
  uid?: string;
}

export interface WeftObject {
  apiVersion: string;
  kind: string;
  metadata: Metadata;
  spec: Record<string, unknown>;
  status?: ObjectStatus;
}

/** What became of an object. An older control plane says nothing, or something else. */
export interface ObjectStatus {
  conditions?: Condition[];
  /** How many proxies it concerns, and what of these acknowledged or refused it. */
  proxies?: Record<string, unknown>;
  [other: string]: unknown;
}

export interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
  observedGeneration?: number;
}

export interface ObjectList {
  items: WeftObject[];
  revision: number;
  continue?: string;
}

export type Sync = "Synced" | "Pending" | "Refused" | "HeldBack" | "Disconnected";

export interface Refusal {
  resources: string[];
  message: string;
  policies?: string[];
}

export interface TypeStatus {
  sent: number;
  acked: number;
  sync: Sync;
  heldBack?: number;
  refused?: Refusal[];
}

export interface Certificate {
  serial: string;
  identity: string;
  /** Seconds since 1970. */
  issuedAt: number;
  expiresAt: number;
  keyMadeBy: string;
}

export interface ProxyStatus {
  id: string;
  service: string;
  proxy: string;
  client?: boolean;
  userAgent: string;
  sync: Sync;
  streams: number;
  /** Seconds since 1970; 0 without a stream. */
  connectedAt: number;
  types: Record<string, TypeStatus>;
  health: string;
  healthReason?: string;
  certificate?: Certificate;
  address: string;
  joinedFrom?: string;
}

export interface ProxyList {
  items: ProxyStatus[];
  revision: number;
}

export type EdgeState = "Flowing" | "Idle" | "Silent" | "Failing";

export interface Edge {
  source: string;
  destination: string;
  port: string;
  subset?: string;
  protocol?: "Http" | "Tcp";
  /** Completed requests a second; connections for TCP. */
  rate: number;
  /** Shares from 0 to 1, absent without traffic. */
  success?: number | null;
  failed?: number | null;
  denied?: number | null;
  open?: number;
  /** Members that callers leave alone, since they failed. */
  ejected?: number;
  /** A second. */
  retries?: number;
  bytesSent?: number;
  bytesReceived?: number;
  p50Ms?: number | null;
  p90Ms?: number | null;
  p99Ms?: number | null;
  mtls: boolean;
  windowSeconds: number;
  route?: string;
  state?: EdgeState;
}

export interface EdgeList {
  items: Edge[];
  /** Replicas that did not answer in time. */
  unheard?: number;
}

export interface Point {
  /** Milliseconds since 1970. */
  at: number;
  rate: number;
  success?: number | null;
  failed?: number | null;
  denied?: number | null;
  open?: number;
  p50Ms?: number | null;
  p90Ms?: number | null;
  p99Ms?: number | null;
}

export interface Series {
  step: string | number;
  points: Point[];
}

/** A request that failed, and why; of a tap, one that ended. */
export interface RequestRecord {
  id: string;
  /** Milliseconds since 1970. */
  at: number;
  hop?: string;
  workload: string;
  service: string;
  source?: string;
  destination?: string;
  method?: string;
  authority?: string;
  path?: string;
  protocol?: string;
  status?: number;
  flags?: string | string[];
  details?: string;
  reason?: string;
  remedy?: string;
  policy?: string;
  route?: string;
  upstream?: string;
  peer?: string;
  durationMs?: number;
}

/** A request that ended, as a tap shows it. */
export interface TapLine extends RequestRecord {
  /** What the sidecar of the called workload knows besides. */
  server?: { workload: string; status?: number; route?: string; durationMs: number };
  attempts?: number;
  requestHeaders?: Record<string, string>;
  responseHeaders?: Record<string, string>;
}

/** Whose requests a tap hears. */
export interface TapListening {
  heard: number;
  unheard?: { workload: string; reason: string }[];
  unheardReplicas?: number;
}

export interface RequestList {
  items: RequestRecord[];
  dropped?: number;
  /** Replicas that did not answer in time. */
  unheard?: number;
}

export interface AuthorityEntry {
  spkiSha256?: string;
  serial?: string;
  /** Seconds since 1970. */
  expiresAt: number;
  /** Signing, Coming or Leaving. */
  state?: string;
  leaves?: number;
}

export interface RotationStatus {
  stage: string;
  /** Seconds since 1970. */
  startedAt: number;
  stageSince: number;
  aborted: boolean;
  waits: number;
  waitsFor: { who: string; reason: string; until?: number }[];
  leftBehind: string[];
}

export interface AuthorityStatus {
  trustDomain?: string;
  leaves?: number;
  root?: AuthorityEntry;
  issuer?: AuthorityEntry;
  roots?: AuthorityEntry[];
  issuers?: AuthorityEntry[];
  rotation?: RotationStatus;
}

export interface Violation {
  code: string;
  path: string;
  message: string;
  hint?: string;
  severity?: "Error" | "Warning";
  object?: string;
  /** From 1; 0 when unknown. */
  line?: number;
  column?: number;
}

export interface Problem {
  title: string;
  status: number;
  code: string;
  detail?: string;
  violations?: Violation[];
}

export interface ApplyResult {
  revision: number;
  dryRun?: boolean;
  documents: AppliedDocument[];
  warnings?: Violation[];
  wait?: { targeted: number; acked: number; laggards?: { proxy: string; error?: string }[] };
}

export type SessionMode = "ReadOnly" | "Changes";

export interface Session {
  /** Sent with each call; the cookie alone opens nothing. */
  key?: string;
  mode: SessionMode;
  /** Seconds since 1970. */
  expiresAt: number;
}
