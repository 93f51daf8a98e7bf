/** Whom the mesh trusts, and until when: roots, issuers, and the certificate of every workload. */

import type { JSX } from "preact";
import type { AuthorityEntry } from "../api/documents";
import { date, plural, seconds } from "../format";
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
        {status.stage && <Mark colour="warn">{status.stage}</Mark>}
      </header>
      <Authorities title="Roots" entries={roots} />
      <Authorities title="Issuers" entries={issuers} />
      <Leaves />
    </article>
  );
}

function Authorities({ title, entries }: { title: string; entries: AuthorityEntry[] }): JSX.Element {
  return (
    <section>
      <h2>{title}</h2>
      <ul class="authorities">
        {entries.map((entry) => {
          const end = seconds(entry.expiresAt ?? entry.notAfter);
          const print = entry.fingerprint ?? entry.spkiSha256;
          return (
            <li key={print ?? String(end)}>
              <p>
                <b>{entry.subject ?? title.slice(0, -1)}</b>{" "}
                {entry.state && <Mark colour="quiet">{entry.state}</Mark>}
              </p>
              {end !== undefined && (
                <p>
                  <Remaining expiresAt={end} /> <small>until {date(end)}</small>
                </p>
              )}
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
