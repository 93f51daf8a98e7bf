/** How a condition of an object is to be taken. */

import type { Condition } from "../api/documents";
import type { Colour } from "./marks";

/** Conditions that are well where they are not so. */
const BAD_IF_TRUE = /^(Conflicted|Overridden|Refused|Degraded|Failed)$/;

export function conditionColour({ type, status }: Condition): Colour {
  if (status === "Unknown") return "warn";
  return (status === "True") !== BAD_IF_TRUE.test(type) ? "good" : "bad";
}
