/** The first page: the mesh as a graph or as a table, and beside it what is chosen. */

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { plural, rate } from "../format";
import { GraphView } from "../graph/graph_view";
import { filtered, type Graph } from "../graph/model";
import { graph, isLoaded, proxies } from "../live";
import { Icon } from "../parts/icons";
import { Empty } from "../parts/marks";
import { ask, query } from "../router";
import { Chosen } from "./chosen";
import { Edges } from "./edges";

export function Mesh(): JSX.Element {
  const words = query.value;
  const shown = useMemo(() => filtered(graph.value, words), [graph.value, words]);
  const isTable = words.get("view") === "table";
  if (!isLoaded.value) return <Empty>Asking the control plane…</Empty>;
  return (
    <div class={`mesh ${isTable ? "as-table" : ""}`}>
      <Bar shown={shown} isTable={isTable} />
      <div class="stage-and-panel">
        {shown.nodes.length === 0 ? (
          <Empty>
            {graph.value.nodes.length === 0 ? "There are no services yet: apply one." : "No service matches."}
          </Empty>
        ) : isTable ? (
          <Edges links={shown.links} />
        ) : (
          <GraphView graph={shown} chosen={words.get("chosen")} />
        )}
        <Chosen id={words.get("chosen")} />
      </div>
    </div>
  );
}

function Bar({ shown, isTable }: { shown: Graph; isTable: boolean }): JSX.Element {
  return (
    <div class="bar">
      <Summary shown={shown} />
      <Filters />
      <fieldset class="choice" aria-label="Show as">
        <button type="button" aria-pressed={!isTable} onClick={() => ask("view", null)}>
          <Icon name="graph" /> <span>Graph</span>
        </button>
        <button type="button" aria-pressed={isTable} onClick={() => ask("view", "table")}>
          <Icon name="list" /> <span>Table</span>
        </button>
      </fieldset>
    </div>
  );
}

function Summary({ shown }: { shown: Graph }): JSX.Element {
  const known = proxies.value ?? [];
  const synced = known.filter((proxy) => proxy.sync === "Synced").length;
  const requests = shown.links
    .filter((link) => link.protocol === "Http")
    .reduce((sum, link) => sum + link.rate, 0);
  const failing = shown.links.filter((link) => link.tone === "failing").length;
  const refused = shown.links.filter((link) => link.tone === "refused").length;
  return (
    <h1 class="summary">
      <span>{plural(shown.nodes.length, "service")}</span>
      <span class={synced < known.length ? "warn" : ""}>
        {synced} of {known.length} proxies in sync
      </span>
      <span>{rate(requests)} requests/s</span>
      {failing > 0 && <span class="bad">{plural(failing, "edge")} failing</span>}
      {refused > 0 && <span class="bad">{plural(refused, "edge")} refused</span>}
    </h1>
  );
}

function Filters(): JSX.Element {
  const words = query.value;
  const namespaces = [...new Set(graph.value.nodes.map((node) => node.namespace))].sort();
  return (
    <search class="filters">
      <label class="field">
        <Icon name="search" />
        <span class="hidden">Find a service</span>
        <input
          type="search"
          placeholder="Find a service"
          value={words.get("q") ?? ""}
          onInput={(event) => ask("q", event.currentTarget.value)}
        />
      </label>
      {namespaces.length > 1 && (
        <select
          aria-label="Namespace"
          value={words.get("ns") ?? ""}
          onChange={(event) => ask("ns", event.currentTarget.value)}
        >
          <option value="">all namespaces</option>
          {namespaces.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      )}
      <label class="check">
        <input
          type="checkbox"
          checked={words.get("only") === "trouble"}
          onChange={(event) => ask("only", event.currentTarget.checked ? "trouble" : null)}
        />
        only trouble
      </label>
    </search>
  );
}
