/** Paths below `/ui/`: each view has a URL that can be sent to a colleague. */

import { computed, signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";

export const BASE = "/ui/";

const here = signal(read());

function read(): { path: string; query: string } {
  const { pathname, search } = window.location;
  return { path: pathname.startsWith(BASE) ? pathname.slice(BASE.length) : "", query: search };
}

/** The path below the base, in parts, each decoded. */
export const parts = computed(() =>
  here.value.path
    .split("/")
    .filter((part) => part !== "")
    .map(decode),
);
export const query = computed(() => new URLSearchParams(here.value.query));

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function href(path: string): string {
  return BASE + path;
}

/** A path of parts that may contain anything. */
export function pathOf(...words: string[]): string {
  return words.map(encodeURIComponent).join("/");
}

export function go(path: string, how: "push" | "replace" = "push"): void {
  if (how === "push") history.pushState(null, "", href(path));
  else history.replaceState(null, "", href(path));
  here.value = read();
  if (how === "push") window.scrollTo(0, 0);
}

/** Changes one word of the query, and nothing else. */
export function ask(name: string, value: string | null, how: "push" | "replace" = "replace"): void {
  const next = new URLSearchParams(here.value.query);
  if (value === null || value === "") next.delete(name);
  else next.set(name, value);
  const text = next.toString();
  go(here.value.path + (text ? `?${text}` : ""), how);
}

window.addEventListener("popstate", () => {
  here.value = read();
});

interface LinkProps {
  to: string;
  children: ComponentChildren;
  class?: string;
  label?: string;
  current?: boolean;
}

/** A link within the page; opened elsewhere it works as any other. */
export function Link({ to, children, label, current, ...rest }: LinkProps): JSX.Element {
  const follow = (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(to);
  };
  return (
    <a
      {...rest}
      href={href(to)}
      onClick={follow}
      aria-label={label}
      aria-current={current ? "page" : undefined}
    >
      {children}
    </a>
  );
}
