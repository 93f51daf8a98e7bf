/** History, rollback, the difference that a change makes, and who did what, with generated documents. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { enter, launch, type Opened, open } from "./chromium";
import { shop } from "./documents";
import { type Fake, fake } from "./fake";

let browser: Browser;
let server: Fake;
let opened: Opened;
let page: Page;

beforeAll(async () => {
  browser = await launch();
  server = await fake(shop(), { isNew: true });
  opened = await open(browser);
  page = opened.page;
  await enter(page, server.url);
});

afterAll(async () => {
  await browser?.close();
  await server?.close();
});

const inMain = () => page.locator("main");

describe("history", () => {
  it("says who, when, why and what, and reads on", async () => {
    await page.goto(`${server.url}history`);
    const first = page.locator(".revisions > li").first();
    await first.getByRole("link", { name: "revision 47" }).waitFor();
    expect(await page.locator(".revisions > li").count()).toBe(20);
    const told = await page.locator(".revisions > li").nth(3).textContent();
    for (const words of [
      "operator",
      "by weft/0.1.0",
      "HTTPRoute shop/catalog-split",
      "and 9 more documents",
    ]) {
      expect(told).toContain(words);
    }
    expect(await page.locator(".revisions > li").nth(4).textContent()).toContain("looks <b>well</b>");
    await page.getByRole("button", { name: "Older changes" }).click();
    await expect.poll(() => page.locator(".revisions > li").count()).toBe(40);
    await page.getByRole("button", { name: "Older changes" }).click();
    await page.getByRole("link", { name: "revision 1", exact: true }).waitFor();
    expect(await page.getByRole("button", { name: "Older changes" }).count()).toBe(0);
  });

  it("shows a change's documents before and after, as lines that differ", async () => {
    await page.goto(`${server.url}history/46`);
    const lines = page.locator(".difference");
    await lines.locator("del", { hasText: "weight: 45" }).waitFor();
    expect(await lines.locator("ins").allTextContents()).toEqual([
      "          weight: 54",
      "          weight: 46",
    ]);
    const fold = lines.getByRole("button", { name: /lines unchanged/ });
    await fold.first().press("Enter");
    await lines.getByText("parentRefs:").waitFor();
  });

  it("of one policy: any two revisions, by an address that can be sent", async () => {
    await page.goto(`${server.url}policies/httproute/shop/catalog-split/history`);
    await page.locator(".difference ins", { hasText: "weight: 47" }).waitFor();
    await page.getByLabel("from").selectOption("30");
    await page.locator(".difference del", { hasText: "weight: 30" }).waitFor();
    expect(new URL(page.url()).searchParams.get("from")).toBe("30");
    await page.reload();
    await page.locator(".difference del", { hasText: "weight: 30" }).waitFor();
    await page.getByLabel("from").selectOption("0");
    await page.locator(".difference ins", { hasText: "apiVersion: weft.dev/v1" }).waitFor();
    expect(await page.locator(".difference del").count()).toBe(0);
  });
});

describe("a rollback", () => {
  it("is tried while the session only reads, and done when it may change, for a reason", async () => {
    await page.goto(`${server.url}history/46`);
    await page.getByRole("link", { name: "Go back to it" }).click();
    await inMain().getByText("Going back would change").waitFor();
    await inMain().getByText("1 refused, 1 may be refused, 1 eased, 1 unaffected").waitFor();
    expect(await page.getByRole("button", { name: "Go back to revision 46" }).count()).toBe(0);
    const writes = () => server.written.filter((call) => call.startsWith("POST /v1/rollback"));
    expect(writes()).toEqual(["POST /v1/rollback?dryRun=true"]);
    // By the keyboard from here.
    await inMain().getByRole("button", { name: "Enable changes" }).press("Enter");
    await page.locator("input.reason:focus").waitFor();
    await page.keyboard.type("the canary fails");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await inMain().getByText("applied as revision 48; 6 of 6 proxies have it").waitFor();
    // What was shown, and nothing that came after it.
    const done = new URL(writes().at(-1)?.split(" ")[1] ?? "", server.url).searchParams;
    expect(Object.fromEntries(done)).toEqual({ wait: "15s", message: "the canary fails", ifRevision: "47" });
    await page.getByRole("switch").click();
  });
});

describe("what a change would do", () => {
  it("is told of each edge with policy and rule, and by proxies and resources", async () => {
    await page.goto(`${server.url}policies/httproute/shop/catalog-split/edit`);
    const edges = page.getByRole("table", { name: "What becomes of requests" });
    await edges.waitFor();
    const rows = (await edges.locator("tbody tr").allTextContents()).map((text) => text.replace(/\s+/g, " "));
    expect(rows).toHaveLength(4);
    expect(rows[0]).toContain("shop/loadshop/payments:httprefused");
    expect(rows[1]).toMatch(/may be refused.*no-payments-for-load rule admin refuses it, depending on path/);
    expect(await edges.getByRole("link", { name: /no-payments-for-load/ }).count()).toBe(2);
    await inMain().getByText("it refuses outbound/shop at present: no such cluster").waitFor();
    await inMain().getByText("1 Cluster", { exact: true }).click();
    await inMain().getByText("shop/catalog/http/v2").waitFor();
  });
});

describe("access", () => {
  it("tells rights, roles with whom they are given to, and principals", async () => {
    await page.goto(`${server.url}access`);
    await inMain().getByText("you are operator").waitFor();
    await inMain().getByText("given to dora, emil by").waitFor();
    await inMain().getByRole("table", { name: "Principals" }).getByRole("link", { name: "dora" }).click();
    await page.getByRole("heading", { name: "Audit" }).waitFor();
    expect(await page.getByLabel("Who", { exact: true }).inputValue()).toBe("dora");
  });

  it("audit goes page by page, and by who", async () => {
    await page.goto(`${server.url}audit`);
    const rows = inMain().locator("tbody tr");
    await expect.poll(() => rows.count()).toBe(50);
    expect(await rows.nth(3).textContent()).toContain("refused");
    await page.getByRole("button", { name: "Older" }).click();
    await expect.poll(() => new URL(page.url()).searchParams.has("before")).toBe(true);
    await page.getByRole("button", { name: "Older" }).click();
    await expect.poll(() => rows.count()).toBe(20);
    await page.goBack();
    await expect.poll(() => rows.count()).toBe(50);
    await page.getByRole("button", { name: "The newest" }).click();
    await page.getByRole("button", { name: "dora" }).first().click();
    await expect.poll(() => rows.count()).toBe(40);
  });
});

describe("a proxy", () => {
  it("shows what it should have beside what it runs on, and what differs", async () => {
    await page.goto(`${server.url}proxies/shop/web-v1`);
    await inMain().getByText("3 differ").waitFor();
    await page.getByLabel("only differences").check();
    expect(await inMain().getByText("shop/catalog:http").count()).toBe(0);
    await inMain().getByText("shop/cart:http").click();
    await page.locator(".difference del", { hasText: '"connectTimeout": "1s"' }).waitFor();
    await page.locator(".difference ins", { hasText: '"connectTimeout": "5s"' }).waitFor();
  });
});

describe("an object's status", () => {
  it("stands on its page and, where something is wrong, in the list", async () => {
    await page.goto(`${server.url}policies`);
    await inMain().getByText("RefusedByProxy").waitFor();
    await page.getByRole("link", { name: /no-payments-for-load/ }).click();
    await inMain().getByText("shop/web-v1 no such filter").waitFor();
    await inMain().getByText("5 acknowledged").waitFor();
  });
});

describe("what is not well", () => {
  it("stands with what to do, the worst first", async () => {
    await page.goto(`${server.url}check`);
    const found = page.locator(".finding");
    await expect.poll(() => found.count()).toBe(4);
    expect(await found.first().textContent()).toContain("shop/cart-v1 its certificate ends in 2 h");
    expect(await found.nth(1).textContent()).toContain("delete it, or name a Service that exists");
    expect(await found.last().textContent()).toContain("ok");
    await inMain().getByText("1 failure, 1 warning").waitFor();
    await inMain().getByText("And 3 more of policy_selects_nothing.").waitFor();
  });
});

describe("members that outlier detection leaves alone", () => {
  it("are told with the edges, and where somebody taps", async () => {
    await page.goto(`${server.url}?view=table`);
    await inMain().getByText("1 ejected member").waitFor();
    await page.goto(`${server.url}tap?destination=shop%2Fcatalog`);
    await inMain().getByText("leaves 1 ejected member of").waitFor();
    expect(opened.complaints).toEqual([]);
  });
});
