/** The graph as a table: the same numbers, the worst first, for eyes and ears that a picture does not serve. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import type { Edge } from "../api/documents";
import { milliseconds, percent, rate } from "../format";
import type { Link as GraphLink } from "../graph/model";
import { TONE_WORDS, TONES, toneOf } from "../graph/tone";
import { Empty, Mark } from "../parts/marks";
import { ServiceLink } from "../parts/names";
import { ask } from "../router";

const PAGE = 100;

export function EdgeTable({ links }: { links: GraphLink[] }): JSX.Element {
  const shown = useSignal(PAGE);
  const rows = useMemo(() => worstFirst(links), [links]);
  if (rows.length === 0) return <Empty>No traffic yet.</Empty>;
  return (
    <div class="scroll">
      <table>
        <caption class="hidden">Who calls whom, and how it goes</caption>
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">State</th>
            <th scope="col" class="numeric">
              Rate
            </th>
            <th scope="col" class="numeric">
              Success
            </th>
            <th scope="col" class="numeric">
              Refused
            </th>
            <th scope="col" class="numeric">
              p50
            </th>
            <th scope="col" class="numeric">
              p99
            </th>
            <th scope="col">Mutual TLS</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, shown.value).map(({ edge, link }) => (
            <Row key={`${link} ${edge.port} ${edge.subset ?? ""}`} edge={edge} link={link} />
          ))}
        </tbody>
      </table>
      {rows.length > shown.value && (
        <button type="button" onClick={() => (shown.value += PAGE)}>
          {rows.length - shown.value} more
        </button>
      )}
    </div>
  );
}

interface RowOf {
  edge: Edge;
  link: string;
}

function worstFirst(links: GraphLink[]): RowOf[] {
  const rows = links.flatMap((link) => link.edges.map((edge) => ({ edge, link: link.id })));
  const rank = new Map(rows.map((row) => [row, TONES.indexOf(toneOf(row.edge))]));
  const name = ({ edge }: RowOf) => `${edge.source} ${edge.destination} ${edge.port} ${edge.subset ?? ""}`;
  return rows.sort((one, other) => {
    const byTone = (rank.get(one) ?? 0) - (rank.get(other) ?? 0);
    return byTone || (name(one) < name(other) ? -1 : 1);
  });
}

function Row({ edge, link }: RowOf): JSX.Element {
  const tone = toneOf(edge);
  const colour =
    tone === "failing" || tone === "refused"
      ? "bad"
      : tone === "warning"
        ? "warn"
        : tone === "well"
          ? "good"
          : "quiet";
  return (
    <tr>
      <td>
        <ServiceLink id={edge.source} />
      </td>
      <td>
        <ServiceLink id={edge.destination} />
        <small>
          :{edge.port} {edge.subset}
        </small>
      </td>
      <td>
        <button type="button" class="link" onClick={() => ask("chosen", link, "push")}>
          <Mark colour={colour}>{TONE_WORDS[tone]}</Mark>
        </button>
      </td>
      <td class="numeric">{rate(edge.rate)}/s</td>
      <td class="numeric">{percent(edge.success)}</td>
      <td class="numeric">{edge.denied ? percent(edge.denied) : "–"}</td>
      <td class="numeric">{milliseconds(edge.p50Ms)}</td>
      <td class="numeric">{milliseconds(edge.p99Ms)}</td>
      <td>{edge.mtls ? "yes" : <Mark colour="warn">no</Mark>}</td>
    </tr>
  );
}
