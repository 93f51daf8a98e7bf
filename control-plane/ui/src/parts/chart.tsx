/** A line over time, by uPlot, in the colours of the theme; its newest value stands in words beside its title. */

import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { colour, theme } from "../theme";

export interface Line {
  label: string;
  colour: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Seconds since 1970. */
  times: number[];
  lines: Line[];
  /** A value as text. */
  show: (value: number) => string;
  /** Ends of the axis, where they do not follow the values. */
  range?: [number, number];
}

const HEIGHT = 150;

export function Chart({ title, times, lines, show, range }: Props): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = `${lines.map((line) => line.label).join()} ${theme.value}`;
  useEffect(() => {
    const element = holder.current;
    if (!element) return undefined;
    const made = new uPlot(
      options(element.clientWidth, lines, show, range),
      [[], ...lines.map(() => [])],
      element,
    );
    plot.current = made;
    const sized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    sized.observe(element);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData([times, ...lines.map((line) => line.values)]);
  });
  return (
    <figure class="chart">
      <figcaption>
        <b>{title}</b>
        {lines.map((line) => (
          <span key={line.label}>
            <i class={`swatch ${line.colour}`} /> {line.label} <output>{newest(line, show)}</output>
          </span>
        ))}
      </figcaption>
      <div ref={holder} aria-hidden="true" />
    </figure>
  );
}

function newest(line: Line, show: (value: number) => string): string {
  const value = line.values.findLast((one) => one !== null);
  return value === undefined || value === null ? "–" : show(value);
}

function options(
  width: number,
  lines: Line[],
  show: (value: number) => string,
  range?: [number, number],
): uPlot.Options {
  const axis = {
    stroke: colour("quiet"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT,
    padding: [10, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { y: { range: range ?? ((_, __, most) => [0, most > 0 ? most * 1.15 : 1]) } },
    axes: [
      { ...axis, size: 28, values: (_, times) => times.map(clock) },
      { ...axis, size: 58, values: (_, values) => values.map(show) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 1.75,
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, {
    hour: "2-digit",
    minute: "2-digit",
    hour12: false,
  });
}
