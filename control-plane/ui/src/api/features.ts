/** What this control plane can be asked, as its own description says: the page shows nothing that would lead nowhere. */

interface OpenApi {
  paths?: Record<string, Record<string, { parameters?: { name?: string }[] }>>;
  components?: { schemas?: Record<string, { anyOf?: { $ref?: string }[] }> };
}

export interface Features {
  series: boolean;
  watchEdges: boolean;
  requests: boolean;
  taps: boolean;
  history: boolean;
  diff: boolean;
  /** Going back, with a trial and a diff before it. */
  rollback: boolean;
  access: boolean;
  principals: boolean;
  audit: boolean;
  findings: boolean;
  /** Names of the kinds that can be applied, in the API's order. */
  kinds: string[];
}

const OLDEST_KINDS = [
  "Mesh",
  "Service",
  "Workload",
  "HTTPRoute",
  "GRPCRoute",
  "TCPRoute",
  "TrafficPolicy",
  "AuthorizationPolicy",
];

export function featuresOf(description: unknown): Features {
  const api = (description ?? {}) as OpenApi;
  const paths = api.paths ?? {};
  const takes = (path: string, parameter: string) =>
    paths[path]?.post?.parameters?.some(({ name }) => name === parameter) ?? false;
  const documents = api.components?.schemas?.Documents?.anyOf ?? [];
  const kinds = documents.flatMap((one) => one.$ref?.split("/").pop() ?? []);
  return {
    series: "/v1/edges/series" in paths,
    watchEdges: "/v1/watch/edges" in paths,
    requests: "/v1/requests" in paths,
    taps: "/v1/taps" in paths,
    history: "/v1/history" in paths,
    diff: "/v1/diff" in paths,
    rollback: takes("/v1/rollback", "dryRun") && takes("/v1/diff", "to"),
    access: "/v1/access" in paths,
    principals: "/v1/principals" in paths,
    audit: "/v1/audit" in paths,
    findings: "/v1/check" in paths,
    kinds: kinds.length > 0 ? kinds : OLDEST_KINDS,
  };
}
