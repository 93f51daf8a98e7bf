/** One proxy: what it was sent, took and refused, and the configuration that it should have. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get } from "../api/client";
import type { ProxyStatus, TypeStatus } from "../api/documents";
import { date, plural } from "../format";
import { proxies } from "../live";
import { Empty, HealthMark, Remaining, SyncMark, Trouble } from "../parts/marks";
import { PolicyLink, ServiceLink } from "../parts/names";

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
              <pre>{message}</pre>
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
      <table class="narrow">
        <thead>
          <tr>
            <th scope="col">Type</th>
            <th scope="col" class="numeric">
              Sent
            </th>
            <th scope="col" class="numeric">
              Acknowledged
            </th>
            <th scope="col" class="numeric">
              Held back
            </th>
            <th scope="col">Sync</th>
          </tr>
        </thead>
        <tbody>
          {types.map(([type, status]) => (
            <tr key={type}>
              <td>{type}</td>
              <td class="numeric">{status.sent}</td>
              <td class="numeric">{status.acked}</td>
              <td class="numeric">{status.heldBack ?? 0}</td>
              <td>
                <SyncMark sync={status.sync} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

interface Resource {
  name: string;
  version: string;
  resource: unknown;
}

function Configuration({ id }: { id: string }): JSX.Element {
  const config = useSignal<Record<string, unknown> | null>(null);
  const error = useSignal<unknown>(null);
  const text = useSignal("");
  useEffect(() => {
    get<Record<string, unknown>>(`/v1/proxies/${encodeURIComponent(id)}/config`).then(
      (found) => {
        config.value = found;
      },
      (failure) => {
        error.value = failure;
      },
    );
  }, [id, config, error]);
  const types = Object.entries(config.value ?? {}).filter(([, list]) => Array.isArray(list)) as [
    string,
    Resource[],
  ][];
  return (
    <section>
      <h2>Configuration</h2>
      <p class="note">
        What it should have, at revision {String(config.value?.revision ?? "…")}; secrets are left out.
      </p>
      {error.value !== null && <Trouble error={error.value} />}
      <input
        type="search"
        placeholder="Find a resource"
        aria-label="Find a resource"
        onInput={(event) => {
          text.value = event.currentTarget.value.toLowerCase();
        }}
      />
      {types
        .map(([type, list]) => ({
          type,
          list: list.filter((one) => one.name.toLowerCase().includes(text.value)),
        }))
        .filter(({ list }) => list.length > 0)
        .map(({ type, list }) => (
          <section key={type}>
            <h3>
              {type} <small>{plural(list.length, "resource")}</small>
            </h3>
            {list.map((resource) => (
              <ResourceDetails key={resource.name} {...resource} />
            ))}
          </section>
        ))}
    </section>
  );
}

function ResourceDetails({ name, version, resource }: Resource): JSX.Element {
  const open = useSignal(false);
  return (
    <details
      onToggle={(event) => {
        open.value = event.currentTarget.open;
      }}
    >
      <summary>
        {name} <small class="mono">{version}</small>
      </summary>
      {open.value && <pre>{JSON.stringify(resource, null, 2)}</pre>}
    </details>
  );
}
