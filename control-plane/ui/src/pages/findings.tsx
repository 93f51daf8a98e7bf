/** What is not well with the mesh, and what to do about it. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { CheckResult, Finding } from "../api/changes";
import { get } from "../api/client";
import { plural } from "../format";
import { type Colour, Empty, Mark, Trouble } from "../parts/marks";

/** From the worst; a word that is not known stands at the end. */
const SEVERITIES: Record<string, [Colour, string]> = {
  Failure: ["bad", "failure"],
  Warning: ["warn", "warning"],
  NotKnown: ["quiet", "not known"],
  Ok: ["good", "ok"],
};

function rank({ severity }: Finding): number {
  const at = Object.keys(SEVERITIES).indexOf(severity);
  return at < 0 ? Number.MAX_SAFE_INTEGER : at;
}

export function worstFirst(findings: Finding[]): Finding[] {
  return [...findings].sort((one, other) => rank(one) - rank(other));
}

/** `1 failure, 2 warnings`, of what is not well. */
export function countWords(findings: Finding[]): string {
  const count = (word: string) => findings.filter(({ severity }) => severity === word).length;
  const [failures, warnings] = [count("Failure"), count("Warning")];
  if (failures + warnings === 0) return "nothing is wrong that can be seen";
  return [failures > 0 && plural(failures, "failure"), warnings > 0 && plural(warnings, "warning")]
    .filter(Boolean)
    .join(", ");
}

export function Findings(): JSX.Element {
  const { value, error } = useAnswer("check", (signal) => get<CheckResult>("/v1/check", signal));
  const omitted = Object.entries(value?.omitted ?? {});
  return (
    <article class="page">
      <header class="title">
        <h1>Check</h1>
        {value && <p>{countWords(value.findings)}</p>}
      </header>
      {error !== null && <Trouble error={error} />}
      {value === null && error === null && <Empty>Looking…</Empty>}
      {value?.complete === false && (
        <p class="note">Only what you may read was looked at: an operator sees the rest.</p>
      )}
      <ul class="documents">
        {worstFirst(value?.findings ?? []).map((finding) => (
          <li key={JSON.stringify(finding)} class="finding">
            <Found finding={finding} />
          </li>
        ))}
      </ul>
      {omitted.map(([code, count]) => (
        <p key={code} class="note">
          And {count} more of <code>{code}</code>.
        </p>
      ))}
    </article>
  );
}

function Found({ finding: { severity, what, where, remedy, code } }: { finding: Finding }): JSX.Element {
  const [colour, word] = SEVERITIES[severity] ?? ["quiet", severity];
  return (
    <>
      <p>
        <Mark colour={colour}>{word}</Mark> <b>{where}</b> {what}
      </p>
      {remedy && <p class="about">{remedy}</p>}
      <small class="mono">{code}</small>
    </>
  );
}
