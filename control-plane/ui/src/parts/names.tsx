/** Names that lead somewhere. */

import type { JSX } from "preact";
import type { Named } from "../api/changes";
import { nameOf } from "../history";
import { policyOf } from "../policies";
import { Link, pathOf } from "../router";

export function ServiceLink({ id }: { id: string }): JSX.Element {
  const [namespace = "", name = ""] = id.split("/");
  if (!name) return <>{id}</>;
  return <Link to={pathOf("services", namespace, name)}>{id}</Link>;
}

export function ProxyLink({ id }: { id: string }): JSX.Element {
  return <Link to={pathOf("proxies", ...id.split("/"))}>{id}</Link>;
}

/** The page of a document. */
export function documentPath({ kind, namespace, name }: Named): string {
  return pathOf("policies", kind.toLowerCase(), namespace || "default", name);
}

export function DocumentLink({ document }: { document: Named }): JSX.Element {
  return <Link to={documentPath(document)}>{nameOf(document)}</Link>;
}

export function RevisionLink({ revision }: { revision: number }): JSX.Element {
  return <Link to={pathOf("history", String(revision))}>revision {revision}</Link>;
}

/** What names a policy leads to it; what names none is shown as it is. */
export function PolicyLink({ name }: { name: string }): JSX.Element {
  const found = policyOf(name);
  if (!found) return <>{name}</>;
  const { kind, namespace, object, rule } = found;
  return (
    <>
      <Link to={pathOf("policies", kind.toLowerCase(), namespace, object)}>
        {kind} {namespace}/{object}
      </Link>
      {rule && ` rule ${rule}`}
    </>
  );
}
