import { describe, expect, it } from "vitest";
import type { TapLine } from "../src/api/documents";
import { askedBy, ends, hear, MOST, NOTHING } from "../src/tapping";

const line: TapLine = { id: "r", at: 0, hop: "Outbound", workload: "shop/web-1", service: "shop/web" };
const request = (id: number) => ({ event: "request", data: JSON.stringify({ ...line, id: String(id) }) });

describe("a tap", () => {
  it("keeps the last requests, the newest first, and a number for each that stays", () => {
    const one = hear(NOTHING, [request(1), request(2)]);
    expect(one.lines.map(({ id }) => id)).toEqual(["2", "1"]);
    const many = hear(
      one,
      Array.from({ length: MOST }, (_, index) => request(index + 3)),
    );
    expect([many.lines.length, many.first, many.lines.at(-1)?.id]).toEqual([MOST, MOST + 2, "3"]);
  });

  it("knows how much it does not show, and who is heard", () => {
    const heard = hear(NOTHING, [
      { event: "listening", data: '{"heard":2}' },
      { event: "notShown", data: '{"requests":7}' },
      { event: "of a newer version", data: "{}" },
    ]);
    expect([heard.notShown, heard.listening, heard.lines]).toEqual([7, { heard: 2 }, []]);
  });

  it("asks by what stands in the address, and by nothing else", () => {
    const query = new URLSearchParams("source=shop%2Fweb&path=%2Fa&method=&view=table");
    expect(askedBy(query)).toBe("source=shop%2Fweb&path=%2Fa");
  });

  it("names workloads where they are known, else services", () => {
    const destination = "shop/cart";
    expect(ends({ ...line, destination })).toEqual({ from: "shop/web-1", to: destination });
    const server = { workload: "shop/cart-1", durationMs: 1 };
    expect(ends({ ...line, destination, server }).to).toBe("shop/cart-1");
    expect(ends({ ...line, hop: "Inbound", source: "shop/load" })).toEqual({
      from: "shop/load",
      to: "shop/web-1",
    });
  });
});
