import { describe, expect, it } from "vitest";
import { difference, folded } from "../src/difference";

const text = (...lines: string[]) => lines.map((line) => `${line}\n`).join("");
const told = (before: string, after: string) =>
  difference(before, after).map(({ sign, text }) => sign + text);

describe("a difference", () => {
  it("tells what both say, what was there and what is", () => {
    expect(told(text("a", "b", "c"), text("a", "x", "c"))).toEqual([" a", "-b", "+x", " c"]);
    expect(told("", text("a"))).toEqual(["+a"]);
    expect(told(text("a"), "")).toEqual(["-a"]);
    expect(told("", "")).toEqual([]);
    expect(told(text("a", "b"), text("a", "b"))).toEqual([" a", " b"]);
  });

  it("is short: of many lines one moved, two changed", () => {
    const lines = Array.from({ length: 200 }, (_, index) => `line ${index}`);
    const moved = [...lines.slice(0, 20), ...lines.slice(21, 100), lines[20] ?? "", ...lines.slice(100)];
    expect(told(text(...lines), text(...moved)).filter((line) => !line.startsWith(" "))).toHaveLength(2);
  });

  it("makes one text of the other, whatever they say", () => {
    let state = 7;
    const next = (below: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state % below;
    };
    for (let round = 0; round < 400; round += 1) {
      const some = () => text(...Array.from({ length: next(9) }, () => "abcd"[next(4)] ?? ""));
      const [before, after] = [some(), some()];
      const lines = difference(before, after);
      const side = (sign: "-" | "+") =>
        text(...lines.filter((line) => line.sign === sign || line.sign === " ").map((line) => line.text));
      expect([side("-"), side("+")]).toEqual([before, after]);
    }
  });

  it("of two long texts without a line in common ends all the same", () => {
    const long = (word: string) => text(...Array.from({ length: 3_000 }, (_, index) => `${word} ${index}`));
    expect(difference(long("a"), long("b"))).toHaveLength(6_000);
  });

  it("folds what is far from a change", () => {
    const lines = Array.from({ length: 30 }, (_, index) => String(index));
    const changed = lines.map((line) => (line === "15" ? "x" : line));
    const parts = folded(difference(text(...lines), text(...changed)));
    expect(parts.map((part) => ("folded" in part ? part.folded.length : part.sign)).join("")).toBe(
      "12   -+   11",
    );
  });
});
