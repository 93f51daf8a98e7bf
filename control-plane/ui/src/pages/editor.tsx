/** An editor that tries what is written at each pause, shows what is wrong at its line, and applies what is right. */

import { type Signal, useSignal } from "@preact/signals";
import type { JSX, RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { DiffResult } from "../api/changes";
import type { ApplyResult, Violation, WeftObject } from "../api/documents";
import { apply, type Checked, diff, outcomes, tryOut } from "../applying";
import { features } from "../live";
import { Mark, Trouble } from "../parts/marks";
import { readPolicies } from "../policies";
import { ChangeButton, Reached } from "./change_button";
import { Effect } from "./effect";

const PAUSE = 400;
const LONG_PAUSE = 1_000;

interface Props {
  text: string;
  /** The object that is edited, as it was read. */
  of?: WeftObject;
}

export function Editor({ text: initial, of }: Props): JSX.Element {
  const text = useSignal(initial);
  const checked = useSignal<Checked | null>(null);
  const error = useSignal<unknown>(null);
  /** Counts what was applied: the same text does something else afterwards. */
  const applies = useSignal(0);
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
      <ChangeButton
        name="Apply"
        reading="This session reads only. What you write is tried, and nothing is applied."
        disabled={checked.value?.state !== "good"}
        act={async (message) => {
          const result = await applied(text.value, message, of);
          applies.value += 1;
          return <Reached result={result} />;
        }}
      />
      {features.value.diff && (
        <WhatItDoes text={text.value} isGood={checked.value?.state === "good"} applies={applies.value} />
      )}
    </div>
  );
}

interface WhatItDoesProps {
  text: string;
  isGood: boolean;
  applies: number;
}

/** What an apply would do, once what is written is good and rests for a while: to find out takes more than to check it. */
function WhatItDoes({ text, isGood, applies }: WhatItDoesProps): JSX.Element | null {
  const found = useSignal<{ text: string; diff: DiffResult } | null>(null);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    if (!isGood) return undefined;
    const ending = new AbortController();
    const timer = setTimeout(() => {
      diff(text, ending.signal).then(
        (diff) => {
          if (!ending.signal.aborted) [found.value, error.value] = [{ text, diff }, null];
        },
        (failure) => {
          if (!ending.signal.aborted) error.value = failure;
        },
      );
    }, LONG_PAUSE);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [text, isGood, applies]);
  if (error.value !== null) return <Trouble error={error.value} />;
  if (!isGood || !found.value) return null;
  return (
    <div class={found.value.text === text ? "" : "stale"} aria-busy={found.value.text !== text}>
      <Effect of={found.value.diff} />
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

/** Applies for a reason. */
async function applied(text: string, message: string, of: WeftObject | undefined): Promise<ApplyResult> {
  const found = await apply(text, message, of);
  if (found.state === "refused") throw new Error(found.title);
  await readPolicies();
  if (of) {
    const { documents } = found.result;
    const own = documents.find(({ kind, name }) => kind === of.kind && name === of.metadata.name);
    if (own) of.metadata.generation = own.generation;
  }
  return found.result;
}
