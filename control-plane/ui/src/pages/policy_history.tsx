/** The revisions of one document, and what differs between two of them. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { HistoryEntry, Named } from "../api/changes";
import type { WeftObject } from "../api/documents";
import { readRevision } from "../history";
import { Difference } from "../parts/difference";
import { OutcomeMark } from "../parts/document_diffs";
import { Empty, Trouble, When } from "../parts/marks";
import { RevisionLink } from "../parts/names";
import { ScrolledTable } from "../parts/table";
import { ask, query } from "../router";
import { toYaml } from "../yaml";
import { By, useHistory } from "./history";

/** In place of a revision: before it was made. */
const NOTHING = 0;

export function PolicyHistory({ of }: { of: Named }): JSX.Element {
  const { items, error, more } = useHistory(of);
  const isLoading = items === null && error === null;
  return (
    <>
      {error !== null && <Trouble error={error} />}
      {isLoading && <Empty>Asking the control plane…</Empty>}
      {items?.length === 0 && <Empty>No change of it is kept.</Empty>}
      {items && items.length > 0 && (
        <>
          <Between of={of} entries={items} />
          <section>
            <h2>Revisions</h2>
            <Revisions of={of} entries={items} />
            {more && (
              <button type="button" class="more" onClick={more}>
                Older changes
              </button>
            )}
          </section>
        </>
      )}
    </>
  );
}

function Revisions({ of, entries }: { of: Named; entries: HistoryEntry[] }): JSX.Element {
  return (
    <ScrolledTable
      caption={`Revisions of ${of.name}`}
      columns={[
        { head: "Revision", cell: ({ revision }) => <RevisionLink revision={revision} /> },
        { head: "When", cell: ({ at }) => <When at={at} /> },
        {
          head: "What",
          cell: ({ documents }) => documents[0] && <OutcomeMark outcome={documents[0].outcome} />,
        },
        { head: "Who and why", cell: (entry) => <By entry={entry} /> },
      ]}
      rows={entries}
      keyOf={({ revision }) => String(revision)}
    />
  );
}

/** The revision in the address, where it is one of these. */
function chosen(name: string, entries: HistoryEntry[], otherwise: number): number {
  const wanted = Number(query.value.get(name) ?? Number.NaN);
  return wanted === NOTHING || entries.some(({ revision }) => revision === wanted) ? wanted : otherwise;
}

function Between({ of, entries }: { of: Named; entries: HistoryEntry[] }): JSX.Element {
  const newest = chosen("to", entries, entries[0]?.revision ?? NOTHING);
  const at = entries.findIndex(({ revision }) => revision === newest);
  const before = chosen("from", entries, entries[at + 1]?.revision ?? NOTHING);
  const { value, error } = useAnswer(`${of.kind} ${of.namespace} ${of.name} ${before} ${newest}`, (signal) =>
    Promise.all([documentAt(of, before, signal), documentAt(of, newest, signal)]),
  );
  const choice = (name: string, label: string, value: number) => (
    <label>
      {label}{" "}
      <select value={String(value)} onChange={(event) => ask(name, event.currentTarget.value)}>
        {entries.map(({ revision }) => (
          <option key={revision} value={String(revision)}>
            revision {revision}
          </option>
        ))}
        <option value={String(NOTHING)}>before it was made</option>
      </select>
    </label>
  );
  return (
    <section>
      <h2>What differs</h2>
      <p class="filters">
        {choice("from", "from", before)} {choice("to", "to", newest)}
      </p>
      {error !== null && <Trouble error={error} />}
      {value && value[0] === value[1] && <Empty>Nothing differs.</Empty>}
      {value && value[0] !== value[1] && (
        <Difference label="What differs between the two revisions" before={value[0]} after={value[1]} />
      )}
    </section>
  );
}

/** What the document said after a revision that changed it. */
async function documentAt(of: Named, revision: number, signal: AbortSignal): Promise<string> {
  if (revision === NOTHING) return "";
  const { documents } = await readRevision(revision, signal);
  const own = documents.find(
    (one) => one.kind === of.kind && one.namespace === of.namespace && one.name === of.name,
  );
  const after: WeftObject | undefined = own?.after;
  return after ? toYaml(after) : "";
}
