/** Requests that failed or were refused, all of them or one, with the reason of each. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get } from "../api/client";
import type { RequestRecord } from "../api/documents";
import { milliseconds, timeOfDay } from "../format";
import { Empty, Trouble } from "../parts/marks";
import { PolicyLink, ProxyLink, ServiceLink } from "../parts/names";
import { query } from "../router";
import { Ends } from "./ends";
import { Failures } from "./failures";

export function Requests(): JSX.Element {
  const words = query.value;
  return (
    <article class="page">
      <header class="title">
        <h1>Failures</h1>
        <Ends />
      </header>
      <Failures
        source={words.get("source") ?? undefined}
        destination={words.get("destination") ?? undefined}
        limit={200}
        heading={false}
      />
    </article>
  );
}

export function RequestPage({ id }: { id: string }): JSX.Element {
  const hops = useSignal<RequestRecord[] | null>(null);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    get<RequestRecord | { items: RequestRecord[] }>(`/v1/requests/${encodeURIComponent(id)}`).then(
      (found) => {
        hops.value = "items" in found ? found.items : [found];
      },
      (failure) => {
        error.value = failure;
      },
    );
  }, [id, hops, error]);
  return (
    <article class="page">
      <header class="title">
        <h1>Request</h1>
        <p class="mono">{id}</p>
      </header>
      {error.value !== null && <Trouble error={error.value} />}
      {hops.value?.length === 0 && <Empty>Nothing is known of it: records are kept for 10 minutes.</Empty>}
      {hops.value?.map((record) => (
        <Hop key={`${record.workload} ${record.hop} ${record.at}`} record={record} />
      ))}
    </article>
  );
}

function Hop({ record }: { record: RequestRecord }): JSX.Element {
  const flags = Array.isArray(record.flags) ? record.flags.join(", ") : record.flags;
  const facts: [string, JSX.Element | string | undefined][] = [
    ["why", record.reason ?? record.details],
    ["what to look at", record.remedy],
    ["policy", record.policy && <PolicyLink name={record.policy} />],
    [
      "said by",
      <ProxyLink
        key="by"
        id={
          record.workload.includes("/")
            ? record.workload
            : `${record.service.split("/")[0]}/${record.workload}`
        }
      />,
    ],
    ["from", record.source && <ServiceLink id={record.source} />],
    ["to", record.destination && <ServiceLink id={record.destination} />],
    ["request", [record.method, record.authority, record.path].filter(Boolean).join(" ")],
    ["answer", [record.status, flags].filter(Boolean).join(" ")],
    ["route", record.route],
    ["endpoint", record.upstream],
    ["peer", record.peer],
    ["took", record.durationMs === undefined ? undefined : milliseconds(record.durationMs)],
  ];
  return (
    <section>
      <h2>
        {record.hop ?? record.service} <small>{timeOfDay(record.at)}</small>
      </h2>
      <dl class="facts">
        {facts
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </section>
  );
}
