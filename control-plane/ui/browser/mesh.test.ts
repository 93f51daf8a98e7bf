/** The page of a mesh that runs: `weft up`, as a person starts it, and a link of `weft ui`. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { launch, type Opened, open, picture } from "./chromium";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));
const PROGRAMS = process.env.WEFT_PROGRAMS ?? join(REPOSITORY, "target", process.env.PROFILE ?? "fast");
const API = "http://127.0.0.1:7400";

let directory: string;
let up: ChildProcess;
let said = "";
let browser: Browser;
let opened: Opened;

async function weft(...words: string[]): Promise<string> {
  const data = join(directory, "data");
  const { stdout } = await promisify(execFile)(join(PROGRAMS, "weft"), [
    "--token-file",
    join(data, "operator.token"),
    ...words,
  ]);
  return stdout.trim();
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "weft-page-"));
  up = spawn(join(PROGRAMS, "weft"), ["up", "--data-dir", join(directory, "data")], { cwd: REPOSITORY });
  for (const stream of [up.stdout, up.stderr]) stream?.on("data", (text) => (said += text));
  browser = await launch();
  // Before the sidecars are there: the page is open while the mesh comes up.
  await vi.waitUntil(() => weft("ui").then(Boolean, () => false), { timeout: 60_000, interval: 200 });
});

afterAll(async () => {
  await browser?.close();
  if (up && up.exitCode === null) {
    const ended = new Promise((resolve) => up.once("exit", resolve));
    up.kill("SIGINT");
    await ended;
  }
  await rm(directory, { recursive: true, force: true });
});

it("a link of `weft ui` signs in once and is gone from the address", async () => {
  const link = await weft("ui");
  opened = await open(browser);
  await opened.page.goto(link);
  await opened.page.getByRole("navigation").waitFor();
  expect(opened.page.url()).toBe(`${API}/ui/`);
  const [cookie] = await opened.context.cookies();
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict", path: "/" });
  const again = await open(browser);
  await again.page.goto(link);
  await again.page.getByRole("alert").getByText("good once").waitFor();
  await again.context.close();
});

it("shows 6 of 6 within 10 s of the start of the mesh", async () => {
  await expect.poll(() => said, { timeout: 60_000 }).toMatch(/6 of 6 proxies in sync/);
  await opened.page.getByText("6 of 6 proxies in sync").waitFor({ timeout: 10_000 });
  await opened.page.locator('.pill[data-link="shop/web>shop/catalog"]').waitFor({ timeout: 10_000 });
  expect(await opened.page.locator(".card").count()).toBe(5);
});

it("a refusal is red, and leads to its policy", async () => {
  const { page } = opened;
  await page.locator('.pill.refused[data-link="shop/load>shop/payments"]').click({ timeout: 15_000 });
  await page
    .locator(".panel")
    .getByRole("link", { name: /no-payments-for-load/ })
    .first()
    .click();
  await page.locator(".text").getByText("action: Deny").waitFor();
});

it("a planted fault turns its edge red within 10 s", async () => {
  const { page } = opened;
  await page.goto(`${API}/ui/`);
  await page.locator('.pill.well[data-link="shop/web>shop/catalog"]').waitFor({ timeout: 20_000 });
  await picture(page, "mesh-well");
  await fetch("http://127.0.0.1:18084/fault?status=503&rate=0.8");
  await page.locator('.pill.failing[data-link="shop/web>shop/catalog"]').waitFor({ timeout: 10_000 });
  await picture(page, "mesh-failing");
  await fetch("http://127.0.0.1:18084/fault");
});

/** The answer to a call as the page makes it, whatever its buttons let one do. */
function answered(method: string, path: string, body?: string): Promise<number> {
  const call = { method, path, body };
  return opened.page.evaluate(async ({ method, path, body }) => {
    const headers: Record<string, string> = {
      "X-Weft-Session-Key": localStorage.getItem("weft-session-key") ?? "",
    };
    if (body) headers["Content-Type"] = "application/json";
    return (await fetch(path, { method, headers, body: body ?? null })).status;
  }, call);
}

it("an apply from the editor shows what it would do, lands, and is in the history", async () => {
  const { page } = opened;
  await page.goto(`${API}/ui/policies/httproute/shop/catalog-split/edit`);
  const text = page.getByLabel("Documents, as YAML");
  const wanted = (await text.inputValue())
    .replace("weight: 80", "weight: 50")
    .replace("weight: 20", "weight: 50");
  await text.fill(wanted.replace("weight: 50", "weigth: 50"));
  await page.getByText("did you mean weight?").waitFor();
  expect(await page.locator(".paper li.wrong").count()).toBe(1);
  await text.fill(wanted);
  await page.getByText("HTTPRoute shop/catalog-split would be updated").waitFor();
  await page.locator(".difference del", { hasText: "weight: 80" }).waitFor();
  const edges = page.getByRole("table", { name: "What becomes of requests" });
  await edges
    .getByRole("row", { name: /shop\/catalog:http may be refused HTTPRoute shop\/catalog-split/ })
    .waitFor();
  await edges.getByRole("row", { name: "shop/cart shop/payments:http unaffected" }).waitFor();
  await page.getByText(/\d proxies concerned/).waitFor();
  const path = "/v1/namespaces/shop/httproutes/catalog-split";
  expect(await answered("DELETE", path), "a session that only reads").toBe(403);
  await page.locator("main").getByRole("button", { name: "Enable changes" }).click();
  await page.getByLabel("Why").fill("half and half");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText(/applied as revision 2; \d of \d prox/).waitFor();
  await page.getByText("Nothing would change.").waitFor();
  expect(await weft("get", "httproute", "catalog-split", "-n", "shop", "-o", "yaml")).toContain("weight: 50");
  await page.getByRole("link", { name: "revision 2" }).click();
  await page.locator("main").getByText("half and half").waitFor();
  await page.locator(".difference ins", { hasText: "weight: 50" }).first().waitFor();
});

it("a session that only reads tries a rollback, and one that may change does it", async () => {
  const { page } = opened;
  await page.getByRole("switch", { name: "Changes enabled" }).click();
  await page.getByRole("switch", { name: "Enable changes" }).waitFor();
  await page.getByRole("link", { name: "Go back to before it" }).click();
  await page.getByText("Going back would change").waitFor();
  await page.locator(".difference ins", { hasText: "weight: 80" }).waitFor();
  await picture(page, "rollback");
  const back = JSON.stringify({ to: 1 });
  expect(await answered("POST", "/v1/rollback?dryRun=true", back)).toBe(200);
  expect(await answered("POST", "/v1/rollback", back), "a session that only reads").toBe(403);
  await page.locator("main").getByRole("button", { name: "Enable changes" }).click();
  await page.getByLabel("Why").fill("it was enough");
  await page.getByRole("button", { name: "Go back to revision 1" }).press("Enter");
  await page.getByText(/applied as revision 3; (\d) of \1 prox/).waitFor();
  expect(await weft("get", "httproute", "catalog-split", "-n", "shop", "-o", "yaml")).toContain("weight: 80");
  await page.goto(`${API}/ui/history`);
  const newest = page.locator(".revisions > li").first();
  await newest.getByText("rollback to 1: it was enough").waitFor();
  expect(await newest.textContent()).toMatch(/revision 3.*operator by page/);
});

it("audit tells who did it, and from where", async () => {
  const { page } = opened;
  await page.goto(`${API}/ui/audit`);
  const row = page.getByRole("row", { name: /POST \/v1\/rollback/ });
  await row.getByRole("link", { name: "revision 3" }).waitFor();
  expect(await row.textContent()).toMatch(/operator.*127\.0\.0\.1 page.*done/);
  await page
    .getByRole("row", { name: /POST \/v1\/apply/ })
    .getByRole("link", { name: "revision 2" })
    .waitFor();
});

it("a principal sees what its roles let it read, and is asked for nothing else", async () => {
  const token = join(directory, "dora.token");
  await weft("operator", "create", "dora", "--out", token);
  await weft("apply", "-f", join(REPOSITORY, "policies/examples/roles.yaml"));
  const { page, context, complaints } = await open(browser);
  await page.goto(`${API}/ui/access`);
  await page.getByLabel("Token").fill((await readFile(token, "utf8")).trim());
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("you are dora").waitFor();
  await page.getByRole("row", { name: /Read, Write, Delete HTTPRoute, GRPCRoute/ }).waitFor();
  expect(await page.getByRole("link", { name: /Audit|Tap/ }).count()).toBe(0);
  await page.getByRole("link", { name: "Mesh", exact: true }).click();
  await page.locator('.pill[data-link="shop/web>shop/catalog"]').waitFor();
  await page.getByRole("link", { name: "Policies" }).click();
  await page.getByRole("link", { name: /catalog-split/ }).waitFor();
  expect(complaints).toEqual([]);
  await context.close();
});

it("a tap shows requests as they end, and stops", async () => {
  const { page } = opened;
  await page.goto(`${API}/ui/tap?destination=shop%2Fcatalog`);
  await page.getByRole("button", { name: "Listen" }).click();
  await page.getByText(/Listening at \d sidecars/).waitFor({ timeout: 10_000 });
  const line = page.locator("table.tap tbody tr").first();
  await line.getByRole("link", { name: /shop\/catalog-v/ }).waitFor({ timeout: 10_000 });
  expect(await line.textContent()).toContain("GET");
  await picture(page, "tap");
  await page.getByLabel("path begins").fill("/nothing/is/here");
  await page.getByLabel("path begins").press("Enter");
  await expect.poll(() => new URL(page.url()).searchParams.get("path")).toBe("/nothing/is/here");
  await page.getByRole("button", { name: "Stop" }).click();
  await page.getByRole("button", { name: "Listen" }).waitFor();
});

it("every view shows this mesh, and nothing complains", async () => {
  const { page, complaints } = opened;
  for (const [path, text] of [
    ["services/shop/catalog", "catalog-v2"],
    ["proxies", "shop/web-v1"],
    ["proxies/shop/web-v1", "no difference"],
    ["proxies/shop/cart-v1", "no difference"],
    ["policies", "catalog-split"],
    ["policies/httproute/shop/catalog-split/history", "rollback to 1: it was enough"],
    ["access", "Everything"],
    ["certificates", "spiffe://"],
    ["?view=table", "shop/payments"],
  ] as const) {
    await page.goto(`${API}/ui/${path}`);
    await page.getByText(text).first().waitFor();
  }
  // What was refused on purpose.
  expect(complaints.filter((text) => !/status of 40[13]|status of 422/.test(text))).toEqual([]);
});

it("a cookie alone opens nothing, and neither does a session that was signed out", async () => {
  const { page, context } = opened;
  const [cookie] = await context.cookies();
  const ask = (headers: Record<string, string>) =>
    fetch(`${API}/v1/edges`, { headers }).then(({ status }) => status);
  const sent = { cookie: `${cookie?.name}=${cookie?.value}` };
  const key = (await page.evaluate(() => localStorage.getItem("weft-session-key"))) ?? "";
  expect(await ask({ ...sent, "x-weft-session-key": key })).toBe(200);
  expect(await ask(sent)).toBe(401);
  expect(await ask({ ...sent, "x-weft-session-key": key, origin: "http://127.0.0.1:3000" })).toBe(403);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  expect(await ask({ ...sent, "x-weft-session-key": key })).toBe(401);
});
