/** Counters that also write one line for each request that ended, at debug. Only made where such lines are wanted. */
import { IoStats, ioOps } from '../base/io-stats.js';
import type { Log } from '../ports/log.js';

export class LoggedIoStats extends IoStats {
  readonly #log: Log;

  constructor(log: Log) {
    super();
    this.#log = log;
  }

  override record(op: number, lengthBytes: number, durationUs: number, failed: boolean): void {
    super.record(op, lengthBytes, durationUs, failed);
    this.#log.debug(failed ? 'request failed' : 'request', {
      op: ioOps[op],
      lengthBytes,
      durationUs: Math.round(durationUs),
    });
  }
}

/** Those of a volume, for one front end. */
export function ioStatsFor(log: Log, volume: string, frontend: string): IoStats {
  const requests = log.child('request', { volume, frontend });
  return requests.debugs ? new LoggedIoStats(requests) : new IoStats();
}
