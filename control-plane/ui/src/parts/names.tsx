/** Names that lead somewhere. */

import type { JSX } from "preact";
import { Link, pathOf } from "../router";

export function ServiceLink({ id }: { id: string }): JSX.Element {
  const [namespace = "", name = ""] = id.split("/");
  if (!name) return <>{id}</>;
  return <Link to={pathOf("services", namespace, name)}>{id}</Link>;
}

export function ProxyLink({ id }: { id: string }): JSX.Element {
  return <Link to={pathOf("proxies", ...id.split("/"))}>{id}</Link>;
}

/** `KIND NAMESPACE/NAME`, or the same with one space less where there is no kind; what is neither is shown as it is. */
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

/** `AuthorizationPolicy shop/no-refunds/rule`; a name without a kind is an AuthorizationPolicy, as a refusal names it. */
export function policyOf(
  name: string,
): { kind: string; namespace: string; object: string; rule: string } | undefined {
  const match = /^(?:([A-Za-z]+) )?([a-z0-9.-]+)\/([a-z0-9.-]+)(?:\/(\S+))?$/.exec(name.trim());
  if (!match) return undefined;
  const [, kind = "AuthorizationPolicy", namespace = "", object = "", rule = ""] = match;
  return { kind, namespace, object, rule };
}
