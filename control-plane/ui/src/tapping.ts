/** What a tap says, as the page keeps it: the last requests, the newest first, and how many there were besides. */

import type { StreamEvent } from "./api/client";
import type { TapLine, TapListening } from "./api/documents";

/** So many requests are shown. */
export const MOST = 200;

/** The words of the page's address that the API is asked by as well. */
export const FILTERS = [
  "source",
  "destination",
  "method",
  "path",
  "status",
  "onlyFailures",
  "headers",
] as const;

export interface Heard {
  lines: TapLine[];
  /** Each line has a number of its own, which stays. */
  first: number;
  notShown: number;
  listening: TapListening | null;
}

export const NOTHING: Heard = { lines: [], first: 0, notShown: 0, listening: null };

/** What the API is asked, of what stands in the page's address. */
export function askedBy(query: URLSearchParams): string {
  const asked = new URLSearchParams();
  for (const name of FILTERS) {
    const value = query.get(name);
    if (value) asked.set(name, value);
  }
  return asked.toString();
}

/** What is known after more was said. */
export function hear(before: Heard, events: StreamEvent[]): Heard {
  const heard = { ...before };
  const fresh: TapLine[] = [];
  for (const { event, data } of events) {
    if (event === "request") fresh.push(JSON.parse(data) as TapLine);
    if (event === "notShown") heard.notShown = (JSON.parse(data) as { requests: number }).requests;
    if (event === "listening") heard.listening = JSON.parse(data) as TapListening;
  }
  heard.first += fresh.length;
  heard.lines = [...fresh.reverse(), ...before.lines].slice(0, MOST);
  return heard;
}

/** The workloads at both ends where they are known, else their services. */
export function ends(line: TapLine): { from: string | undefined; to: string | undefined } {
  if (line.hop === "Inbound") return { from: line.source, to: line.workload };
  return { from: line.workload, to: line.server?.workload ?? line.destination ?? line.authority };
}
