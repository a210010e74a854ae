/**
 * What a volume says of itself: its state and figures to whoever asks, and a line in the log for each block that rotted or
 * was healed. It counts those since the volume was opened, and changes nothing.
 */
import { BLOCK_BYTES, type BlockNumber, type Lsn } from '../base/units.js';
import type { Log as TextLog } from '../ports/log.js';
import type { EngineStatus, VolumeState } from '../ports/volume-status.js';
import type { ReplicationSource } from './replication-source.js';
import type { VolumeParts } from './volume-open.js';

export interface VolumeReportOptions {
  readonly volume: string;
  readonly parts: VolumeParts;
  readonly replication: ReplicationSource;
  readonly replicated: boolean;
  readonly provision: 'thin' | 'full';
  readonly log: TextLog;
}

export class VolumeReport {
  private readonly options: VolumeReportOptions;
  private checksumErrors = 0;
  private healedBlocks = 0;

  constructor(options: VolumeReportOptions) {
    this.options = options;
  }

  /** A block of the image cannot be trusted. */
  noteRot(block: BlockNumber): void {
    this.noteError(
      `block ${block} of volume ${this.options.volume} cannot be trusted: its checksum does not match`,
      block,
    );
  }

  /** A record rotted before it reached the image. */
  noteLost(block: BlockNumber, lsn: Lsn): void {
    const { volume } = this.options;
    this.noteError(`block ${block} (LSN ${lsn}) of volume ${volume} rotted in the log on its way to the image`, block);
  }

  noteHealed(block: BlockNumber): void {
    const { volume, log } = this.options;
    this.healedBlocks++;
    log.warn(`block ${block} of volume ${volume} was healed from the bucket`, { volume, block });
  }

  private noteError(message: string, block: BlockNumber): void {
    const { volume, log } = this.options;
    this.checksumErrors++;
    log.error(message, { volume, block });
  }

  /** `fatal`: why the volume can do nothing any more. */
  status(fatal: Error | undefined): EngineStatus {
    const { parts, replication, provision } = this.options;
    const { log, reclaimer, progress, overlay, destager, rounds, size, space } = parts;
    const trackedDirtyBlocks = rounds.dirtyBlocks(size.bytes);
    return {
      state: this.stateOf(fatal),
      reason: (fatal ?? reclaimer.failed ?? reclaimer.stalled)?.message,
      sizeBytes: size.bytes,
      lsn: {
        acknowledged: log.appendedLsn,
        durable: log.durableLsn,
        destaged: progress.destagedLsn,
        replicated: progress.replication.replicatedLsn,
      },
      bufferCapacityBytes: log.files.capacityBytes,
      bufferUsedBytes: reclaimer.distance(progress.tail, log.head),
      pendingBytes: this.pendingBytes(trackedDirtyBlocks),
      trackedDirtyBlocks,
      overlayBlocks: overlay.table.size,
      destagedBytes: destager.destagedBytes,
      oldestPendingMs: replication.oldestPendingMs,
      flushes: log.syncs.stats,
      checksumErrors: this.checksumErrors,
      healedBlocks: this.healedBlocks,
      provision: { mode: provision, problem: space?.problem },
    };
  }

  private pendingBytes(trackedDirtyBlocks: number): number {
    const { log, reclaimer, progress, destager } = this.options.parts;
    const { replicatedLsn, cursor } = progress.replication;
    if (!this.options.replicated || replicatedLsn >= log.dataLsn) return 0;
    if (progress.tracking) return trackedDirtyBlocks * BLOCK_BYTES + reclaimer.distance(destager.cursor, log.head);
    return reclaimer.distance(cursor, log.head);
  }

  private stateOf(fatal: Error | undefined): VolumeState {
    const { reclaimer, progress, hydration } = this.options.parts;
    if (fatal !== undefined || reclaimer.failed !== undefined) return 'failed';
    if (progress.replication.fenced) return 'fenced';
    if (reclaimer.stalled !== undefined) return 'stalled';
    return hydration?.active === true ? 'hydrating' : 'online';
  }
}
