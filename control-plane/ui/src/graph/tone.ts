/** How an edge does, in one word: what is drawn in which colour. */

import type { Edge } from "../api/documents";

export type Tone = "failing" | "refused" | "warning" | "well" | "idle";

/** From the worst. */
export const TONES: readonly Tone[] = ["failing", "refused", "warning", "well", "idle"];

/** Share of failures from which an edge fails, and from which people should look. */
const FAILING = 0.01;
const WARNING = 0.001;

/** Share of requests that failed. A control plane that does not say so counts refusals as success. */
export function failedShare(edge: Edge): number {
  if (typeof edge.failed === "number") return edge.failed;
  return typeof edge.success === "number" ? 1 - edge.success : 0;
}

export function toneOf(edge: Edge): Tone {
  const failed = failedShare(edge);
  if (edge.state === "Failing" || failed >= FAILING) return "failing";
  if ((edge.denied ?? 0) >= WARNING) return "refused";
  if (failed >= WARNING || edge.state === "Silent") return "warning";
  return edge.rate > 0 || (edge.open ?? 0) > 0 ? "well" : "idle";
}

export function worst(tones: Iterable<Tone>): Tone {
  let index = TONES.length - 1;
  for (const tone of tones) index = Math.min(index, TONES.indexOf(tone));
  return TONES[index] ?? "idle";
}

export const TONE_WORDS: Record<Tone, string> = {
  failing: "failing",
  refused: "refused",
  warning: "some failures",
  well: "well",
  idle: "idle",
};
