/** Debian's Chromium, and pages in it that fail a test when the console or the policy of contents complains. */

import { existsSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const PROGRAMS = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];
/** Where pictures go. */
export const PICTURES =
  process.env.WEFT_PAGE_PICTURES ?? fileURLToPath(new URL("../../../target/page/", import.meta.url));

export function launch(): Promise<Browser> {
  const executablePath = PROGRAMS.find((path) => path !== undefined && existsSync(path));
  if (!executablePath)
    throw new Error("no Chromium: install Debian's package `chromium`, or name one in CHROMIUM");
  mkdirSync(PICTURES, { recursive: true });
  return chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"],
  });
}

export interface Opened {
  page: Page;
  context: BrowserContext;
  /** What the console complained of. */
  complaints: string[];
}

export interface Look {
  width?: number;
  height?: number;
  dark?: boolean;
  scale?: number;
}

export async function open(
  browser: Browser,
  { width = 1360, height = 840, dark = false, scale = 1 }: Look = {},
): Promise<Opened> {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? "dark" : "light",
    deviceScaleFactor: scale,
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (new URL(request.url()).hostname !== "127.0.0.1") complaints.push(`a request to ${request.url()}`);
  });
  return { page, context, complaints };
}

/** Signs in at a fake, which takes any token. */
export async function enter(page: Page, url: string): Promise<void> {
  await page.goto(url);
  await page.getByLabel("Token").fill("weftop.any");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
}

export function picture(page: Page, name: string): Promise<Buffer> {
  return page.screenshot({ path: `${PICTURES}/${name}.png` });
}

/** What of a page is a serious fault for somebody who does not see it, or has no mouse. */
export async function faults(page: Page): Promise<string[]> {
  // By the debugger: the page's own policy lets no script in that is not its own.
  await page.evaluate(axe.source);
  const result = await page.evaluate(() => (window as unknown as { axe: typeof axe }).axe.run());
  const serious = result.violations.filter((one) => one.impact === "serious" || one.impact === "critical");
  return serious.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
}

/** By how much a page is wider than the window. */
export function tooWide(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}
