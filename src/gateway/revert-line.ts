/**
 * Brings a volume back to a snapshot: a volume that nobody has attached, and whose bucket has all of it.
 *
 *   check    what differs is counted, and every index that it needs is there: until here nothing has changed
 *   hold     the bucket stays at what it has: the volume is tracked, and no round begins (engine/rounds.ts)
 *   record   durably: from here on nobody is served before all of it is done, whatever happens to this process
 *   apply    what differs is written as any client writes, read from the bucket
 *   flush    and only then is the record removed, and the volume served; the next round brings the bucket there in one step
 *
 * So neither the volume, as anybody sees it, nor any recovery point is ever something between the two. A crash in the middle
 * is followed by `finish` at the next start: what the bucket holds has not moved meanwhile, so the same blocks differ, once
 * the replicator has found all of it again.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import { readRevertRecord, removeRevertRecord, REVERT_FILE, writeRevertRecord } from '../engine/revert-record.js';
import type { RevertRecord } from '../engine/revert-record.js';
import type { Volume } from '../engine/volume.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrozenRun } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { PastAsk, PastPiece } from '../remote/past-reader.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';
import { requested, untilWritable } from './device-request.js';

/** Blocks that are read and written at once. */
const PIECE_BLOCKS = 512;
const COUNTED_BLOCKS = 16_384;
/** What the store refuses is asked for again, once the volume has begun to change. */
const AGAIN_MS = 2000;
/** Named in a message at most. */
const NAMED_MAX = 10;

export type Progress = (doneBytes: number, totalBytes: number) => void;

export interface RevertLineOptions {
  readonly volume: string;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly log: Log;
  /** To the replicator; undefined: it is not attached to the bucket, or has ended. */
  readonly line: () => ((message: ToReplicator) => void) | undefined;
}

interface Question {
  readonly resolve: (piece: PastPiece) => void;
  readonly reject: (error: GatewayError) => void;
}

export class RevertLine {
  readonly #options: RevertLineOptions;
  readonly #questions = new Map<number, Question>();
  #nextId = 1;
  #closed = false;

  constructor(options: RevertLineOptions) {
    this.#options = options;
  }

  /** Of a revert that was begun and is not done. */
  pending(): Promise<RevertRecord | undefined> {
    return readRevertRecord(this.#options.disk, this.#options.checksums);
  }

  /** The volume is drained, and nobody has it. Rejects before anything has changed, or not at all. */
  async run(volume: Volume, record: RevertRecord, progress: Progress): Promise<void> {
    const { disk, checksums } = this.#options;
    const blocks = await this.#check(record);
    try {
      await volume.replication.holdRounds();
      await writeRevertRecord(disk, checksums, record);
    } catch (error) {
      // Where the disk has failed it may be there all the same: then it goes durably before anybody is served.
      if (await disk.exists(REVERT_FILE)) await removeRevertRecord(disk);
      volume.replication.releaseRounds();
      throw error;
    }
    await this.finish(volume, record, (doneBytes) => progress(doneBytes, blocks * BLOCK_BYTES));
  }

  /** Goes on until it is done; the rounds of the volume are held. volume-closed: the gateway stops. */
  async finish(volume: Volume, record: RevertRecord, progress: Progress): Promise<void> {
    const { log, disk } = this.#options;
    log.warn(`volume ${volume.name} becomes what snapshot ${record.snapshot} is`);
    let done = 0;
    for (let from: BlockNumber | undefined = 0; from !== undefined;) {
      const at: BlockNumber = from;
      from = await this.#insist(record, async () => {
        // After a crash the directory may know less of the bucket than there is, and would miss what differs.
        if (volume.replication.state.replicatedLsn < record.presentLsn)
          throw new GatewayError('store-unreachable', 'what the bucket holds is not known yet');
        const piece = await this.#ask({ ...askOf(record), from: at, blocksMax: PIECE_BLOCKS, do: 'read' });
        for (const run of piece.runs) await this.#write(volume, run);
        done += piece.blocks;
        progress(done * BLOCK_BYTES, 0);
        return piece.next;
      });
    }
    const { sizeBytes } = record;
    if (sizeBytes < volume.sizeBytes)
      await this.#insist(record, () =>
        this.#zero(volume, sizeBytes / BLOCK_BYTES, (volume.sizeBytes - sizeBytes) / BLOCK_BYTES),
      );
    await volume.forceFlush();
    await removeRevertRecord(disk);
    volume.replication.releaseRounds();
    this.#options.line()?.({ type: 'pastDone' });
    log.info(`volume ${volume.name} is what snapshot ${record.snapshot} is`);
  }

  /** Tries it until it succeeds, or the gateway stops. */
  async #insist<Result>(record: RevertRecord, step: () => Promise<Result>): Promise<Result> {
    const { clock, log, volume } = this.#options;
    for (let said = ''; ;) {
      try {
        if (this.#closed) throw new GatewayError('volume-closed', 'the gateway is stopping');
        return await step();
      } catch (error) {
        if (this.#closed || !(error instanceof GatewayError) || error.code === 'volume-closed') throw error;
        if (error.message !== said)
          log.warn(`bringing ${volume} back to snapshot ${record.snapshot} does not go on: ${error.message}`);
        said = error.message;
        await clock.sleep(AGAIN_MS);
      }
    }
  }

  received({ id, result }: Extract<FromReplicator, { type: 'past' }>): void {
    const question = this.#questions.get(id);
    this.#questions.delete(id);
    if ('code' in result) question?.reject(new GatewayError(result.code, result.message));
    else question?.resolve(result);
  }

  /** The replicator has ended, or began anew and has not heard what was asked. */
  refuse(error: GatewayError): void {
    for (const { reject } of this.#questions.values()) reject(error);
    this.#questions.clear();
  }

  close(): void {
    this.#closed = true;
    this.refuse(new GatewayError('volume-closed', 'the gateway is stopping'));
  }

  /** How many blocks differ. object-damaged: the snapshot has lost some of its own. */
  async #check(record: RevertRecord): Promise<number> {
    let blocks = 0;
    const lost: BlockNumber[] = [];
    for (let from: BlockNumber | undefined = 0; from !== undefined;) {
      const piece: PastPiece = await this.#ask({ ...askOf(record), from, blocksMax: COUNTED_BLOCKS, do: 'count' });
      blocks += piece.blocks;
      lost.push(...piece.lost);
      from = piece.next;
    }
    if (lost.length === 0) return blocks;
    throw new GatewayError(
      'object-damaged',
      `snapshot ${record.snapshot} has lost ${lost.length} of its blocks (${lost.slice(0, NAMED_MAX).join(', ')}${lost.length > NAMED_MAX ? ', …' : ''}): nothing was changed; restore it as a copy, which leaves them unreadable`,
    );
  }

  #ask(ask: PastAsk): Promise<PastPiece> {
    const line = this.#options.line();
    if (line === undefined)
      return Promise.reject(
        new GatewayError('store-unreachable', `the bucket of volume ${this.#options.volume} is not there`),
      );
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#questions.set(id, { resolve, reject });
      line({ type: 'past', id, ask });
    });
  }

  async #write(volume: Volume, { firstBlock, blockCount, payload }: FrozenRun): Promise<void> {
    if (payload === undefined) return this.#zero(volume, firstBlock, blockCount);
    await untilWritable(volume);
    await new Promise<void>((resolve, reject) => {
      const [offset, length] = [firstBlock * BLOCK_BYTES, blockCount * BLOCK_BYTES];
      const done = (error: GatewayError | undefined): void => (error === undefined ? resolve() : reject(error));
      volume.write(offset, length, payload.bytes, payload.start, false, { done });
    });
  }

  async #zero(volume: Volume, firstBlock: BlockNumber, blockCount: number): Promise<void> {
    await untilWritable(volume);
    await requested((completion) => volume.trim(firstBlock * BLOCK_BYTES, blockCount * BLOCK_BYTES, false, completion));
  }
}

function askOf({ snapshotLsn }: RevertRecord): Pick<PastAsk, 'snapshotLsn'> {
  return { snapshotLsn };
}
