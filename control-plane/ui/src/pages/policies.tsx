/** Everything that was applied, by kind. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { WeftObject } from "../api/documents";
import { features, services } from "../live";
import { Icon } from "../parts/icons";
import { Empty } from "../parts/marks";
import { StatusMark } from "../parts/object_status";
import { Tabs } from "../parts/tabs";
import { isPolicy, keyOf, objects, readPolicies, revision } from "../policies";
import { ask, Link, pathOf, query } from "../router";

export function PolicyTabs({ current }: { current: "documents" | "history" }): JSX.Element {
  return (
    <Tabs
      label="Policies"
      tabs={[
        { to: "policies", name: "Documents", isCurrent: current === "documents" },
        {
          to: "history",
          name: "History",
          isCurrent: current === "history",
          isThere: features.value.history,
        },
      ]}
    />
  );
}

export function Policies(): JSX.Element {
  useEffect(() => {
    readPolicies().catch(() => undefined);
  }, []);
  const text = query.value.get("q")?.toLowerCase() ?? "";
  const all = [...(objects.value ?? []), ...(services.value ?? [])].filter((object) =>
    keyOf(object).toLowerCase().includes(text),
  );
  const kinds = [...features.value.kinds.filter(isPolicy), "Service"];
  return (
    <article class="page">
      <header class="title">
        <h1>Policies</h1>
        <PolicyTabs current="documents" />
        <p>revision {revision.value}</p>
        <input
          type="search"
          placeholder="Find a document"
          aria-label="Find a document"
          value={text}
          onInput={(event) => ask("q", event.currentTarget.value)}
        />
        <Link class="button primary" to="apply">
          <Icon name="pen" /> Write a document
        </Link>
      </header>
      {objects.value === null && <Empty>Asking the control plane…</Empty>}
      {kinds.map((kind) => (
        <Kind key={kind} kind={kind} objects={all.filter((object) => object.kind === kind)} />
      ))}
    </article>
  );
}

function Kind({ kind, objects }: { kind: string; objects: WeftObject[] }): JSX.Element | null {
  if (objects.length === 0) return null;
  return (
    <section>
      <h2>
        {kind} <small>{objects.length}</small>
      </h2>
      <ul class="documents">
        {objects.map((object) => {
          const { namespace = "", name } = object.metadata;
          return (
            <li key={keyOf(object)}>
              <Link to={pathOf("policies", kind.toLowerCase(), namespace || "default", name)}>
                {namespace && <small>{namespace}/</small>}
                {name}
              </Link>
              <span class="about">
                <StatusMark object={object} /> {about(object)}
              </span>
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** What a document is about, in a few words. */
export function about(object: WeftObject): string {
  const { spec } = object;
  const names = (value: unknown) =>
    (Array.isArray(value) ? (value as { kind?: string; name?: string }[]) : [])
      .map((one) => [one.kind === "Service" ? "" : one.kind, one.name].filter(Boolean).join(" "))
      .join(", ");
  const words = [
    typeof spec.action === "string" ? spec.action : "",
    names(spec.targetRefs ?? spec.parentRefs),
    Array.isArray(spec.ports)
      ? spec.ports.map((port: { name?: string; protocol?: string }) => port.name).join(", ")
      : "",
  ];
  return words.filter(Boolean).join(" · ");
}
