/** The graph as a table: the same numbers, the worst first, for eyes and ears that a picture does not serve. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import type { Link as GraphLink } from "../graph/model";
import { TONES, toneOf } from "../graph/tone";
import { type EdgeRow, EdgeTable } from "../parts/edge_table";
import { Empty } from "../parts/marks";

const PAGE = 100;

export function Edges({ links }: { links: GraphLink[] }): JSX.Element {
  const shown = useSignal(PAGE);
  const rows = useMemo(() => worstFirst(links), [links]);
  if (rows.length === 0) return <Empty>No traffic yet.</Empty>;
  return (
    <div>
      <EdgeTable rows={rows.slice(0, shown.value)} />
      {rows.length > shown.value && (
        <button type="button" class="more" onClick={() => (shown.value += PAGE)}>
          {rows.length - shown.value} more
        </button>
      )}
    </div>
  );
}

function worstFirst(links: GraphLink[]): EdgeRow[] {
  const rows = links.flatMap((link) => link.edges.map((edge) => ({ edge, link: link.id })));
  const rank = new Map(rows.map((row) => [row, TONES.indexOf(toneOf(row.edge))]));
  const name = ({ edge }: EdgeRow) => `${edge.source} ${edge.destination} ${edge.port} ${edge.subset ?? ""}`;
  return rows.sort((one, other) => {
    const byTone = (rank.get(one) ?? 0) - (rank.get(other) ?? 0);
    return byTone || (name(one) < name(other) ? -1 : 1);
  });
}
