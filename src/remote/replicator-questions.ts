/**
 * What a volume asks of its bucket beside sending to it: a block that was damaged here, a scrub of everything, what differs
 * from a snapshot. All of it reads only and takes no epoch; what is asked before the bucket was found fails as unreachable,
 * but for a block, which waits within its bound.
 */
import { GatewayError } from '../base/errors.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import { BlockFetcher } from './block-fetch.js';
import type { Mended } from './mend.js';
import { PastReader } from './past-reader.js';
import type { PastAsk, PastReaderOptions } from './past-reader.js';
import { MapDoubtError } from './remote-map-header.js';
import { scrubRemote } from './remote-scrub.js';
import type { FetchFailure, FromReplicator } from './replication-messages.js';
import { fetchWithin } from './replicator-fetch.js';
import type { Incarnation } from './replicator-incarnation.js';

export interface BucketQuestionsOptions {
  readonly clock: Clock;
  readonly incarnation: Incarnation;
  readonly emit: (message: FromReplicator) => void;
  readonly failed: (error: unknown) => void;
  /** Resolves once everything up to an LSN is committed; the signal ends the waiting. */
  readonly replicatedTo: (lsn: Lsn, signal: AbortSignal) => Promise<void>;
}

export class BucketQuestions {
  private readonly options: BucketQuestionsOptions;
  private readonly fetcher: Promise<BlockFetcher>;
  private canFetch: (fetcher: BlockFetcher) => void = () => undefined;
  private bucket: PastReaderOptions | undefined;
  private pastReader: PastReader | undefined;

  constructor(options: BucketQuestionsOptions) {
    this.options = options;
    this.fetcher = new Promise((resolve) => (this.canFetch = resolve));
  }

  /** The bucket was found. */
  attached(bucket: PastReaderOptions): void {
    this.bucket = bucket;
    this.pastReader = new PastReader(bucket);
    this.canFetch(new BlockFetcher(bucket));
  }

  /** Answers with a block of the bucket, so that a local copy can be healed. */
  fetch(id: number, block: BlockNumber, throughLsn: Lsn): void {
    const { emit } = this.options;
    const asked = fetchWithin(block, throughLsn, { ...this.options, fetcher: this.fetcher });
    void asked.then((result) => emit({ type: 'fetched', id, result }));
  }

  /** Reads all that the bucket holds of the volume. */
  scrub(id: number): void {
    const { emit } = this.options;
    const { bucket } = this;
    const scrubbed =
      bucket === undefined
        ? Promise.reject(notReached())
        : scrubRemote({
            ...bucket,
            progress: (doneBytes, totalBytes) => emit({ type: 'scrubbing', id, doneBytes, totalBytes }),
            live: (blocks, sums) => emit({ type: 'liveSums', blocks, sums }),
          });
    this.answer(scrubbed, (result) => emit({ type: 'scrubbed', id, result }));
  }

  /** Answers once a checkpoint was written that needs nothing of what is damaged. */
  mend(id: number, mended: Promise<Mended>): void {
    this.answer(mended, (result) => this.options.emit({ type: 'mended', id, result }));
  }

  /** Compares the volume with what it was at a snapshot. */
  past(id: number, ask: PastAsk): void {
    const compared = this.pastReader?.read(ask) ?? Promise.reject(notReached());
    this.answer(compared, (result) => this.options.emit({ type: 'past', id, result }));
  }

  /** Nobody compares for now. */
  pastDone(): void {
    void this.close().catch(this.options.failed);
  }

  async close(): Promise<void> {
    await this.pastReader?.close();
  }

  /** What the bucket is to blame for is an answer; anything else is a fault of this program. */
  private answer<T>(asked: Promise<T>, answered: (result: T | FetchFailure) => void): void {
    void asked.then(answered, (error: unknown) => {
      if (error instanceof MapDoubtError) answered({ code: 'checksum-mismatch', message: error.message });
      else if (error instanceof GatewayError) answered({ code: error.code, message: error.message });
      else this.options.failed(error);
    });
  }
}

function notReached(): GatewayError {
  return new GatewayError('store-unreachable', 'the bucket was not reached yet');
}
