/** The registry that /metrics prints: the gateway's families and the process's defaults. */
import { Registry, collectDefaultMetrics } from 'prom-client';
import { registerFamily } from './family.js';
import type { Family } from './family.js';
import { ioFamilies } from './io-family.js';
import { replicationFamilies } from './replication-family.js';
import { snapshotFamilies } from './snapshot-family.js';
import type { MeteredVolume, MetricsSource } from './source.js';
import { volumeFamilies } from './volume-family.js';

const buildFamily: Family<MetricsSource> = {
  name: 'keepgate_build_info',
  help: 'Always 1; the version is the label.',
  type: 'gauge',
  *samples(source) {
    yield { labels: { version: source.version }, value: 1 };
  },
};

export const families: readonly Family<MetricsSource>[] = [
  buildFamily,
  ...ioFamilies,
  ...volumeFamilies,
  ...replicationFamilies,
  ...snapshotFamilies,
];

export interface MetricsRegistry {
  readonly contentType: string;
  /** Prometheus text; every family of one scrape sees the same reading of the volumes. */
  render(): Promise<string>;
}

export function createMetrics(source: MetricsSource): MetricsRegistry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  let reading: MetricsSource = source;
  for (const family of families) registerFamily(registry, family, () => reading);
  return {
    contentType: registry.contentType,
    render: () => {
      const volumes: readonly MeteredVolume[] = source.volumes();
      reading = {
        version: source.version,
        sessions: () => source.sessions(),
        volumes: () => volumes,
        uploadLimit: () => source.uploadLimit(),
      };
      return registry.metrics();
    },
  };
}
