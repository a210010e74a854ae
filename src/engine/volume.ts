/**
 * One volume: the BlockDevice that front ends serve, made of log, overlay and image (design.md, "The way of a write").
 *
 * Responsible for range checks, admission, making whole blocks of any alignment, and the volume's life. It knows no
 * protocol and no bucket. Hot path: an aligned read or write within one wake-up allocates nothing and awaits nothing.
 */
import { assert } from '../base/assert.js';
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber, type ByteLength, type ByteOffset, type Lsn } from '../base/units.js';
import type {
  BlockDevice,
  BlockMark,
  BlockMarkExtent,
  BlockStatusExtent,
  Completion,
  PartialWrite,
} from '../ports/block-device.js';
import type { EngineStatus } from '../ports/volume-status.js';
import { BlockLocks } from './block-lock.js';
import { BlockReader } from './block-reader.js';
import { describeDirty, describeRemote } from './block-marks.js';
import { describeBlocks } from './block-status.js';
import { ByteReader } from './byte-reader.js';
import { BufferPool } from './buffer-pool.js';
import type { Hydration } from './hydration.js';
import { ImageAudit } from './image-audit.js';
import { JoinedCompletion } from './log.js';
import { BlockWrite } from './partial-write.js';
import { ReplicationSource } from './replication-source.js';
import { SnapshotRecorder } from './snapshot-recorder.js';
import { VolumeGrowth } from './volume-growth.js';
import { openVolumeParts, type VolumeOptions, type VolumeParts } from './volume-open.js';
import { VolumeReport } from './volume-report.js';
import { WaitingReads } from './waiting-reads.js';
import { WriteAdmission } from './write-admission.js';
import { WriteRefusal } from './write-refusal.js';
import { WriteRoom } from './write-room.js';

export type { VolumeOptions } from './volume-open.js';

const zeros = new Uint8Array(BLOCK_BYTES);

export class Volume implements BlockDevice {
  readonly name: string;
  readonly uuid: string;
  private readonly options: VolumeOptions;
  private readonly parts: VolumeParts;
  private readonly bytes: ByteReader;
  private readonly locks = new BlockLocks();
  private readonly admission: WriteAdmission;
  private readonly pool: BufferPool;
  private readonly waitingReads: WaitingReads;
  private readonly room: WriteRoom;
  private readonly report: VolumeReport;
  readonly replication: ReplicationSource;
  readonly snapshots: SnapshotRecorder;
  readonly growth: VolumeGrowth;
  readonly audit: ImageAudit;
  private commitScheduled = false;
  private writeProtected: boolean;
  private closed = false;
  private fatal: Error | undefined;
  private readonly refusal: WriteRefusal;

  private constructor(options: VolumeOptions, parts: VolumeParts) {
    this.options = options;
    this.parts = parts;
    this.name = options.name;
    this.uuid = parts.identity.uuid;
    this.writeProtected = options.readOnly;
    this.pool = new BufferPool(options.checksums);
    const isClosed = (): boolean => this.closed;
    this.replication = new ReplicationSource({ parts, replicated: options.replicated, isClosed });
    this.report = new VolumeReport({ ...options, volume: this.name, parts, replication: this.replication });
    const recording = { volume: this.name, parts, commit: () => this.commit(), flush: () => this.forceFlush() };
    this.growth = new VolumeGrowth({ ...recording, isClosed, isReadOnly: () => this.writeProtected });
    this.snapshots = new SnapshotRecorder({
      ...recording,
      clock: options.clock,
      isClosed: () => this.closed || this.fatal !== undefined,
    });
    this.audit = new ImageAudit(parts, options.remoteCopy);
    const onRot = (block: BlockNumber): void => this.report.noteRot(block);
    parts.events.onRot = onRot;
    const reader = new BlockReader({
      overlay: parts.overlay,
      image: parts.image,
      files: parts.log.files,
      checksums: options.checksums,
      healer: parts.healer,
      hydration: parts.hydration,
      onRot,
    });
    this.bytes = new ByteReader(reader);
    const { bytes, pool } = this;
    this.waitingReads = new WaitingReads({ volume: this.name, bytes, pool, filled: parts.filled, log: options.log });
    this.room = new WriteRoom(parts, () => this.writable);
    this.admission = new WriteAdmission({
      log: parts.log,
      locks: this.locks,
      reader,
      hasRoom: () => this.room.isThere,
      onQueued: () => this.scheduleCommit(),
    });
    this.refusal = new WriteRefusal({
      volume: options.name,
      timeoutMs: options.fullTimeoutMs,
      clock: options.clock,
      log: options.log,
      onRefuse: (error) => {
        this.admission.failAll(error);
        this.room.wake();
      },
    });
    parts.events.onAppend = () => {
      parts.reclaimer.appended();
      this.replication.ages.note(parts.log.dataLsn, options.clock.wallMs());
    };
    parts.events.onDurable = () => {
      parts.reclaimer.durable();
      this.replication.announce();
    };
    parts.events.onProgress = () => {
      this.progressed();
    };
    parts.events.onQuiet = () => {
      for (const part of [parts.log, parts.destager, this.pool]) part.releaseMemory();
    };
    parts.events.onFatal = (error) => {
      this.fail(error);
    };
    parts.events.onLost = (block, lsn) => {
      this.report.noteLost(block, lsn);
    };
    parts.events.onHealed = (block) => {
      this.report.noteHealed(block);
    };
    parts.reclaimer.wake(false);
  }

  /** Locks the directory, recovers what a crash left, and begins a new log epoch; nothing is accepted before that is durable. */
  static async open(options: VolumeOptions): Promise<Volume> {
    const parts = await openVolumeParts(options);
    const volume = new Volume(options, parts);
    try {
      if (options.minimumSizeBytes > volume.sizeBytes && !volume.readOnly)
        await volume.growth.to(options.minimumSizeBytes);
    } catch (error) {
      await volume.close().catch(() => undefined);
      throw error;
    }
    return volume;
  }

  get sizeBytes(): ByteLength {
    return this.parts.size.bytes;
  }

  get readOnly(): boolean {
    return this.writeProtected;
  }

  /** Fenced volumes serve reads only. */
  setWritable(allowed: boolean): void {
    this.writeProtected = !allowed || this.options.readOnly;
  }

  // Reads

  read(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    target: Uint8Array,
    targetStart: number,
    completion: Completion,
  ): boolean {
    this.check(offset, lengthBytes, 'read');
    const done = this.bytes.readNow(offset, lengthBytes, target, targetStart);
    if (!done) void this.waitingReads.read(offset, lengthBytes, target, targetStart, completion);
    return done;
  }

  // Writes

  get writable(): boolean {
    if (this.closed || this.refusal.error !== undefined) return true; // the write itself is refused
    if (!this.room.hasMemory) return false;
    return (this.room.isThere && this.admission.isEmpty) || this.options.whenFull === 'fail';
  }

  get zeroable(): boolean {
    return this.writable || this.room.isForZerosOnly;
  }

  onceWritable(listener: () => void): void {
    this.room.onceWoken(listener);
  }

  write(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    source: Uint8Array,
    sourceStart: number,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.check(offset, lengthBytes, 'write');
    const first = offset / BLOCK_BYTES;
    const count = lengthBytes / BLOCK_BYTES;
    const direct = offset % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0 && this.isFree(first, count);
    if (!direct || lengthBytes === 0) {
      const write = this.openWrite(offset, lengthBytes);
      write.fill(source, sourceStart, sourceStart + lengthBytes);
      write.submit(forceUnitAccess, completion);
      return;
    }
    this.scheduleCommit();
    for (let done = 0; done < count;) {
      const run = Math.min(this.parts.log.files.batchBlocksMax, count - done);
      const last = done + run === count;
      this.parts.log.stageWrite(
        first + done,
        run,
        source,
        sourceStart + done * BLOCK_BYTES,
        last && forceUnitAccess,
        last ? completion : undefined,
      );
      done += run;
    }
  }

  openWrite(offset: ByteOffset, lengthBytes: ByteLength): PartialWrite {
    this.check(offset, lengthBytes, 'write');
    return this.open(offset, lengthBytes, false);
  }

  update(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    change: (bytes: Uint8Array) => boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    assert(lengthBytes <= limits.updateBytesMax, 'an update is one record');
    this.check(offset, lengthBytes, 'write');
    const write = this.open(offset, lengthBytes, false);
    write.forceUnitAccess = forceUnitAccess;
    write.completion = completion;
    this.scheduleCommit();
    this.admission.update(write, change);
  }

  /**
   * Writes a block again as it is at its place in the order of writes: read and merged under its lock, as the ends of any
   * write are, so that no write of a client is lost by it. checksum-mismatch where it has rotted for good.
   */
  rewrite(block: BlockNumber, completion: Completion): void {
    this.check(block * BLOCK_BYTES, BLOCK_BYTES, 'write');
    this.open(block * BLOCK_BYTES, 0, true).submit(false, completion);
  }

  private open(offset: ByteOffset, lengthBytes: ByteLength, rewrites: boolean): BlockWrite {
    const onSubmit = (write: BlockWrite): void => {
      this.scheduleCommit();
      this.admission.write(write);
    };
    const write = new BlockWrite(
      {
        checksums: this.options.checksums,
        pool: this.pool,
        pieceBlocksMax: this.parts.log.files.batchBlocksMax,
        onSubmit,
        onRelease: this.room.released,
        rewrites,
      },
      offset,
      lengthBytes,
    );
    this.room.hold(write);
    return write;
  }

  trim(offset: ByteOffset, lengthBytes: ByteLength, forceUnitAccess: boolean, completion: Completion): void {
    this.makeZero('trim', offset, lengthBytes, true, forceUnitAccess, completion);
  }

  zero(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    mayPunch: boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.makeZero('zero', offset, lengthBytes, mayPunch, forceUnitAccess, completion);
  }

  /** One record for the whole blocks, and ordinary small writes of zeros for what is left at the ends. */
  private makeZero(
    kind: 'trim' | 'zero',
    offset: ByteOffset,
    lengthBytes: ByteLength,
    mayPunch: boolean,
    durable: boolean,
    completion: Completion,
  ): void {
    const end = offset + lengthBytes;
    const first = Math.ceil(offset / BLOCK_BYTES);
    const last = Math.floor(end / BLOCK_BYTES);
    const whole = first * BLOCK_BYTES === offset && last * BLOCK_BYTES === end;
    // Ends within a block are writes like any other.
    this.check(offset, lengthBytes, whole ? 'zero' : 'write');
    this.scheduleCommit();
    if (first >= last) {
      // Within one block, or across two of which none is whole.
      this.writeZeros(offset, lengthBytes, durable, completion);
      return;
    }
    const head = first * BLOCK_BYTES - offset;
    const tail = end - last * BLOCK_BYTES;
    const joined =
      head + tail === 0 ? completion : new JoinedCompletion(1 + (head > 0 ? 1 : 0) + (tail > 0 ? 1 : 0), completion);
    if (head > 0) this.writeZeros(offset, head, durable, joined);
    if (this.isFree(first, last - first))
      this.parts.log.stageRecord(kind, first, last - first, !mayPunch, durable, joined);
    else this.admission.record(kind, first, last - first, !mayPunch, durable, joined, () => this.room.isForZerosOnly);
    if (tail > 0) this.writeZeros(last * BLOCK_BYTES, tail, durable, joined);
  }

  private writeZeros(offset: ByteOffset, lengthBytes: ByteLength, durable: boolean, completion: Completion): void {
    const write = this.openWrite(offset, lengthBytes);
    for (let left = lengthBytes; left > 0; left -= BLOCK_BYTES) write.fill(zeros, 0, Math.min(left, BLOCK_BYTES));
    write.submit(durable, completion);
  }

  zeroIsFast(offset: ByteOffset, lengthBytes: ByteLength): boolean {
    const whole = offset % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0;
    return whole && this.isFree(offset / BLOCK_BYTES, lengthBytes / BLOCK_BYTES);
  }

  flush(completion: Completion): void {
    if (this.closed) throw new GatewayError('volume-closed', `volume ${this.name} is closing`);
    this.parts.log.flush(completion);
  }

  cache(offset: ByteOffset, lengthBytes: ByteLength, completion: Completion): void {
    this.check(offset, lengthBytes, 'read');
    void this.waitingReads.warm(offset, lengthBytes).then((error) => completion.done(error));
  }

  commit(): void {
    this.parts.log.commit();
    this.parts.log.acknowledge();
  }

  blockStatus(offset: ByteOffset, lengthBytes: ByteLength, extentsMax: number): Promise<BlockStatusExtent[]> {
    this.check(offset, lengthBytes, 'read');
    return describeBlocks(this.parts, offset, lengthBytes, extentsMax);
  }

  /** As blockStatus, by what is here alone: what only the bucket has is data. */
  localStatus(offset: ByteOffset, lengthBytes: ByteLength, extentsMax: number): Promise<BlockStatusExtent[]> {
    this.check(offset, lengthBytes, 'read');
    return describeBlocks({ ...this.parts, hydration: undefined }, offset, lengthBytes, extentsMax);
  }

  get marks(): readonly BlockMark[] {
    return this.options.replicated ? ['dirty', 'remote'] : ['remote'];
  }

  blockMarks(
    mark: BlockMark,
    offset: ByteOffset,
    lengthBytes: ByteLength,
    extentsMax: number,
  ): Promise<BlockMarkExtent[]> {
    this.check(offset, lengthBytes, 'read');
    const { overlay, unreplicated, progress, rounds, filled } = this.parts;
    if (mark === 'remote') return describeRemote(filled, offset, lengthBytes, extentsMax);
    const { replicatedLsn, tracking } = progress;
    const tracked = tracking ? (block: BlockNumber): boolean => rounds.isDirty(block) : undefined;
    const dirty = { overlay, unreplicated, replicatedLsn, tracked };
    return Promise.resolve(describeDirty(dirty, offset, lengthBytes, extentsMax));
  }

  // Life

  /** Makes everything acknowledged durable; the LSN that is. */
  async forceFlush(): Promise<Lsn> {
    await new Promise<void>((resolve) => this.parts.log.flush({ done: () => resolve() }));
    return this.parts.log.dataLsn;
  }

  status(): EngineStatus {
    return this.report.status(this.fatal);
  }

  /** Of a restored volume whose content still comes from the bucket. */
  get hydration(): Hydration | undefined {
    return this.parts.hydration;
  }

  /** Finishes what is in flight, makes all of it durable and leaves a clean superblock. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.refusal.cancel();
    this.commit();
    this.admission.close(new GatewayError('volume-closed', `volume ${this.name} is closing`));
    this.room.wake();
    await this.parts.healer?.stop();
    await this.parts.hydration?.stop();
    try {
      if (this.fatal === undefined) {
        await this.forceFlush();
        await this.waitingReads.idle();
        await this.parts.reclaimer.close();
      }
    } finally {
      this.parts.reclaimer.abandon();
      this.parts.log.syncs.stop();
      await this.parts.close();
    }
  }

  // Inner workings

  /** Whether a write of whole blocks may be staged at once. */
  private isFree(first: number, count: number): boolean {
    return (
      this.room.isThere && this.admission.isEmpty && (this.locks.isIdle || !this.locks.conflicts(first, first + count))
    );
  }

  private check(offset: ByteOffset, lengthBytes: ByteLength, kind: 'read' | 'write' | 'zero'): void {
    if (this.closed || this.fatal !== undefined)
      throw new GatewayError('volume-closed', `volume ${this.name} is closed`);
    if (offset < 0 || lengthBytes <= 0 || offset + lengthBytes > this.sizeBytes) {
      throw new GatewayError(
        'out-of-range',
        `bytes ${offset} to ${offset + lengthBytes} are beyond volume ${this.name} (${this.sizeBytes} bytes)`,
      );
    }
    if (kind === 'read') return;
    if (this.writeProtected) throw new GatewayError('read-only', `volume ${this.name} is read-only`);
    if (kind === 'zero' && this.room.isForZerosOnly) return;
    if (this.refusal.error !== undefined) throw this.refusal.error;
    if (this.options.whenFull === 'fail' && !this.parts.log.hasRoom) {
      throw new GatewayError('buffer-full', `the buffer of volume ${this.name} is full`);
    }
  }

  /** A front end that does not commit is served at the end of its turn. */
  private scheduleCommit(): void {
    if (this.commitScheduled) return;
    this.commitScheduled = true;
    queueMicrotask(() => {
      this.commitScheduled = false;
      this.commit();
    });
  }

  /** The reclaimer made room, or ran out of it. */
  private progressed(): void {
    const { stalled, failed } = this.parts.reclaimer;
    // A log that cannot be emptied stops nobody before it is full.
    const blocker = stalled ?? (this.parts.log.hasRoom ? undefined : failed);
    this.refusal.update(blocker);
    this.admission.pump();
    this.commit();
    if (this.writable) this.room.wake();
  }

  private fail(error: Error): void {
    if (this.fatal !== undefined) return;
    this.fatal = error;
    this.options.onFatal(
      error instanceof DurabilityLostError ? error : new DurabilityLostError(error.message, { cause: error }),
    );
  }
}
