/** What may be wider or longer than its place, and is moved by itself: by the keyboard too, so that it takes the focus. */

import type { ComponentChildren, JSX } from "preact";

interface Props {
  /** What it is, for those who do not see it. */
  label: string;
  class: string;
  children: ComponentChildren;
}

export function Scroll({ label, children, ...rest }: Props): JSX.Element {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached with the keyboard (WCAG 2.1.1)
    <section {...rest} aria-label={label} tabIndex={0}>
      {children}
    </section>
  );
}

/** Text as it is. */
export function Text({ label, children }: { label: string; children: string }): JSX.Element {
  return (
    <Scroll class="text" label={label}>
      <pre>{children}</pre>
    </Scroll>
  );
}
