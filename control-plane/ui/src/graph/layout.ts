import type { Arrangement, Question } from "./arrange";

/** Asks a worker, which ends with its answer. */
export function laidOut(question: Question): Promise<Arrangement> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), {
      type: "module",
      name: "layout",
    });
    const end = () => worker.terminate();
    worker.onmessage = (event: MessageEvent<Arrangement>) => {
      resolve(event.data);
      end();
    };
    worker.onerror = (event) => {
      reject(new Error(event.message || "the layout failed"));
      end();
    };
    worker.postMessage(question);
  });
}
