import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// One after the other: they measure, and the local mesh has fixed ports.
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    include: ["browser/**/*.test.ts"],
    environment: "node",
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 90_000,
  },
});
