/**
 * The time in which a volume becomes what one of its snapshots is: nobody may have it, nobody gets it meanwhile, and the
 * snapshot stays. The steps are RevertLine's.
 *
 * Invariant: once it has begun durably, it lasts until it is done, over restarts too: nobody gets what lies between the
 * two states.
 */
import { DurabilityLostError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { RevertRecord } from '../engine/revert-record.js';
import type { Volume } from '../engine/volume.js';
import type { VolumeAccess } from './access.js';
import type { Progress, RevertLine } from './revert-line.js';
import type { SnapshotLine } from './snapshot-line.js';

export interface VolumeRevertOptions {
  readonly access: VolumeAccess;
  readonly snapshots: SnapshotLine;
  readonly line: RevertLine;
  /** Resolves once everything up to `lsn` is committed in the bucket. */
  readonly replicateTo: (lsn: Lsn) => Promise<void>;
  readonly onFatal: (error: Error) => void;
}

export class VolumeRevert {
  readonly #options: VolumeRevertOptions;
  #snapshot: string | undefined;

  constructor(options: VolumeRevertOptions) {
    this.#options = options;
  }

  /** The snapshot that the volume becomes; undefined: it stays what it is. */
  get snapshot(): string | undefined {
    return this.#snapshot;
  }

  /**
   * Makes an open volume what a snapshot is. First what it is now becomes a snapshot, if it is to be kept; its name.
   * volume-in-use, not-found, and whatever else keeps it from beginning: then nothing has changed.
   */
  async run(volume: Volume, name: string, keepsPresent: boolean, progress: Progress): Promise<string | undefined> {
    const { access, snapshots, line, replicateTo, onFatal } = this.#options;
    const past = { snapshot: name, ...snapshots.whole(name) };
    access.lock(`is being reverted to snapshot ${name}`);
    this.#begin(name);
    let kept: string | undefined;
    try {
      if (keepsPresent) kept = (await snapshots.before('revert')).name;
      const presentLsn = await volume.forceFlush();
      await replicateTo(presentLsn);
      await line.run(volume, { ...past, presentLsn }, progress);
    } catch (error) {
      // Where its record went, but not durably, the next start would do it again, over what was written since.
      if (error instanceof DurabilityLostError) onFatal(error);
      // Once it has begun nobody gets what lies between the two.
      else if ((await line.pending()) === undefined) this.#end();
      throw error;
    }
    this.#end();
    return kept;
  }

  /** After a start in the middle of it, before the volume replicates: what the bucket has must not move on. */
  async resume(volume: Volume, { snapshot }: RevertRecord): Promise<void> {
    this.#begin(snapshot);
    await volume.replication.holdRounds();
  }

  /** Resolves once what was resumed is done: the volume can be served. volume-closed: the gateway stops. */
  async finish(volume: Volume, record: RevertRecord): Promise<void> {
    await this.#options.line.finish(volume, record, () => undefined);
    this.#end();
  }

  #begin(snapshot: string): void {
    this.#options.snapshots.needed = this.#snapshot = snapshot;
  }

  #end(): void {
    this.#options.snapshots.needed = this.#snapshot = undefined;
    this.#options.access.unlock();
  }
}
