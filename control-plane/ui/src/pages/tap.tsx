/** Requests as they end. They come while this is open, and from the moment that somebody asks for them. */

import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect } from "preact/hooks";
import { follow, type StreamEvent } from "../api/client";
import type { TapLine, TapListening } from "../api/documents";
import { milliseconds, plural, timeOfDay } from "../format";
import { edges } from "../live";
import { ejectedWords } from "../parts/edge_table";
import { Icon } from "../parts/icons";
import { Empty, Mark, Trouble } from "../parts/marks";
import { PolicyLink, ProxyLink, ServiceLink } from "../parts/names";
import { type Column, ScrolledTable } from "../parts/table";
import { ask, query } from "../router";
import { askedBy, ends, type Heard, hear, NOTHING } from "../tapping";
import { Ends } from "./ends";

/** Lines are shown together this often, however fast they come. */
const SHOWN_EVERY = 250;
/** Sidecars that are named where they cannot be heard. */
const NAMED = 5;

export function Tap(): JSX.Element {
  const running = useSignal(false);
  const heard = useSignal<Heard>(NOTHING);
  const error = useSignal<unknown>(null);
  const asked = askedBy(query.value);
  useEffect(() => {
    if (!running.value) return undefined;
    return listen(asked, heard, (failure) => {
      error.value = failure;
      running.value = false;
    });
  }, [running.value, asked, running, heard, error]);
  const toggle = () => {
    error.value = null;
    if (!running.value) heard.value = NOTHING;
    running.value = !running.value;
  };
  const { lines, notShown, listening } = heard.value;
  return (
    <article class="page">
      <header class="title">
        <h1>Tap</h1>
        <Ends />
        <Filters />
        <button type="button" class="primary" onClick={toggle}>
          <Icon name={running.value ? "stop" : "tap"} /> {running.value ? "Stop" : "Listen"}
        </button>
      </header>
      {error.value !== null && <Trouble error={error.value} />}
      <div class="said">
        {listening && <Listening to={listening} />}
        <Ejected />
        {notShown > 0 && <p>{plural(notShown, "more request")} not shown: at most 200 a second are.</p>}
      </div>
      {lines.length === 0 ? (
        <Empty>{running.value ? "Nothing yet." : "Shows requests as they end, until it is stopped."}</Empty>
      ) : (
        <Lines heard={heard.value} />
      )}
    </article>
  );
}

/** What stands in the address beside the two ends. */
function Filters(): JSX.Element {
  const field = (name: string, label: string) => (
    <input
      aria-label={label}
      placeholder={label}
      size={9}
      value={query.value.get(name) ?? ""}
      onChange={(event) => ask(name, event.currentTarget.value.trim())}
    />
  );
  return (
    <span class="filters">
      {field("method", "method")}
      {field("path", "path begins")}
      {field("status", "503 or 5xx")}
      {field("headers", "headers")}
      <label>
        <input
          type="checkbox"
          checked={query.value.get("onlyFailures") === "true"}
          onChange={(event) => ask("onlyFailures", event.currentTarget.checked ? "true" : null)}
        />{" "}
        failures only
      </label>
    </span>
  );
}

function Listening({ to }: { to: TapListening }): JSX.Element {
  const unheard = to.unheard ?? [];
  return (
    <>
      <p>Listening at {plural(to.heard, "sidecar")}.</p>
      {unheard.slice(0, NAMED).map(({ workload, reason }) => (
        <p key={workload}>
          Not heard: <ProxyLink id={workload} />: {reason}
        </p>
      ))}
      {unheard.length > NAMED && <p>Not heard: {unheard.length - NAMED} more.</p>}
      {to.unheardReplicas ? (
        <p>
          Not heard: {plural(to.unheardReplicas, "control plane")}, and the sidecars that are connected there.
        </p>
      ) : null}
    </>
  );
}

/** Whom callers leave alone, since it failed: no request goes there, so none is seen. */
function Ejected(): JSX.Element {
  const [source, destination] = [query.value.get("source"), query.value.get("destination")];
  const ejecting = (edges.value ?? []).filter(
    (edge) =>
      (edge.ejected ?? 0) > 0 &&
      (!source || edge.source === source) &&
      (!destination || edge.destination === destination),
  );
  return (
    <>
      {ejecting.slice(0, NAMED).map((edge) => (
        <p key={`${edge.source} ${edge.destination} ${edge.port} ${edge.subset}`}>
          <ServiceLink id={edge.source} /> leaves {ejectedWords(edge.ejected ?? 0)} of{" "}
          <ServiceLink id={edge.destination} /> alone.
        </p>
      ))}
      {ejecting.length > NAMED && <p>The same on {plural(ejecting.length - NAMED, "more edge")}.</p>}
    </>
  );
}

/** Listens until what is returned is called. */
function listen(asked: string, heard: Signal<Heard>, failed: (error: unknown) => void): () => void {
  const ending = new AbortController();
  let waiting: StreamEvent[] = [];
  const timer = setInterval(() => {
    if (waiting.length > 0) heard.value = hear(heard.value, waiting);
    waiting = [];
  }, SHOWN_EVERY);
  follow(`/v1/taps?${asked}`, ending.signal, (event) => {
    waiting.push(event);
  })
    .then(() => failed(new Error("the control plane ended the tap")))
    .catch((error) => {
      if (!ending.signal.aborted) failed(error);
    });
  return () => {
    clearInterval(timer);
    ending.abort();
  };
}

function Lines({ heard: { lines, first } }: { heard: Heard }): JSX.Element {
  return (
    <ScrolledTable
      class="tap"
      caption="Requests as they ended, the newest first"
      columns={COLUMNS}
      rows={lines.map((line, index) => ({ line, key: first - index }))}
      keyOf={({ key }) => String(key)}
    />
  );
}

const COLUMNS: Column<{ line: TapLine }>[] = [
  { head: "Time", cell: ({ line }) => <span class="mono">{timeOfDay(line.at)}</span> },
  {
    head: "From",
    cell: ({ line }) => <End name={ends(line).from} isWorkload={line.hop !== "Inbound"} />,
  },
  {
    head: "To",
    cell: ({ line }) => (
      <End name={ends(line).to} isWorkload={line.hop === "Inbound" || line.server !== undefined} />
    ),
  },
  {
    head: "Request",
    cell: ({ line }) => (
      <span class="mono">
        {line.method} {line.authority}
        {line.path}
      </span>
    ),
  },
  {
    head: "Answer",
    cell: ({ line }) => (
      <>
        <Mark colour={(line.status ?? 500) < 400 ? "good" : "bad"}>{line.status ?? "none"}</Mark>{" "}
        {[line.flags ?? []].flat().join(" ")}
      </>
    ),
  },
  { head: "Took", numeric: true, cell: ({ line }) => milliseconds(line.durationMs ?? 0) },
  { head: "What is known", cell: ({ line }) => <Known line={line} /> },
];

function End({ name, isWorkload }: { name: string | undefined; isWorkload: boolean }): JSX.Element | null {
  if (!name) return null;
  return isWorkload ? <ProxyLink id={name} /> : <ServiceLink id={name} />;
}

/** Why it failed, in sight; all else where somebody asks for it. */
function Known({ line }: { line: TapLine }): JSX.Element {
  const headers = [
    ...Object.entries(line.requestHeaders ?? {}).map(([name, value]) => `> ${name}: ${value}`),
    ...Object.entries(line.responseHeaders ?? {}).map(([name, value]) => `< ${name}: ${value}`),
  ];
  const facts: [string, ComponentChildren][] = [
    ["id", line.id],
    ["caller", line.peer],
    ["route", line.route],
    ["rules", line.server?.route],
    ["policy", line.policy && <PolicyLink name={line.policy} />],
    ["endpoint", line.upstream],
    ["attempts", (line.attempts ?? 0) > 1 ? line.attempts : undefined],
  ];
  return (
    <>
      {line.reason}
      {headers.map((header) => (
        <div key={header} class="mono">
          {header}
        </div>
      ))}
      <details>
        <summary>more</summary>
        <dl class="facts">
          {facts
            .filter(([, value]) => value)
            .map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd class="mono">{value}</dd>
              </div>
            ))}
        </dl>
      </details>
    </>
  );
}
