/** Proxies as rows: all of a mesh, or those beside the instances of one service. */

import type { JSX } from "preact";
import type { ProxyStatus } from "../api/documents";
import { duration } from "../format";
import type { Instance } from "../graph/model";
import { HealthMark, Mark, Remaining, SyncMark } from "./marks";
import { ProxyLink, ServiceLink } from "./names";
import { type Column, ScrolledTable } from "./table";

/** A workload; of one without a proxy there is less to say. */
interface ProxyRow {
  id: string;
  health: string;
  proxy: ProxyStatus | undefined;
  instance?: Instance;
}

const COLUMNS = {
  workload: { head: "Workload", cell: ({ id, proxy }) => (proxy ? <ProxyLink id={id} /> : id) },
  service: {
    head: "Service",
    cell: ({ proxy }) => (proxy?.service ? <ServiceLink id={proxy.service} /> : "–"),
  },
  version: { head: "Version", cell: ({ instance }) => instance?.version || "–" },
  zone: { head: "Zone", cell: ({ instance }) => instance?.zone || "–" },
  program: {
    head: "Proxy",
    cell: ({ proxy }) => (proxy ? proxy.userAgent || proxy.proxy : <Mark colour="warn">none</Mark>),
  },
  sync: { head: "Sync", cell: ({ proxy }) => (proxy ? <SyncOf proxy={proxy} /> : "–") },
  health: {
    head: "Health",
    cell: ({ health, proxy }) => (
      <>
        <HealthMark health={health} /> <small>{proxy?.healthReason}</small>
      </>
    ),
  },
  connected: {
    head: "Connected",
    cell: ({ proxy }) =>
      proxy && proxy.connectedAt > 0 ? duration(Date.now() / 1000 - proxy.connectedAt) : "–",
  },
  certificate: {
    head: "Certificate",
    cell: ({ proxy }) => (proxy?.certificate ? <Remaining {...proxy.certificate} /> : "–"),
  },
  address: { head: "Address", cell: ({ instance }) => <span class="mono">{instance?.address}</span> },
} satisfies Record<string, Column<ProxyRow>>;

function SyncOf({ proxy }: { proxy: ProxyStatus }): JSX.Element {
  const refusals = Object.values(proxy.types).flatMap((type) => type.refused ?? []);
  return (
    <>
      <SyncMark sync={proxy.sync} /> {refusals[0] && <small>{refusals[0].message}</small>}
    </>
  );
}

export function ProxyTable({ proxies }: { proxies: ProxyStatus[] }): JSX.Element {
  const { workload, service, program, sync, health, connected, certificate } = COLUMNS;
  return (
    <ScrolledTable
      caption="Proxies"
      columns={[workload, service, program, sync, health, connected, certificate]}
      rows={proxies.map((proxy): ProxyRow => ({ id: proxy.id, health: proxy.health, proxy }))}
      keyOf={({ id }) => id}
    />
  );
}

export function InstanceTable({ instances }: { instances: Instance[] }): JSX.Element {
  const { workload, version, zone, health, program, sync, certificate, address } = COLUMNS;
  return (
    <ScrolledTable
      caption="Instances"
      columns={[workload, version, zone, health, program, sync, certificate, address]}
      rows={instances.map(
        (instance): ProxyRow => ({
          id: instance.id,
          health: instance.health,
          proxy: instance.proxy,
          instance,
        }),
      )}
      keyOf={({ id }) => id}
    />
  );
}
