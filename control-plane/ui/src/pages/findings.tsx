/** What is not well with the mesh, and what to do about it. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { Finding } from "../api/changes";
import { get } from "../api/client";
import { plural } from "../format";
import { type Colour, Empty, Mark, Trouble } from "../parts/marks";

/** From the worst; a word that is not known stands at the end. */
const SEVERITIES: Record<string, Colour> = {
  error: "bad",
  critical: "bad",
  fail: "bad",
  failed: "bad",
  warning: "warn",
  warn: "warn",
  unknown: "quiet",
  info: "quiet",
  ok: "good",
};

export function rank({ severity }: Finding): number {
  const at = Object.keys(SEVERITIES).indexOf(severity.toLowerCase());
  return at < 0 ? Number.MAX_SAFE_INTEGER : at;
}

export function Findings(): JSX.Element {
  const { value, error } = useAnswer("check", async (signal) => {
    const found = await get<Finding[] | { items?: Finding[]; findings?: Finding[] }>("/v1/check", signal);
    const list = Array.isArray(found) ? found : (found.items ?? found.findings ?? []);
    return [...list].sort((one, other) => rank(one) - rank(other));
  });
  return (
    <article class="page">
      <header class="title">
        <h1>Check</h1>
        {value && <p>{plural(value.length, "finding")}</p>}
      </header>
      {error !== null && <Trouble error={error} />}
      {value === null && error === null && <Empty>Looking…</Empty>}
      {value?.length === 0 && <Empty>Nothing was found: all that can be looked at is well.</Empty>}
      <ul class="documents">
        {value?.map((finding) => (
          <li key={JSON.stringify(finding)} class="finding">
            <p>
              <Mark colour={SEVERITIES[finding.severity.toLowerCase()] ?? "quiet"}>
                {finding.severity.toLowerCase()}
              </Mark>{" "}
              <b>{finding.what}</b> {finding.where && <span class="mono">{finding.where}</span>}
            </p>
            {finding.remedy && <p class="about">{finding.remedy}</p>}
            <small class="mono">{finding.code}</small>
          </li>
        ))}
      </ul>
    </article>
  );
}
