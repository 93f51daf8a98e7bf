/** Going back: what it would change is shown first, and the same is done on a second press. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { ApplyResult } from "../api/documents";
import { diffTo, rollBack } from "../applying";
import { nameOf } from "../history";
import { OutcomeMark } from "../parts/document_diffs";
import { Empty, Trouble } from "../parts/marks";
import { DocumentLink } from "../parts/names";
import { readPolicies } from "../policies";
import { ChangeButton, Reached } from "./change_button";
import { Effect } from "./effect";

export function Rollback({ to }: { to: number }): JSX.Element {
  const { value, error } = useAnswer(String(to), async (signal) => ({
    tried: await rollBack(to, { dryRun: true }, signal),
    diff: await diffTo(to, signal),
  }));
  const done = useSignal<ApplyResult | null>(null);
  if (error !== null) return <Trouble error={error} />;
  if (!value) return <Empty>Trying what it would change…</Empty>;
  if (value.tried.documents.length === 0) return <Empty>Nothing differs from revision {to}.</Empty>;
  return (
    <>
      <section>
        <h2>{done.value ? "Going back changed" : "Going back would change"}</h2>
        <ul class="plain">
          {value.tried.documents.map((document) => (
            <li key={nameOf(document)}>
              <DocumentLink document={document} /> <OutcomeMark outcome={document.outcome} />
            </li>
          ))}
        </ul>
      </section>
      {done.value ? (
        <p role="status">
          <Reached result={done.value} />
        </p>
      ) : (
        <ChangeButton
          name={`Go back to revision ${to}`}
          reading="This session reads only: what would change is shown, and nothing is done."
          act={async (message) => {
            // What was shown is what is done: a change that came in between is an error.
            done.value = await rollBack(to, { message, ifRevision: value.diff.revision });
            await readPolicies();
            return undefined;
          }}
        />
      )}
      <Effect of={value.diff} />
    </>
  );
}
