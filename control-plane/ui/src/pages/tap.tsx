/** Requests as they end. They come while this is open, and from the moment that somebody asks for them. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { follow } from "../api/client";
import type { RequestRecord } from "../api/documents";
import { milliseconds, timeOfDay } from "../format";
import { Icon } from "../parts/icons";
import { Empty, Mark, Trouble } from "../parts/marks";
import { ServiceLink } from "../parts/names";
import { query } from "../router";
import { Ends } from "./ends";

const MOST = 300;
/** Lines are shown together this often, however fast they come. */
const SHOWN_EVERY = 250;

export function Tap(): JSX.Element {
  const running = useSignal(false);
  const records = useSignal<RequestRecord[]>([]);
  const error = useSignal<unknown>(null);
  const source = query.value.get("source");
  const destination = query.value.get("destination");
  useEffect(() => {
    if (!running.value) return undefined;
    return listen(
      { source, destination },
      (fresh) => {
        records.value = [...fresh.reverse(), ...records.value].slice(0, MOST);
      },
      (failure) => {
        error.value = failure;
        running.value = false;
      },
    );
  }, [running.value, source, destination, running, records, error]);
  const toggle = () => {
    error.value = null;
    running.value = !running.value;
  };
  return (
    <article class="page">
      <header class="title">
        <h1>Tap</h1>
        <Ends />
        <button type="button" class="primary" onClick={toggle}>
          <Icon name={running.value ? "stop" : "tap"} /> {running.value ? "Stop" : "Listen"}
        </button>
      </header>
      {error.value !== null && <Trouble error={error.value} />}
      {records.value.length === 0 ? (
        <Empty>{running.value ? "Nothing yet." : "Shows requests as they end, until it is stopped."}</Empty>
      ) : (
        <Lines records={records.value} />
      )}
    </article>
  );
}

type Asked = { source: string | null; destination: string | null };

function listen(
  { source, destination }: Asked,
  heard: (records: RequestRecord[]) => void,
  failed: (error: unknown) => void,
): () => void {
  const ending = new AbortController();
  const words = new URLSearchParams();
  if (source) words.set("source", source);
  if (destination) words.set("destination", destination);
  let waiting: RequestRecord[] = [];
  const timer = setInterval(() => {
    if (waiting.length > 0) heard(waiting);
    waiting = [];
  }, SHOWN_EVERY);
  follow(`/v1/taps?${words}`, ending.signal, ({ data }) => {
    waiting = [...waiting.slice(1 - MOST), JSON.parse(data) as RequestRecord];
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

function Lines({ records }: { records: RequestRecord[] }): JSX.Element {
  return (
    <div class="scroll">
      <table class="tap">
        <thead>
          <tr>
            <th scope="col">Time</th>
            <th scope="col">From</th>
            <th scope="col">To</th>
            <th scope="col">Request</th>
            <th scope="col">Answer</th>
            <th scope="col" class="numeric">
              Took
            </th>
            <th scope="col">Why</th>
          </tr>
        </thead>
        <tbody>
          {records.map((record, index) => (
            <tr key={`${record.id} ${record.at} ${records.length - index}`}>
              <td class="mono">{timeOfDay(record.at)}</td>
              <td>{record.source && <ServiceLink id={record.source} />}</td>
              <td>{record.destination && <ServiceLink id={record.destination} />}</td>
              <td class="mono">
                {record.method} {record.authority}
                {record.path}
              </td>
              <td>
                <Mark colour={(record.status ?? 500) < 400 ? "good" : "bad"}>{record.status ?? "none"}</Mark>
              </td>
              <td class="numeric">{milliseconds(record.durationMs)}</td>
              <td>{record.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
