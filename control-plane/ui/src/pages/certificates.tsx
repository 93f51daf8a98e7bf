/** Whom the mesh trusts, and until when: roots, issuers, and the certificate of every workload. */

import type { JSX } from "preact";
import type { AuthorityEntry, RotationStatus } from "../api/documents";
import { date, plural } from "../format";
import { authority, proxies } from "../live";
import { Empty, Mark, Remaining } from "../parts/marks";
import { ProxyLink } from "../parts/names";
import { ScrolledTable } from "../parts/table";

export function Certificates(): JSX.Element {
  const status = authority.value;
  if (!status) return <Empty>Asking the control plane…</Empty>;
  const roots = status.roots ?? (status.root ? [status.root] : []);
  const issuers = status.issuers ?? (status.issuer ? [status.issuer] : []);
  return (
    <article class="page">
      <header class="title">
        <h1>Certificates</h1>
        {status.trustDomain && <p class="mono">{status.trustDomain}</p>}
        {status.rotation && <Mark colour="warn">{status.rotation.stage}</Mark>}
      </header>
      {status.rotation && <Rotation rotation={status.rotation} />}
      <Authorities title="Roots" entries={roots} />
      <Authorities title="Issuers" entries={issuers} />
      <Leaves />
    </article>
  );
}

/** How far the replacement of the root is, and whom it waits for. */
function Rotation({ rotation }: { rotation: RotationStatus }): JSX.Element {
  return (
    <section>
      <h2>The root is being replaced{rotation.aborted ? ", which is being undone" : ""}</h2>
      <p>
        since {date(rotation.startedAt)}, in this stage since {date(rotation.stageSince)}; it waits for{" "}
        {rotation.waits}
      </p>
      <ul>
        {rotation.waitsFor.map((wait) => (
          <li key={wait.who}>
            {wait.who}: {wait.reason}
            {wait.until !== undefined && <small> until {date(wait.until)} at most</small>}
          </li>
        ))}
        {rotation.leftBehind.map((id) => (
          <li key={id}>{id} is left behind: it joins again when it comes</li>
        ))}
      </ul>
    </section>
  );
}

function Authorities({ title, entries }: { title: string; entries: AuthorityEntry[] }): JSX.Element {
  return (
    <section>
      <h2>{title}</h2>
      <ul class="authorities">
        {entries.map((entry) => {
          const print = entry.spkiSha256 ?? entry.serial;
          return (
            <li key={entry.serial}>
              <p>
                <b>{title.slice(0, -1)}</b> {entry.state && <Mark colour="quiet">{entry.state}</Mark>}
              </p>
              <p>
                <Remaining expiresAt={entry.expiresAt} /> <small>until {date(entry.expiresAt)}</small>
              </p>
              {print && <p class="mono small">{print}</p>}
              {entry.leaves !== undefined && <p>{plural(entry.leaves, "certificate")} below it</p>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Leaves(): JSX.Element {
  const leaves = (proxies.value ?? [])
    .flatMap(({ id, certificate }) => (certificate ? [{ id, certificate }] : []))
    .sort((one, other) => one.certificate.expiresAt - other.certificate.expiresAt);
  return (
    <section>
      <h2>Workloads</h2>
      {leaves.length === 0 ? (
        <Empty>No workload has a certificate.</Empty>
      ) : (
        <ScrolledTable
          caption="Certificates of workloads"
          columns={[
            { head: "Workload", cell: ({ id }) => <ProxyLink id={id} /> },
            { head: "Ends", cell: ({ certificate }) => <Remaining {...certificate} /> },
            { head: "Identity", cell: ({ certificate }) => <span class="mono">{certificate.identity}</span> },
            { head: "Serial", cell: ({ certificate }) => <span class="mono">{certificate.serial}</span> },
            { head: "Key made by", cell: ({ certificate }) => certificate.keyMadeBy },
          ]}
          rows={leaves}
          keyOf={({ id }) => id}
        />
      )}
    </section>
  );
}
