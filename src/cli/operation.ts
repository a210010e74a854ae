/** Begins an operation of a running gateway and follows it to its end. */
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

export interface OperationOptions {
  /** "/v1/volumes/disk0/takeover" */
  readonly path: string;
  readonly body?: object;
  readonly title: string;
  /** Printed when it ended well and says nothing itself. */
  readonly done: string;
  /** Printed before the reason of a failure: "disk0 was not drained: "; default: nothing. */
  readonly failed?: string;
  /** Shows progress also before anything is counted. Default: not. */
  readonly uncounted?: boolean;
  readonly client: ApiClient;
  readonly terminal: Terminal;
  readonly clock: Clock;
  readonly json: boolean;
}

export async function operate(options: OperationOptions): Promise<ExitCode> {
  const { path, body, title, done, failed = '', uncounted = false, client, terminal, clock, json } = options;
  const progress = new Progress({ title, terminal, clock });
  let operation = (await client.post(path, body)) as ReportedOperation;
  try {
    while (operation.state === 'running') {
      if (!json && (uncounted || operation.totalBytes > 0))
        progress.update(operation.doneBytes, operation.totalBytes, operation.reason ?? '');
      await clock.sleep(everyMs);
      operation = (await client.get(`/v1/operations/${operation.id}`)) as ReportedOperation;
    }
  } finally {
    progress.end();
  }
  if (json) terminal.print(JSON.stringify(operation));
  if (operation.state === 'failed') {
    terminal.note(`keepgate: ${failed}${operation.reason ?? 'the gateway does not say why'}`);
    return exitCodes.failed;
  }
  if (!json) terminal.print(operation.reason ?? done);
  return exitCodes.done;
}
