/**
 * The appender: stages records, writes them as batches, and knows what is durable.
 *
 * Hot path. `stageWrite` copies a payload into the batch's buffer and sums it in the same pass; `commit` writes the batch with one inline
 * pwritev (page cache, preallocated file); `acknowledge` then runs the completions, in LSN order. Nothing is allocated per
 * block; nothing is awaited. Measure with `npm run bench`.
 *
 * Invariants
 *   One order: a batch is acknowledged only after it and every batch before it was written in full (P1).
 *   durableLsn only ever covers what was appended before an fdatasync was called that returned (P1, P5).
 *   A failed or short append, or a failed sync, is fail-stop: `onFatal`, and no completion runs any more.
 */
import { assert } from '../base/assert.js';
import { DurabilityLostError, type GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB, type BlockNumber, type Lsn } from '../base/units.js';
import type { Completion } from '../ports/block-device.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { LogCursor } from '../ports/replication.js';
import {
  FLAG_KEEP_ALLOCATED,
  HEADER_PAGES_MAX,
  headerPages,
  putDescriptor,
  recordKinds,
  sealHeader,
  SNAPSHOT_NAME_BYTES_MAX,
  type RecordKind,
} from './log-format.js';
import type { LogFiles } from './log-files.js';
import { locationOf, type Overlay } from './overlay.js';
import { SyncQueue } from './sync-queue.js';

const WRITE_OUT_BYTES = 4 * MIB;

export interface LogOptions {
  readonly files: LogFiles;
  readonly overlay: Overlay;
  readonly checksums: Checksums;
  readonly clock: Clock;
  /** Where the next batch goes, and how far the log is durable. */
  readonly head: LogCursor;
  readonly durableLsn: Lsn;
  /** Newest LSN of a client's record, so far. */
  readonly dataLsn: Lsn;
  readonly onFatal: (error: DurabilityLostError) => void;
  /** A batch was written: the log grew. */
  readonly onAppend: () => void;
  readonly onDurable: (lsn: Lsn) => void;
}

export class Log {
  readonly files: LogFiles;
  readonly syncs: SyncQueue;
  private readonly options: LogOptions;
  private readonly payload: Uint8Array;
  private readonly sums: Uint32Array;
  private readonly header: Uint8Array;
  private readonly headerView: DataView;
  private readonly parts: Uint8Array[] = [];

  // The batch being staged.
  private records = 0;
  private blocks = 0;
  private readonly kinds = new Uint8Array(limits.batchRecordsMax);
  private readonly firsts = new Float64Array(limits.batchRecordsMax);
  private readonly counts = new Float64Array(limits.batchRecordsMax);
  private readonly flags = new Uint8Array(limits.batchRecordsMax);
  /** completions[i] belongs to record i; undefined where a request goes on in the next record. */
  private readonly completions: (Completion | undefined)[] = [];
  private readonly durables = new Uint8Array(limits.batchRecordsMax);
  /** Completions of written records that are still to run. */
  private readonly written: Completion[] = [];
  private acknowledging = false;

  // The log's end.
  private file: number;
  private offset: number;
  private nextLsn: Lsn;
  private chain: number;
  private epoch: string;
  private writtenOutFrom = 0;
  /** Newest LSN that is not an internal record's. */
  private lastDataLsn: Lsn;
  /** What the last batch states to be durable. */
  private stated: Lsn;
  private failed = false;
  appendedBytes = 0;

  constructor(options: LogOptions) {
    this.options = options;
    this.files = options.files;
    this.payload = options.checksums.alignedBuffer(this.files.batchBlocksMax * BLOCK_BYTES);
    this.sums = new Uint32Array(this.files.batchBlocksMax);
    this.header = options.checksums.alignedBuffer(HEADER_PAGES_MAX * BLOCK_BYTES);
    this.headerView = new DataView(this.header.buffer, this.header.byteOffset, this.header.length);
    this.file = options.head.file;
    this.offset = options.head.offset;
    this.nextLsn = options.head.lsn;
    this.chain = options.head.chain;
    this.epoch = options.head.epoch;
    this.lastDataLsn = options.dataLsn;
    this.stated = options.durableLsn;
    this.syncs = new SyncQueue({
      clock: options.clock,
      durableLsn: options.durableLsn,
      sync: (files) => Promise.all(files.map((file) => this.files.handle(file).sync())).then(() => undefined),
      onDurable: options.onDurable,
      onFatal: (cause) => {
        this.fail('fdatasync of the log failed', cause);
      },
    });
  }

  /** Where the next batch will go. */
  get head(): LogCursor {
    return { file: this.file, offset: this.offset, lsn: this.nextLsn, chain: this.chain, epoch: this.epoch };
  }

  get appendedLsn(): Lsn {
    return this.nextLsn - 1;
  }

  get dataLsn(): Lsn {
    return this.lastDataLsn;
  }

  get durableLsn(): Lsn {
    return this.syncs.durableLsn;
  }

  /** Whether there are clients' records that no batch states to be durable. Of marks none is stated, or each would beget another. */
  get wantsMark(): boolean {
    return this.lastDataLsn > this.stated;
  }

  get isBroken(): boolean {
    return this.failed;
  }

  /**
   * Whether the batch being staged and one more of the longest kind find room. The last ready file is kept for internal
   * records (epoch, mark, resize), so that an opening never fails for want of space.
   */
  get hasRoom(): boolean {
    const ready = this.files.newestFile - this.file;
    const batchBytesMax = (HEADER_PAGES_MAX + this.files.batchBlocksMax) * BLOCK_BYTES;
    return ready >= 2 || (ready === 1 && this.files.sizeBytes(this.file) - this.offset >= 2 * batchBytesMax);
  }

  /**
   * Whether a trim or zero record finds room although the log has none for payloads. They take a page each, and are what
   * frees space on a full disk; half a file stays for internal records even then.
   */
  get hasRoomForZeros(): boolean {
    const sizeBytes = this.files.sizeBytes(this.file);
    return this.files.newestFile > this.file || sizeBytes - this.offset >= sizeBytes / 2;
  }

  /** Whole blocks; the payload is copied before this returns. The request ends with this record when `completion` is given. */
  stageWrite(
    first: BlockNumber,
    count: number,
    source: Uint8Array,
    sourceStart: number,
    durable: boolean,
    completion: Completion | undefined,
  ): void {
    assert(count > 0 && count <= this.files.batchBlocksMax, 'a record fits into a batch');
    if (this.blocks + count > this.files.batchBlocksMax || this.records === limits.batchRecordsMax) this.commit();
    const target = this.blocks * BLOCK_BYTES;
    this.options.checksums.copyAndSum(
      source,
      sourceStart,
      sourceStart + count * BLOCK_BYTES,
      this.payload,
      target,
      this.sums,
    );
    this.options.checksums.toLogSums(this.sums, this.blocks, count, first, this.nextLsn + this.records);
    this.stage(recordKinds.write, 0, first, count, durable, completion);
    this.blocks += count;
  }

  /** A record without payload; `amount` is a block count or, for resize, the new size in bytes. */
  stageRecord(
    kind: Exclude<RecordKind, 'write' | 'snapshot' | 'epoch'>,
    first: BlockNumber,
    amount: number,
    keepAllocated: boolean,
    durable: boolean,
    completion: Completion | undefined,
  ): void {
    if (this.records === limits.batchRecordsMax) this.commit();
    this.stage(recordKinds[kind], keepAllocated ? FLAG_KEEP_ALLOCATED : 0, first, amount, durable, completion);
  }

  /**
   * Appends one record whose payload stands in a buffer of its own with its plain sums (which become log sums in
   * place), as a batch of its own. Whatever is staged goes first.
   */
  appendWrite(
    first: BlockNumber,
    count: number,
    payload: Uint8Array,
    sums: Uint32Array,
    durable: boolean,
    completion: Completion | undefined,
  ): void {
    this.commit();
    if (this.failed) return;
    this.options.checksums.toLogSums(sums, 0, count, first, this.nextLsn);
    this.stage(recordKinds.write, 0, first, count, durable, completion);
    this.append(payload.subarray(0, count * BLOCK_BYTES), count, sums);
  }

  /** Writes what is staged; nothing when nothing is. */
  commit(): void {
    if (this.records === 0 || this.failed) return;
    const count = this.blocks;
    this.blocks = 0;
    this.append(count === 0 ? undefined : this.payload.subarray(0, count * BLOCK_BYTES), count, this.sums);
  }

  /** Begins a new log epoch: the record that every opening appends. Durable only after the next sync. */
  appendEpoch(epoch: string, firstLsn: Lsn): void {
    assert(this.records === 0 && firstLsn >= this.nextLsn, 'an epoch begins in a batch of its own, at a new LSN');
    const before = this.epoch;
    this.epoch = epoch;
    this.nextLsn = firstLsn;
    this.stage(recordKinds.epoch, 0, 0, 0, false, undefined);
    putDescriptor(this.headerView, 0, recordKinds.epoch, 0, 0, BigInt(`0x${before}`), 0);
    this.append(undefined, 0, this.sums, true);
  }

  /**
   * Appends a snapshot, or the end of the one with LSN `snapshotLsn`, as a batch of its own behind all that is staged; its
   * LSN. Durable only after the next sync.
   */
  appendSnapshot(name: Uint8Array, snapshotLsn: Lsn): Lsn {
    assert(name.length > 0 && name.length <= SNAPSHOT_NAME_BYTES_MAX, 'the name of a snapshot fits into its batch');
    this.commit();
    if (this.failed) return this.appendedLsn;
    this.stage(recordKinds.snapshot, 0, snapshotLsn, name.length, false, undefined);
    this.append(undefined, 0, this.sums, false, name);
    return this.appendedLsn;
  }

  /** Gives the memory of the staging buffer back, unless something is staged. */
  releaseMemory(): void {
    if (this.records === 0) this.options.checksums.discard(this.payload);
  }

  /** Completes when everything appended until now is durable. */
  flush(completion: Completion): void {
    this.commit();
    if (!this.failed) this.syncs.request(this.appendedLsn, completion);
  }

  private stage(
    kind: number,
    flags: number,
    first: number,
    count: number,
    durable: boolean,
    completion: Completion | undefined,
  ): void {
    const i = this.records++;
    this.kinds[i] = kind;
    this.flags[i] = flags;
    this.firsts[i] = first;
    this.counts[i] = count;
    this.durables[i] = durable ? 1 : 0;
    this.completions[i] = completion;
  }

  private append(
    payload: Uint8Array | undefined,
    payloadBlocks: number,
    sums: Uint32Array,
    epochStaged = false,
    name?: Uint8Array,
  ): void {
    const records = this.records;
    const headerBytes = headerPages(records, payloadBlocks) * BLOCK_BYTES;
    const lengthBytes = headerBytes + payloadBlocks * BLOCK_BYTES;
    if (!this.findRoom(lengthBytes)) return;
    if (!epochStaged) this.putDescriptors(records);
    const sealed = sealHeader(
      this.header,
      this.headerView,
      {
        epoch: this.epoch,
        firstLsn: this.nextLsn,
        durableThrough: this.syncs.durableLsn,
        wallMs: Math.max(0, Math.floor(this.options.clock.wallMs())),
        records,
        payloadBlocks,
        chain: this.chain,
      },
      sums,
      this.options.checksums,
      name,
    );
    this.parts.length = 0;
    this.parts.push(this.header.subarray(0, sealed.lengthBytes));
    if (payload !== undefined) this.parts.push(payload);
    const handle = this.files.handle(this.file);
    try {
      handle.writeNow(this.parts, this.offset);
    } catch (cause) {
      this.fail('a batch could not be appended to the log', cause);
      return;
    }
    this.stated = this.syncs.durableLsn;
    const payloadAt = this.offset + headerBytes;
    this.offset += lengthBytes;
    this.chain = sealed.chain;
    this.appendedBytes += lengthBytes;
    if (this.offset - this.writtenOutFrom >= WRITE_OUT_BYTES) {
      handle.startWriteOut(this.writtenOutFrom, this.offset - this.writtenOutFrom);
      this.writtenOutFrom = this.offset;
    }
    this.publish(records, payloadAt, sums, lengthBytes);
  }

  /** Moves to the next ready file where the batch does not fit. */
  private findRoom(lengthBytes: number): boolean {
    if (this.offset + lengthBytes <= this.files.sizeBytes(this.file)) return true;
    if (this.file + 1 > this.files.newestFile) {
      this.fail('the log has no room left for a record that was admitted', undefined);
      return false;
    }
    const handle = this.files.handle(this.file);
    if (this.offset > this.writtenOutFrom) handle.startWriteOut(this.writtenOutFrom, this.offset - this.writtenOutFrom);
    this.file++;
    this.offset = 0;
    this.writtenOutFrom = 0;
    return true;
  }

  private putDescriptors(records: number): void {
    for (let i = 0; i < records; i++) {
      const kind = this.kinds[i] ?? 0;
      const count = this.counts[i] ?? 0;
      const payloadBlocks = kind === recordKinds.write ? count : 0;
      putDescriptor(this.headerView, i, kind, this.flags[i] ?? 0, payloadBlocks, this.firsts[i] ?? 0, count);
    }
  }

  /** The batch is written: makes it visible to readers, then acknowledges its records in order. */
  private publish(records: number, payloadAt: number, sums: Uint32Array, lengthBytes: number): void {
    const { overlay } = this.options;
    const firstLsn = this.nextLsn;
    let location = locationOf(this.file, payloadAt);
    let sumsAt = 0;
    for (let i = 0; i < records; i++) {
      const kind = this.kinds[i] ?? 0;
      const first = this.firsts[i] ?? 0;
      const count = this.counts[i] ?? 0;
      if (kind === recordKinds.write) {
        overlay.write(first, count, firstLsn + i, location, sums, sumsAt);
        location += count;
        sumsAt += count;
      } else if (kind === recordKinds.trim || kind === recordKinds.zero) {
        overlay.zero(first, count, firstLsn + i, (this.flags[i] ?? 0) !== 0);
      }
      if (kind !== recordKinds.mark && kind !== recordKinds.epoch) this.lastDataLsn = firstLsn + i;
    }
    this.nextLsn = firstLsn + records;
    this.records = 0;
    const onlyMark = records === 1 && this.kinds[0] === recordKinds.mark;
    this.syncs.appended(this.appendedLsn, this.file, lengthBytes, !onlyMark);
    this.options.onAppend();
    for (let i = 0; i < records; i++) {
      const completion = this.completions[i];
      this.completions[i] = undefined;
      if (completion === undefined) continue;
      if (this.durables[i] === 1) this.syncs.request(this.appendedLsn, completion);
      else this.written.push(completion);
    }
  }

  /**
   * Runs the completions of written records, in LSN order, also when one of them stages and commits further records.
   * Apart from `append`, so that no completion runs inside the call that staged it.
   */
  acknowledge(): void {
    if (this.acknowledging) return;
    this.acknowledging = true;
    for (let i = 0; i < this.written.length && !this.failed; i++) this.written[i]?.done(undefined);
    this.written.length = 0;
    this.acknowledging = false;
  }

  private fail(message: string, cause: unknown): void {
    if (this.failed) return;
    this.failed = true;
    this.syncs.stop();
    this.options.onFatal(new DurabilityLostError(message, { cause }));
  }
}

/** Collects the parts of a request that became several records, so that they are acknowledged together. */
export class JoinedCompletion implements Completion {
  private left: number;
  private readonly inner: Completion;
  private error: GatewayError | undefined;

  constructor(parts: number, inner: Completion) {
    this.left = parts;
    this.inner = inner;
  }

  done(error: GatewayError | undefined): void {
    this.error ??= error;
    if (--this.left === 0) this.inner.done(this.error);
  }
}
