/** The button that changes something: with the reason beside it, and only in a session that may change. */

import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useRef } from "preact/hooks";
import type { ApplyResult } from "../api/documents";
import { plural } from "../format";
import { features } from "../live";
import { Trouble } from "../parts/marks";
import { RevisionLink } from "../parts/names";
import { mayChange, setMode } from "../session";

interface Props {
  name: string;
  /** What stands beside the switch while the session only reads. */
  reading: string;
  disabled?: boolean;
  /** Does it, for a reason, and says what happened. */
  act: (message: string) => Promise<ComponentChildren | undefined>;
}

/** What came of a change: its revision, and how many proxies have it. */
export function Reached({ result: { revision, documents, wait } }: { result: ApplyResult }): JSX.Element {
  if (documents.every(({ outcome }) => outcome === "Unchanged")) return <>nothing changed</>;
  const laggard = wait?.laggards?.[0];
  return (
    <>
      applied as {features.value.history ? <RevisionLink revision={revision} /> : `revision ${revision}`}
      {wait && `; ${wait.acked} of ${plural(wait.targeted, "proxy has", "proxies have")} it`}
      {laggard && ` (${laggard.proxy}: ${laggard.error ?? "no answer yet"})`}
    </>
  );
}

export function ChangeButton({ name, reading, disabled, act }: Props): JSX.Element {
  const message = useSignal("");
  const done = useSignal<ComponentChildren>(null);
  const error = useSignal<unknown>(null);
  const busy = useSignal(false);
  const reason = useRef<HTMLInputElement>(null);
  const during = async (what: () => Promise<ComponentChildren | undefined>) => {
    [busy.value, error.value, done.value] = [true, null, null];
    try {
      done.value = await what();
    } catch (failure) {
      error.value = failure;
    }
    busy.value = false;
  };
  return (
    <footer class="actions">
      {mayChange() ? (
        <>
          <input
            ref={reason}
            class="reason"
            aria-label="Why"
            placeholder="Why? The history tells it"
            maxLength={200}
            value={message.value}
            onInput={(event) => {
              message.value = event.currentTarget.value;
            }}
          />
          <button
            type="button"
            class="primary"
            disabled={disabled || busy.value}
            onClick={() => during(() => act(message.value.trim()))}
          >
            {name}
          </button>
        </>
      ) : (
        <>
          <button
            type="button"
            class="primary"
            disabled={busy.value}
            onClick={async () => {
              await during(() => setMode("Changes").then(() => null));
              // The button is gone: who pressed it goes on from what came in its place.
              reason.current?.focus();
            }}
          >
            Enable changes
          </button>
          <small>{reading}</small>
        </>
      )}
      <span role="status">
        {busy.value && "…"}
        {done.value}
      </span>
      {error.value !== null && <Trouble error={error.value} />}
    </footer>
  );
}
