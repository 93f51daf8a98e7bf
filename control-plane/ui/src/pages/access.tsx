/** Who may do what: the caller, the roles that there are and whom they are given to, and who has a token. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { access, mayRead, mayReadEverywhere } from "../access";
import { useAnswer } from "../answer";
import type { PrincipalInfo, RoleRule } from "../api/changes";
import { get } from "../api/client";
import type { WeftObject } from "../api/documents";
import { features } from "../live";
import { Empty, Mark, Trouble, When } from "../parts/marks";
import { DocumentLink } from "../parts/names";
import { ScrolledTable } from "../parts/table";
import { Tabs } from "../parts/tabs";
import { objects, readPolicies } from "../policies";
import { Link } from "../router";

export function AccessTabs({ current }: { current: "rights" | "audit" }): JSX.Element {
  return (
    <Tabs
      label="Access"
      tabs={[
        { to: "access", name: "Rights", isCurrent: current === "rights" },
        {
          to: "audit",
          name: "Audit",
          isCurrent: current === "audit",
          isThere: features.value.audit && mayReadEverywhere("Audit"),
        },
      ]}
    />
  );
}

export function Access(): JSX.Element {
  const own = access.value;
  return (
    <article class="page">
      <header class="title">
        <h1>Access</h1>
        <AccessTabs current="rights" />
      </header>
      <section>
        <h2>What you may do {own && <small>you are {own.name}</small>}</h2>
        {!own && <Empty>The control plane does not say.</Empty>}
        {own?.isOperator && <p>Everything: this session began with an operator's token.</p>}
        {own && !own.isOperator && own.rules.length === 0 && (
          <Empty>Nothing: no RoleBinding names you. An operator gives roles.</Empty>
        )}
        {own && own.rules.length > 0 && <Rules rules={own.rules} />}
      </section>
      {mayRead("Role") && <Roles />}
      {features.value.principals && own?.isOperator && <Principals />}
    </article>
  );
}

function Rules({ rules }: { rules: RoleRule[] }): JSX.Element {
  const words = (list: string[] | undefined, all: string) =>
    (list ?? []).map((one) => (one === "*" ? all : one)).join(", ");
  return (
    <ScrolledTable
      caption="Rules"
      columns={[
        { head: "May", cell: ({ verbs }) => words(verbs, "everything") },
        { head: "What", cell: ({ kinds }) => words(kinds, "all kinds but Role and RoleBinding") },
        { head: "In namespaces", cell: ({ namespaces }) => words(namespaces, "all") },
      ]}
      rows={rules}
      keyOf={(rule) => JSON.stringify(rule)}
    />
  );
}

function Roles(): JSX.Element {
  useEffect(() => {
    readPolicies().catch(() => undefined);
  }, []);
  const of = (kind: string) => (objects.value ?? []).filter((object) => object.kind === kind);
  const [roles, bindings] = [of("Role"), of("RoleBinding")];
  return (
    <section>
      <h2>Roles</h2>
      {objects.value === null && <Empty>Asking the control plane…</Empty>}
      {objects.value !== null && roles.length === 0 && (
        <Empty>There are none: only operators may do anything.</Empty>
      )}
      {roles.map((role) => (
        <section key={role.metadata.name} class="role">
          <h3>
            <ObjectLink object={role} />
          </h3>
          <Rules rules={(role.spec.rules ?? []) as RoleRule[]} />
          <Given bindings={bindings.filter(({ spec }) => spec.role === role.metadata.name)} />
        </section>
      ))}
    </section>
  );
}

function ObjectLink({ object: { kind, metadata } }: { object: WeftObject }): JSX.Element {
  return <DocumentLink document={{ kind, namespace: metadata.namespace ?? "", name: metadata.name }} />;
}

function Given({ bindings }: { bindings: WeftObject[] }): JSX.Element {
  if (bindings.length === 0) return <p class="note">Given to nobody.</p>;
  return (
    <ul class="plain">
      {bindings.map((binding) => {
        const subjects = (binding.spec.subjects ?? []) as { principal?: string }[];
        return (
          <li key={binding.metadata.name}>
            given to <b>{subjects.map(({ principal }) => principal).join(", ")}</b> by{" "}
            <ObjectLink object={binding} />
          </li>
        );
      })}
    </ul>
  );
}

function Principals(): JSX.Element {
  const { value, error } = useAnswer("principals", (signal) =>
    get<{ items: PrincipalInfo[] }>("/v1/principals", signal),
  );
  return (
    <section>
      <h2>Principals</h2>
      {error !== null && <Trouble error={error} />}
      {value?.items.length === 0 && (
        <Empty>
          None: <code>weft operator create NAME</code> makes one, with a token of its own.
        </Empty>
      )}
      {value && value.items.length > 0 && <PrincipalTable principals={value.items} />}
    </section>
  );
}

function PrincipalTable({ principals }: { principals: PrincipalInfo[] }): JSX.Element {
  return (
    <ScrolledTable
      caption="Principals"
      columns={[
        {
          head: "Name",
          cell: ({ name }) =>
            features.value.audit ? <Link to={`audit?who=${encodeURIComponent(name)}`}>{name}</Link> : name,
        },
        {
          head: "Roles",
          cell: ({ roles }) =>
            roles.length === 0 ? (
              <Mark colour="warn">none</Mark>
            ) : (
              roles.map((role) => (
                <span key={role} class="listed">
                  <DocumentLink document={{ kind: "Role", namespace: "", name: role }} />
                </span>
              ))
            ),
        },
        { head: "Made", cell: ({ createdAt }) => <When at={createdAt * 1000} /> },
        { head: "Its token counts since", cell: ({ tokenAt }) => <When at={tokenAt * 1000} /> },
      ]}
      rows={principals}
      keyOf={({ name }) => name}
    />
  );
}
