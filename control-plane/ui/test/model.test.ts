import { describe, expect, it } from "vitest";
import { large, shop } from "../browser/documents";
import type { Edge } from "../src/api/documents";
import { buildGraph, filtered, type Graph } from "../src/graph/model";
import { toneOf } from "../src/graph/tone";

function graphOf(mesh: ReturnType<typeof shop>, edges = mesh.edges(1)): Graph {
  const { services, workloads, proxies } = mesh;
  return buildGraph({ services, workloads, proxies, edges });
}

function edge(changes: Partial<Edge>): Edge {
  const base = { source: "a/x", destination: "a/y", port: "http", rate: 10, mtls: true, windowSeconds: 15 };
  return { ...base, success: 1, denied: 0, ...changes };
}

describe("the graph of a mesh", () => {
  it("has a node for each service, and one link for all versions that are called", () => {
    const { nodes, links } = graphOf(shop());
    expect(nodes.map((node) => node.id)).toEqual([
      "shop/cart",
      "shop/catalog",
      "shop/load",
      "shop/payments",
      "shop/web",
    ]);
    expect(links.map((link) => link.id)).toContain("shop/web>shop/catalog");
    const catalog = nodes.find((node) => node.name === "catalog");
    expect(catalog?.versions.map(({ name, tone }) => [name, tone])).toEqual([
      ["v1", "well"],
      ["v2", "failing"],
    ]);
    expect(catalog?.versions[1]?.zones).toEqual(["eu/eu-1b"]);
    expect(catalog?.tone).toBe("failing");
  });

  it("joins shares by how much each version is asked", () => {
    const edges = [edge({ subset: "v1", rate: 30 }), edge({ subset: "v2", rate: 10, success: 0.6 })];
    const [link] = graphOf(shop(), edges).links;
    expect(link?.rate).toBe(40);
    expect(link?.success).toBeCloseTo(0.9);
    expect(link?.failed).toBeCloseTo(0.1);
  });

  it("keeps connections apart from requests", () => {
    const { links } = graphOf(shop(), [edge({}), edge({ port: "ledger", protocol: "Tcp", success: null })]);
    expect(links.map((link) => link.protocol).sort()).toEqual(["Http", "Tcp"]);
  });

  it("does not count a route's share of an edge again", () => {
    expect(graphOf(shop(), [edge({}), edge({ route: "everyone" })]).links[0]?.rate).toBe(10);
  });

  it("shows a service that only traffic tells of", () => {
    expect(graphOf(shop(), [edge({})]).nodes.map((node) => node.id)).toContain("a/y");
  });

  it("leaves out who only calls", () => {
    const mesh = shop();
    for (const proxy of mesh.proxies) proxy.client = true;
    expect(graphOf(mesh).nodes.every((node) => node.instances.length === 0)).toBe(true);
  });
});

describe("the tone of an edge", () => {
  it.each<[Partial<Edge>, string]>([
    [{}, "well"],
    [{ rate: 0, success: null }, "idle"],
    [{ success: 0.95 }, "failing"],
    [{ success: 0.995 }, "warning"],
    // An older control plane counts a refusal as success.
    [{ success: 1, denied: 1 }, "refused"],
    [{ success: 0, failed: 0, denied: 1 }, "refused"],
    [{ success: 0, failed: 1, denied: 0 }, "failing"],
    [{ state: "Failing", rate: 0, success: null }, "failing"],
    [{ state: "Silent", rate: 0, success: null }, "warning"],
    [{ rate: 0, open: 3, success: null }, "well"],
  ])("of %o is %s", (changes, tone) => {
    expect(toneOf(edge(changes))).toBe(tone);
  });
});

describe("the words in the address", () => {
  const whole = graphOf(shop());

  it("leave what is in trouble, with both ends", () => {
    const { nodes, links } = filtered(whole, new URLSearchParams("only=trouble"));
    expect(links.map((link) => link.id).sort()).toEqual(["shop/load>shop/payments", "shop/web>shop/catalog"]);
    expect(nodes).toHaveLength(4);
  });

  it("leave a service with its neighbours", () => {
    const { nodes } = filtered(whole, new URLSearchParams("q=CART"));
    expect(nodes.map((node) => node.name).sort()).toEqual(["cart", "payments", "web"]);
  });

  it("leave a namespace of a large mesh", () => {
    const { nodes } = filtered(graphOf(large(60, 100)), new URLSearchParams("ns=team-3"));
    expect(nodes.some((node) => node.namespace === "team-3")).toBe(true);
    expect(nodes.length).toBeLessThan(60);
  });
});
