/** Small pictures, drawn with the colour of the text around them. They say nothing to a screen reader: words stand beside. */

import type { JSX } from "preact";

const PATHS = {
  alert: "M12 8v5m0 3.2v.1M12 3.5 21 19H3z",
  check: "m5 12.5 4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6 6 18",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  graph:
    "M6 6m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M18 12m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M6 18m-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0-5 0M8.3 7.1l7.3 3.7M8.3 16.9l7.3-3.7",
  key: "M8 15.5m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M11 12.5 20 4m-3.5 3 2.5 2.5",
  list: "M4 6h16M4 12h16M4 18h16",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5.5 11h13v9h-13z",
  minus: "M5 12h14",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z",
  open: "M7 11V8a5 5 0 0 1 9.6-2M5.5 11h13v9h-13z",
  pen: "m4 20 1-4L16.5 4.5l3 3L8 19z",
  plus: "M12 5v14M5 12h14",
  proxy: "M4 7h16v4H4zM4 14h16v4H4zM7 9h.1M7 16h.1",
  search: "M11 11m-6 0a6 6 0 1 0 12 0a6 6 0 1 0-12 0M15.5 15.5 20 20",
  stop: "M7 7h10v10H7z",
  sun: "M12 12m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M18.4 5.6 17 7M7 17l-1.4 1.4",
  tap: "M4 12h3l2.5-6 4 12 2.5-6h4",
  tidy: "M4 5h5v5H4zM4 14h5v5H4zM15 9.5h5v5h-5zM9 7.5h3v9H9M12 12h3",
  why: "M9 9.5a3 3 0 1 1 4.4 2.6c-.9.5-1.4 1-1.4 2M12 17.4v.1M12 12m-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
