/** The documents of the REST API that tell of changes: what was changed, what would be, by whom, and who may. */

import type { Violation, WeftObject } from "./documents";

export type Outcome = "Created" | "Updated" | "Unchanged" | "Deleted";

export interface Named {
  kind: string;
  namespace: string;
  name: string;
}

export interface AppliedDocument extends Named {
  outcome: Outcome;
  generation: number;
}

export interface RevisionInfo {
  revision: number;
  id: string;
  author: string;
  client?: string;
  message?: string;
  /** Milliseconds since 1970. */
  at: number;
  changes: number;
}

export interface HistoryEntry extends RevisionInfo {
  documents: AppliedDocument[];
}

export interface HistoryList {
  items: HistoryEntry[];
  /** Where to read on. */
  before?: number;
  newest: number;
  oldest: number;
}

export interface DocumentDiff extends Named {
  outcome: Outcome;
  before?: WeftObject;
  after?: WeftObject;
}

export interface RevisionChanges extends RevisionInfo {
  documents: DocumentDiff[];
}

export interface ResourceDiff {
  type: string;
  name: string;
  outcome: Outcome;
  proxies: string[];
  proxyCount: number;
}

export interface ProxyDiff {
  id: string;
  userAgent?: string;
  resources: number;
  warnings?: string[];
}

export type EdgeEffect = "Refused" | "MayBeRefused" | "Eased" | "Unaffected";

export interface EdgeReason {
  message: string;
  policy?: string;
  rule?: string;
  dependsOn?: string[];
}

export interface EdgeDiff {
  source: string;
  destination: string;
  port: string;
  effect: EdgeEffect;
  reasons?: EdgeReason[];
}

export interface DiffResult {
  revision: number;
  changes: boolean;
  documents: DocumentDiff[];
  warnings?: Violation[];
  resources: ResourceDiff[];
  resourceCount: number;
  proxies: ProxyDiff[];
  edges: EdgeDiff[];
  unheard?: number;
}

export interface RoleRule {
  verbs: string[];
  kinds: string[];
  namespaces: string[];
}

export interface AccessInfo {
  name: string;
  isOperator: boolean;
  rules: RoleRule[];
}

export interface PrincipalInfo {
  name: string;
  /** Seconds since 1970. */
  createdAt: number;
  tokenAt: number;
  roles: string[];
}

export interface AuditRecord {
  /** Milliseconds since 1970. */
  at: number;
  who: string;
  client?: string;
  from?: string;
  call: string;
  about?: string;
  revision?: number;
  outcome: "Done" | "Refused";
  count: number;
}

export interface AuditList {
  items: AuditRecord[];
  before?: number;
}

/** Something that is not well, and what to do. */
export interface Finding {
  code: string;
  severity: string;
  what: string;
  where?: string;
  remedy?: string;
}

/** What all control planes know to be wrong. */
export interface CheckResult {
  findings: Finding[];
  /** How many more there are, by code. */
  omitted?: Record<string, number>;
  /** Whether the caller may read all that was looked at. */
  complete?: boolean;
}

/** Where a resource stands at a proxy; absent where the control plane does not say. */
export type DeliveryState =
  | "Acknowledged"
  | "Sent"
  | "Waiting"
  | "Refused"
  | "HeldBack"
  | "Unwanted"
  | "NotAskedFor"
  | "Unknown";

export interface ToldVersion {
  version: string;
  resource?: unknown;
}

export interface ProxyResource {
  name: string;
  version?: string;
  resource?: unknown;
  state?: DeliveryState;
  sent?: ToldVersion;
  acknowledged?: ToldVersion;
}
