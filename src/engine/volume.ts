/**
 * One volume: the BlockDevice that front ends serve, made of log, overlay and image (design.md, "The way of a write").
 *
 * Responsible for range checks, admission, making whole blocks of any alignment, and the volume's state. It knows no
 * protocol and no bucket. Hot path: an aligned read or write within one wake-up allocates nothing and awaits nothing.
 */
import { assert } from '../base/assert.js';
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber, type ByteLength, type ByteOffset, type Lsn } from '../base/units.js';
import { SUM_REMOTE, SUMS_PER_PAGE } from './sums.js';
import type {
  BlockDevice,
  BlockMark,
  BlockMarkExtent,
  BlockStatusExtent,
  Completion,
  PartialWrite,
} from '../ports/block-device.js';
import type { DurableState, ReplicationState, RoundSource } from '../ports/replication.js';
import type { EngineStatus, VolumeState } from '../ports/volume-status.js';
import { BlockLocks } from './block-lock.js';
import { BlockReader } from './block-reader.js';
import { describeDirty, describeRemote } from './block-marks.js';
import { describeBlocks } from './block-status.js';
import { ByteReader } from './byte-reader.js';
import { BufferPool } from './buffer-pool.js';
import type { Hydration } from './hydration.js';
import { JoinedCompletion } from './log.js';
import { BlockWrite } from './partial-write.js';
import { PendingAges } from './pending-ages.js';
import { SnapshotRecorder } from './snapshot-recorder.js';
import { openVolumeParts, type VolumeOptions, type VolumeParts } from './volume-open.js';
import { WriteAdmission } from './write-admission.js';
import { WriteRefusal } from './write-refusal.js';

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
  private readonly ages: PendingAges;
  /** For the replicator of a volume that is tracked. */
  readonly roundSource: RoundSource;
  readonly snapshots: SnapshotRecorder;
  private readonly writableListeners: (() => void)[] = [];
  private readonly durableListeners: ((state: DurableState) => void)[] = [];
  /** Memory of writes whose payload is arriving or waits to be appended. */
  private heldBytes = 0;
  private readsInFlight = 0;
  private readsIdle: (() => void) | undefined;
  private commitScheduled = false;
  private writeProtected: boolean;
  private closed = false;
  private resizing: Promise<void> = Promise.resolve();
  private fatal: Error | undefined;
  private readonly refusal: WriteRefusal;
  private checksumErrors = 0;
  private healedBlocks = 0;

  private constructor(options: VolumeOptions, parts: VolumeParts) {
    this.options = options;
    this.parts = parts;
    this.name = options.name;
    this.uuid = parts.identity.uuid;
    this.writeProtected = options.readOnly;
    this.pool = new BufferPool(options.checksums);
    const { reclaimer, rounds, destager } = parts;
    this.roundSource = {
      begin: () => reclaimer.beginRound(),
      read: (round, from, blocksMax) => destager.alone(() => rounds.read(round, from, blocksMax)),
      end: (round) => reclaimer.endRound(round),
    };
    this.snapshots = new SnapshotRecorder({
      volume: this.name,
      parts,
      clock: options.clock,
      isClosed: () => this.closed || this.fatal !== undefined,
      commit: () => this.commit(),
      flush: () => this.forceFlush(),
    });
    this.ages = new PendingAges(parts.oldestPendingMs, parts.log.appendedLsn);
    const onRot = (block: BlockNumber): void =>
      this.noteRot(`block ${block} of volume ${this.name} cannot be trusted: its checksum does not match`, block);
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
    this.admission = new WriteAdmission({
      log: parts.log,
      locks: this.locks,
      reader,
      hasRoom: () => this.hasRoom,
      onQueued: () => this.scheduleCommit(),
    });
    this.refusal = new WriteRefusal({
      volume: options.name,
      timeoutMs: options.fullTimeoutMs,
      clock: options.clock,
      log: options.log,
      onRefuse: (error) => {
        this.admission.failAll(error);
        this.wakeWriters();
      },
    });
    parts.events.onAppend = () => {
      parts.reclaimer.appended();
      this.ages.note(parts.log.dataLsn, options.clock.wallMs());
    };
    parts.events.onDurable = () => {
      parts.reclaimer.durable();
      for (const listener of this.durableListeners) listener(this.durableState());
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
      this.noteRot(
        `block ${block} (LSN ${lsn}) of volume ${this.name} rotted in the log on its way to the image`,
        block,
      );
    };
    parts.events.onHealed = (block) => {
      this.healedBlocks++;
      options.log.warn(`block ${block} of volume ${this.name} was healed from the bucket`, {
        volume: this.name,
        block,
      });
    };
    parts.reclaimer.wake(false);
  }

  /** Locks the directory, recovers what a crash left, and begins a new log epoch; nothing is accepted before that is durable. */
  static async open(options: VolumeOptions): Promise<Volume> {
    const parts = await openVolumeParts(options);
    const volume = new Volume(options, parts);
    try {
      if (options.minimumSizeBytes > volume.sizeBytes && !volume.readOnly)
        await volume.resize(options.minimumSizeBytes);
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
    if (!done) void this.readSlowly(offset, lengthBytes, target, targetStart, completion);
    return done;
  }

  private async readSlowly(
    offset: ByteOffset,
    lengthBytes: ByteLength,
    target: Uint8Array,
    targetStart: number,
    completion: Completion,
  ): Promise<void> {
    this.readsInFlight++;
    let failure: GatewayError | undefined;
    try {
      await this.bytes.read(offset, lengthBytes, target, targetStart);
    } catch (error) {
      failure = this.noteReadError(error);
    }
    this.readsInFlight--;
    if (this.readsInFlight === 0) this.readsIdle?.();
    completion.done(failure);
  }

  private noteReadError(error: unknown): GatewayError {
    const known =
      error instanceof GatewayError ? error : new GatewayError('disk-failed', String(error), { cause: error });
    this.options.log.error(known.message, { volume: this.name, code: known.code });
    return known;
  }

  private noteRot(message: string, block: BlockNumber): void {
    this.checksumErrors++;
    this.options.log.error(message, { volume: this.name, block });
  }

  // Writes

  get writable(): boolean {
    if (this.closed || this.refusal.error !== undefined) return true; // the write itself is refused
    if (this.heldBytes >= limits.heldWriteBytesMax) return false;
    return (this.hasRoom && this.admission.isEmpty) || this.options.whenFull === 'fail';
  }

  get zeroable(): boolean {
    return this.writable || this.takesZerosOnly;
  }

  onceWritable(listener: () => void): void {
    this.writableListeners.push(listener);
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

  /** The sum of the image's block; undefined: its newest version is in the log, or the sum is lost. */
  async settledSum(block: BlockNumber): Promise<number | undefined> {
    const { overlay, image } = this.parts;
    if (overlay.lookup(block) !== -1) return undefined;
    const sum = (await image.sums.page(block))[block % SUMS_PER_PAGE];
    return sum === SUM_REMOTE ? undefined : sum;
  }

  /**
   * Whether the image's block is older than the bucket's although nothing of it is pending: what the disk said to have
   * written was lost, sum and all. `put` puts it right. Rejects where the bucket does not give its copy.
   */
  async contradicted(block: BlockNumber, put: boolean): Promise<boolean> {
    const { destager } = this.parts;
    const { remoteCopy } = this.options;
    if (remoteCopy === undefined) return false;
    const watch = await destager.watch(block);
    try {
      return await destager.contradicted(watch, await remoteCopy.fetch(block, watch.lsn), put);
    } finally {
      destager.unwatch(watch);
    }
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
        onRelease: this.released,
        rewrites,
      },
      offset,
      lengthBytes,
    );
    this.heldBytes += write.heldBytes;
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
    else this.admission.record(kind, first, last - first, !mayPunch, durable, joined, () => this.takesZerosOnly);
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
    void this.warm(offset, lengthBytes).then((error) => completion.done(error));
  }

  private async warm(offset: ByteOffset, lengthBytes: ByteLength): Promise<GatewayError | undefined> {
    const { filled } = this.parts;
    const buffer = this.pool.take(limits.recordBytesMax);
    try {
      for (let done = 0; done < lengthBytes; done += buffer.length) {
        const length = Math.min(buffer.length, lengthBytes - done);
        const first = Math.floor((offset + done) / BLOCK_BYTES);
        const count = Math.ceil((offset + done + length) / BLOCK_BYTES) - first;
        const absent = filled !== undefined && !filled.done && (await filled.wanted(first, count)).includes(1);
        // What is here needs no help to be read fast: no more of it is brought into memory than there may be room for.
        if (absent || done < limits.cachedBytesMax) await this.bytes.read(offset + done, length, buffer, 0);
        else if (filled === undefined || filled.done) break;
      }
      return undefined;
    } catch (error) {
      return this.noteReadError(error);
    } finally {
      this.pool.give(buffer);
    }
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

  /** Grows the volume, durably once it resolves. The size is a record, so that a recovery point knows it. */
  resize(sizeBytes: ByteLength): Promise<void> {
    // One after another: of two at once the smaller one could cut off what the other one added.
    const resized = this.resizing.then(() => this.grow(sizeBytes));
    this.resizing = resized.catch(() => undefined);
    return resized;
  }

  private async grow(sizeBytes: ByteLength): Promise<void> {
    if (this.closed) throw new GatewayError('volume-closed', `volume ${this.name} is closing`);
    if (this.writeProtected) throw new GatewayError('read-only', `volume ${this.name} is read-only`);
    if (sizeBytes % BLOCK_BYTES !== 0 || sizeBytes < this.sizeBytes || sizeBytes > limits.volumeBytesMax) {
      throw new GatewayError(
        'size-invalid',
        `volume ${this.name} has ${this.sizeBytes} bytes and cannot get ${sizeBytes}: a volume only grows, by whole blocks of ${BLOCK_BYTES}, to ${limits.volumeBytesMax} at most`,
      );
    }
    if (sizeBytes === this.sizeBytes) return;
    await this.parts.space?.grow(this.sizeBytes, sizeBytes);
    await this.parts.image.file.truncate(sizeBytes);
    this.parts.log.stageRecord('resize', 0, sizeBytes, false, false, undefined);
    this.commit();
    await this.forceFlush();
    this.parts.size.bytes = sizeBytes;
    await this.parts.reclaimer.recordSoon();
  }

  /** The bucket stays at what it has, whatever is written, until `releaseRounds`. */
  holdRounds(): Promise<void> {
    return this.parts.reclaimer.holdRounds();
  }

  releaseRounds(): void {
    this.parts.reclaimer.releaseRounds();
  }

  /** Makes everything acknowledged durable; the LSN that is. */
  async forceFlush(): Promise<Lsn> {
    await new Promise<void>((resolve) => this.parts.log.flush({ done: () => resolve() }));
    return this.parts.log.dataLsn;
  }

  status(): EngineStatus {
    const { log, reclaimer, progress, overlay, destager, rounds } = this.parts;
    const trackedDirtyBlocks = rounds.dirtyBlocks(this.sizeBytes);
    return {
      state: this.state,
      reason: (this.fatal ?? reclaimer.failed ?? reclaimer.stalled)?.message,
      sizeBytes: this.sizeBytes,
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
      oldestPendingMs: this.durableState().oldestPendingMs,
      flushes: log.syncs.stats,
      checksumErrors: this.checksumErrors,
      healedBlocks: this.healedBlocks,
      provision: { mode: this.options.provision, problem: this.parts.space?.problem },
    };
  }

  private pendingBytes(trackedDirtyBlocks: number): number {
    const { log, reclaimer, progress, destager } = this.parts;
    const { replicatedLsn, cursor } = progress.replication;
    if (!this.options.replicated || replicatedLsn >= log.dataLsn) return 0;
    if (progress.tracking) return trackedDirtyBlocks * BLOCK_BYTES + reclaimer.distance(destager.cursor, log.head);
    return reclaimer.distance(cursor, log.head);
  }

  private get state(): VolumeState {
    if (this.fatal !== undefined || this.parts.reclaimer.failed !== undefined) return 'failed';
    if (this.parts.progress.replication.fenced) return 'fenced';
    if (this.parts.reclaimer.stalled !== undefined) return 'stalled';
    return this.parts.hydration?.active === true ? 'hydrating' : 'online';
  }

  durableState(): DurableState {
    const { log, progress } = this.parts;
    const { replicatedLsn } = progress.replication;
    const caughtUp = !this.options.replicated || replicatedLsn >= log.dataLsn;
    return {
      durableLsn: log.durableLsn,
      sizeBytes: this.sizeBytes,
      oldestPendingMs: caughtUp ? 0 : this.ages.oldestMs(replicatedLsn),
      destagedLsn: progress.destagedLsn,
      segmentRecorded: progress.superblock.segmentRecorded,
    };
  }

  replicationState(): ReplicationState {
    return this.parts.progress.replication;
  }

  /** Of a restored volume whose content still comes from the bucket. */
  get hydration(): Hydration | undefined {
    return this.parts.hydration;
  }

  onDurable(listener: (state: DurableState) => void): void {
    this.durableListeners.push(listener);
  }

  /** The bucket has everything up to state.replicatedLsn: recorded in the superblock, then log space goes (P4). */
  replicated(state: ReplicationState): void {
    if (!this.closed) this.parts.reclaimer.replicatedTo(state);
  }

  /** Finishes what is in flight, makes all of it durable and leaves a clean superblock. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.refusal.cancel();
    this.commit();
    this.admission.close(new GatewayError('volume-closed', `volume ${this.name} is closing`));
    this.wakeWriters();
    await this.parts.healer?.stop();
    await this.parts.hydration?.stop();
    try {
      if (this.fatal === undefined) {
        await this.forceFlush();
        if (this.readsInFlight > 0) await new Promise<void>((resolve) => (this.readsIdle = resolve));
        await this.parts.reclaimer.close();
      }
    } finally {
      this.parts.reclaimer.abandon();
      this.parts.log.syncs.stop();
      await this.parts.close();
    }
  }

  // Inner workings

  private readonly released = (write: BlockWrite): void => {
    const wasFull = this.heldBytes >= limits.heldWriteBytesMax;
    this.heldBytes -= write.heldBytes;
    // At the end of the turn: whoever waits goes on by opening the next write.
    if (wasFull && this.heldBytes < limits.heldWriteBytesMax) queueMicrotask(() => this.writable && this.wakeWriters());
  };

  private get hasRoom(): boolean {
    return this.parts.log.hasRoom && !this.parts.overlay.isFull && this.parts.reclaimer.stalled === undefined;
  }

  /** Whether a write of whole blocks may be staged at once. */
  private isFree(first: number, count: number): boolean {
    return this.hasRoom && this.admission.isEmpty && (this.locks.isIdle || !this.locks.conflicts(first, first + count));
  }

  /** Trims and zeros pass the writes that wait for disk space: they take none, and may be what frees it. */
  private get takesZerosOnly(): boolean {
    const { reclaimer, log, overlay } = this.parts;
    return reclaimer.stalled !== undefined && log.hasRoomForZeros && !overlay.isFull;
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
    if (kind === 'zero' && this.takesZerosOnly) return;
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
    if (this.writable) this.wakeWriters();
  }

  private wakeWriters(): void {
    for (const listener of this.writableListeners.splice(0)) listener();
  }

  private fail(error: Error): void {
    if (this.fatal !== undefined) return;
    this.fatal = error;
    this.options.onFatal(
      error instanceof DurabilityLostError ? error : new DurabilityLostError(error.message, { cause: error }),
    );
  }
}
