/** Records snapshots in a volume's log, and knows which of them the bucket may not have yet. */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { ByteLength, Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { SnapshotRecord } from './log-format.js';
import type { VolumeParts } from './volume-open.js';

export interface SnapshotRecorderOptions {
  readonly volume: string;
  readonly parts: Pick<VolumeParts, 'log' | 'progress' | 'snapshots' | 'size'>;
  readonly clock: Clock;
  readonly isClosed: () => boolean;
  /** Appends what is staged, and acknowledges what was appended. */
  readonly commit: () => void;
  /** Makes all durable that was acknowledged. */
  readonly flush: () => Promise<unknown>;
}

export class SnapshotRecorder {
  private readonly options: SnapshotRecorderOptions;
  /** Of the last record about snapshots, and of the last other one before it that clients' data hang on. */
  private recordedLsn: Lsn;
  private contentBeforeLsn: Lsn;

  constructor(options: SnapshotRecorderOptions) {
    this.options = options;
    this.recordedLsn = this.contentBeforeLsn = this.records.at(-1)?.lsn ?? 0;
  }

  /** What the bucket may not have yet, oldest first. */
  get records(): readonly SnapshotRecord[] {
    return this.options.parts.snapshots.all;
  }

  /** Of the volume now. */
  get sizeBytes(): ByteLength {
    return this.options.parts.size.bytes;
  }

  /** The log does not hold all that the bucket lacks: a snapshot waits for the next round (rounds.ts). */
  get tracking(): boolean {
    return this.options.parts.progress.tracking;
  }

  /** A snapshot with this LSN, or a higher one, holds what the volume holds. After a start it may be higher than need be. */
  get contentLsn(): Lsn {
    const { dataLsn } = this.options.parts.log;
    return dataLsn > this.recordedLsn ? dataLsn : this.contentBeforeLsn;
  }

  /** The bucket has what was recorded up to here, and says so. */
  forget(throughLsn: Lsn): void {
    this.options.parts.snapshots.forget(throughLsn);
  }

  /**
   * Takes a snapshot, or ends the one with LSN `snapshotLsn`: a record behind everything that was acknowledged before this
   * call. Resolves once it is durable. volume-closed; buffer-full.
   */
  async record(name: string, snapshotLsn: Lsn): Promise<SnapshotRecord> {
    const { volume, parts, clock, isClosed, commit, flush } = this.options;
    const { log, progress, snapshots } = parts;
    if (isClosed()) throw new GatewayError('volume-closed', `volume ${volume} is closed`);
    if (!log.hasRoomForZeros)
      throw new GatewayError('buffer-full', `the buffer of volume ${volume} is full; try again once it drained`);
    if (snapshots.between(progress.replication.replicatedLsn, Infinity).length >= limits.snapshotsPendingMax) {
      throw new GatewayError(
        'buffer-full',
        `${limits.snapshotsPendingMax} snapshots of volume ${volume} wait for the bucket; try again once it drained`,
      );
    }
    // What is staged comes first.
    commit();
    const { contentLsn } = this;
    const lsn = log.appendSnapshot(Buffer.from(name), snapshotLsn);
    const record = { lsn, name, snapshotLsn, wallMs: Math.floor(clock.wallMs()) };
    snapshots.add(record);
    this.contentBeforeLsn = contentLsn;
    this.recordedLsn = lsn;
    commit();
    await flush();
    return record;
  }
}
