/** An answer of the API, as a page shows it: not there yet, there, or refused. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

export interface Answer<T> {
  value: T | null;
  error: unknown;
}

/** Asks when the page opens, and again when what it asks about is another. */
export function useAnswer<T>(about: string, ask: (signal: AbortSignal) => Promise<T>): Answer<T> {
  const answer = useSignal<Answer<T>>({ value: null, error: null });
  useEffect(() => {
    const ending = new AbortController();
    answer.value = { value: null, error: null };
    ask(ending.signal).then(
      (value) => {
        if (!ending.signal.aborted) answer.value = { value, error: null };
      },
      (error) => {
        if (!ending.signal.aborted) answer.value = { value: null, error };
      },
    );
    return () => ending.abort();
  }, [about]);
  return answer.value;
}
