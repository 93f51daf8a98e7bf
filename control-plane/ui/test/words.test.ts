import { describe, expect, it } from "vitest";
import { shop } from "../browser/documents";
import type { AppliedDocument } from "../src/api/changes";
import { EventParser, objectPath } from "../src/api/client";
import { featuresOf } from "../src/api/features";
import { outcomes } from "../src/applying";
import * as format from "../src/format";
import { effective, policyOf } from "../src/policies";
import { pointOf } from "../src/series";
import { toYaml } from "../src/yaml";

describe("numbers", () => {
  it("are as long as they have to be", () => {
    expect([0, 0.01, 0.4, 23.04, 140.2, 12_340].map(format.rate)).toEqual([
      "0",
      "<0.1",
      "0.4",
      "23",
      "140",
      "12.3k",
    ]);
    expect([0.5, 12.3, 1234].map(format.milliseconds)).toEqual(["0.5 ms", "12 ms", "1.2 s"]);
    expect([5, 90, 86_399, 1_040_000].map(format.duration)).toEqual(["5s", "1m 30s", "23h 59m", "12d"]);
    expect([12, 1200, 3_400_000].map(format.bytes)).toEqual(["12 B", "1.2 kB", "3.4 MB"]);
  });

  it("never say that all is well when it is not", () => {
    expect([1, 0.9999, 0.994, 0, null].map(format.percent)).toEqual(["100%", "99.9%", "99.4%", "0%", "–"]);
  });
});

describe("YAML", () => {
  it("quotes what would be read as something else, and leaves out what the server adds", () => {
    const text = toYaml({
      apiVersion: "weft.dev/v1",
      kind: "HTTPRoute",
      metadata: { name: "r", namespace: "shop", uid: "1", generation: 3, ...{ resourceVersion: "7" } },
      spec: {
        on: true,
        words: ["true", "10.0.0.0/8", "a: b", "v1"],
        none: [],
        rules: [{ name: "x", to: [{ port: 80 }] }],
      },
    });
    expect(text).toBe(
      [
        "apiVersion: weft.dev/v1",
        "kind: HTTPRoute",
        "metadata:",
        "  name: r",
        "  namespace: shop",
        "spec:",
        '  "on": true',
        "  words:",
        '    - "true"',
        '    - "10.0.0.0/8"',
        '    - "a: b"',
        "    - v1",
        "  none: []",
        "  rules:",
        "    - name: x",
        "      to:",
        "        - port: 80",
        "",
      ].join("\n"),
    );
  });
});

describe("a stream of events", () => {
  it("is read however it is cut", () => {
    const text = 'event: edges\ndata: {"a":\ndata: 1}\n\n: keep-alive\n\ndata: x\n\n';
    for (let cut = 0; cut <= text.length; cut += 1) {
      const parser = new EventParser();
      const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
      expect(events).toEqual([
        { event: "edges", data: '{"a":\n1}' },
        { event: "message", data: "x" },
      ]);
    }
  });
});

describe("what a control plane can do", () => {
  it("is what its description says, and little where it says nothing", () => {
    const kinds = { Documents: { anyOf: [{ $ref: "#/components/schemas/Mesh" }] } };
    const found = featuresOf({ paths: { "/v1/requests": {} }, components: { schemas: kinds } });
    expect([found.requests, found.taps, found.kinds]).toEqual([true, false, ["Mesh"]]);
    expect(featuresOf(null).kinds).toContain("AuthorizationPolicy");
  });
});

describe("policies", () => {
  it("are found by whom they name", () => {
    const names = (service: string) =>
      effective(shop().policies, service).map(({ object }) => object.metadata.name);
    expect(names("shop/payments")).toEqual(["no-payments-for-load"]);
    expect(names("shop/catalog")).toEqual(["catalog-split"]);
    expect(names("shop/web")).toEqual([]);
  });

  it("concern the service of a route that they target", () => {
    const policy = structuredClone(shop().policies[0]);
    if (policy) policy.spec = { targetRefs: [{ kind: "HTTPRoute", name: "catalog-split" }] };
    const found = effective(policy ? [...shop().policies, policy] : [], "shop/catalog");
    expect(found.map(({ origin }) => origin)).toEqual(["service", "route"]);
  });

  it("are named by refusals with a rule, and in other ways", () => {
    expect(policyOf("AuthorizationPolicy shop/deny/rule-1")).toEqual({
      kind: "AuthorizationPolicy",
      namespace: "shop",
      object: "deny",
      rule: "rule-1",
    });
    expect(policyOf("HTTPRoute shop/catalog-split")?.kind).toBe("HTTPRoute");
    expect(policyOf("<img src=x>")).toBeUndefined();
  });

  it("have a path that nothing in a name can leave", () => {
    expect(objectPath("HTTPRoute", "a/../b", "x?y")).toBe("/v1/namespaces/a%2F..%2Fb/httproute/x%3Fy");
  });

  it("say what would happen to them", () => {
    const documents: AppliedDocument[] = [
      { kind: "Mesh", namespace: "", name: "mesh", outcome: "Updated", generation: 2 },
    ];
    expect(outcomes({ revision: 0, dryRun: true, documents })).toEqual(["Mesh mesh would be updated"]);
    expect(outcomes({ revision: 3, documents })).toEqual(["Mesh mesh is updated"]);
  });
});

describe("a point in time", () => {
  it("is what all edges to a service come to", () => {
    const { rate, failed, denied } = pointOf(1, "shop/catalog", shop().edges(1));
    expect(rate).toBeCloseTo(30, -1);
    expect(failed).toBeGreaterThan(0.04);
    expect(denied).toBe(0);
  });
});
