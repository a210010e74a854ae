/**
 * The scrubs of one volume: one at a time, when it is called or by schedule. What the replicator finds in the bucket
 * comes back by the volume's line.
 */
import { GatewayError } from '../base/errors.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { Volume } from '../engine/volume.js';
import type { ScrubCounts } from '../metrics/source.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { Mended } from '../remote/mend.js';
import type { RemoteScrub } from '../remote/remote-scrub.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';
import { ScrubSchedule } from './scrub-schedule.js';
import { scrub, SCRUB_BYTES_PER_SECOND, SCRUB_BYTES_PER_SECOND_MIN } from './scrubber.js';
import type { ScrubberOptions, ScrubReport } from './scrubber.js';

type Progress = (doneBytes: number, totalBytes: number) => void;

export interface ScrubLineOptions {
  readonly configuration: Pick<VolumeConfiguration, 'name' | 'scrub'>;
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly replicates: () => boolean;
  /** To the replicator; undefined: there is none, or it has ended. */
  readonly line: () => ((message: ToReplicator) => void) | undefined;
  /** Resolves once everything up to now is in the bucket. */
  readonly replicate: () => Promise<void>;
}

interface Running {
  readonly progress: Progress;
  readonly live: (blocks: Float64Array, sums: Uint32Array) => void;
  readonly resolve: (result: RemoteScrub) => void;
  readonly reject: (error: GatewayError) => void;
}

interface Mending {
  readonly id: number;
  readonly resolve: (mended: Mended) => void;
  readonly reject: (error: GatewayError) => void;
}

export class ScrubLine {
  readonly counts: ScrubCounts = { blocks: 0, healed: 0, errors: { image: 0, log: 0, remote: 0 } };
  readonly #options: ScrubLineOptions;
  #busy = false;
  #remote: Running | undefined;
  #mending: Mending | undefined;
  #mends = 0;
  #schedule: ScrubSchedule | undefined;
  #closed = false;

  constructor(options: ScrubLineOptions) {
    this.#options = options;
  }

  /** Begins the schedule. */
  start(volume: Volume): void {
    const { configuration, disk, clock, log } = this.#options;
    const { everyMs, remote } = configuration.scrub;
    if (everyMs === undefined) return;
    const run = async (): Promise<readonly string[]> => {
      // A quarter of the period suffices, so that one that is interrupted now and then ends as well.
      const bytesPerSecond = Math.max(SCRUB_BYTES_PER_SECOND_MIN, (4000 * volume.sizeBytes) / everyMs);
      return (await this.run(volume, false, () => undefined, { bytesPerSecond, remote })).found;
    };
    this.#schedule = new ScrubSchedule({ everyMs, disk, clock, log: log.child('scrub'), run });
    this.#schedule.start();
  }

  /** Verifies log, image and bucket. invalid-request: another one runs; else why it did not end. */
  async run(
    volume: Volume,
    heal: boolean,
    progress: Progress,
    how = { bytesPerSecond: SCRUB_BYTES_PER_SECOND, remote: true },
  ): Promise<ScrubReport> {
    const { configuration, clock, replicate, replicates } = this.#options;
    if (this.#busy) throw new GatewayError('invalid-request', `volume ${configuration.name} is being scrubbed`);
    this.#busy = true;
    const mend = async (objects: readonly string[]): Promise<Mended> => {
      await replicate();
      return this.#askMend(objects);
    };
    const remote = how.remote && replicates() ? this.#askRemote() : undefined;
    const { bytesPerSecond } = how;
    const closed = (): boolean => this.#closed;
    try {
      return await scrub({ volume, clock, remote, mend, counts: this.counts, bytesPerSecond, closed }, heal, progress);
    } finally {
      this.#busy = false;
    }
  }

  received(message: Extract<FromReplicator, { type: 'scrubbing' | 'scrubbed' | 'liveSums' | 'mended' }>): void {
    if (message.type === 'mended') this.#mended(message);
    else if (message.type === 'scrubbing') this.#remote?.progress(message.doneBytes, message.totalBytes);
    else if (message.type === 'liveSums') this.#remote?.live(message.blocks, message.sums);
    else if ('damages' in message.result) this.#remote?.resolve(message.result);
    else this.refuse(new GatewayError(message.result.code, message.result.message));
  }

  /** The replicator has ended, or began anew and has not heard what was asked. */
  refuse(error: GatewayError): void {
    this.#remote?.reject(error);
    this.#mending?.reject(error);
  }

  close(): void {
    this.#closed = true;
    this.#schedule?.stop();
    this.refuse(new GatewayError('volume-closed', 'the gateway is stopping'));
  }

  #mended({ id, result }: Extract<FromReplicator, { type: 'mended' }>): void {
    if (this.#mending?.id !== id) return;
    if ('problems' in result) this.#mending.resolve(result);
    else this.#mending.reject(new GatewayError(result.code, result.message));
  }

  #askMend(objects: readonly string[]): Promise<Mended> {
    return new Promise<Mended>((resolve, reject) => {
      const send = this.#closed ? undefined : this.#options.line();
      if (send === undefined) return reject(new GatewayError('store-unreachable', 'replication has ended'));
      const id = ++this.#mends;
      this.#mending = { id, resolve, reject };
      send({ type: 'mend', id, objects });
    }).finally(() => (this.#mending = undefined));
  }

  #askRemote(): NonNullable<ScrubberOptions['remote']> {
    return (progress, live) =>
      new Promise<RemoteScrub>((resolve, reject) => {
        const send = this.#closed ? undefined : this.#options.line();
        if (send === undefined)
          return reject(new GatewayError('store-unreachable', 'replication has ended, or did not reach it yet'));
        this.#remote = { resolve, reject, progress, live };
        send({ type: 'scrub', id: 1 });
      }).finally(() => (this.#remote = undefined));
  }
}
