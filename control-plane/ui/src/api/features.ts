/** What this control plane can be asked, as its own description says: the page shows nothing that would lead nowhere. */

interface OpenApi {
  paths?: Record<string, unknown>;
  components?: { schemas?: Record<string, { anyOf?: { $ref?: string }[] }> };
}

export interface Features {
  series: boolean;
  watchEdges: boolean;
  requests: boolean;
  taps: boolean;
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
  const documents = api.components?.schemas?.Documents?.anyOf ?? [];
  const kinds = documents.flatMap((one) => one.$ref?.split("/").pop() ?? []);
  return {
    series: "/v1/edges/series" in paths,
    watchEdges: "/v1/watch/edges" in paths,
    requests: "/v1/requests" in paths,
    taps: "/v1/taps" in paths,
    kinds: kinds.length > 0 ? kinds : OLDEST_KINDS,
  };
}
