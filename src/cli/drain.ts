/** `keepgate drain VOLUME`: begins the operation, shows how far it is, ends with it. */
import type { Clock } from '../ports/clock.js';
import type { ApiClient } from './api-client.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { Progress } from './progress.js';
import type { Terminal } from './terminal.js';

const everyMs = 200;

interface ReportedOperation {
  readonly id: string;
  readonly state: 'running' | 'done' | 'failed';
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly reason: string | null;
}

export interface DrainOptions {
  readonly volume: string;
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly json: boolean;
}

export async function drain(options: DrainOptions): Promise<ExitCode> {
  const { volume, client, terminal, clock } = options;
  const progress = new Progress({ title: `draining ${volume}`, terminal, clock });
  let operation = (await client.post(`/v1/volumes/${encodeURIComponent(volume)}/drain`)) as ReportedOperation;
  try {
    while (operation.state === 'running') {
      if (!options.json) progress.update(operation.doneBytes, operation.totalBytes, operation.reason ?? '');
      await clock.sleep(everyMs);
      operation = (await client.get(`/v1/operations/${operation.id}`)) as ReportedOperation;
    }
  } finally {
    progress.end();
  }
  if (options.json) terminal.print(JSON.stringify(operation));
  if (operation.state === 'failed') {
    terminal.note(`keepgate: ${volume} was not drained: ${operation.reason ?? 'the gateway does not say why'}`);
    return exitCodes.failed;
  }
  if (!options.json) terminal.print(`${volume}: all that was acknowledged is replicated`);
  return exitCodes.done;
}
