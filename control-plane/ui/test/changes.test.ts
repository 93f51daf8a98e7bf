import { describe, expect, it } from "vitest";
import { allows } from "../src/access";
import { featuresOf } from "../src/api/features";
import { nameOf, summary } from "../src/history";
import { countWords, worstFirst } from "../src/pages/findings";
import { conditionColour } from "../src/parts/condition";
import { differs } from "../src/parts/configuration_words";

describe("what a control plane can do with changes", () => {
  it("is what its description says: an older rollback cannot be tried by a session that only reads", () => {
    const takes = (name: string) => ({ post: { parameters: [{ name }] } });
    const paths = { "/v1/history": {}, "/v1/rollback": takes("dryRun"), "/v1/diff": takes("to") };
    const found = featuresOf({ paths });
    expect([found.history, found.rollback, found.diff, found.audit, found.findings]).toEqual([
      true,
      true,
      true,
      false,
      false,
    ]);
    expect(featuresOf({ paths: { ...paths, "/v1/rollback": { post: {} } } }).rollback).toBe(false);
    expect(featuresOf({ paths: { ...paths, "/v1/diff": takes("source") } }).rollback).toBe(false);
  });
});

describe("rights", () => {
  const dora = (kinds: string[]) => ({
    name: "dora",
    isOperator: false,
    rules: [{ verbs: ["Read"], kinds, namespaces: ["shop"] }],
  });

  it("are what rules say, and everything for operators", () => {
    expect(allows(dora(["Service"]), "Read", "Service")).toBe(true);
    expect(allows(dora(["Service"]), "Write", "Service")).toBe(false);
    expect(allows(dora(["Service"]), "Read", "Workload")).toBe(false);
    expect(allows({ name: "operator", isOperator: true, rules: [] }, "Write", "Role")).toBe(true);
  });

  it("for all kinds are none for roles", () => {
    expect(allows(dora(["*"]), "Read", "Proxy")).toBe(true);
    expect(allows(dora(["*"]), "Read", "Role")).toBe(false);
    expect(allows(dora(["*", "Role"]), "Read", "Role")).toBe(true);
  });

  it("that nobody tells of are for the control plane to refuse", () => {
    expect(allows(null, "Read", "Role")).toBe(true);
  });
});

describe("a change", () => {
  it("is told in a few words", () => {
    const document = { kind: "Service", namespace: "shop", outcome: "Created" as const, generation: 1 };
    const documents = ["a", "b", "c", "d"].map((name) => ({ ...document, name }));
    const told = summary({ documents, changes: 250 });
    expect([told.shown.map(nameOf).join(), told.more]).toEqual([
      "Service shop/a,Service shop/b,Service shop/c",
      247,
    ]);
    expect(summary({ documents: documents.slice(0, 1), changes: 1 }).more).toBe(0);
    expect(nameOf({ kind: "Mesh", namespace: "", name: "mesh" })).toBe("Mesh mesh");
  });
});

describe("a condition", () => {
  it("is well or not by what it is about", () => {
    const colour = (type: string, status: string) => conditionColour({ type, status });
    expect([colour("Programmed", "True"), colour("Programmed", "False")]).toEqual(["good", "bad"]);
    expect([colour("Conflicted", "True"), colour("Conflicted", "False")]).toEqual(["bad", "good"]);
    expect(colour("Anything", "Unknown")).toBe("warn");
  });
});

describe("a resource of a proxy", () => {
  it("differs where the proxy has something else than it should", () => {
    expect(differs({ name: "a", state: "Refused" })).toBe(true);
    expect(differs({ name: "a", state: "Unwanted" })).toBe(true);
    expect(differs({ name: "a", state: "NotAskedFor" })).toBe(false);
    expect(differs({ name: "a" }), "an older control plane does not say").toBe(false);
  });
});

describe("findings", () => {
  it("stand in the order of what is at stake, and a word that is not known at the end", () => {
    const found = ["Ok", "Odd", "Failure", "Warning", "Warning"].map((severity) => ({
      code: "c",
      severity,
      what: "w",
    }));
    const order = ["Failure", "Warning", "Warning", "Ok", "Odd"];
    expect(worstFirst(found).map(({ severity }) => severity)).toEqual(order);
    expect(countWords(found)).toBe("1 failure, 2 warnings");
    expect(countWords(found.slice(0, 1))).toBe("nothing is wrong that can be seen");
  });
});
