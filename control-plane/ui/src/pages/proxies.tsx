/** All proxies: who is connected, who has what it should have, and who refuses what. */

import type { JSX } from "preact";
import { proxies } from "../live";
import { Empty } from "../parts/marks";
import { ProxyTable } from "../parts/proxy_table";
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
        <ProxyTable proxies={shown} />
      )}
    </article>
  );
}
