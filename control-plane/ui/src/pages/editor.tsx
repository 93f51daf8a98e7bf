/** An editor that tries what is written at each pause, shows what is wrong at its line, and applies what is right. */

import { type Signal, useSignal } from "@preact/signals";
import type { JSX, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Violation, WeftObject } from "../api/documents";
import { apply, type Checked, outcomes, tryOut } from "../applying";
import { plural } from "../format";
import { Mark, Trouble } from "../parts/marks";
import { readPolicies } from "../policies";
import { mayChange, setMode } from "../session";

const PAUSE = 400;

interface Props {
  text: string;
  /** The object that is edited, as it was read. */
  of?: WeftObject;
}

export function Editor({ text: initial, of }: Props): JSX.Element {
  const text = useSignal(initial);
  const checked = useSignal<Checked | null>(null);
  const error = useSignal<unknown>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (text.value.trim() === "") return undefined;
    const ending = new AbortController();
    const timer = setTimeout(() => {
      tryOut(text.value, ending.signal).then(
        (found) => {
          if (!ending.signal.aborted) [checked.value, error.value] = [found, null];
        },
        (failure) => {
          if (!ending.signal.aborted) error.value = failure;
        },
      );
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [text.value, text, checked, error]);
  const violations = checked.value?.state === "refused" ? checked.value.violations : [];
  return (
    <div class="editor">
      <TextArea text={text} area={area} wrong={new Set(violations.map((one) => one.line ?? 0))} />
      <div class="verdict" role="status">
        {error.value !== null && <Trouble error={error.value} />}
        {checked.value && (
          <Verdict checked={checked.value} goTo={(line, column) => putCaret(area, line, column)} />
        )}
      </div>
      <ApplyButton text={text} of={of} isGood={checked.value?.state === "good"} />
    </div>
  );
}

interface TextProps {
  text: Signal<string>;
  area: RefObject<HTMLTextAreaElement | null>;
  wrong: Set<number>;
}

function TextArea({ text, area, wrong }: TextProps): JSX.Element {
  const gutter = useRef<HTMLOListElement>(null);
  const lines = text.value.split("\n");
  return (
    <div class="paper">
      <ol ref={gutter} aria-hidden="true">
        {lines.map((_, index) => (
          <li key={index} class={wrong.has(index + 1) ? "wrong" : ""}>
            {index + 1}
          </li>
        ))}
      </ol>
      <textarea
        ref={area}
        aria-label="Documents, as YAML"
        spellcheck={false}
        autocapitalize="off"
        rows={Math.max(16, lines.length + 1)}
        wrap="off"
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
        onScroll={(event) => gutter.current?.scrollTo({ top: event.currentTarget.scrollTop })}
      />
    </div>
  );
}

/** The caret at a line and column, from 1. */
function putCaret(area: RefObject<HTMLTextAreaElement | null>, line: number, column: number): void {
  const element = area.current;
  if (!element) return;
  const before = element.value.split("\n").slice(0, line - 1);
  const start = before.reduce((length, one) => length + one.length + 1, 0) + Math.max(0, column - 1);
  element.focus();
  element.setSelectionRange(start, start);
}

type GoTo = (line: number, column: number) => void;

function Verdict({ checked, goTo }: { checked: Checked; goTo: GoTo }): JSX.Element {
  if (checked.state === "good") {
    return (
      <>
        {outcomes(checked.result).map((sentence) => (
          <p key={sentence}>
            <Mark colour="good">good</Mark> {sentence}
          </p>
        ))}
        <Violations violations={checked.result.warnings ?? []} goTo={goTo} />
      </>
    );
  }
  return (
    <>
      <p>
        <Mark colour="bad">refused</Mark> {checked.title}
      </p>
      <Violations violations={checked.violations} goTo={goTo} />
    </>
  );
}

function Violations({ violations, goTo }: { violations: Violation[]; goTo: GoTo }): JSX.Element {
  return (
    <ul class="violations">
      {violations.map((one) => (
        <li key={`${one.line} ${one.column} ${one.path} ${one.message}`}>
          {one.line ? (
            <button type="button" class="link" onClick={() => goTo(one.line ?? 1, one.column ?? 1)}>
              line {one.line}
            </button>
          ) : (
            one.object
          )}{" "}
          <code>{one.path}</code> {one.message} {one.hint && <small>({one.hint})</small>}
        </li>
      ))}
    </ul>
  );
}

interface ApplyProps {
  text: Signal<string>;
  of: WeftObject | undefined;
  isGood: boolean;
}

function ApplyButton({ text, of, isGood }: ApplyProps): JSX.Element {
  const done = useSignal<string | null>(null);
  const error = useSignal<unknown>(null);
  const busy = useSignal(false);
  const act = async (what: () => Promise<string | null>) => {
    [busy.value, error.value, done.value] = [true, null, null];
    try {
      done.value = await what();
    } catch (failure) {
      error.value = failure;
    }
    busy.value = false;
  };
  const enable = () => act(() => setMode("Changes").then(() => null));
  const send = () => act(() => applied(text.value, of));
  return (
    <footer class="actions">
      {mayChange() ? (
        <button type="button" class="primary" disabled={!isGood || busy.value} onClick={send}>
          Apply
        </button>
      ) : (
        <>
          <button type="button" class="primary" disabled={busy.value} onClick={enable}>
            Enable changes
          </button>
          <small>This session reads only. What you write is tried, and nothing is applied.</small>
        </>
      )}
      <span role="status">
        {busy.value && "…"}
        {done.value}
        {error.value !== null && <Trouble error={error.value} />}
      </span>
    </footer>
  );
}

async function applied(text: string, of: WeftObject | undefined): Promise<string> {
  const found = await apply(text, of);
  if (found.state === "refused") throw new Error(found.title);
  await readPolicies();
  const { revision, wait, documents } = found.result;
  if (of) {
    const own = documents.find(({ kind, name }) => kind === of.kind && name === of.metadata.name);
    if (own) of.metadata.generation = own.generation;
  }
  const what = revision === 0 ? "nothing changed" : `applied as revision ${revision}`;
  const reached = wait ? `; ${wait.acked} of ${plural(wait.targeted, "proxy has", "proxies have")} it` : "";
  const laggard = wait?.laggards?.[0];
  return what + reached + (laggard ? ` (${laggard.proxy}: ${laggard.error ?? "no answer yet"})` : "");
}
