/** Who called what: what changed something, and what was refused. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { AuditList, AuditRecord } from "../api/changes";
import { get } from "../api/client";
import { features } from "../live";
import { Empty, Mark, Trouble, When } from "../parts/marks";
import { RevisionLink } from "../parts/names";
import { type Column, ScrolledTable } from "../parts/table";
import { ask, query } from "../router";
import { AccessTabs } from "./access";

const PAGE = 50;

const COLUMNS: Column<AuditRecord>[] = [
  { head: "When", cell: ({ at }) => <When at={at} /> },
  {
    head: "Who",
    cell: ({ who }) => (
      <button type="button" class="link" onClick={() => ask("who", who, "push")}>
        {who}
      </button>
    ),
  },
  {
    head: "From",
    cell: ({ client, from }) => (
      <>
        {from} <small>{client}</small>
      </>
    ),
  },
  { head: "Call", cell: ({ call }) => <span class="mono">{call}</span> },
  {
    head: "What came of it",
    cell: ({ outcome, revision, about, count }) => (
      <>
        <Mark colour={outcome === "Refused" ? "bad" : "good"}>{outcome.toLowerCase()}</Mark>{" "}
        {revision !== undefined &&
          (features.value.history ? <RevisionLink revision={revision} /> : `revision ${revision}`)}{" "}
        {about} {count > 1 && <small>{count} times</small>}
      </>
    ),
  },
];

export function Audit(): JSX.Element {
  const [who, before] = [query.value.get("who") ?? "", query.value.get("before") ?? ""];
  const words = new URLSearchParams({ limit: String(PAGE) });
  if (who) words.set("who", who);
  if (before) words.set("before", before);
  const { value, error } = useAnswer(words.toString(), (signal) =>
    get<AuditList>(`/v1/audit?${words}`, signal),
  );
  const older = value?.before;
  return (
    <article class="page">
      <header class="title">
        <h1>Audit</h1>
        <AccessTabs current="audit" />
        <span class="filters">
          <input
            type="search"
            aria-label="Who"
            placeholder="whose calls"
            value={who}
            onChange={(event) => ask("who", event.currentTarget.value.trim())}
          />
        </span>
      </header>
      {error !== null && <Trouble error={error} />}
      {value === null && error === null && <Empty>Asking the control plane…</Empty>}
      {value?.items.length === 0 && <Empty>Nothing is recorded.</Empty>}
      {value && value.items.length > 0 && (
        <ScrolledTable
          caption="Calls, the newest first"
          columns={COLUMNS}
          rows={value.items}
          keyOf={(record) => JSON.stringify(record)}
        />
      )}
      <p class="actions">
        {before && (
          <button type="button" onClick={() => ask("before", null, "push")}>
            The newest
          </button>
        )}
        {older !== undefined && (
          <button type="button" onClick={() => ask("before", String(older), "push")}>
            Older
          </button>
        )}
      </p>
    </article>
  );
}
