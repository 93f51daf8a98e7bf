/** One service: how it does over time, its instances, who calls it and whom it calls, what shapes its traffic. */

import type { JSX } from "preact";
import { milliseconds, percent, rate } from "../format";
import type { Link as GraphLink, ServiceNode } from "../graph/model";
import { TONE_WORDS } from "../graph/tone";
import { features, graph, isLoaded } from "../live";
import { Chart } from "../parts/chart";
import { toneColour } from "../parts/edge_table";
import { Empty, Mark } from "../parts/marks";
import { ServiceLink } from "../parts/names";
import { InstanceTable } from "../parts/proxy_table";
import { ask, href, Link, pathOf, query } from "../router";
import { type Step, useSeries } from "../series";
import { Effective } from "./effective";
import { Failures } from "./failures";

export function Service({ id }: { id: string }): JSX.Element {
  const node = graph.value.nodes.find((one) => one.id === id);
  if (!node)
    return <Empty>{isLoaded.value ? `There is no service ${id}.` : "Asking the control plane…"}</Empty>;
  const callers = graph.value.links.filter((link) => link.destination === id);
  const called = graph.value.links.filter((link) => link.source === id);
  return (
    <article class="page">
      <header class="title">
        <h1>
          <small>{node.namespace}/</small>
          {node.name}
        </h1>
        <a class="button" href={href(`?chosen=${encodeURIComponent(id)}`)}>
          Show in the graph
        </a>
        <Link class="button" to={pathOf("policies", "service", node.namespace, node.name)}>
          Its document
        </Link>
      </header>
      <Golden id={id} />
      <Instances node={node} />
      <div class="columns">
        <Neighbours title="Called by" links={callers} end="source" />
        <Neighbours title="Calls" links={called} end="destination" />
        <Effective service={id} />
        {features.value.requests && <Failures destination={id} limit={12} />}
      </div>
    </article>
  );
}

function Golden({ id }: { id: string }): JSX.Element {
  const step: Step = query.value.get("step") === "1m" ? "1m" : "5s";
  const points = useSeries(id, step);
  const times = points.map((point) => point.at / 1000);
  const line = (
    label: string,
    colour: string,
    part: (point: (typeof points)[0]) => number | null | undefined,
  ) => ({
    label,
    colour,
    values: points.map((point) => part(point) ?? null),
  });
  return (
    <section aria-label="Golden metrics">
      <div class="charts">
        <Chart
          title="Requests"
          times={times}
          lines={[line("a second", "accent", (point) => point.rate)]}
          show={(value) => rate(value)}
        />
        <Chart
          title="Not answered well"
          times={times}
          lines={[
            line(
              "failed",
              "bad",
              (point) => point.failed ?? (typeof point.success === "number" ? 1 - point.success : null),
            ),
            line("refused", "warn", (point) => point.denied),
          ]}
          show={(value) => percent(value)}
        />
        <Chart
          title="Latency"
          times={times}
          lines={[
            line("p50", "quiet", (point) => point.p50Ms),
            line("p90", "accent", (point) => point.p90Ms),
            line("p99", "warn", (point) => point.p99Ms),
          ]}
          show={(value) => milliseconds(value)}
        />
      </div>
      {features.value.series ? (
        <fieldset class="choice" aria-label="Time shown">
          <button type="button" aria-pressed={step === "5s"} onClick={() => ask("step", null)}>
            10 minutes
          </button>
          <button type="button" aria-pressed={step === "1m"} onClick={() => ask("step", "1m")}>
            24 hours
          </button>
        </fieldset>
      ) : (
        <p class="note">Since this page was opened.</p>
      )}
    </section>
  );
}

function Instances({ node }: { node: ServiceNode }): JSX.Element {
  return (
    <section>
      <h2>Instances</h2>
      {node.instances.length === 0 ? (
        <Empty>None: a workload joins with a token, `weft token create --service {node.id}`.</Empty>
      ) : (
        <InstanceTable instances={node.instances} />
      )}
    </section>
  );
}

interface NeighboursProps {
  title: string;
  links: GraphLink[];
  end: "source" | "destination";
}

function Neighbours({ title, links, end }: NeighboursProps): JSX.Element {
  return (
    <section>
      <h2>{title}</h2>
      {links.length === 0 ? (
        <Empty>Nobody now.</Empty>
      ) : (
        <table class="small">
          <tbody>
            {links.map((link) => (
              <tr key={link.id}>
                <td>
                  <ServiceLink id={link[end]} />
                </td>
                <td class="numeric">{rate(link.rate)}/s</td>
                <td>
                  <a class="plain" href={href(`?chosen=${encodeURIComponent(link.id)}`)}>
                    <Mark colour={toneColour(link.tone)}>{TONE_WORDS[link.tone]}</Mark>
                  </a>
                </td>
                <td class="numeric">{milliseconds(link.p99Ms)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
