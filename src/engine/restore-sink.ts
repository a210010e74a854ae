/**
 * Fills a new volume directory with blocks that come from the bucket, in any order (`restore --full`).
 *
 * volume.json is written last: a restore that was interrupted leaves a directory that no gateway opens. Blocks that are
 * never written read as zero.
 */
import { assert } from '../base/assert.js';
import { BLOCK_BYTES, type BlockNumber, type Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { DiskFile } from '../ports/disk.js';
import type { ReplicationState } from '../ports/replication.js';
import { Sums } from './sums.js';
import {
  layOut,
  restoredIdentity,
  sealDirectory,
  type NewVolume,
  type VolumeIdentity,
} from './volume-directory-format.js';

/** Blocks between two write-outs of the changed checksums, which bounds how many of them memory holds. */
const FLUSH_BLOCKS = 1024 * 1024;

export interface RestoreSinkOptions extends NewVolume {
  readonly clock: Clock;
  readonly uuid: string;
}

export interface RestoredState extends Pick<ReplicationState, 'remoteEpoch' | 'segmentNumber' | 'chainHead'> {
  /** LSN of the recovery point. */
  readonly lsn: Lsn;
  /** A copy with a life of its own: it has no place in the bucket's history. */
  readonly detached: boolean;
}

export class RestoreSink {
  private readonly options: RestoreSinkOptions;
  private readonly identity: VolumeIdentity;
  private readonly image: DiskFile;
  private readonly sumsFile: DiskFile;
  private readonly sums: Sums;
  private unflushedBlocks = 0;
  private finished = false;

  private constructor(options: RestoreSinkOptions, identity: VolumeIdentity, image: DiskFile, sumsFile: DiskFile) {
    this.options = options;
    this.identity = identity;
    this.image = image;
    this.sumsFile = sumsFile;
    this.sums = new Sums({
      file: sumsFile,
      checksums: options.checksums,
      holes: identity.holes,
      onRot: () => assert(false, 'a sector that was written a moment ago is whole'),
    });
  }

  static async create(options: RestoreSinkOptions): Promise<RestoreSink> {
    const identity = restoredIdentity(options, 'zero');
    await layOut(options, identity);
    const image = await options.disk.open('image', { mode: 'write', lane: 'image' });
    const sums = await options.disk.open('sums', { mode: 'write', lane: 'image' });
    return new RestoreSink(options, identity, image, sums);
  }

  /** Writes blockCount verified blocks at bytes[start…] with their block sums; calls must not overlap. */
  async write(
    firstBlock: BlockNumber,
    bytes: Uint8Array,
    start: number,
    blockCount: number,
    blockSums: Uint32Array,
    sumsStart: number,
  ): Promise<void> {
    await this.image.write([bytes.subarray(start, start + blockCount * BLOCK_BYTES)], firstBlock * BLOCK_BYTES);
    for (let i = 0; i < blockCount; i++) {
      const block = firstBlock + i;
      if (this.sums.pageNow(block) === undefined) await this.sums.page(block);
      this.sums.set(block, blockSums[sumsStart + i] ?? 0);
    }
    this.unflushedBlocks += blockCount;
    if (this.unflushedBlocks < FLUSH_BLOCKS) return;
    this.unflushedBlocks = 0;
    await this.sums.flush();
  }

  /** Makes everything durable and gives the directory its identity. */
  async finish(state: RestoredState): Promise<void> {
    assert(!this.finished, 'a restore is finished once');
    this.finished = true;
    await this.sums.flush();
    await Promise.all([this.image.sync(), this.sums.sync()]);
    await this.close();
    const { remoteEpoch, segmentNumber, chainHead } = state;
    const remote = state.detached ? undefined : { remoteEpoch, segmentNumber, chainHead };
    await sealDirectory(this.options, this.identity, { lsn: state.lsn, ...(remote === undefined ? {} : { remote }) });
  }

  /** Lets go of the files, finished or not. */
  async close(): Promise<void> {
    await Promise.all([this.image.close(), this.sumsFile.close()]);
  }
}
