/** Documents before and after a change. */

import type { JSX } from "preact";
import type { DocumentDiff, Outcome } from "../api/changes";
import { nameOf } from "../history";
import { toYaml } from "../yaml";
import { Difference } from "./difference";
import { type Colour, Empty, Mark } from "./marks";
import { DocumentLink } from "./names";

const COLOURS: Record<Outcome, Colour> = {
  Created: "good",
  Updated: "warn",
  Deleted: "bad",
  Unchanged: "quiet",
};

/** What happened to something, or would. */
export function OutcomeMark({ outcome }: { outcome: Outcome }): JSX.Element {
  return <Mark colour={COLOURS[outcome] ?? "quiet"}>{outcome.toLowerCase()}</Mark>;
}

export function DocumentDiffs({ documents }: { documents: DocumentDiff[] }): JSX.Element {
  if (documents.length === 0) return <Empty>No document.</Empty>;
  return (
    <>
      {documents.map((document) => (
        <section key={nameOf(document)} class="document">
          <h3>
            <DocumentLink document={document} /> <OutcomeMark outcome={document.outcome} />
          </h3>
          <Difference
            label={`${nameOf(document)}: what differs`}
            before={document.before ? toYaml(document.before) : ""}
            after={document.after ? toYaml(document.after) : ""}
          />
        </section>
      ))}
    </>
  );
}
