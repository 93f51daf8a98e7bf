/** Views of one thing, each with an address of its own. */

import type { JSX } from "preact";
import { Link } from "../router";

interface Props {
  label: string;
  tabs: { to: string; name: string; isCurrent: boolean; isThere?: boolean }[];
}

export function Tabs({ label, tabs }: Props): JSX.Element | null {
  const shown = tabs.filter(({ isThere }) => isThere ?? true);
  if (shown.length < 2) return null;
  return (
    <nav class="tabs" aria-label={label}>
      {shown.map(({ to, name, isCurrent }) => (
        <Link key={to} to={to} current={isCurrent}>
          {name}
        </Link>
      ))}
    </nav>
  );
}
