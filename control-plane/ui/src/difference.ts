/** Two texts line by line: what both say, what only one says. */

export interface DiffLine {
  sign: " " | "-" | "+";
  text: string;
}

/** Lines that are the same, and so many of them that they are not shown until somebody asks. */
export interface Fold {
  folded: string[];
}

/** Lines around a change that are shown with it. */
const AROUND = 3;
/** Beyond so many steps the rest is taken as replaced, whole: a document that long is no other one of the same kind. */
const MOST_STEPS = 800;

/** The shortest way from one text to the other (E. Myers, An O(ND) Difference Algorithm, 1986). */
export function difference(before: string, after: string): DiffLine[] {
  const [old, fresh] = [linesOf(before), linesOf(after)];
  let [start, oldEnd, freshEnd] = [0, old.length, fresh.length];
  while (start < oldEnd && start < freshEnd && old[start] === fresh[start]) start += 1;
  while (oldEnd > start && freshEnd > start && old[oldEnd - 1] === fresh[freshEnd - 1]) {
    oldEnd -= 1;
    freshEnd -= 1;
  }
  const same = (lines: string[]): DiffLine[] => lines.map((text) => ({ sign: " ", text }));
  return [
    ...same(old.slice(0, start)),
    ...between(old.slice(start, oldEnd), fresh.slice(start, freshEnd)),
    ...same(old.slice(oldEnd)),
  ];
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

function between(old: string[], fresh: string[]): DiffLine[] {
  const steps = furthest(old, fresh);
  if (!steps) {
    return [
      ...old.map((text): DiffLine => ({ sign: "-", text })),
      ...fresh.map((text): DiffLine => ({ sign: "+", text })),
    ];
  }
  const lines: DiffLine[] = [];
  let [x, y] = [old.length, fresh.length];
  for (let step = steps.length - 1; step > 0; step -= 1) {
    const reached = steps[step - 1] ?? new Map<number, number>();
    const diagonal = x - y;
    const [left, right] = [reached.get(diagonal - 1) ?? -1, reached.get(diagonal + 1) ?? -1];
    const isAdded = diagonal === -step || (diagonal !== step && left < right);
    const [fromX, fromY] = isAdded ? [right, right - diagonal - 1] : [left, left - diagonal + 1];
    const [afterX, afterY] = isAdded ? [fromX, fromY + 1] : [fromX + 1, fromY];
    for (; x > afterX && y > afterY; x -= 1, y -= 1) lines.push({ sign: " ", text: old[x - 1] ?? "" });
    lines.push(isAdded ? { sign: "+", text: fresh[fromY] ?? "" } : { sign: "-", text: old[fromX] ?? "" });
    [x, y] = [fromX, fromY];
  }
  for (; x > 0; x -= 1) lines.push({ sign: " ", text: old[x - 1] ?? "" });
  return lines.reverse();
}

/** By the number of changes, how far each diagonal gets; nothing where that takes too long. */
function furthest(old: string[], fresh: string[]): Map<number, number>[] | undefined {
  const steps: Map<number, number>[] = [];
  for (let step = 0; step <= Math.min(old.length + fresh.length, MOST_STEPS); step += 1) {
    const before = steps[step - 1] ?? new Map([[1, 0]]);
    const reached = new Map<number, number>();
    for (let diagonal = -step; diagonal <= step; diagonal += 2) {
      const [left, right] = [before.get(diagonal - 1) ?? -1, before.get(diagonal + 1) ?? -1];
      const isAdded = diagonal === -step || (diagonal !== step && left < right);
      let x = isAdded ? right : left + 1;
      while (x < old.length && x - diagonal < fresh.length && old[x] === fresh[x - diagonal]) x += 1;
      reached.set(diagonal, x);
      if (x >= old.length && x - diagonal >= fresh.length) return [...steps, reached];
    }
    steps.push(reached);
  }
  return undefined;
}

/** The same with long parts that did not change folded away. */
export function folded(lines: DiffLine[]): (DiffLine | Fold)[] {
  const isNear = new Array<boolean>(lines.length).fill(false);
  lines.forEach((line, at) => {
    if (line.sign !== " ") isNear.fill(true, Math.max(0, at - AROUND), at + AROUND + 1);
  });
  const shown: (DiffLine | Fold)[] = [];
  for (const [at, line] of lines.entries()) {
    const last = shown.at(-1);
    if (isNear[at]) shown.push(line);
    else if (last && "folded" in last) last.folded.push(line.text);
    else shown.push({ folded: [line.text] });
  }
  return shown;
}
