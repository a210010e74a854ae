/** `keepgate status`: what the gateway says of its volumes, as a table, as JSON, once or again and again. */
import Table from 'cli-table3';
import type { VolumeReport } from '../api/volume-report.js';
import { BLOCK_BYTES } from '../base/units.js';
import { formatBytes, formatDuration } from '../config/quantity.js';
import type { Clock } from '../ports/clock.js';
import type { ApiClient } from './api-client.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

const everyMs = 1000;
const clearScreen = '\u001b[2J\u001b[H';
const heads = ['VOLUME', 'STATE', 'SIZE', 'CLIENTS', 'BUFFER USED', 'REPLICATION', 'LAG', 'UPLOAD', 'TIME TO FULL'];
const unhealthy: ReadonlySet<string> = new Set(['failed', 'fenced', 'stalled']);

export interface StatusOptions {
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly json: boolean;
  readonly watch: boolean;
}

/** Exit code 1 when a volume needs a person. With `watch` it goes on until it is interrupted. */
export async function status(options: StatusOptions): Promise<ExitCode> {
  for (;;) {
    const volumes = (await options.client.get('/v1/volumes')) as VolumeReport[];
    const text = options.json ? JSON.stringify(volumes) : table(volumes);
    options.terminal.print(options.watch && options.terminal.interactive ? clearScreen + text : text);
    if (!options.watch) return volumes.some(({ state }) => unhealthy.has(state)) ? exitCodes.failed : exitCodes.done;
    await options.clock.sleep(everyMs);
  }
}

/** One row for each volume, and below it a line for each reason and each reservation. */
export function table(volumes: readonly VolumeReport[]): string {
  const rows = new Table({ head: heads, style: { head: [], border: [], compact: true }, chars: plain });
  const reasons: string[] = [];
  for (const volume of volumes) {
    const { buffer, replication } = volume;
    const clients = volume.clients.map(({ description, connections }) => `${description} (${connections})`);
    rows.push([
      volume.name,
      volume.state,
      formatBytes(volume.sizeBytes),
      clients.join(', ') || '-',
      `${formatBytes(buffer.usedBytes)} of ${formatBytes(buffer.capacityBytes)}`,
      replication.mode,
      replication.mode === 'off' ? '-' : formatDuration(replication.lagSeconds * 1000),
      replication.mode === 'off' ? '-' : `${formatBytes(replication.uploadBytesPerSecond)}/s`,
      buffer.timeToFullSeconds === null ? '-' : formatDuration(buffer.timeToFullSeconds * 1000),
    ]);
    const { hydration } = volume;
    if (hydration !== null) {
      const left = hydration.remainingBlocks;
      const howMuch = left === null ? 'it is not known yet how much is' : `${formatBytes(left * BLOCK_BYTES)} are`;
      reasons.push(`${volume.name}: ${howMuch} still to come from the bucket that it was restored from`);
    }
    if (volume.reservation !== null) reasons.push(`${volume.name}: ${reserved(volume.reservation)}`);
    for (const reason of [volume.reason, replication.reason, volume.provision.problem]) {
      if (reason !== null) reasons.push(`${volume.name}: ${reason}`);
    }
  }
  return [rows.toString(), ...new Set(reasons)].join('\n');
}

function reserved({ type, holder, registrations }: NonNullable<VolumeReport['reservation']>): string {
  const ports = registrations === 1 ? 'port' : 'ports';
  const registered = registrations === 0 ? '' : `, ${registrations} initiator ${ports} registered`;
  return `reserved by ${holder ?? 'all that are registered'} (${type})${registered}`;
}

/** No lines, two blanks between columns. */
export const plain = {
  ...Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right'].map((part) => [
      part,
      '',
    ]),
  ),
  ...Object.fromEntries(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid'].map((part) => [part, ''])),
  middle: ' ',
};
