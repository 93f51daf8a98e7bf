/** A table from a list of columns: its head stands once, where the cells do. */

import type { ComponentChildren, JSX } from "preact";
import { Scroll } from "./scroll";

export interface Column<Row> {
  head: string;
  numeric?: boolean;
  cell: (row: Row) => ComponentChildren;
}

interface Props<Row> {
  /** What it is a table of, for those who do not see what stands around it. */
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  keyOf: (row: Row) => string;
  classOf?: (row: Row) => string;
  class?: string;
}

export function Table<Row>({ caption, columns, rows, keyOf, classOf, ...rest }: Props<Row>): JSX.Element {
  return (
    <table {...rest}>
      <caption class="hidden">{caption}</caption>
      <thead>
        <tr>
          {columns.map(({ head, numeric }) => (
            <th key={head} scope="col" class={numeric ? "numeric" : undefined}>
              {head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)} class={classOf?.(row)}>
            {columns.map(({ head, numeric, cell }) => (
              <td key={head} class={numeric ? "numeric" : undefined}>
                {cell(row)}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** One that is wider than the window is moved by itself, with the keyboard too. */
export function ScrolledTable<Row>(props: Props<Row>): JSX.Element {
  return (
    <Scroll class="scroll" label={props.caption}>
      <Table {...props} />
    </Scroll>
  );
}
