/** Edges as rows: who calls whom, and how it goes. Every table of edges takes its columns from here. */

import type { JSX } from "preact";
import type { Edge } from "../api/documents";
import { milliseconds, percent, plural, rate } from "../format";
import { TONE_WORDS, type Tone, toneOf } from "../graph/tone";
import { ask } from "../router";
import { type Colour, Mark } from "./marks";
import { ServiceLink } from "./names";
import { type Column, ScrolledTable, Table } from "./table";

export interface EdgeRow {
  edge: Edge;
  /** The line of the graph that it is a part of. */
  link: string;
}

const COLUMNS = {
  from: { head: "From", cell: ({ edge }) => <ServiceLink id={edge.source} /> },
  to: {
    head: "To",
    cell: ({ edge }) => (
      <>
        <ServiceLink id={edge.destination} />
        <small>
          :{edge.port} {edge.subset}
        </small>
      </>
    ),
  },
  port: { head: "Port", cell: ({ edge }) => `${edge.port} ${edge.subset ?? ""}` },
  state: {
    head: "State",
    cell: ({ edge, link }) => (
      <button type="button" class="link" onClick={() => ask("chosen", link, "push")}>
        <Mark colour={toneColour(toneOf(edge))}>{TONE_WORDS[toneOf(edge)]}</Mark>
      </button>
    ),
  },
  rate: { head: "Rate", numeric: true, cell: ({ edge }) => `${rate(edge.rate)}/s` },
  success: {
    head: "Success",
    numeric: true,
    cell: ({ edge }) => (
      <>
        {percent(edge.success)}
        {edge.ejected ? <small> {ejectedWords(edge.ejected)}</small> : null}
      </>
    ),
  },
  refused: {
    head: "Refused",
    numeric: true,
    cell: ({ edge }) => (edge.denied ? percent(edge.denied) : "–"),
  },
  p50: { head: "p50", numeric: true, cell: ({ edge }) => milliseconds(edge.p50Ms) },
  p99: { head: "p99", numeric: true, cell: ({ edge }) => milliseconds(edge.p99Ms) },
  mtls: {
    head: "Mutual TLS",
    cell: ({ edge }) => (edge.mtls ? "yes" : <Mark colour="warn">no</Mark>),
  },
} satisfies Record<string, Column<EdgeRow>>;

const keyOf = ({ edge, link }: EdgeRow) => `${link} ${edge.port} ${edge.subset ?? ""}`;

/** All that is known of edges between any services. */
export function EdgeTable({ rows }: { rows: EdgeRow[] }): JSX.Element {
  const { from, to, state, rate, success, refused, p50, p99, mtls } = COLUMNS;
  const columns = [from, to, state, rate, success, refused, p50, p99, mtls];
  return (
    <ScrolledTable caption="Who calls whom, and how it goes" columns={columns} rows={rows} keyOf={keyOf} />
  );
}

/** The edges of one line of the graph, by port and version. */
export function PortTable({ rows }: { rows: EdgeRow[] }): JSX.Element {
  const { port, rate, success, refused, p99 } = COLUMNS;
  return (
    <Table
      class="small"
      caption="By port and version"
      columns={[port, rate, success, refused, p99]}
      rows={rows}
      keyOf={keyOf}
      classOf={({ edge }) => toneOf(edge)}
    />
  );
}

export function toneColour(tone: Tone): Colour {
  if (tone === "failing" || tone === "refused") return "bad";
  if (tone === "warning") return "warn";
  return tone === "well" ? "good" : "quiet";
}

/** Members that outlier detection leaves alone. */
export function ejectedWords(count: number): string {
  return `${plural(count, "ejected member")}`;
}
