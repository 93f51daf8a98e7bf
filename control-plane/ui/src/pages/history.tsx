/** What was changed: who, when, why, and which documents. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { HistoryEntry } from "../api/changes";
import { plural } from "../format";
import { type HistoryOf, nameOf, readHistory, summary } from "../history";
import { features } from "../live";
import { OutcomeMark } from "../parts/document_diffs";
import { Empty, Trouble, When } from "../parts/marks";
import { DocumentLink, RevisionLink } from "../parts/names";
import { ask, query } from "../router";
import { PolicyTabs } from "./policies";

export interface Entries {
  items: HistoryEntry[] | null;
  newest: number;
  oldest: number;
  /** Reads on, where there is more. */
  more: (() => void) | undefined;
  error: unknown;
}

/** Entries as they are read, page by page. */
export function useHistory(of: HistoryOf): Entries {
  const found = useSignal<Omit<Entries, "more"> & { before?: number | undefined }>(NONE);
  const about = JSON.stringify(of);
  const read = (before: number | undefined, signal: AbortSignal) =>
    readHistory(of, before, signal).then(
      (list) => {
        if (signal.aborted) return;
        const items = [...(before === undefined ? [] : (found.value.items ?? [])), ...list.items];
        found.value = { items, newest: list.newest, oldest: list.oldest, before: list.before, error: null };
      },
      (error) => {
        if (!signal.aborted) found.value = { ...found.value, error };
      },
    );
  useEffect(() => {
    const ending = new AbortController();
    found.value = NONE;
    void read(undefined, ending.signal);
    return () => ending.abort();
  }, [about]);
  const { before, ...shown } = found.value;
  const more = before === undefined ? undefined : () => void read(before, new AbortController().signal);
  return { ...shown, more };
}

const NONE = { items: null, newest: 0, oldest: 0, error: null };

export function History(): JSX.Element {
  const words = query.value;
  const of = {
    kind: words.get("kind") ?? "",
    namespace: words.get("ns") ?? "",
    name: words.get("name") ?? "",
  };
  const { items, error, more, oldest } = useHistory(of);
  return (
    <article class="page">
      <header class="title">
        <h1>History</h1>
        <PolicyTabs current="history" />
        <Filters />
      </header>
      {error !== null && <Trouble error={error} />}
      {items === null && error === null && <Empty>Asking the control plane…</Empty>}
      {items?.length === 0 && <Empty>Nothing was changed.</Empty>}
      <ol class="revisions">
        {items?.map((entry) => (
          <li key={entry.revision}>
            <Entry entry={entry} />
          </li>
        ))}
      </ol>
      {more ? (
        <button type="button" class="more" onClick={more}>
          Older changes
        </button>
      ) : (
        oldest > 1 && <p class="note">The oldest revision that is kept is {oldest}.</p>
      )}
    </article>
  );
}

function Filters(): JSX.Element {
  const field = (name: string, label: string) => (
    <input
      aria-label={label}
      placeholder={label}
      size={12}
      value={query.value.get(name) ?? ""}
      onChange={(event) => ask(name, event.currentTarget.value.trim())}
    />
  );
  return (
    <span class="filters">
      <select
        aria-label="Kind"
        value={query.value.get("kind") ?? ""}
        onChange={(event) => ask("kind", event.currentTarget.value)}
      >
        <option value="">all kinds</option>
        {features.value.kinds.map((kind) => (
          <option key={kind}>{kind}</option>
        ))}
      </select>
      {field("ns", "namespace")}
      {field("name", "name")}
    </span>
  );
}

function Entry({ entry }: { entry: HistoryEntry }): JSX.Element {
  const { shown, more } = summary(entry);
  return (
    <>
      <div>
        <b>
          <RevisionLink revision={entry.revision} />
        </b>{" "}
        <When at={entry.at} />
      </div>
      <p>
        <By entry={entry} />
      </p>
      <ul class="plain">
        {shown.map((document) => (
          <li key={nameOf(document)}>
            <DocumentLink document={document} /> <OutcomeMark outcome={document.outcome} />
          </li>
        ))}
        {more > 0 && <li class="about">and {plural(more, "more document")}</li>}
      </ul>
    </>
  );
}

/** Who, by which program, and why. */
export function By({ entry }: { entry: Pick<HistoryEntry, "author" | "client" | "message"> }): JSX.Element {
  return (
    <>
      {entry.author} {entry.client && <small>by {entry.client}</small>}
      {entry.message ? <q class="why">{entry.message}</q> : <span class="about"> gave no reason</span>}
    </>
  );
}
