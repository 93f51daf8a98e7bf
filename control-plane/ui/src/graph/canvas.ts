/**
 * The drawn part of the graph: lines, what is under the pointer, panning and zooming, by cytoscape. What is read (names,
 * numbers) stands in HTML over it, so that it is text: sharp, selectable by a screen reader, and cheap to change.
 *
 * Numbers that move change an element only when its colour or its width becomes another one. In a large mesh they change
 * none: drawing thousands of lines again takes longer than a person notices, so the lines stay as they are, and those in
 * trouble are drawn over them (`Trouble` in graph_view.tsx).
 */

import cytoscape from "cytoscape";
import { colour } from "../theme";
import type { Arrangement, Box, Place, Question } from "./arrange";
import type { Link } from "./model";

export interface View {
  zoom: number;
  x: number;
  y: number;
}

interface Route {
  weights?: number[];
  distances?: number[];
  isOnward?: boolean;
}

export interface Heard {
  moved(places: Record<string, Place>): void;
  viewed(view: View): void;
  chosen(what: { service: string } | { link: string } | null): void;
}

/** Seven widths, by rate: ten times as many requests are two more. */
export function widthOf(rate: number): number {
  return rate <= 0 ? 1 : Math.min(7, Math.max(1, Math.round(1 + 2 * Math.log10(1 + rate))));
}

export class Canvas {
  private readonly cy: cytoscape.Core;
  private readonly drawn = new Map<string, string>();
  private arrangement: Arrangement = { places: {}, bends: {} };

  constructor(
    readonly element: HTMLElement,
    private readonly heard: Heard,
    private readonly large: boolean,
    private readonly direction: Question["direction"],
  ) {
    this.cy = cytoscape({
      container: element,
      minZoom: 0.05,
      maxZoom: 2,
      boxSelectionEnabled: false,
      autoungrabify: large,
      hideEdgesOnViewport: large,
      textureOnViewport: false,
      pixelRatio: large ? 1 : "auto",
      style: styleSheet(large, direction),
    });
    this.listen();
  }

  private listen(): void {
    const { cy, heard } = this;
    cy.on("viewport", () => heard.viewed(this.view()));
    cy.on("drag", "node", () => heard.moved(this.places()));
    cy.on("free", "node", () => heard.moved(this.places()));
    cy.on("tap", (event) => {
      if (event.target === cy) heard.chosen(null);
      else if (event.target.isNode()) heard.chosen({ service: event.target.id() });
      else heard.chosen({ link: event.target.id() });
    });
    const point = (cursor: string) => () => {
      this.element.style.cursor = cursor;
    };
    cy.on("mouseover", "node, edge", point("pointer"));
    cy.on("mouseout", "node, edge", point(""));
  }

  view(): View {
    const { x, y } = this.cy.pan();
    return { zoom: this.cy.zoom(), x, y };
  }

  places(): Record<string, Place> {
    const places: Record<string, Place> = {};
    this.cy.nodes().forEach((node) => {
      const { x, y } = node.position();
      places[node.id()] = { x, y };
    });
    return places;
  }

  /** Where a link's words stand: the middle of its line. */
  middle(link: string): Place | undefined {
    const edge = this.cy.getElementById(link);
    if (edge.empty()) return undefined;
    const { x, y } = edge.midpoint();
    return Number.isFinite(x) && Number.isFinite(y) ? { x, y } : undefined;
  }

  isEmpty(): boolean {
    return this.cy.elements().empty();
  }

  arrange(arrangement: Arrangement): void {
    this.arrangement = arrangement;
  }

  /** Makes the drawing show these. Who is there already stays where it is. */
  show(boxes: Box[], links: Link[]): void {
    const wanted = new Set([...boxes.map((box) => box.id), ...links.map((link) => link.id)]);
    const gone = this.cy.elements().filter((element) => !wanted.has(element.id()));
    this.cy.startBatch();
    for (const element of gone.toArray()) this.drawn.delete(element.id());
    gone.remove();
    const fresh = boxes.filter((box) => this.cy.getElementById(box.id).empty());
    this.cy.add(fresh.map((box) => this.nodeOf(box)));
    for (const { id, width, height } of boxes) {
      const node = this.cy.getElementById(id);
      if (node.data("height") !== height) node.data({ width, height });
    }
    this.cy.add(links.filter((link) => !this.drawn.has(link.id)).map((link) => this.edgeOf(link)));
    for (const link of links) this.draw(link);
    this.cy.endBatch();
  }

  /** Puts everybody where the arrangement says. */
  settle(): void {
    this.cy.startBatch();
    for (const [id, place] of Object.entries(this.arrangement.places)) {
      this.cy.getElementById(id).position({ ...place });
    }
    this.cy.edges().forEach((edge) => {
      const route = this.route(edge.id(), edge.source().id(), edge.target().id());
      edge.removeData("weights distances isOnward").data(route);
    });
    this.cy.endBatch();
    this.heard.moved(this.places());
  }

  private nodeOf({ id, width, height }: Box): cytoscape.ElementDefinition {
    return {
      group: "nodes",
      data: { id, width, height },
      position: { ...(this.arrangement.places[id] ?? { x: 0, y: 0 }) },
    };
  }

  private edgeOf({ id, source, destination }: Link): cytoscape.ElementDefinition {
    return {
      group: "edges",
      data: { id, source, target: destination, ...this.route(id, source, destination) },
    };
  }

  /** The bends of an arrow as cytoscape wants them: how far along the straight line, and how far beside it. */
  private route(id: string, source: string, destination: string): Route {
    const [from, to] = [this.arrangement.places[source], this.arrangement.places[destination]];
    const bends = this.arrangement.bends[id];
    if (!from || !to || !bends || bends.length === 0) return {};
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length = Math.hypot(dx, dy) || 1;
    const weights = bends.map(({ x, y }) => ((x - from.x) * dx + (y - from.y) * dy) / length ** 2);
    const distances = bends.map(({ x, y }) => ((y - from.y) * dx - (x - from.x) * dy) / length);
    const isOnward = this.direction === "LR" ? dx > 0 : dy > 0;
    return { weights, distances, isOnward };
  }

  private draw({ id, tone, rate }: Link): void {
    if (this.large && this.drawn.has(id)) return;
    const width = this.large ? Math.min(3, widthOf(rate)) : widthOf(rate);
    const shown = this.large ? "well" : tone;
    const look = `${shown} ${width}`;
    if (this.drawn.get(id) === look) return;
    this.drawn.set(id, look);
    this.cy.getElementById(id).data({ tone: shown, width });
  }

  /** Lights up what is chosen and what leads there. */
  choose(id: string | null): void {
    this.cy.startBatch();
    this.cy.elements(".chosen").removeClass("chosen");
    if (id !== null) {
      const element = this.cy.getElementById(id);
      element.addClass("chosen");
      if (element.nonempty() && element.isNode()) element.connectedEdges().addClass("chosen");
    }
    this.cy.endBatch();
  }

  fit(): void {
    if (this.cy.elements().empty()) return;
    // The words of a line that runs along the edge of the picture need room beside it.
    this.cy.fit(undefined, this.direction === "LR" ? 32 : 60);
    if (this.cy.zoom() > 1.15) this.cy.zoom(1.15);
    this.cy.center();
  }

  zoomBy(factor: number): void {
    const { width, height } = this.element.getBoundingClientRect();
    this.cy.zoom({ level: this.cy.zoom() * factor, renderedPosition: { x: width / 2, y: height / 2 } });
  }

  /** The colours of the theme that is in use now. */
  repaint(): void {
    this.cy.style(styleSheet(this.large, this.direction));
  }

  resize(): void {
    this.cy.resize();
  }

  end(): void {
    this.cy.destroy();
  }
}

function styleSheet(large: boolean, direction: Question["direction"]): cytoscape.StylesheetJson {
  const line = (name: string, z: number, extra: object = {}) => ({
    "line-color": colour(name),
    "target-arrow-color": colour(name),
    "z-index": z,
    ...extra,
  });
  const curve = large
    ? { "curve-style": "straight", "target-arrow-shape": "none", opacity: 0.35 }
    : {
        "curve-style": "bezier",
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.9,
        "control-point-step-size": 60,
      };
  const sheet = [
    {
      selector: "node",
      style: {
        shape: "round-rectangle",
        width: "data(width)",
        height: "data(height)",
        "background-opacity": large ? 1 : 0,
        "background-color": colour("card"),
        "border-width": 0,
        "overlay-opacity": 0,
        events: "yes",
      },
    },
    { selector: "edge", style: { width: "data(width)", "overlay-opacity": 0, ...curve } },
    {
      selector: "edge[weights]",
      style: {
        "curve-style": "unbundled-bezier",
        "edge-distances": "node-position",
        "control-point-weights": "data(weights)",
        "control-point-distances": "data(distances)",
      },
    },
    // From the side that faces the called: not for those who call back.
    {
      selector: "edge[?isOnward]",
      style:
        direction === "LR"
          ? { "source-endpoint": "90deg", "target-endpoint": "270deg" }
          : { "source-endpoint": "180deg", "target-endpoint": "0deg" },
    },
    { selector: 'edge[tone = "well"]', style: line("edge", 2) },
    { selector: 'edge[tone = "idle"]', style: line("edge-idle", 1, { "line-style": "dashed" }) },
    { selector: 'edge[tone = "warning"]', style: line("warn", 3) },
    { selector: 'edge[tone = "refused"]', style: line("bad", 4, { "line-style": "dashed" }) },
    { selector: 'edge[tone = "failing"]', style: line("bad", 5) },
    {
      selector: "edge.chosen",
      style: {
        "underlay-color": colour("accent"),
        "underlay-opacity": 0.25,
        "underlay-padding": 5,
        opacity: 1,
        "z-index": 9,
      },
    },
  ];
  return sheet as unknown as cytoscape.StylesheetJson;
}
