/** One document: as it stands, or in the editor. */

import type { JSX } from "preact";
import { useAnswer } from "../answer";
import { get, objectPath } from "../api/client";
import type { WeftObject } from "../api/documents";
import { features } from "../live";
import { Icon } from "../parts/icons";
import { Empty, Trouble } from "../parts/marks";
import { StatusOf } from "../parts/object_status";
import { Text } from "../parts/scroll";
import { Tabs } from "../parts/tabs";
import { Link, pathOf } from "../router";
import { toYaml } from "../yaml";
import { Editor } from "./editor";
import { PolicyHistory } from "./policy_history";

export type PolicyView = "document" | "history" | "edit";

interface Props {
  kind: string;
  namespace: string;
  name: string;
  view: PolicyView;
}

export function PolicyPage({ kind, namespace, name, view }: Props): JSX.Element {
  const { value: shown, error } = useAnswer(`${kind} ${namespace} ${name} ${view}`, (signal) =>
    get<WeftObject>(objectPath(kind, namespace, name), signal),
  );
  const path = pathOf("policies", kind, namespace, name);
  // Of an object that is gone the history is there still.
  const known = features.value.kinds.find((one) => one.toLowerCase() === kind) ?? kind;
  const of = { kind: known, namespace: shown ? (shown.metadata.namespace ?? "") : namespace, name };
  return (
    <article class="page">
      <header class="title">
        <h1>
          <small>
            {shown?.kind ?? known} {shown?.metadata.namespace && `${shown.metadata.namespace}/`}
          </small>
          {name}
        </h1>
        {shown?.metadata.generation !== undefined && <p>generation {shown.metadata.generation}</p>}
        <Tabs
          label="Views"
          tabs={[
            { to: path, name: "Document", isCurrent: view === "document" },
            {
              to: `${path}/history`,
              name: "History",
              isCurrent: view === "history",
              isThere: features.value.history,
            },
          ]}
        />
        <Link
          class={`button ${view === "edit" ? "" : "primary"}`}
          to={view === "edit" ? path : `${path}/edit`}
        >
          <Icon name={view === "edit" ? "close" : "pen"} /> {view === "edit" ? "Leave the editor" : "Edit"}
        </Link>
      </header>
      {error !== null && <Trouble error={error} />}
      {!shown && error === null && <Empty>Asking the control plane…</Empty>}
      {view === "history" && (shown || error !== null) && <PolicyHistory of={of} />}
      {shown && view === "edit" && <Editor text={toYaml(shown)} of={shown} />}
      {shown && view === "document" && (
        <>
          <StatusOf object={shown} />
          <Text label="The document">{toYaml(shown)}</Text>
        </>
      )}
    </article>
  );
}

const TEMPLATE = `apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata:
  name: 
  namespace: 
spec:
  targetRefs:
    - kind: Service
      name: 
  action: Deny
  rules:
    - name: 
      from:
        - services: []
`;

export function NewDocument(): JSX.Element {
  return (
    <article class="page">
      <header class="title">
        <h1>Write a document</h1>
        <p>Several are divided by ---, and are one transaction.</p>
      </header>
      <Editor text={TEMPLATE} />
    </article>
  );
}
