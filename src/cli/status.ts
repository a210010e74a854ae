/** `keepgate status`: what the gateway says of its volumes, as a table or as JSON. */
import type { VolumeReport } from '../api/volume-report.js';
import { BLOCK_BYTES } from '../base/units.js';
import { formatBytes, formatDuration } from '../config/quantity.js';
import type { ApiClient } from './api-client.js';
import { modeColours, painted, stateColours } from './colour.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { tableOf } from './table.js';
import type { Terminal } from './terminal.js';

const heads = ['VOLUME', 'STATE', 'SIZE', 'CLIENTS', 'BUFFER USED', 'REPLICATION', 'LAG', 'UPLOAD', 'TIME TO FULL'];

export interface StatusOptions {
  readonly client: Pick<ApiClient, 'get'>;
  readonly terminal: Terminal;
  readonly json: boolean;
}

/** Exit code 1 when a volume needs a person. */
export async function status({ client, terminal, json }: StatusOptions): Promise<ExitCode> {
  const volumes = (await client.get('/v1/volumes')) as VolumeReport[];
  terminal.print(json ? JSON.stringify(volumes) : table(volumes, terminal));
  return volumes.some(({ state }) => stateColours[state] === 'red') ? exitCodes.failed : exitCodes.done;
}

/** One row for each volume, and below it a line for each reason and each reservation. */
export function table(volumes: readonly VolumeReport[], terminal: Pick<Terminal, 'coloured'>): string {
  if (volumes.length === 0) return 'this gateway has no volumes';
  const rows = volumes.map(({ name, state, sizeBytes, clients, buffer, replication }) => {
    const off = replication.mode === 'off';
    return [
      name,
      painted(state, stateColours[state], terminal),
      formatBytes(sizeBytes),
      clients.map(({ description, connections }) => `${description} (${connections})`).join(', ') || '-',
      `${formatBytes(buffer.usedBytes)} of ${formatBytes(buffer.capacityBytes)}`,
      painted(replication.mode, modeColours[replication.mode], terminal),
      off ? '-' : formatDuration(replication.lagSeconds * 1000),
      off ? '-' : `${formatBytes(replication.uploadBytesPerSecond)}/s`,
      buffer.timeToFullSeconds === null ? '-' : formatDuration(buffer.timeToFullSeconds * 1000),
    ];
  });
  return [tableOf(heads, rows), ...new Set(volumes.flatMap(reasonsOf))].join('\n');
}

function reasonsOf({ name, hydration, reservation, reason, replication, provision }: VolumeReport): string[] {
  const reasons: string[] = [];
  if (hydration !== null) {
    const left = hydration.remainingBlocks;
    const howMuch = left === null ? 'it is not known yet how much is' : `${formatBytes(left * BLOCK_BYTES)} are`;
    reasons.push(`${howMuch} still to come from the bucket that it was restored from`);
  }
  if (reservation !== null) reasons.push(reserved(reservation));
  for (const why of [reason, replication.reason, provision.problem]) {
    if (why !== null) reasons.push(why);
  }
  return reasons.map((why) => `${name}: ${why}`);
}

function reserved({ type, holder, registrations }: NonNullable<VolumeReport['reservation']>): string {
  const ports = registrations === 1 ? 'port' : 'ports';
  const registered = registrations === 0 ? '' : `, ${registrations} initiator ${ports} registered`;
  return `reserved by ${holder ?? 'all that are registered'} (${type})${registered}`;
}
