/** Words with a colour: the word says it, the colour only helps. */

import type { ComponentChildren, JSX } from "preact";
import type { Sync } from "../api/documents";
import { date, duration, moment, plural } from "../format";
import type { Instance } from "../graph/model";

export type Colour = "good" | "warn" | "bad" | "quiet";

export function Mark({ colour, children }: { colour: Colour; children: ComponentChildren }): JSX.Element {
  return <span class={`mark ${colour}`}>{children}</span>;
}

const SYNC: Record<Sync, [Colour, string]> = {
  Synced: ["good", "in sync"],
  Pending: ["warn", "pending"],
  Refused: ["bad", "refused"],
  HeldBack: ["bad", "held back"],
  Disconnected: ["quiet", "away"],
};

export function SyncMark({ sync }: { sync: Sync }): JSX.Element {
  const [colour, word] = SYNC[sync] ?? ["quiet", sync];
  return <Mark colour={colour}>{word}</Mark>;
}

const HEALTH: Record<string, Colour> = {
  Healthy: "good",
  Starting: "warn",
  Degraded: "warn",
  Draining: "quiet",
  Unhealthy: "bad",
};

export function HealthMark({ health }: { health: string }): JSX.Element {
  return <Mark colour={HEALTH[health] ?? "quiet"}>{health || "unknown"}</Mark>;
}

/** How many of the instances are well, as a colour. */
export function healthColour(instances: Pick<Instance, "health">[]): Colour {
  if (instances.length === 0) return "quiet";
  const healthy = instances.filter((instance) => instance.health === "Healthy").length;
  if (healthy === instances.length) return "good";
  return healthy === 0 ? "bad" : "warn";
}

/** What is left of a certificate's life; it is renewed when about half is over. */
export function Remaining({ issuedAt, expiresAt }: { issuedAt?: number; expiresAt: number }): JSX.Element {
  const left = expiresAt - Date.now() / 1000;
  const life = issuedAt === undefined ? undefined : Math.max(1, expiresAt - issuedAt);
  const share = life === undefined ? undefined : Math.min(1, Math.max(0, left / life));
  const colour: Colour = left <= 0 ? "bad" : share !== undefined && share < 0.3 ? "warn" : "good";
  return (
    <span class="remaining">
      {share !== undefined && (
        <meter class={colour} min={0} max={1} value={share} aria-label="life that is left" />
      )}
      {left > 0 ? `${duration(left)} left` : <Mark colour="bad">expired</Mark>}
    </span>
  );
}

/** A moment in milliseconds since 1970; to the second where somebody points at it. */
export function When({ at }: { at: number }): JSX.Element {
  return (
    <time class="when" dateTime={new Date(at).toISOString()} title={moment(at)}>
      {date(at / 1000)}
    </time>
  );
}

export function Empty({ children }: { children: ComponentChildren }): JSX.Element {
  return <p class="empty">{children}</p>;
}

export function Trouble({ error }: { error: unknown }): JSX.Element {
  return (
    <p class="trouble" role="alert">
      {error instanceof Error ? error.message : String(error)}
    </p>
  );
}

export function Count({ of, one }: { of: number; one: string }): JSX.Element {
  return <span class="count">{plural(of, one)}</span>;
}
