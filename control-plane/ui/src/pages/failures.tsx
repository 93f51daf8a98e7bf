/** Requests that failed or were refused a moment ago, and why. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get } from "../api/client";
import type { RequestList, RequestRecord } from "../api/documents";
import { plural, timeOfDay } from "../format";
import { rest } from "../live";
import { Empty, Trouble } from "../parts/marks";
import { PolicyLink } from "../parts/names";
import { Link, pathOf } from "../router";

const EVERY = 3_000;

interface Props {
  source?: string | undefined;
  destination?: string | undefined;
  limit: number;
  heading?: boolean;
}

/** Records as the API has them, asked again while they are looked at. */
export function useRequests({ source, destination, limit }: Props): {
  list: RequestList | null;
  error: unknown;
} {
  const list = useSignal<RequestList | null>(null);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    const ending = new AbortController();
    const words = new URLSearchParams({ limit: String(limit) });
    if (source) words.set("source", source);
    if (destination) words.set("destination", destination);
    const ask = async () => {
      while (!ending.signal.aborted) {
        try {
          list.value = await get<RequestList>(`/v1/requests?${words}`, ending.signal);
          error.value = null;
        } catch (failure) {
          if (!ending.signal.aborted) error.value = failure;
        }
        await rest(EVERY, ending.signal);
      }
    };
    void ask();
    return () => ending.abort();
  }, [source, destination, limit, list, error]);
  return { list: list.value, error: error.value };
}

export function Failures({ heading = true, ...props }: Props): JSX.Element {
  const { list, error } = useRequests(props);
  return (
    <section>
      {heading && <h3>Recent failures</h3>}
      {error !== null && <Trouble error={error} />}
      {list && list.items.length === 0 && <Empty>None in the last minutes.</Empty>}
      <ul class="failures">
        {list?.items.map((record) => (
          <li key={record.id}>
            <FailureLine record={record} />
          </li>
        ))}
      </ul>
      {list?.unheard ? (
        <p class="note">{plural(list.unheard, "control plane")} did not answer: what it knows is missing.</p>
      ) : null}
      {list?.dropped ? <p class="note">{plural(list.dropped, "more was", "more were")} not kept.</p> : null}
    </section>
  );
}

function FailureLine({ record }: { record: RequestRecord }): JSX.Element {
  return (
    <>
      <span class="what">
        <Link to={pathOf("requests", record.id)}>{timeOfDay(record.at)}</Link> <b>{record.status ?? "–"}</b>{" "}
        {record.method} {record.path}
      </span>
      <span class="why">{record.reason ?? record.details ?? record.flags}</span>
      {record.policy && (
        <span class="policy">
          <PolicyLink name={record.policy} />
        </span>
      )}
    </>
  );
}
