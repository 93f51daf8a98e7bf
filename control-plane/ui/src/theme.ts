/** Light or dark: as the machine says, until somebody chooses. */

import { effect, signal } from "@preact/signals";

export type Theme = "light" | "dark";

const KEPT = "weft-theme";
const machine = window.matchMedia("(prefers-color-scheme: dark)");

function wanted(): Theme {
  const kept = localStorage.getItem(KEPT);
  if (kept === "light" || kept === "dark") return kept;
  return machine.matches ? "dark" : "light";
}

export const theme = signal<Theme>(wanted());

machine.addEventListener("change", () => {
  theme.value = wanted();
});

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export function toggleTheme(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
  localStorage.setItem(KEPT, theme.value);
}

/** A colour of the style sheet, for what is drawn on a canvas. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
