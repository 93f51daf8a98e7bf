/** What became of an object: its conditions, and how many of the proxies that it concerns have it. */

import type { JSX } from "preact";
import type { Condition, ObjectStatus, WeftObject } from "../api/documents";
import { conditionColour } from "./condition";
import { type Colour, Mark } from "./marks";
import { ProxyLink } from "./names";
import { Text } from "./scroll";
import { ScrolledTable } from "./table";

/** The counts of proxies, in the order in which they are read, as people say them; others follow as they are. */
const COUNTS: Record<string, [Colour, string]> = {
  targeted: ["quiet", "concerned"],
  concerned: ["quiet", "concerned"],
  acked: ["good", "acknowledged"],
  acknowledged: ["good", "acknowledged"],
  pending: ["warn", "pending"],
  nacked: ["bad", "refused"],
  refused: ["bad", "refused"],
  away: ["quiet", "away"],
};

/** What is wrong with it, in a word, for a list of many; nothing where all is well or nothing is said. */
export function StatusMark({ object }: { object: WeftObject }): JSX.Element | null {
  const wrong = conditionsOf(object.status).find((condition) => conditionColour(condition) === "bad");
  if (!wrong) return null;
  return <Mark colour="bad">{wrong.reason ?? `${wrong.type} ${wrong.status}`}</Mark>;
}

function conditionsOf(status: ObjectStatus | undefined): Condition[] {
  return Array.isArray(status?.conditions) ? status.conditions : [];
}

export function StatusOf({ object }: { object: WeftObject }): JSX.Element | null {
  const { status } = object;
  if (!status || Object.keys(status).length === 0) return null;
  const { conditions: _, observedGeneration: __, proxies, ...others } = status;
  const conditions = conditionsOf(status);
  return (
    <section>
      <h2>Status</h2>
      {proxies && typeof proxies === "object" && <Counts proxies={proxies} />}
      {conditions.length > 0 && (
        <Conditions conditions={conditions} generation={object.metadata.generation} />
      )}
      {Object.keys(others).length > 0 && (
        <Text label="What else is known">{JSON.stringify(others, null, 2)}</Text>
      )}
    </section>
  );
}

function Counts({ proxies }: { proxies: Record<string, unknown> }): JSX.Element {
  const order = (name: string) => {
    const at = Object.keys(COUNTS).indexOf(name);
    return at < 0 ? Number.MAX_SAFE_INTEGER : at;
  };
  const counts = Object.entries(proxies)
    .filter((entry): entry is [string, number] => typeof entry[1] === "number")
    .sort(([one], [other]) => order(one) - order(other));
  const laggards = Array.isArray(proxies.laggards) ? (proxies.laggards as Laggard[]) : [];
  return (
    <>
      <p class="counts">
        Proxies:{" "}
        {counts.map(([name, count]) => {
          const [colour, word] = COUNTS[name] ?? ["quiet", name];
          return (
            <Mark key={name} colour={count > 0 ? colour : "quiet"}>
              {count} {word}
            </Mark>
          );
        })}
      </p>
      <ul class="plain">
        {laggards.map(({ proxy, error }) => (
          <li key={proxy}>
            <ProxyLink id={proxy} /> {error ?? "has not answered yet"}
          </li>
        ))}
      </ul>
    </>
  );
}

/** One that has not what it should have; with its words where it refused it. */
interface Laggard {
  proxy: string;
  error?: string;
}

interface ConditionsProps {
  conditions: Condition[];
  generation: number | undefined;
}

function Conditions({ conditions, generation }: ConditionsProps): JSX.Element {
  return (
    <ScrolledTable
      caption="Conditions"
      columns={[
        { head: "Condition", cell: ({ type }) => type },
        {
          head: "Status",
          cell: (condition) => <Mark colour={conditionColour(condition)}>{condition.status}</Mark>,
        },
        { head: "Reason", cell: ({ reason }) => reason ?? "–" },
        {
          head: "What is known",
          cell: ({ message, observedGeneration }) => (
            <>
              {message}
              {observedGeneration !== undefined && observedGeneration !== generation && (
                <small> of generation {observedGeneration}</small>
              )}
            </>
          ),
        },
      ]}
      rows={conditions}
      keyOf={({ type, reason }) => `${type} ${reason}`}
    />
  );
}
