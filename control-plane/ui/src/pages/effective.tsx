/** Which policies shape the traffic of a service, and why each does. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Empty } from "../parts/marks";
import { PolicyLink } from "../parts/names";
import { effective, keyOf, type Origin, objects, readPolicies } from "../policies";

const ORIGINS: Record<Origin, string> = {
  service: "",
  route: "by its route",
  "leads here": "leads here",
  namespace: "of its namespace",
  mesh: "of the mesh",
};

interface Props {
  service: string;
  /** One kind alone. */
  only?: string | undefined;
}

export function Effective({ service, only }: Props): JSX.Element {
  useEffect(() => {
    readPolicies().catch(() => undefined);
  }, []);
  const found = effective(objects.value ?? [], service).filter(({ object }) => !only || object.kind === only);
  return (
    <section>
      <h3>{only === "AuthorizationPolicy" ? "Who may call it" : "Policies in effect"}</h3>
      {found.length === 0 ? (
        <Empty>{objects.value === null ? "…" : "None names it."}</Empty>
      ) : (
        <ul class="plain">
          {found.map(({ object, origin }) => (
            <li key={keyOf(object)}>
              <PolicyLink name={keyOf(object)} /> <small>{ORIGINS[origin]}</small>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
