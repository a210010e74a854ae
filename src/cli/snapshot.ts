/** `keepgate snapshot create|list|delete VOLUME [NAME]`: snapshots of a volume of a running gateway. */
import { formatBytes } from '../config/quantity.js';
import type { ApiClient } from './api-client.js';
import { painted } from './colour.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { tableOf } from './table.js';
import type { Terminal } from './terminal.js';

interface SnapshotAnswer {
  readonly name: string;
  readonly lsn: number;
  readonly time: string;
  readonly state: string;
  readonly late: boolean;
  readonly sizeBytes: number;
  readonly referencedBytes: number | null;
  readonly exclusiveBytes: number | null;
}

export interface SnapshotOptions {
  readonly volume: string;
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly json: boolean;
}

export async function createSnapshot(options: SnapshotOptions & { readonly name?: string }): Promise<ExitCode> {
  const { volume, name, client, terminal, json } = options;
  const taken = (await client.post(pathOf(volume), name === undefined ? {} : { name })) as SnapshotAnswer;
  if (json) terminal.print(JSON.stringify(taken));
  else if (!taken.late) terminal.print(`${volume}: snapshot ${taken.name} of ${taken.time}`);
  else terminal.print(`${volume}: snapshot ${taken.name}, of the next recovery point after ${taken.time}`);
  return exitCodes.done;
}

export async function listSnapshots({ volume, client, terminal, json }: SnapshotOptions): Promise<ExitCode> {
  const snapshots = (await client.get(pathOf(volume))) as SnapshotAnswer[];
  if (json) terminal.print(JSON.stringify(snapshots));
  else if (snapshots.length === 0) terminal.print(`${volume} has no snapshots`);
  else terminal.print(table(snapshots, terminal));
  return exitCodes.done;
}

export async function deleteSnapshot(options: SnapshotOptions & { readonly name: string }): Promise<ExitCode> {
  const { volume, name, client, terminal, json } = options;
  const deleted = await client.delete(`${pathOf(volume)}/${encodeURIComponent(name)}`);
  terminal.print(json ? JSON.stringify(deleted) : `${volume}: snapshot ${name} is deleted`);
  return exitCodes.done;
}

function pathOf(volume: string): string {
  return `/v1/volumes/${encodeURIComponent(volume)}/snapshots`;
}

const heads = ['SNAPSHOT', 'TIME', 'STATE', 'SIZE', 'REFERENCED', 'EXCLUSIVE'];

function table(snapshots: readonly SnapshotAnswer[], terminal: Terminal): string {
  const rows = snapshots.map(({ name, time, state, late, sizeBytes, referencedBytes, exclusiveBytes }) => [
    name,
    time,
    painted(late ? `${state}, late` : state, state === 'complete' ? 'green' : 'yellow', terminal),
    formatBytes(sizeBytes),
    referencedBytes === null ? '-' : formatBytes(referencedBytes),
    exclusiveBytes === null ? '-' : formatBytes(exclusiveBytes),
  ]);
  return tableOf(heads, rows);
}
