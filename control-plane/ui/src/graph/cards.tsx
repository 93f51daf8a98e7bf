/** What is read in the graph: a card for each service, and on each line what goes over it. */

import type { CSSProperties, JSX } from "preact";
import { useMemo } from "preact/hooks";
import { milliseconds, percent, rate } from "../format";
import { Icon } from "../parts/icons";
import { healthColour } from "../parts/marks";
import { href, pathOf } from "../router";
import type { Box, Place } from "./arrange";
import type { Link, ServiceNode, Version } from "./model";
import { TONE_WORDS } from "./tone";

const MOST_ROWS = 4;

/** A mesh that is too large for numbers at every place. */
export function isLarge(nodes: number, links: number): boolean {
  return nodes > 60 || links > 160;
}

export function boxOf(node: ServiceNode, large: boolean): Box {
  if (large) return { id: node.id, width: 132, height: 30 };
  return { id: node.id, width: 196, height: 46 + rowsOf(node).length * 21 };
}

/** Versions are listed when there is more to say than the card's head does. */
function rowsOf(node: ServiceNode): Version[] {
  const isPlain = node.versions.length === 1 && node.versions[0]?.zones.length === 0;
  return isPlain ? [] : node.versions.slice(0, MOST_ROWS);
}

function at({ x, y }: Place, box?: Box): CSSProperties {
  if (!box) return { left: `${x}px`, top: `${y}px` };
  return {
    left: `${x - box.width / 2}px`,
    top: `${y - box.height / 2}px`,
    width: `${box.width}px`,
    height: `${box.height}px`,
  };
}

function healthy(node: ServiceNode): number {
  return node.instances.filter((instance) => instance.health === "Healthy").length;
}

/** What the colours say, for those who do not see them. */
function spoken(node: ServiceNode): string {
  const count = node.instances.length;
  const health = count === 0 ? "no instances" : `${healthy(node)} of ${count} instances healthy`;
  return `: ${TONE_WORDS[node.tone]}, ${health}`;
}

interface CardProps {
  node: ServiceNode;
  place: Place;
  large: boolean;
  chosen: boolean;
  namespaces: boolean;
}

export function Card({ node, place, large, chosen, namespaces }: CardProps): JSX.Element {
  const tone = node.tone === "refused" ? "well" : node.tone;
  const words = spoken(node);
  // Of a small card nothing moves but this.
  const what = large ? `${words} ${place.x} ${place.y} ${chosen} ${namespaces}` : node;
  return useMemo(
    () => (
      <a
        class={`card ${tone} ${chosen ? "chosen" : ""}`}
        style={at(place, boxOf(node, large))}
        href={href(pathOf("services", node.namespace, node.name))}
        data-service={node.id}
      >
        <span class="head">
          <span class={`dot ${healthColour(node.instances)}`} />
          <span class="name">
            {namespaces && <small>{node.namespace}/</small>}
            {node.name}
            <span class="hidden">{words}</span>
          </span>
          {!large && node.rate > 0 && <span class="number">{rate(node.rate)}/s</span>}
        </span>
        {!large && <Rows node={node} />}
      </a>
    ),
    large ? [what] : [node, place, chosen, namespaces],
  );
}

function Rows({ node }: { node: ServiceNode }): JSX.Element {
  const rows = rowsOf(node);
  return (
    <>
      <span class="sub">
        {node.instances.length === 0 ? "no instances" : `${healthy(node)}/${node.instances.length} healthy`}
        {rows.length < node.versions.length && rows.length > 0 && ` · ${node.versions.length} versions`}
        {rows.length === 0 && node.versions[0]?.name && ` · ${node.versions[0].name}`}
      </span>
      {rows.map((version) => (
        <span class={`row ${version.tone}`} key={version.name}>
          <span class={`dot ${colourOf(version)}`} />
          <span class="version">
            {version.name || "no version"}
            {version.zones.length > 0 && <small> {version.zones.join(", ")}</small>}
          </span>
          {version.rate !== undefined && <span class="number">{rate(version.rate)}/s</span>}
        </span>
      ))}
    </>
  );
}

function colourOf(version: Version): string {
  if (version.instances === 0) return "quiet";
  if (version.healthy === version.instances) return "good";
  return version.healthy === 0 ? "bad" : "warn";
}

/** What goes over a link, in a few words. */
export function summary(link: Link): string[] {
  if (link.protocol === "Tcp") return [`${rate(link.rate)} conn/s`];
  const words = [`${rate(link.rate)}/s`];
  if (link.tone === "idle") return ["idle"];
  if (link.tone === "refused") words.push(`${percent(link.denied)} refused`);
  else if (link.success !== undefined)
    words.push(percent(link.tone === "well" ? link.success : 1 - link.failed));
  if (link.p99Ms !== undefined && link.tone !== "refused") words.push(milliseconds(link.p99Ms));
  return words;
}

export function Pill({ link, place, chosen }: { link: Link; place: Place; chosen: boolean }): JSX.Element {
  const words = summary(link);
  return (
    <a
      class={`pill ${link.tone} ${chosen ? "chosen" : ""} ${link.mtls ? "" : "plain"}`}
      style={at(place)}
      href={href(`?chosen=${encodeURIComponent(link.id)}`)}
      data-link={link.id}
    >
      <span class="hidden">
        {link.source} to {link.destination}, {TONE_WORDS[link.tone]},{" "}
        {link.mtls ? "mutual TLS" : "not mutual TLS"}:
      </span>
      <Icon name={link.mtls ? "lock" : "open"} />
      {words.map((word) => (
        <span key={word}>{word} </span>
      ))}
    </a>
  );
}

/** Room that a pill takes, for the layout. */
export const PILL = { width: 176, height: 26 };

/** Lines in trouble, over those that never change. */
export function Trouble({ links, places }: { links: Link[]; places: Record<string, Place> }): JSX.Element {
  return (
    <svg class="trouble-lines" aria-hidden="true">
      {links.map((link) => {
        const [from, to] = [places[link.source], places[link.destination]];
        return (
          from && to && <line key={link.id} class={link.tone} x1={from.x} y1={from.y} x2={to.x} y2={to.y} />
        );
      })}
    </svg>
  );
}
