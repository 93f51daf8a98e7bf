/** Beside the graph: what is known of the service or the line that was chosen. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { milliseconds, percent, rate } from "../format";
import type { Link as GraphLink, ServiceNode } from "../graph/model";
import { TONE_WORDS, toneOf } from "../graph/tone";
import { features, graph } from "../live";
import { Icon } from "../parts/icons";
import { HealthMark, Mark } from "../parts/marks";
import { ServiceLink } from "../parts/names";
import { ask, Link, pathOf } from "../router";
import { Effective } from "./effective";
import { Failures } from "./failures";

export function Chosen({ id }: { id: string | null }): JSX.Element | null {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (id) heading.current?.focus({ preventScroll: true });
  }, [id]);
  if (!id) return null;
  const link = graph.value.links.find((one) => one.id === id);
  const node = graph.value.nodes.find((one) => one.id === id);
  return (
    <aside class="panel" aria-label="Chosen">
      <button type="button" class="tool close" aria-label="Close" onClick={() => ask("chosen", null, "push")}>
        <Icon name="close" />
      </button>
      <h2 tabIndex={-1} ref={heading}>
        {link ? <LinkTitle link={link} /> : (node?.id ?? "nothing of that name now")}
      </h2>
      {link && <OfLink link={link} />}
      {node && <OfService node={node} />}
    </aside>
  );
}

function LinkTitle({ link }: { link: GraphLink }): JSX.Element {
  return (
    <>
      <ServiceLink id={link.source} /> <span aria-hidden="true">→</span>
      <span class="hidden"> to </span> <ServiceLink id={link.destination} />
    </>
  );
}

function OfLink({ link }: { link: GraphLink }): JSX.Element {
  const isWell = link.tone === "well" || link.tone === "idle";
  return (
    <>
      <p>
        <Mark colour={isWell ? "good" : link.tone === "warning" ? "warn" : "bad"}>
          {TONE_WORDS[link.tone]}
        </Mark>{" "}
        <Mark colour={link.mtls ? "good" : "warn"}>{link.mtls ? "mutual TLS" : "not mutual TLS"}</Mark>
      </p>
      <table class="small">
        <thead>
          <tr>
            <th scope="col">Port</th>
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
              p99
            </th>
          </tr>
        </thead>
        <tbody>
          {link.edges.map((edge) => (
            <tr key={`${edge.port} ${edge.subset}`} class={toneOf(edge)}>
              <td>
                {edge.port} {edge.subset}
              </td>
              <td class="numeric">{rate(edge.rate)}/s</td>
              <td class="numeric">{percent(edge.success)}</td>
              <td class="numeric">{edge.denied ? percent(edge.denied) : "–"}</td>
              <td class="numeric">{milliseconds(edge.p99Ms)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {features.value.requests && <Failures source={link.source} destination={link.destination} limit={8} />}
      <Effective service={link.destination} only={isWell ? undefined : "AuthorizationPolicy"} />
    </>
  );
}

function OfService({ node }: { node: ServiceNode }): JSX.Element {
  return (
    <>
      <p>
        <Link class="button" to={pathOf("services", node.namespace, node.name)}>
          Open {node.name}
        </Link>
      </p>
      <dl class="facts">
        <dt>asked</dt>
        <dd>{rate(node.rate)} requests/s</dd>
        {node.versions.map((version) => (
          <>
            <dt key={`${version.name} name`}>{version.name || "instances"}</dt>
            <dd key={version.name}>
              {version.healthy} of {version.instances} healthy
              {version.zones.length > 0 && ` in ${version.zones.join(", ")}`}
            </dd>
          </>
        ))}
      </dl>
      <ul class="plain">
        {node.instances.slice(0, 12).map((instance) => (
          <li key={instance.id}>
            <HealthMark health={instance.health} /> {instance.id}
          </li>
        ))}
      </ul>
      <Effective service={node.id} />
    </>
  );
}
