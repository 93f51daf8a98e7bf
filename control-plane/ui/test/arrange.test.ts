import { describe, expect, it } from "vitest";
import { type Arrow, arrange, type Box, type Place, placeBeside, type Question } from "../src/graph/arrange";

const box = (id: string): Box => ({ id, width: 100, height: 40 });
const arrow = (source: string, destination: string): Arrow => ({
  id: `${source}>${destination}`,
  source,
  destination,
});
const label = { width: 80, height: 20 };

function ask(ids: string[], arrows: Arrow[], direction: Question["direction"] = "LR") {
  return arrange({ boxes: ids.map(box), arrows, direction, label });
}

function overlaps(places: Record<string, Place>): number {
  const all = Object.values(places);
  const close = (one: Place, other: Place) =>
    Math.abs(one.x - other.x) < 100 && Math.abs(one.y - other.y) < 40;
  return all.flatMap((one, index) => all.slice(index + 1).filter((other) => close(one, other))).length;
}

describe("the arrangement", () => {
  it("goes from callers to called", () => {
    const arrows = [arrow("a", "b"), arrow("b", "c"), arrow("a", "c")];
    const { places, bends } = ask(["a", "b", "c"], arrows);
    expect((places.a?.x ?? 0) < (places.b?.x ?? 0) && (places.b?.x ?? 0) < (places.c?.x ?? 0)).toBe(true);
    expect(bends["a>c"]?.length).toBeGreaterThan(0);
    const down = ask(["a", "b", "c"], arrows, "TB").places;
    expect((down.a?.y ?? 0) < (down.c?.y ?? 0)).toBe(true);
  });

  it("gives everybody a place of their own, whoever they talk to", () => {
    const ids = Array.from({ length: 300 }, (_, index) => `s${index}`);
    const arrows = ids.slice(1, 280).map((id, index) => arrow(ids[Math.floor(index / 3)] ?? "", id));
    const { places } = ask(ids, [...arrows, arrow("s9", "s0"), arrow("s5", "s5"), arrow("s1", "nobody")]);
    expect(Object.keys(places)).toHaveLength(300);
    expect(overlaps(places)).toBe(0);
  });

  it("is the same each time", () => {
    const arrows = [arrow("a", "b"), arrow("a", "c")];
    expect(ask(["a", "b", "c"], arrows)).toEqual(ask(["a", "b", "c"], arrows));
  });
});

describe("a service that comes later", () => {
  it("stands beside its caller, and nobody else moves", () => {
    const before = ask(["a", "b"], [arrow("a", "b")]).places;
    const boxes = ["a", "b", "c", "d"].map(box);
    const after = placeBeside(boxes, [arrow("a", "b"), arrow("a", "c")], before, "LR");
    expect([after.a, after.b]).toEqual([before.a, before.b]);
    expect(after.c?.x).toBeGreaterThan(after.a?.x ?? 0);
    expect(after.d).toBeDefined();
    expect(overlaps(after)).toBe(0);
  });
});
