/** One change: who made it, when and why, and its documents before and after. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import { plural } from "../format";
import { readRevision } from "../history";
import { features } from "../live";
import { DocumentDiffs } from "../parts/document_diffs";
import { Empty, Trouble, When } from "../parts/marks";
import { Link, pathOf } from "../router";
import { By } from "./history";
import { Rollback } from "./rollback";

export function RevisionPage({ revision, isBack }: { revision: number; isBack: boolean }): JSX.Element {
  const { value, error } = useAnswer(String(revision), (signal) => readRevision(revision, signal));
  const own = pathOf("history", String(revision));
  return (
    <article class="page">
      <header class="title">
        <h1>
          {isBack && "Back to "}
          {isBack ? `revision ${revision}` : `Revision ${revision}`}
        </h1>
        <Link class="button" to="history">
          All changes
        </Link>
        {isBack && (
          <Link class="button" to={own}>
            What it changed
          </Link>
        )}
        {!isBack && features.value.rollback && (
          <Link class="button primary" to={`${own}/rollback`}>
            Go back to it
          </Link>
        )}
        {!isBack && features.value.rollback && revision > 1 && (
          <Link class="button" to={`${pathOf("history", String(revision - 1))}/rollback`}>
            Go back to before it
          </Link>
        )}
      </header>
      {error !== null && <Trouble error={error} />}
      {value === null && error === null && <Empty>Asking the control plane…</Empty>}
      {value && (
        <p>
          <When at={value.at} /> <By entry={value} />
        </p>
      )}
      {isBack && <Rollback to={revision} />}
      {value && !isBack && (
        <section>
          <h2>{plural(value.changes, "document")} changed</h2>
          <DocumentDiffs documents={value.documents} />
          {value.documents.length < value.changes && (
            <p class="note">
              {plural(value.changes - value.documents.length, "more")} that you may not read.
            </p>
          )}
        </section>
      )}
    </article>
  );
}
