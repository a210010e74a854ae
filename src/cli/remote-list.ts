/** `keepgate remote ls URL`: the volumes in a bucket, with their names where the key opens them. */
import { formatBytes } from '../config/quantity.js';
import type { Clock } from '../ports/clock.js';
import type { Random } from '../ports/random.js';
import { listRemoteVolumes } from '../remote/remote-list.js';
import type { ListedVolume } from '../remote/remote-list.js';
import { describePoint, pointAsJson } from '../remote/segment-point.js';
import { painted } from './colour.js';
import { findConfiguration } from './find-configuration.js';
import { openRemote } from './remote-access.js';
import type { StoreFlags } from './remote-access.js';
import { tableOf } from './table.js';
import type { Terminal } from './terminal.js';

export interface ListOptions {
  readonly url: string;
  readonly flags: StoreFlags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
  readonly json: boolean;
}

export async function listRemote(options: ListOptions): Promise<void> {
  const { terminal, random, json } = options;
  const { store, master } = await openRemote({ ...options, configuration: await findConfiguration(options.flags) });
  const volumes: ListedVolume[] = [];
  for await (const volume of listRemoteVolumes(store, { masters: [master], random, request: {} })) volumes.push(volume);
  await store.close();
  if (json) return terminal.print(JSON.stringify(volumes.map(asJson)));
  if (volumes.length === 0) return terminal.print(`${store.description} holds no volumes`);
  terminal.print(tableOf(heads, volumes.map(row)));
  for (const { uuid, name, problem } of volumes) {
    if (problem !== undefined) terminal.print(painted(`${name ?? uuid}: ${problem}`, 'red', terminal));
  }
}

const heads = ['UUID', 'VOLUME', 'SIZE', 'RECOVERY POINT', 'OBJECTS', 'BYTES'];

function row({ uuid, name, sizeBytes, recoveryPoint, objects, bytes }: ListedVolume): string[] {
  return [
    uuid,
    name ?? '(this key does not open it)',
    sizeBytes === undefined ? '-' : formatBytes(sizeBytes),
    name === undefined ? '-' : describePoint(recoveryPoint).replace('recovery point ', ''),
    String(objects),
    formatBytes(bytes),
  ];
}

function asJson(volume: ListedVolume): object {
  return {
    uuid: volume.uuid,
    name: volume.name ?? null,
    sizeBytes: volume.sizeBytes ?? null,
    recoveryPoint: pointAsJson(volume.recoveryPoint),
    segments: volume.segments,
    objects: volume.objects,
    bytes: volume.bytes,
    problem: volume.problem ?? null,
  };
}
