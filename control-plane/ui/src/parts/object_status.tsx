/** What became of an object: its conditions, and how many of the proxies that it concerns have it. */

import type { JSX } from "preact";
import type { Condition, ObjectStatus, WeftObject } from "../api/documents";
import { type Colour, Mark } from "./marks";
import { Text } from "./scroll";
import { ScrolledTable } from "./table";

/** Conditions that are well where they are not so. */
const BAD_IF_TRUE = /^(Conflicted|Overridden|Refused|Degraded|Failed)$/;
/** The counts of proxies, in the order in which they are read; others follow. */
const COUNTS: Record<string, Colour> = {
  concerned: "quiet",
  acknowledged: "good",
  pending: "warn",
  refused: "bad",
};

export function conditionColour({ type, status }: Condition): Colour {
  if (status === "Unknown") return "warn";
  return (status === "True") !== BAD_IF_TRUE.test(type) ? "good" : "bad";
}

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
  const { conditions: _, proxies, ...others } = status;
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
  return (
    <p class="counts">
      Proxies:{" "}
      {counts.map(([name, count]) => (
        <Mark key={name} colour={count > 0 ? (COUNTS[name] ?? "quiet") : "quiet"}>
          {count} {name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}
        </Mark>
      ))}
    </p>
  );
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
