/** What was changed, page by page, and what a change was. */

import type { AppliedDocument, HistoryEntry, HistoryList, Named, RevisionChanges } from "./api/changes";
import { get } from "./api/client";

/** Whose history: of everything, of a kind, of one object. */
export type HistoryOf = Partial<Named>;

const PAGE = 20;
/** Pages in which nothing was found, and which are passed over in one go. */
const PASSED_OVER = 10;

/** Entries before a revision, or the newest. A part may be empty and have more before it: then it is read on. */
export async function readHistory(
  of: HistoryOf,
  before: number | undefined,
  signal: AbortSignal,
): Promise<HistoryList> {
  let from = before;
  for (let page = 1; ; page += 1) {
    const words = new URLSearchParams({ limit: String(PAGE) });
    for (const [name, value] of Object.entries(of)) if (value) words.set(name, value);
    if (from !== undefined) words.set("before", String(from));
    const list = await get<HistoryList>(`/v1/history?${words}`, signal);
    if (list.items.length > 0 || list.before === undefined || page === PASSED_OVER) return list;
    from = list.before;
  }
}

export function readRevision(revision: number, signal: AbortSignal): Promise<RevisionChanges> {
  return get<RevisionChanges>(`/v1/history/${revision}`, signal);
}

/** `HTTPRoute shop/cart`. */
export function nameOf({ kind, namespace, name }: Named): string {
  return `${kind} ${namespace ? `${namespace}/` : ""}${name}`;
}

/** What a change was, in a few words: `HTTPRoute shop/cart updated`, and how many more. */
export function summary({ documents, changes }: Pick<HistoryEntry, "documents" | "changes">): {
  shown: AppliedDocument[];
  more: number;
} {
  const shown = documents.slice(0, 3);
  return { shown, more: Math.max(0, Math.max(changes, documents.length) - shown.length) };
}
