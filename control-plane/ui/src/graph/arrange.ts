/**
 * Where nodes stand. dagre lays a graph out in layers from callers to called; services that talk to nobody stand in rows
 * below. It takes seconds for a large mesh, so it runs in a worker (`layout.worker.ts`), and only when somebody asks for it:
 * services that come later are placed beside those that they talk to, and nobody else moves.
 */

import { graphlib, layout } from "@dagrejs/dagre";

export interface Place {
  x: number;
  y: number;
}

export interface Box {
  id: string;
  width: number;
  height: number;
}

export interface Arrow {
  id: string;
  source: string;
  destination: string;
}

export interface Question {
  boxes: Box[];
  arrows: Arrow[];
  /** From left to right, or from top to bottom. */
  direction: "LR" | "TB";
  /** Room for the label of an arrow. */
  label: { width: number; height: number };
}

export interface Arrangement {
  places: Record<string, Place>;
  /** Points that an arrow passes between its ends. */
  bends: Record<string, Place[]>;
}

const GAP = 36;
/** Above so many, layers are found the quick way, and arrows go straight. */
const MANY = 80;

export function arrange(question: Question): Arrangement {
  const known = new Set(question.boxes.map((box) => box.id));
  const arrows = question.arrows.filter(
    ({ source, destination }) => source !== destination && known.has(source) && known.has(destination),
  );
  const connected = new Set(arrows.flatMap(({ source, destination }) => [source, destination]));
  const talking = question.boxes.filter((box) => connected.has(box.id));
  const silent = question.boxes.filter((box) => !connected.has(box.id));
  const asked = { ...question, boxes: talking, arrows };
  const arranged = talking.length > MANY ? inColumns(asked) : inLayers(asked);
  const bottom = Math.max(0, ...talking.map((box) => (arranged.places[box.id]?.y ?? 0) + box.height / 2));
  const right = Math.max(900, ...talking.map((box) => arranged.places[box.id]?.x ?? 0));
  Object.assign(arranged.places, inRows(silent, talking.length > 0 ? bottom + 2 * GAP : 0, right));
  return arranged;
}

function inLayers({ boxes, arrows, direction, label }: Question): Arrangement {
  const graph = new graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: direction, nodesep: 52, edgesep: 26, ranksep: direction === "LR" ? 28 : 20 });
  for (const { id, width, height } of boxes) graph.setNode(id, { width, height });
  for (const { id, source, destination } of arrows) {
    graph.setEdge(source, destination, { ...label, labelpos: "c" }, id);
  }
  layout(graph);
  const places: Record<string, Place> = {};
  for (const { id } of boxes) {
    const { x = 0, y = 0 } = graph.node(id) as Partial<Place>;
    places[id] = { x, y };
  }
  const bends: Record<string, Place[]> = {};
  for (const { id, source, destination } of arrows) {
    const { points = [] } = graph.edge(source, destination, id) as { points?: Place[] };
    bends[id] = points.slice(1, -1);
  }
  return { places, bends };
}

/** Layers of a large mesh: how far from the entry, then in each column near those that one is called by. */
function inColumns({ boxes, arrows, direction }: Question): Arrangement {
  const callers = new Map<string, string[]>(boxes.map((box) => [box.id, []]));
  const called = new Map<string, string[]>(boxes.map((box) => [box.id, []]));
  for (const { source, destination } of arrows) {
    callers.get(destination)?.push(source);
    called.get(source)?.push(destination);
  }
  const columns = splitTall(columnsOf(boxes, callers, called), boxes.length);
  const order = new Map<string, number>();
  const number = (column: Box[]) => {
    for (const [index, box] of column.entries()) order.set(box.id, index / column.length);
  };
  columns.forEach(number);
  for (const neighbours of [callers, called, callers, called]) {
    for (const column of columns) {
      const weight = (box: Box) => mean(neighbours.get(box.id) ?? [], order) ?? order.get(box.id) ?? 0;
      const weights = new Map(column.map((box) => [box.id, weight(box)]));
      column.sort((one, other) => (weights.get(one.id) ?? 0) - (weights.get(other.id) ?? 0));
      number(column);
    }
  }
  return { places: placesOf(columns, direction), bends: {} };
}

function mean(ids: string[], order: Map<string, number>): number | undefined {
  if (ids.length === 0) return undefined;
  return ids.reduce((total, id) => total + (order.get(id) ?? 0), 0) / ids.length;
}

/** Breadth first from those whom nobody calls; what is only in circles begins where it is met. */
function columnsOf(boxes: Box[], callers: Map<string, string[]>, called: Map<string, string[]>): Box[][] {
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const depth = new Map<string, number>();
  const visit = (starts: string[]) => {
    let wave = starts.filter((id) => !depth.has(id));
    for (const id of wave) depth.set(id, 0);
    for (let level = 1; wave.length > 0; level += 1) {
      const next = [...new Set(wave.flatMap((id) => called.get(id) ?? []))].filter((id) => !depth.has(id));
      for (const id of next) depth.set(id, level);
      wave = next;
    }
  };
  visit(boxes.map((box) => box.id).filter((id) => callers.get(id)?.length === 0));
  for (const { id } of boxes) visit([id]);
  const columns: Box[][] = [];
  for (const [id, level] of depth) {
    const box = byId.get(id);
    columns[level] ??= [];
    if (box) columns[level].push(box);
  }
  return columns;
}

/** A column that would make the picture a stripe is split into several. */
function splitTall(columns: Box[][], count: number): Box[][] {
  const tallest = Math.max(12, Math.ceil(Math.sqrt(count * 2.2)));
  return columns.flatMap((column) => {
    const parts = Math.ceil(column.length / tallest);
    const size = Math.ceil(column.length / Math.max(1, parts));
    return Array.from({ length: parts }, (_, part) => column.slice(part * size, (part + 1) * size));
  });
}

function placesOf(columns: Box[][], direction: "LR" | "TB"): Record<string, Place> {
  const places: Record<string, Place> = {};
  const tallest = Math.max(...columns.map((column) => column.length));
  columns.forEach((column, index) => {
    column.forEach((box, row) => {
      const along = index * (direction === "LR" ? box.width + 110 : box.height + 90);
      const step = (direction === "LR" ? box.height : box.width) + 14;
      const across = (row + (tallest - column.length) / 2) * step;
      places[box.id] = direction === "LR" ? { x: along, y: across } : { x: across, y: along };
    });
  });
  return places;
}

function inRows(boxes: Box[], top: number, width: number): Record<string, Place> {
  const places: Record<string, Place> = {};
  let [x, y, tallest] = [0, top, 0];
  for (const box of boxes) {
    if (x > 0 && x + box.width > width) {
      [x, y, tallest] = [0, y + tallest + GAP, 0];
    }
    places[box.id] = { x: x + box.width / 2, y: y + box.height / 2 };
    x += box.width + GAP;
    tallest = Math.max(tallest, box.height);
  }
  return places;
}

/** Places for those who have none: beside who calls them or whom they call, where nobody stands. Nobody else moves. */
export function placeBeside(
  boxes: Box[],
  arrows: Arrow[],
  taken: Record<string, Place>,
  direction: "LR" | "TB",
): Record<string, Place> {
  const places = { ...taken };
  const sizes = new Map(boxes.map((box) => [box.id, box]));
  for (const box of boxes) {
    if (places[box.id]) continue;
    let place = wanted(box, arrows, places, direction);
    for (let tries = 0; tries < 400 && isTaken(box, place, places, sizes); tries += 1) {
      place = direction === "LR" ? { x: place.x, y: place.y + 20 } : { x: place.x + 20, y: place.y };
    }
    places[box.id] = place;
  }
  return places;
}

function wanted(box: Box, arrows: Arrow[], places: Record<string, Place>, direction: "LR" | "TB"): Place {
  const step = direction === "LR" ? { x: box.width + 220, y: 0 } : { x: 0, y: box.height + 110 };
  for (const { source, destination } of arrows) {
    const caller = destination === box.id ? places[source] : undefined;
    if (caller) return { x: caller.x + step.x, y: caller.y + step.y };
    const called = source === box.id ? places[destination] : undefined;
    if (called) return { x: called.x - step.x, y: called.y - step.y };
  }
  const all = Object.values(places);
  const bottom =
    all.length > 0 ? Math.max(...all.map((place) => place.y)) + box.height + GAP : box.height / 2;
  const left = all.length > 0 ? Math.min(...all.map((place) => place.x)) : box.width / 2;
  return { x: left, y: bottom };
}

function isTaken(box: Box, place: Place, places: Record<string, Place>, sizes: Map<string, Box>): boolean {
  return Object.entries(places).some(([id, other]) => {
    const size = sizes.get(id) ?? box;
    return (
      Math.abs(other.x - place.x) < (size.width + box.width) / 2 + 12 &&
      Math.abs(other.y - place.y) < (size.height + box.height) / 2 + 12
    );
  });
}
