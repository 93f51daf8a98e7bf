/** A document of JSON as YAML: what is shown, and what can be applied again. */

import type { WeftObject } from "./api/documents";

/** What the server adds to an object; it is not part of what people write. */
const SERVERS_OWN = new Set(["uid", "generation", "resourceVersion", "createdAt"]);
const PLAIN = /^[A-Za-z_/][A-Za-z0-9_./-]*$/;
const WORDS_WITH_A_MEANING = new Set(["true", "false", "null", "yes", "no", "on", "off", "y", "n"]);

export function toYaml(object: WeftObject): string {
  const metadata = Object.fromEntries(
    Object.entries(object.metadata).filter(([key]) => !SERVERS_OWN.has(key)),
  );
  const { apiVersion, kind, spec } = object;
  return `${block({ apiVersion, kind, metadata, spec }, "").join("\n")}\n`;
}

function block(value: unknown, indent: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => listItem(item, indent));
  return Object.entries(value as Record<string, unknown>).flatMap(([key, inner]) => {
    const head = `${indent}${scalar(key)}:`;
    if (!isNested(inner)) return [`${head} ${scalar(inner)}`];
    return [head, ...block(inner, `${indent}  `)];
  });
}

function listItem(item: unknown, indent: string): string[] {
  if (!isNested(item)) return [`${indent}- ${scalar(item)}`];
  const lines = block(item, `${indent}  `);
  return [`${indent}- ${(lines[0] ?? "").trimStart()}`, ...lines.slice(1)];
}

function isNested(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

function scalar(value: unknown): string {
  if (Array.isArray(value)) return "[]";
  if (typeof value === "object" && value !== null) return "{}";
  if (typeof value !== "string") return String(value);
  const isPlain = PLAIN.test(value) && !WORDS_WITH_A_MEANING.has(value.toLowerCase());
  // JSON's strings are YAML's double-quoted ones.
  return isPlain ? value : JSON.stringify(value);
}
