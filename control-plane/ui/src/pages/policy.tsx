/** One document: as it stands, or in the editor. */

import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { get, objectPath } from "../api/client";
import type { WeftObject } from "../api/documents";
import { Icon } from "../parts/icons";
import { Empty, Trouble } from "../parts/marks";
import { Link, pathOf } from "../router";
import { toYaml } from "../yaml";
import { Editor } from "./editor";

interface Props {
  kind: string;
  namespace: string;
  name: string;
  edit: boolean;
}

export function PolicyPage({ kind, namespace, name, edit }: Props): JSX.Element {
  const object = useSignal<WeftObject | null>(null);
  const error = useSignal<unknown>(null);
  useEffect(() => {
    object.value = null;
    error.value = null;
    get<WeftObject>(objectPath(kind, namespace, name)).then(
      (found) => {
        object.value = found;
      },
      (failure) => {
        error.value = failure;
      },
    );
  }, [kind, namespace, name, edit, object, error]);
  const path = pathOf("policies", kind, namespace, name);
  const shown = object.value;
  return (
    <article class="page">
      <header class="title">
        <h1>
          <small>
            {shown?.kind ?? kind} {shown?.metadata.namespace && `${shown.metadata.namespace}/`}
          </small>
          {name}
        </h1>
        {shown?.metadata.generation !== undefined && <p>generation {shown.metadata.generation}</p>}
        <Link class={`button ${edit ? "" : "primary"}`} to={edit ? path : `${path}/edit`}>
          <Icon name={edit ? "close" : "pen"} /> {edit ? "Leave the editor" : "Edit"}
        </Link>
      </header>
      {error.value !== null && <Trouble error={error.value} />}
      {!shown && error.value === null && <Empty>Asking the control plane…</Empty>}
      {shown && edit && <Editor text={toYaml(shown)} of={shown} />}
      {shown && !edit && <pre class="yaml">{toYaml(shown)}</pre>}
      {shown?.status && !edit && (
        <section>
          <h2>Status</h2>
          <pre class="yaml">{JSON.stringify(shown.status, null, 2)}</pre>
        </section>
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
