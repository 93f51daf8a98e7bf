/** Lays out beside the main thread: one question, one answer. */

import { arrange, type Question } from "./arrange";

self.onmessage = (event: MessageEvent<Question>) => {
  self.postMessage(arrange(event.data));
};
