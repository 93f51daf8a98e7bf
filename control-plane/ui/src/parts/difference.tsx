/** Two texts, and what of them differs: lines with a sign and a colour, and long parts that are the same folded away. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { type DiffLine, difference, folded } from "../difference";
import { plural } from "../format";
import { Scroll } from "./scroll";

interface Props {
  /** What it is the difference of. */
  label: string;
  before: string;
  after: string;
}

export function Difference({ label, before, after }: Props): JSX.Element {
  const parts = useMemo(() => folded(difference(before, after)), [before, after]);
  return (
    <Scroll class="difference mono" label={label}>
      <div>
        {parts.map((part, at) =>
          "folded" in part ? <Folded key={at} lines={part.folded} /> : <Line key={at} line={part} />,
        )}
      </div>
    </Scroll>
  );
}

function Line({ line: { sign, text } }: { line: DiffLine }): JSX.Element {
  const content = text || " ";
  if (sign === "-") return <del data-sign="−">{content}</del>;
  if (sign === "+") return <ins data-sign="+">{content}</ins>;
  return <span>{content}</span>;
}

function Folded({ lines }: { lines: string[] }): JSX.Element {
  const open = useSignal(lines.length <= 2);
  if (open.value) {
    return (
      <>
        {lines.map((text, at) => (
          <Line key={at} line={{ sign: " ", text }} />
        ))}
      </>
    );
  }
  return (
    <button type="button" class="fold" onClick={() => (open.value = true)}>
      {plural(lines.length, "line")} unchanged
    </button>
  );
}
