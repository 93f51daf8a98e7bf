/** Numbers and times as people read them. */

/** `0`, `0.4`, `23.1`, `140`, `12.3k`. */
export function rate(value: number): string {
  if (value <= 0) return "0";
  if (value < 0.05) return "<0.1";
  if (value < 99.95) return trim(value.toFixed(1));
  if (value < 9_999.5) return String(Math.round(value));
  return `${trim((value / 1000).toFixed(1))}k`;
}

function trim(text: string): string {
  return text.endsWith(".0") ? text.slice(0, -2) : text;
}

/** A share from 0 to 1; never rounded up to 100 %. */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return "–";
  if (share >= 1) return "100%";
  const floored = Math.floor(share * 1000) / 10;
  return `${floored >= 10 ? floored.toFixed(1) : floored}%`;
}

export function milliseconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value < 9.95) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  return `${trim((value / 1000).toFixed(1))} s`;
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let shown = value;
  while (shown >= 999.5 && unit < units.length - 1) {
    shown /= 1000;
    unit += 1;
  }
  return `${shown < 10 && unit > 0 ? trim(shown.toFixed(1)) : Math.round(shown)} ${units[unit]}`;
}

/** The two largest parts of a time: `23h 59m`, `12d 4h`, `8s`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(" ");
}

export function timeOfDay(millis: number): string {
  return new Date(millis).toLocaleTimeString(undefined, { hour12: false });
}

export function date(secondsSince1970: number): string {
  return new Date(secondsSince1970 * 1000).toLocaleString(undefined, {
    dateStyle: "medium",
    timeStyle: "short",
  });
}

/** A moment in milliseconds since 1970, to the second. */
export function moment(millis: number): string {
  return new Date(millis).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
