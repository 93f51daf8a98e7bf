/** Beside the graph: what is known of the service or the line that was chosen. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { rate } from "../format";
import type { Link as GraphLink, ServiceNode } from "../graph/model";
import { TONE_WORDS } from "../graph/tone";
import { features, graph } from "../live";
import { PortTable, toneColour } from "../parts/edge_table";
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
        <Mark colour={toneColour(link.tone)}>{TONE_WORDS[link.tone]}</Mark>{" "}
        <Mark colour={link.mtls ? "good" : "warn"}>{link.mtls ? "mutual TLS" : "not mutual TLS"}</Mark>
      </p>
      <PortTable rows={link.edges.map((edge) => ({ edge, link: link.id }))} />
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
