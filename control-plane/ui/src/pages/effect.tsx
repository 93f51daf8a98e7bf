/** What a change would do: to documents, to the resources of proxies, and to requests between services. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import type { DiffResult, EdgeDiff, EdgeEffect, EdgeReason, ProxyDiff, ResourceDiff } from "../api/changes";
import { plural } from "../format";
import { DocumentDiffs, OutcomeMark } from "../parts/document_diffs";
import { type Colour, Empty, Mark } from "../parts/marks";
import { PolicyLink, ProxyLink, ServiceLink } from "../parts/names";
import { ScrolledTable } from "../parts/table";

const EFFECTS: Record<EdgeEffect, [Colour, string]> = {
  Refused: ["bad", "refused"],
  MayBeRefused: ["warn", "may be refused"],
  Eased: ["good", "eased"],
  Unaffected: ["quiet", "unaffected"],
};

/** Edges that are shown at once; they come with the worst first. */
const PAGE = 100;

export function Effect({ of }: { of: DiffResult }): JSX.Element {
  if (!of.changes) return <Empty>Nothing would change.</Empty>;
  return (
    <div class="effect">
      <section>
        <h2>
          Traffic <small>{edgeWords(of.edges)}</small>
        </h2>
        <Edges edges={of.edges} />
        {of.unheard ? (
          <p class="trouble">
            {plural(of.unheard, "control plane")} did not answer: the traffic of its proxies is missing.
          </p>
        ) : null}
      </section>
      <section>
        <h2>
          Documents <small>{of.documents.length}</small>
        </h2>
        <DocumentDiffs documents={of.documents} />
      </section>
      <section>
        <h2>
          Proxies <small>{plural(of.resourceCount, "resource")} would change</small>
        </h2>
        <Proxies proxies={of.proxies} />
        <Resources resources={of.resources} count={of.resourceCount} />
      </section>
    </div>
  );
}

/** `1 refused, 2 may be refused, 4 unaffected`. */
function edgeWords(edges: EdgeDiff[]): string {
  if (edges.length === 0) return "none lately";
  const counts = Object.entries(EFFECTS).map(([effect, [, word]]) => ({
    word,
    count: edges.filter((edge) => edge.effect === effect).length,
  }));
  return counts
    .filter(({ count }) => count > 0)
    .map(({ word, count }) => `${count} ${word}`)
    .join(", ");
}

function Edges({ edges }: { edges: EdgeDiff[] }): JSX.Element {
  const shown = useSignal(PAGE);
  if (edges.length === 0) return <Empty>No service has called another one lately.</Empty>;
  return (
    <>
      <ScrolledTable
        caption="What becomes of requests between services"
        columns={[
          { head: "From", cell: ({ source }) => <ServiceLink id={source} /> },
          {
            head: "To",
            cell: ({ destination, port }) => (
              <>
                <ServiceLink id={destination} />
                <small>:{port}</small>
              </>
            ),
          },
          {
            head: "Its requests are",
            cell: ({ effect, reasons }) => {
              const [colour, word] = EFFECTS[effect] ?? ["quiet", effect];
              return (
                <>
                  <Mark colour={colour}>{word}</Mark>
                  <Reasons reasons={reasons ?? []} />
                </>
              );
            },
          },
        ]}
        rows={edges.slice(0, shown.value)}
        keyOf={({ source, destination, port }) => `${source} ${destination} ${port}`}
      />
      {edges.length > shown.value && (
        <button type="button" class="more" onClick={() => (shown.value += PAGE)}>
          {edges.length - shown.value} more
        </button>
      )}
    </>
  );
}

function Reasons({ reasons }: { reasons: EdgeReason[] }): JSX.Element | null {
  if (reasons.length === 0) return null;
  return (
    <ul class="plain">
      {reasons.map(({ message, policy }) => (
        <li key={message}>
          <Message text={message} policy={policy} />
        </li>
      ))}
    </ul>
  );
}

/** The sentence of the control plane; the policy that it names leads to that policy. */
function Message({ text, policy }: { text: string; policy: string | undefined }): JSX.Element {
  const at = policy ? text.indexOf(policy) : -1;
  if (!policy || at < 0) return <>{text}</>;
  return (
    <>
      {text.slice(0, at)}
      <PolicyLink name={policy} />
      {text.slice(at + policy.length)}
    </>
  );
}

function Proxies({ proxies }: { proxies: ProxyDiff[] }): JSX.Element {
  if (proxies.length === 0) return <Empty>No connected proxy is concerned.</Empty>;
  return (
    <Folded name={`${plural(proxies.length, "proxy", "proxies")} concerned`} isOpen={proxies.length <= 12}>
      <ScrolledTable
        caption="Proxies that the change goes to"
        columns={[
          { head: "Proxy", cell: ({ id }) => <ProxyLink id={id} /> },
          { head: "Program", cell: ({ userAgent }) => userAgent ?? "–" },
          { head: "Resources", numeric: true, cell: ({ resources }) => resources },
          {
            head: "What may be in the way",
            cell: ({ warnings = [] }) =>
              warnings.map((warning) => (
                <p key={warning}>
                  <Mark colour="warn">warning</Mark> {warning}
                </p>
              )),
          },
        ]}
        rows={proxies}
        keyOf={({ id }) => id}
      />
    </Folded>
  );
}

function Resources({ resources, count }: { resources: ResourceDiff[]; count: number }): JSX.Element {
  const types = [...new Set(resources.map(({ type }) => type))];
  return (
    <>
      {types.map((type) => {
        const own = resources.filter((one) => one.type === type);
        return (
          <Folded key={type} name={plural(own.length, type)} isOpen={false}>
            <ul class="plain">
              {own.map(({ name, outcome, proxyCount }) => (
                <li key={`${name} ${outcome}`}>
                  <span class="mono">{name}</span> <OutcomeMark outcome={outcome} />{" "}
                  <small>for {plural(proxyCount, "proxy", "proxies")}</small>
                </li>
              ))}
            </ul>
          </Folded>
        );
      })}
      {count > resources.length && <p class="note">{plural(count - resources.length, "more resource")}.</p>}
    </>
  );
}

interface FoldedProps {
  name: string;
  isOpen: boolean;
  children: ComponentChildren;
}

/** What is inside is there once it was opened: it may be long. */
function Folded({ name, isOpen, children }: FoldedProps): JSX.Element {
  const open = useSignal(isOpen);
  return (
    <details
      open={open.value}
      onToggle={(event) => {
        open.value = event.currentTarget.open;
      }}
    >
      <summary>{name}</summary>
      {open.value && children}
    </details>
  );
}
