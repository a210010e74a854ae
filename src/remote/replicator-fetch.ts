/**
 * Answers requests for single blocks (block-fetch.ts) within a bound: first the replication has to reach the LSN that was
 * asked for, as for a drain, then the block is fetched. A store that does not answer costs the time of the bound, once.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { BlockFetcher } from './block-fetch.js';
import type { FetchFailure } from './replication-messages.js';
import type { Incarnation } from './replicator-incarnation.js';

export interface FetchRequestOptions {
  readonly clock: Clock;
  readonly incarnation: Incarnation;
  /** Resolves once the remote volume was found. */
  readonly fetcher: Promise<BlockFetcher>;
  /** Resolves once everything up to an LSN is committed; the signal ends the waiting. */
  readonly replicatedTo: (lsn: Lsn, signal: AbortSignal) => Promise<void>;
}

export async function fetchWithin(
  block: BlockNumber,
  throughLsn: Lsn,
  options: FetchRequestOptions,
): Promise<Uint8Array | FetchFailure> {
  const { clock, incarnation, fetcher, replicatedTo } = options;
  const late = new AbortController();
  const signal = AbortSignal.any([incarnation.signal, late.signal]);
  const timer = clock.after(limits.healMsMax, () => late.abort());
  try {
    const work = async (): Promise<Uint8Array> => {
      await replicatedTo(throughLsn, signal);
      return (await fetcher).fetch(block, { signal });
    };
    return await unlessAborted(signal, work());
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: error instanceof GatewayError ? error.code : 'store-failed', message };
  } finally {
    timer.cancel();
  }
}

function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void =>
      reject(
        new GatewayError('store-unreachable', `the bucket did not give it back within ${limits.healMsMax / 1000} s`),
      );
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject);
  });
}
