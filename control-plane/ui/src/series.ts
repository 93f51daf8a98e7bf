/** Golden metrics of one service over time: as the control plane keeps them, or since the page was opened where it keeps none. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "./api/client";
import type { Edge, Point, Series } from "./api/documents";
import { failedShare } from "./graph/tone";
import { edges, features, heardAt, rest } from "./live";

const EVERY = 5_000;
/** Ten minutes of what comes every two seconds. */
const MOST = 300;

export type Step = "5s" | "1m";

export function useSeries(service: string, step: Step): Point[] {
  const points = useSignal<Point[]>([]);
  const kept = features.value.series;
  useEffect(() => {
    points.value = [];
    if (!kept) return undefined;
    const ending = new AbortController();
    const path = `/v1/edges/series?destination=${encodeURIComponent(service)}&step=${step}`;
    const ask = async () => {
      while (!ending.signal.aborted) {
        const series = await get<Series>(path, ending.signal).catch(() => null);
        if (series && !ending.signal.aborted) points.value = series.points;
        await rest(EVERY, ending.signal);
      }
    };
    void ask();
    return () => ending.abort();
  }, [service, step, kept, points]);
  const at = heardAt.value;
  useEffect(() => {
    if (kept || at === 0) return;
    points.value = [...points.peek(), pointOf(at, service, edges.peek() ?? [])].slice(-MOST);
  }, [at, kept, service, points]);
  return points.value;
}

/** What all edges to a service come to at one time. */
export function pointOf(at: number, service: string, all: Edge[]): Point {
  const own = all.filter(
    (edge) => edge.destination === service && edge.protocol !== "Tcp" && edge.route === undefined,
  );
  const rate = own.reduce((total, edge) => total + edge.rate, 0);
  const mean = (part: (edge: Edge) => number) =>
    rate > 0 ? own.reduce((total, edge) => total + part(edge) * edge.rate, 0) / rate : null;
  const most = (part: (edge: Edge) => number | null | undefined) => {
    const values = own.map(part).filter((value) => typeof value === "number");
    return values.length > 0 ? Math.max(...values) : null;
  };
  return {
    at,
    rate,
    success: mean((edge) => edge.success ?? 1),
    failed: mean(failedShare),
    denied: mean((edge) => edge.denied ?? 0),
    p50Ms: most((edge) => edge.p50Ms),
    p90Ms: most((edge) => edge.p90Ms),
    p99Ms: most((edge) => edge.p99Ms),
  };
}
