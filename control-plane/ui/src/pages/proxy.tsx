/** One proxy: what it was sent, took and refused, and its configuration. */

import type { JSX } from "preact";
import type { ProxyStatus, TypeStatus } from "../api/documents";
import { date } from "../format";
import { proxies } from "../live";
import { Configuration } from "../parts/configuration";
import { Empty, HealthMark, Remaining, SyncMark } from "../parts/marks";
import { PolicyLink, ServiceLink } from "../parts/names";
import { Text } from "../parts/scroll";
import { ScrolledTable } from "../parts/table";

export function ProxyPage({ id }: { id: string }): JSX.Element {
  const proxy = proxies.value?.find((one) => one.id === id);
  if (!proxy)
    return <Empty>{proxies.value ? `There is no proxy ${id}.` : "Asking the control plane…"}</Empty>;
  const types = Object.entries(proxy.types);
  const refused = types.flatMap(([type, status]) =>
    (status.refused ?? []).map((refusal) => ({ type, ...refusal })),
  );
  return (
    <article class="page">
      <header class="title">
        <h1>{id}</h1>
        <SyncMark sync={proxy.sync} /> <HealthMark health={proxy.health} />
      </header>
      <Facts proxy={proxy} />
      {refused.length > 0 && (
        <section>
          <h2>Refused</h2>
          {refused.map(({ type, resources, message, policies }) => (
            <div class="refusal" key={`${type} ${resources.join()}`}>
              <p>
                <b>{type}</b> {resources.join(", ")}
              </p>
              <Text label="Its words">{message}</Text>
              {policies?.map((policy) => (
                <p key={policy}>
                  from <PolicyLink name={policy} />
                </p>
              ))}
            </div>
          ))}
        </section>
      )}
      <Types types={types} />
      <Configuration id={id} />
    </article>
  );
}

function Facts({ proxy }: { proxy: ProxyStatus }): JSX.Element {
  const { service, userAgent, address, joinedFrom, connectedAt, certificate, healthReason, client } = proxy;
  const facts: [string, JSX.Element | string][] = [
    ["service", service ? <ServiceLink id={service} /> : "–"],
    ["program", userAgent || proxy.proxy],
    ["address", address],
    ["connected since", connectedAt > 0 ? date(connectedAt) : "not connected"],
  ];
  if (client) facts.push(["calls only", "a member of no service"]);
  if (joinedFrom) facts.push(["joined from", joinedFrom]);
  if (healthReason) facts.push(["health", healthReason]);
  if (certificate) {
    facts.push(["identity", certificate.identity]);
    facts.push(["certificate", <Remaining key="life" {...certificate} />]);
    facts.push(["serial", certificate.serial]);
    facts.push(["key made by", certificate.keyMadeBy]);
  }
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Types({ types }: { types: [string, TypeStatus][] }): JSX.Element {
  return (
    <section>
      <h2>Resources</h2>
      <ScrolledTable
        caption="Resources by type"
        columns={[
          { head: "Type", cell: ([type]) => type },
          { head: "Sent", numeric: true, cell: ([, { sent }]) => sent },
          { head: "Acknowledged", numeric: true, cell: ([, { acked }]) => acked },
          { head: "Held back", numeric: true, cell: ([, { heldBack }]) => heldBack ?? 0 },
          { head: "Sync", cell: ([, { sync }]) => <SyncMark sync={sync} /> },
        ]}
        rows={types}
        keyOf={([type]) => type}
      />
    </section>
  );
}
