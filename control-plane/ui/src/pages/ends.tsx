/** From whom and to whom: two fields that stand in the address. */

import type { JSX } from "preact";
import { graph } from "../live";
import { ask, query } from "../router";

export function Ends(): JSX.Element {
  const field = (name: "source" | "destination", label: string) => (
    <select
      aria-label={label}
      value={query.value.get(name) ?? ""}
      onChange={(event) => ask(name, event.currentTarget.value)}
    >
      <option value="">{label}</option>
      {graph.value.nodes.map((node) => (
        <option key={node.id}>{node.id}</option>
      ))}
    </select>
  );
  return (
    <span class="filters">
      {field("source", "from anybody")}
      {field("destination", "to anybody")}
    </span>
  );
}
