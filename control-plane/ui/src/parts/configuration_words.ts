/** What is said of where a resource stands at a proxy. */

import type { DeliveryState, ProxyResource } from "../api/changes";
import type { Colour } from "./marks";

export const STATES: Record<DeliveryState, [Colour, string]> = {
  Acknowledged: ["good", "acknowledged"],
  Sent: ["warn", "sent, not answered"],
  Waiting: ["warn", "waits for something else"],
  Refused: ["bad", "refused"],
  HeldBack: ["bad", "held back"],
  Unwanted: ["warn", "to be removed"],
  NotAskedFor: ["quiet", "not asked for"],
  Unknown: ["quiet", "not known"],
};

/** Where what the proxy has is what it should have, or nobody can tell. */
const AS_WANTED = new Set<string>(["Acknowledged", "NotAskedFor", "Unknown"]);

export function differs({ state }: ProxyResource): boolean {
  return state !== undefined && !AS_WANTED.has(state);
}
