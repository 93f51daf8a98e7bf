/** The live graph: who is drawn, where they stand, what is chosen. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "../parts/icons";
import { ask, go, pathOf } from "../router";
import { theme } from "../theme";
import { type Arrangement, type Box, type Place, placeBeside, type Question } from "./arrange";
import { Canvas, type View } from "./canvas";
import { boxOf, Card, isLarge, PILL, Pill, Trouble } from "./cards";
import { laidOut } from "./layout";
import type { Graph, Link } from "./model";

/** A mesh that starts is arranged anew while it becomes visible; after that nobody moves who is there. */
const SETTLES_FOR = 20_000;
const openedAt = Date.now();

interface Props {
  graph: Graph;
  /** Service or link, by id. */
  chosen: string | null;
}

export function GraphView({ graph, chosen }: Props): JSX.Element {
  const large = isLarge(graph.nodes.length, graph.links.length);
  // Another drawing, because some of how it is drawn is decided once.
  return <Drawing key={large ? "large" : "small"} graph={graph} chosen={chosen} large={large} />;
}

function Drawing({ graph, chosen, large }: Props & { large: boolean }): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const layer = useRef<HTMLElement>(null);
  const stage = useRef<Stage | null>(null);
  const places = useSignal<Record<string, Place>>({});
  useEffect(() => {
    if (!holder.current || !layer.current) return undefined;
    const made = new Stage(holder.current, layer.current, large, (moved) => {
      places.value = moved;
    });
    stage.current = made;
    return () => made.end();
  }, [large, places]);
  useEffect(() => stage.current?.show(graph));
  useEffect(() => stage.current?.choose(chosen), [chosen]);
  useEffect(() => stage.current?.canvas.repaint(), [theme.value]);
  const namespaces = new Set(graph.nodes.map((node) => node.namespace)).size > 1;
  return (
    <div class={`stage ${large ? "large" : ""}`}>
      <div class="canvas" ref={holder} aria-hidden="true" />
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: links, which a key clicks too. */}
      <section class="layer" ref={layer} aria-label="Services and what goes between them" onClick={follow}>
        {large && <Trouble links={graph.links.filter(isTroubled)} places={places.value} />}
        {graph.nodes.map((node) => {
          const place = places.value[node.id];
          const props = { node, large, namespaces, chosen: chosen === node.id };
          return place && <Card key={node.id} place={place} {...props} />;
        })}
        {!large &&
          graph.links.map((link) => {
            const place = places.value[`>${link.id}`];
            return place && <Pill key={link.id} link={link} place={place} chosen={chosen === link.id} />;
          })}
      </section>
      <Controls stage={stage} graph={graph} />
    </div>
  );
}

function isTroubled({ tone }: Link): boolean {
  return tone === "failing" || tone === "refused" || tone === "warning";
}

/** Cards lead to their service; a line's words choose the line. */
function follow(event: MouseEvent): void {
  if (event.metaKey || event.ctrlKey || event.shiftKey) return;
  const target = (event.target as Element).closest<HTMLElement>("[data-service], [data-link]");
  if (!target) return;
  event.preventDefault();
  const { service, link } = target.dataset;
  if (service) go(pathOf("services", ...service.split("/")));
  else if (link) choose({ link });
}

function choose(what: { service: string } | { link: string } | null): void {
  ask("chosen", what === null ? null : "service" in what ? what.service : what.link, "push");
}

function Controls({ stage, graph }: { stage: { current: Stage | null }; graph: Graph }): JSX.Element {
  const button = (name: IconName, label: string, act: () => void) => (
    <button type="button" class="tool" title={label} aria-label={label} onClick={act}>
      <Icon name={name} />
    </button>
  );
  return (
    <div class="controls" role="toolbar" aria-label="View of the graph">
      {button("plus", "Closer", () => stage.current?.canvas.zoomBy(1.3))}
      {button("minus", "Farther", () => stage.current?.canvas.zoomBy(1 / 1.3))}
      {button("fit", "Show all", () => stage.current?.canvas.fit())}
      {button("tidy", "Arrange anew", () => void stage.current?.tidy(graph))}
    </div>
  );
}

/** Keeps the drawing, the layer of text over it, and the arrangement together. */
class Stage {
  readonly canvas: Canvas;
  private arrangement: Arrangement | null = null;
  private asking = false;
  private askAgain = false;
  private ended = false;
  private touched = false;
  private latest: Graph = { nodes: [], links: [] };
  private connected = "";
  private readonly sized: ResizeObserver;

  constructor(
    private readonly element: HTMLElement,
    private readonly layer: HTMLElement,
    private readonly large: boolean,
    private readonly moved: (places: Record<string, Place>) => void,
  ) {
    const heard = {
      moved: (places: Record<string, Place>) => this.onMoved(places),
      viewed: (view: View) => this.onViewed(view),
      chosen: choose,
    };
    this.canvas = new Canvas(element, heard, large, this.direction());
    this.arrangement = kept(this.direction());
    this.touched = this.arrangement !== null;
    if (this.arrangement) this.canvas.arrange(this.arrangement);
    this.sized = new ResizeObserver(() => {
      this.canvas.resize();
      if (!this.touched) this.canvas.fit();
    });
    this.sized.observe(element);
    element.addEventListener("pointerdown", () => {
      this.touched = true;
    });
    // For tests and for whoever asks a browser's console where things stand.
    Object.assign(element, { weft: this.canvas });
  }

  private direction(): "LR" | "TB" {
    const { width, height } = this.element.getBoundingClientRect();
    return width > 0 && width < height * 0.8 ? "TB" : "LR";
  }

  private boxes(): Box[] {
    return this.latest.nodes.map((node) => boxOf(node, this.large));
  }

  show(graph: Graph): void {
    this.latest = graph;
    if (graph.nodes.length === 0) return;
    const { arrangement } = this;
    const connected = [...new Set(graph.links.flatMap((link) => [link.source, link.destination]))]
      .sort()
      .join();
    const isSettling = !this.touched && Date.now() - openedAt < SETTLES_FOR && connected !== this.connected;
    this.connected = connected;
    if (!arrangement || isSettling) {
      void this.tidy(graph);
      if (!arrangement) return;
    }
    const isNew = graph.nodes.some((node) => !arrangement.places[node.id]);
    if (isNew) {
      arrangement.places = placeBeside(this.boxes(), graph.links, arrangement.places, this.direction());
      this.canvas.arrange(arrangement);
    }
    const isFirst = this.canvas.isEmpty();
    this.canvas.show(this.boxes(), graph.links);
    if (isFirst) this.canvas.fit();
    // In a large mesh nothing stands on lines.
    if (isNew || isFirst || !this.large) this.publish();
  }

  /** Arranges everybody anew. */
  async tidy(graph: Graph): Promise<void> {
    if (this.asking) {
      this.askAgain = true;
      return;
    }
    this.asking = true;
    this.askAgain = false;
    const arrows = graph.links.map(({ id, source, destination }) => ({ id, source, destination }));
    const question: Question = { boxes: this.boxes(), arrows, direction: this.direction(), label: PILL };
    try {
      const found = await laidOut(question).catch(() => inNoOrder(question));
      if (this.ended) return;
      this.arrangement = { places: { ...this.arrangement?.places, ...found.places }, bends: found.bends };
      this.canvas.arrange(this.arrangement);
    } finally {
      this.asking = false;
    }
    this.canvas.show(this.boxes(), this.latest.links);
    this.canvas.settle();
    this.canvas.fit();
    this.keep();
    if (this.askAgain) void this.tidy(this.latest);
  }

  choose(id: string | null): void {
    this.canvas.choose(id);
  }

  private onMoved(places: Record<string, Place>): void {
    if (!this.arrangement) return;
    Object.assign(this.arrangement.places, places);
    this.publish();
    this.keep();
  }

  /** Cards by the id of their service, words of lines by `>` and the id of theirs. */
  private published = "";
  private publish(): void {
    const all: Record<string, Place> = this.canvas.places();
    if (!this.large) {
      for (const { id } of this.latest.links) {
        const middle = this.canvas.middle(id);
        if (middle) all[`>${id}`] = middle;
      }
    }
    const text = JSON.stringify(all);
    if (text === this.published) return;
    this.published = text;
    this.moved(all);
  }

  private onViewed({ x, y, zoom }: View): void {
    this.layer.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    this.layer.classList.toggle("far", zoom < 0.34);
  }

  private keep(): void {
    // Without traffic there is nothing to arrange by: the next visit may know better.
    if (this.latest.links.length === 0) return;
    try {
      localStorage.setItem(`weft-places-${this.direction()}`, JSON.stringify(this.arrangement));
    } catch {
      // No room: the next visit is arranged anew.
    }
  }

  end(): void {
    this.ended = true;
    this.sized.disconnect();
    this.canvas.end();
  }
}

/** A place for everybody, where no worker can be had. */
function inNoOrder({ boxes, arrows, direction }: Question): Arrangement {
  return { places: placeBeside(boxes, arrows, {}, direction), bends: {} };
}

/** The arrangement of the last visit. */
function kept(direction: "LR" | "TB"): Arrangement | null {
  try {
    const text = localStorage.getItem(`weft-places-${direction}`);
    const read = text === null ? null : (JSON.parse(text) as Arrangement);
    return read && typeof read.places === "object" && typeof read.bends === "object" ? read : null;
  } catch {
    return null;
  }
}
