/** All proxies: who is connected, who has what it should have, and who refuses what. */

import type { JSX } from "preact";
import type { ProxyStatus } from "../api/documents";
import { duration } from "../format";
import { proxies } from "../live";
import { Empty, HealthMark, Remaining, SyncMark } from "../parts/marks";
import { ProxyLink, ServiceLink } from "../parts/names";
import { ask, query } from "../router";

export function Proxies(): JSX.Element {
  const all = proxies.value;
  if (all === null) return <Empty>Asking the control plane…</Empty>;
  const text = query.value.get("q")?.toLowerCase() ?? "";
  const isTroubled = query.value.get("only") === "trouble";
  const shown = all
    .filter(
      (proxy) => !text || `${proxy.id} ${proxy.service} ${proxy.userAgent}`.toLowerCase().includes(text),
    )
    .filter((proxy) => !isTroubled || proxy.sync !== "Synced" || proxy.health !== "Healthy");
  const synced = all.filter((proxy) => proxy.sync === "Synced").length;
  return (
    <article class="page">
      <header class="title">
        <h1>Proxies</h1>
        <p>
          {synced} of {all.length} in sync
        </p>
        <input
          type="search"
          placeholder="Find a proxy"
          aria-label="Find a proxy"
          value={text}
          onInput={(event) => ask("q", event.currentTarget.value)}
        />
        <label class="check">
          <input
            type="checkbox"
            checked={isTroubled}
            onChange={(event) => ask("only", event.currentTarget.checked ? "trouble" : null)}
          />
          only trouble
        </label>
      </header>
      {shown.length === 0 ? (
        <Empty>{all.length === 0 ? "No workload has joined yet." : "No proxy matches."}</Empty>
      ) : (
        <ProxyTable shown={shown} />
      )}
    </article>
  );
}

function ProxyTable({ shown }: { shown: ProxyStatus[] }): JSX.Element {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th scope="col">Proxy</th>
            <th scope="col">Service</th>
            <th scope="col">Kind</th>
            <th scope="col">Sync</th>
            <th scope="col">Health</th>
            <th scope="col">Connected</th>
            <th scope="col">Certificate</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((proxy) => (
            <Row key={proxy.id} proxy={proxy} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Row({ proxy }: { proxy: ProxyStatus }): JSX.Element {
  const refusals = Object.values(proxy.types).flatMap((type) => type.refused ?? []);
  return (
    <tr>
      <td>
        <ProxyLink id={proxy.id} />
      </td>
      <td>{proxy.service ? <ServiceLink id={proxy.service} /> : "–"}</td>
      <td>{proxy.userAgent || proxy.proxy}</td>
      <td>
        <SyncMark sync={proxy.sync} /> {refusals[0] && <small>{refusals[0].message}</small>}
      </td>
      <td>
        <HealthMark health={proxy.health} /> <small>{proxy.healthReason}</small>
      </td>
      <td>{proxy.connectedAt > 0 ? duration(Date.now() / 1000 - proxy.connectedAt) : "–"}</td>
      <td>{proxy.certificate ? <Remaining {...proxy.certificate} /> : "–"}</td>
    </tr>
  );
}
