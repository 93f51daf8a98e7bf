/** The configuration of one proxy: what it should have beside what it was sent and took, and what of that differs. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useAnswer } from "../answer";
import type { ProxyResource, ToldVersion } from "../api/changes";
import { get } from "../api/client";
import { plural } from "../format";
import { ask, query } from "../router";
import { differs, STATES } from "./configuration_words";
import { Difference } from "./difference";
import { Empty, Mark, Trouble } from "./marks";
import { Text } from "./scroll";

type Config = Record<string, unknown>;

export function Configuration({ id }: { id: string }): JSX.Element {
  const { value, error } = useAnswer(id, (signal) =>
    get<Config>(`/v1/proxies/${encodeURIComponent(id)}/config`, signal),
  );
  const text = useSignal("");
  const isTroubled = query.value.get("only") === "differences";
  const types = Object.entries(value ?? {}).filter((entry): entry is [string, ProxyResource[]] =>
    Array.isArray(entry[1]),
  );
  const all = types.flatMap(([, list]) => list);
  const differing = all.filter(differs).length;
  const shown = types
    .map(([type, list]) => ({
      type,
      list: list.filter(
        (one) => one.name.toLowerCase().includes(text.value) && (!isTroubled || differs(one)),
      ),
    }))
    .filter(({ list }) => list.length > 0);
  return (
    <section>
      <h2>Configuration</h2>
      <p class="note">
        What it should have, at revision {String(value?.revision ?? "…")}, beside what it was sent and took;
        secrets are left out.
      </p>
      {error !== null && <Trouble error={error} />}
      {value && all.some(({ state }) => state !== undefined) && (
        <p class="counts">
          {differing === 0 ? <Mark colour="good">no difference</Mark> : <Differing count={differing} />}
        </p>
      )}
      <p class="filters">
        <input
          type="search"
          placeholder="Find a resource"
          aria-label="Find a resource"
          onInput={(event) => {
            text.value = event.currentTarget.value.toLowerCase();
          }}
        />
        <label class="check">
          <input
            type="checkbox"
            checked={isTroubled}
            onChange={(event) => ask("only", event.currentTarget.checked ? "differences" : null)}
          />
          only differences
        </label>
      </p>
      {value && shown.length === 0 && <Empty>No resource matches.</Empty>}
      {shown.map(({ type, list }) => (
        <section key={type}>
          <h3>
            {type} <small>{plural(list.length, "resource")}</small>{" "}
            <Differing count={list.filter(differs).length} />
          </h3>
          {list.map((resource) => (
            <ResourceDetails key={resource.name} resource={resource} />
          ))}
        </section>
      ))}
    </section>
  );
}

function Differing({ count }: { count: number }): JSX.Element | null {
  if (count === 0) return null;
  return <Mark colour="bad">{count === 1 ? "1 differs" : `${count} differ`}</Mark>;
}

function ResourceDetails({ resource }: { resource: ProxyResource }): JSX.Element {
  const open = useSignal(false);
  const { name, version, state } = resource;
  const [colour, word] = (state && STATES[state]) ?? ["quiet", state];
  return (
    <details
      onToggle={(event) => {
        open.value = event.currentTarget.open;
      }}
    >
      <summary>
        {name} {state && <Mark colour={colour}>{word}</Mark>} <small class="mono">{version}</small>
      </summary>
      {open.value && <Contents of={resource} />}
    </details>
  );
}

function Contents({ of }: { of: ProxyResource }): JSX.Element {
  const { resource, version, sent, acknowledged } = of;
  return (
    <>
      {acknowledged && (
        <Versions
          from={acknowledged}
          words="It runs on"
          wanted={resource}
          label="What it runs on, and what it should"
        />
      )}
      {sent && sent.version !== acknowledged?.version && (
        <Versions
          from={sent}
          words="It was sent"
          wanted={resource}
          label="What it was sent, and what it should have"
        />
      )}
      {version !== undefined && !acknowledged && (
        <Text label={`What ${of.name} says`}>{pretty(resource)}</Text>
      )}
    </>
  );
}

interface VersionsProps {
  from: ToldVersion;
  words: string;
  wanted: unknown;
  label: string;
}

function Versions({ from: { version, resource }, words, wanted, label }: VersionsProps): JSX.Element {
  const after = wanted === undefined ? "" : pretty(wanted);
  return (
    <>
      <p>
        {words} version <span class="mono">{version}</span>
        {resource === undefined && ", of which nothing more is known"}
        {wanted === undefined ? "; it should have none." : "; what it should have differs:"}
      </p>
      <Difference label={label} before={resource === undefined ? "" : pretty(resource)} after={after} />
    </>
  );
}

function pretty(resource: unknown): string {
  return `${JSON.stringify(resource, null, 2)}\n`;
}
