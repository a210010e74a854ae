/**
 * A restored volume while its content still comes from the bucket (remote.md, "Restore"): reads of blocks that are owed
 * fetch them, sequential readers get what follows ahead of time, and whoever fills the rest in the background does it
 * through here (HydrationTarget). What may land where is filled-block.ts's.
 *
 * A read waits for the bucket at most limits.remoteReadMsMax (P6 has this one exception). Nothing that was fetched is
 * taken for the block's content unless the block is owed at that very moment.
 */
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrozenRun, FrozenVolume, HydratingVolume, HydrationProgress, RestoreSource } from '../ports/hydration.js';
import type { Destager } from './destager.js';
import { isDiskFull } from './disk-outcome.js';
import type { FilledBlocks } from './filled-block.js';
import { OwedZeroFinder, type OwedZeros } from './owed-zeros.js';
import { ReadAhead } from './read-ahead.js';
import { askWithin, closing } from './remote-question.js';
import { writeRestoreRecord, type RestoreRecord } from './restore-record.js';

/** Blocks that one read asks the bucket for at a time. */
const FETCH_BLOCKS_MAX = limits.recordBytesMax / BLOCK_BYTES;

/** Blocks whose checksums are looked at in one go. */
const SCAN_BLOCKS = 1024 * 1024;

export interface HydrationOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly record: RestoreRecord;
  readonly filled: FilledBlocks;
  readonly destager: Destager;
  readonly blockCount: () => number;
  /** Something was filled: durable with a cycle of the reclaimer, which comes by itself. */
  readonly onFilled: () => void;
  /** Makes everything that was acknowledged durable. */
  readonly flush: () => Promise<void>;
  /** Moves what is durable into the image. */
  readonly destage: () => Promise<void>;
  readonly onFatal: (error: Error) => void;
}

export class Hydration implements HydratingVolume {
  private readonly options: HydrationOptions;
  private readonly readAhead: ReadAhead;
  private record: RestoreRecord;
  private recording: Promise<void> = Promise.resolve();
  private frozen: FrozenVolume | undefined;
  /** Why there is no connection to the bucket. */
  private absence = new GatewayError('store-unreachable', 'the bucket is not connected yet');
  /** Ends every fetch under way. */
  private readonly ended = new AbortController();
  private readonly running = new Set<Promise<unknown>>();
  private readonly zeros: OwedZeroFinder;

  constructor(options: HydrationOptions) {
    this.options = options;
    this.zeros = new OwedZeroFinder({ filled: options.filled, clock: options.clock, ended: this.ended.signal });
    this.record = options.record;
    this.readAhead = new ReadAhead((first, count) => void this.ahead(first, count));
  }

  get active(): boolean {
    return !this.options.filled.done;
  }

  get source(): RestoreSource {
    return this.record.source;
  }

  get progress(): HydrationProgress {
    return this.record.progress;
  }

  get blockCount(): number {
    return this.options.blockCount();
  }

  /** From where blocks come; an error: why they do not. */
  connect(frozen: FrozenVolume | GatewayError): void {
    if (frozen instanceof GatewayError) {
      this.frozen = undefined;
      this.absence = frozen;
    } else {
      this.frozen = frozen;
    }
    this.zeros.connect(this.frozen);
  }

  /** Which of these blocks are zero in the bucket, and owed; it may look at the first of them only. */
  owedZeros(first: BlockNumber, count: number): Promise<OwedZeros> {
    return this.track(this.zeros.find(first, count));
  }

  /**
   * Brings the first of `count` blocks here if it is owed, and those of the others that are. Returns -1 when it is not
   * owed: its reader finds out why. 0: it can be read now. More: so many blocks were copied to target[at…], since there
   * is no space for them here.
   */
  async bring(first: BlockNumber, count: number, target: Uint8Array, at: number): Promise<number> {
    if (!this.active || !(await this.options.filled.isWanted(first))) return -1;
    const wanted = Math.min(count, FETCH_BLOCKS_MAX, this.blockCount - first);
    const runs = await this.fetch(first, wanted);
    this.readAhead.note(first, wanted, this.blockCount);
    try {
      for (const run of runs) await this.fill(run);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      const copied = await this.copyOut(runs, first, target, at, wanted);
      if (copied === 0 && (await this.options.filled.isWanted(first))) throw error;
      return copied;
    }
    if (!(await this.options.filled.isWanted(first))) return 0;
    throw new GatewayError('object-damaged', `the bucket did not give block ${first}`);
  }

  /** Ends what waits for the bucket; resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    this.ended.abort();
    await Promise.allSettled([...this.running, this.recording]);
  }

  // HydrationTarget

  async owed(first: BlockNumber, count: number): Promise<Uint8Array> {
    const { filled } = this.options;
    const owed = new Uint8Array(count);
    if (!this.active) return owed;
    for (let i = 0; i < count; i++) if (await filled.isOwed(first + i)) owed[i] = 1;
    return owed;
  }

  /** As `owed`, without what the log has: what a read would have to fetch. */
  async absent(first: BlockNumber, count: number): Promise<Uint8Array> {
    const absent = new Uint8Array(count);
    for (let i = 0; i < count && this.active; i++) if (await this.options.filled.isWanted(first + i)) absent[i] = 1;
    return absent;
  }

  async fill(run: FrozenRun): Promise<void> {
    const { destager, onFilled } = this.options;
    if (this.ended.signal.aborted) throw closing();
    await this.guard(this.track(destager.fill(run)));
    onFilled();
  }

  async advance(progress: Partial<HydrationProgress>): Promise<void> {
    if (!this.active || this.isEnding()) return;
    // What a write kept a fill from may be lost with the power, and the block be owed again.
    await this.guard(this.options.flush());
    if (this.isEnding()) return;
    await this.guard(this.track(this.options.destager.sync()));
    await this.save({ progress: { ...this.progress, ...progress } });
  }

  async complete(): Promise<boolean> {
    const { filled, destager, flush, destage, clock } = this.options;
    if (!this.active) return true;
    // A block that is in the log only counts as owed.
    await this.guard(flush());
    await this.guard(destage());
    const { blockCount } = this;
    for (let block = 0; block < blockCount; block += SCAN_BLOCKS) {
      const end = Math.min(block + SCAN_BLOCKS, blockCount);
      if ((await filled.nextOwed(block, end)) < end) return false;
      // Where all of it is in memory, nobody else would have a turn.
      if (end < blockCount) await new Promise<void>((resolve) => void clock.after(0, resolve));
    }
    if (this.ended.signal.aborted) return false;
    await this.guard(this.track(destager.sync()));
    await this.save({ complete: true });
    filled.done = true;
    return true;
  }

  // Inner workings

  private isEnding(): boolean {
    return this.ended.signal.aborted;
  }

  private save(change: Partial<RestoreRecord>): Promise<void> {
    const saved = this.recording.then(async () => {
      const { disk, checksums } = this.options;
      const record = { ...this.record, ...change };
      await writeRestoreRecord(disk, checksums, record);
      this.record = record;
    });
    this.recording = saved.catch(() => undefined);
    return saved;
  }

  private async ahead(first: BlockNumber, count: number): Promise<void> {
    const { filled } = this.options;
    try {
      let from = first;
      const end = Math.min(first + count, this.blockCount);
      while (from < end && !(await filled.isWanted(from))) from++;
      if (from < end) for (const run of await this.fetch(from, end - from)) await this.fill(run);
    } catch {
      // Whoever needs it asks again, and hears why.
    }
  }

  private fetch(first: BlockNumber, count: number): Promise<readonly FrozenRun[]> {
    const { clock } = this.options;
    const { frozen } = this;
    const ended = this.ended.signal;
    if (ended.aborted) return Promise.reject(closing());
    if (frozen === undefined) return Promise.reject(this.absence);
    return this.track(
      askWithin(
        { clock, ended, msMax: limits.remoteReadMsMax },
        (signal) => frozen.fetch(first, count, { signal }),
        () => tooSlow(first),
      ),
    );
  }

  /** Without space for them, blocks go straight to their reader: those from `first` on that are still wanted. */
  private async copyOut(
    runs: readonly FrozenRun[],
    first: BlockNumber,
    target: Uint8Array,
    at: number,
    count: number,
  ): Promise<number> {
    const { filled } = this.options;
    let copied = 0;
    for (; copied < count; copied++) {
      const block = first + copied;
      const run = runs.find(({ firstBlock, blockCount }) => block >= firstBlock && block < firstBlock + blockCount);
      if (run === undefined || isLost(run, block) || !(await filled.isWanted(block))) break;
      const start = at + copied * BLOCK_BYTES;
      const { payload } = run;
      if (payload === undefined) target.fill(0, start, start + BLOCK_BYTES);
      else {
        const from = payload.start + (block - run.firstBlock) * BLOCK_BYTES;
        target.set(payload.bytes.subarray(from, from + BLOCK_BYTES), start);
      }
    }
    return copied;
  }

  private track<T>(work: Promise<T>): Promise<T> {
    this.running.add(work);
    const over = (): void => void this.running.delete(work);
    work.then(over, over);
    return work;
  }

  /** A sync that failed ends the process, whoever asked for it. */
  private async guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof DurabilityLostError) this.options.onFatal(error);
      throw error;
    }
  }
}

function isLost({ firstBlock, payload }: FrozenRun, block: BlockNumber): boolean {
  return payload?.sums[payload.sumsStart + block - firstBlock] === 1;
}

function tooSlow(block: BlockNumber): GatewayError {
  const seconds = limits.remoteReadMsMax / 1000;
  return new GatewayError(
    'store-unreachable',
    `block ${block} is in the bucket only, which did not answer in ${seconds} s`,
  );
}
