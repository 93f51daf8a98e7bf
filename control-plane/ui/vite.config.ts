import { readFileSync } from "node:fs";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** What of others is in the bundle, itself or by what it is made of. */
const OTHERS = [
  "@dagrejs/dagre",
  "@dagrejs/graphlib",
  "@preact/signals",
  "@preact/signals-core",
  "cytoscape",
  "preact",
  "uplot",
];

/** Their licences ask to go along with them. */
function licences(): Plugin {
  const one = (name: string) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}\n`;
  return {
    name: "licences",
    apply: "build",
    generateBundle() {
      const source = OTHERS.map(one).join(`\n${"-".repeat(72)}\n\n`);
      this.emitFile({ type: "asset", fileName: "licences.txt", source });
    },
  };
}

// The bundle is committed, and CI builds it again: nothing in it may depend on the machine or the time.
export default defineConfig({
  base: "/ui/",
  plugins: [licences()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 700,
  },
  worker: { format: "es" },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
});
