/**
 * A volume in memory, and a directory of such volumes, honouring the contracts of src/ports/block-device.ts and
 * src/ports/volume-directory.ts, for the tests of front ends. It checks the caller's side of the contract too: a write
 * while the device is not writable, or a PartialWrite that is ended twice, is an InvariantError.
 *
 * What a test can ask for: reads and flushes that wait until they are released, in any order (`holdReads`,
 * `heldReads`, `holdFlushes`, `heldFlushes`); a device that is not writable for a while; an error for the next request
 * of a kind. What it can look at: `image`, `history`, `commits`, `partialWritesOpen`, `partialWritesAbandoned`.
 */
import { assert } from '../../src/base/assert.js';
import { GatewayError } from '../../src/base/errors.js';
import { IoStats } from '../../src/base/io-stats.js';
import { BLOCK_BYTES } from '../../src/base/units.js';
import type {
  BlockDevice,
  BlockMark,
  BlockMarkExtent,
  BlockStatusExtent,
  Completion,
  PartialWrite,
} from '../../src/ports/block-device.js';
import type {
  Attachment,
  ClientIdentity,
  ServedVolume,
  SessionControl,
  VolumeDirectory,
} from '../../src/ports/volume-directory.js';
import { unreserved } from '../../src/ports/volume-reservations.js';
import type { HeldReservation, SavedReservations, VolumeReservations } from '../../src/ports/volume-reservations.js';

export type DeviceOp = 'read' | 'write' | 'trim' | 'zero' | 'flush' | 'cache';

export interface HistoryEntry {
  readonly op: DeviceOp;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly forceUnitAccess: boolean;
  readonly mayPunch: boolean;
}

/** A request that waits for the test: `release` ends it, with an error if one is given. */
export interface Held {
  readonly offset: number;
  readonly lengthBytes: number;
  release(error?: GatewayError): void;
}

export interface MemoryDeviceOptions {
  readonly name?: string;
  readonly sizeBytes?: number;
  readonly readOnly?: boolean;
  /** Keep `history`; off for benchmarks. Default true. */
  readonly keepHistory?: boolean;
}

export class MemoryDevice implements BlockDevice {
  readonly name: string;
  readonly uuid = '0f0e0d0c-0b0a-4908-8706-050403020100';
  readOnly: boolean;
  image: Uint8Array;
  readonly history: HistoryEntry[] = [];
  commits = 0;
  partialWritesOpen = 0;
  partialWritesAbandoned = 0;
  /** Reads answer false and wait in heldReads. */
  holdReads = false;
  readonly heldReads: Held[] = [];
  /** Flushes, and writes with forceUnitAccess, wait in heldFlushes. */
  holdFlushes = false;
  readonly heldFlushes: Held[] = [];

  /** Set: blockStatus rejects with it. */
  failStatus: GatewayError | undefined;
  readonly marks: readonly BlockMark[] = ['dirty', 'remote'];
  /** Numbers of the blocks that have each mark, as the test wants. */
  readonly marked: Readonly<Record<BlockMark, Set<number>>> = { dirty: new Set(), remote: new Set() };

  readonly #keepHistory: boolean;
  readonly #failures = new Map<DeviceOp, GatewayError>();
  readonly #writableListeners: (() => void)[] = [];
  #staged: Completion[] = [];
  #spare: Completion[] = [];
  #failed = new Map<Completion, GatewayError>();
  #commitScheduled = false;
  #writable = true;
  #closed = false;

  constructor(options: MemoryDeviceOptions = {}) {
    this.name = options.name ?? 'demo';
    this.image = new Uint8Array(options.sizeBytes ?? 64 * 1024 * 1024);
    assert(this.image.length % BLOCK_BYTES === 0, 'a volume is whole blocks');
    this.readOnly = options.readOnly ?? false;
    this.#keepHistory = options.keepHistory ?? true;
  }

  get sizeBytes(): number {
    return this.image.length;
  }

  get writable(): boolean {
    return this.#writable;
  }

  get zeroable(): boolean {
    return this.#writable;
  }

  set writable(value: boolean) {
    this.#writable = value;
    if (!value) return;
    for (const listener of this.#writableListeners.splice(0)) listener();
  }

  onceWritable(listener: () => void): void {
    this.#writableListeners.push(listener);
  }

  /** The next request of this kind ends with `error`, by its completion. */
  failNext(op: DeviceOp, error: GatewayError): void {
    this.#failures.set(op, error);
  }

  /** Every later request is refused with volume-closed. */
  close(): void {
    this.#closed = true;
  }

  grow(sizeBytes: number): void {
    assert(sizeBytes >= this.image.length && sizeBytes % BLOCK_BYTES === 0, 'a volume grows by whole blocks');
    const image = new Uint8Array(sizeBytes);
    image.set(this.image);
    this.image = image;
  }

  read(offset: number, lengthBytes: number, target: Uint8Array, targetStart: number, completion: Completion): boolean {
    this.#admit('read', offset, lengthBytes);
    if (this.#keepHistory) this.#note('read', offset, lengthBytes, false, false);
    const error = this.#failures.get('read');
    if (error === undefined && !this.holdReads) {
      target.set(this.image.subarray(offset, offset + lengthBytes), targetStart);
      return true;
    }
    this.#failures.delete('read');
    const end = (failure: GatewayError | undefined): void => {
      if (failure === undefined) target.set(this.image.subarray(offset, offset + lengthBytes), targetStart);
      completion.done(failure);
    };
    if (this.holdReads) this.heldReads.push(held(offset, lengthBytes, (failure) => end(failure ?? error)));
    else queueMicrotask(() => end(error));
    return false;
  }

  write(
    offset: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceStart: number,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.#admitWrite('write', offset, lengthBytes);
    this.image.set(source.subarray(sourceStart, sourceStart + lengthBytes), offset);
    this.#stage('write', offset, lengthBytes, forceUnitAccess, false, completion);
  }

  openWrite(offset: number, lengthBytes: number): PartialWrite {
    this.#admitWrite('write', offset, lengthBytes);
    const payload = new Uint8Array(lengthBytes);
    let filled = 0;
    let ended = false;
    const finish = (): void => {
      assert(!ended, 'a partial write ends once');
      ended = true;
      this.partialWritesOpen--;
    };
    this.partialWritesOpen++;
    return {
      get remainingBytes(): number {
        return lengthBytes - filled;
      },
      fill: (source, start, end) => {
        assert(!ended && end >= start && end - start <= lengthBytes - filled, 'a piece fits what remains');
        payload.set(source.subarray(start, end), filled);
        filled += end - start;
      },
      submit: (forceUnitAccess, completion) => {
        finish();
        assert(filled === lengthBytes, 'a partial write is submitted when it is complete');
        this.#admit('write', offset, lengthBytes);
        this.image.set(payload, offset);
        this.#stage('write', offset, lengthBytes, forceUnitAccess, false, completion);
      },
      abandon: () => {
        finish();
        this.partialWritesAbandoned++;
      },
    };
  }

  update(
    offset: number,
    lengthBytes: number,
    change: (bytes: Uint8Array) => boolean,
    forceUnitAccess: boolean,
    completion: Completion,
  ): void {
    this.#admitWrite('write', offset, lengthBytes);
    queueMicrotask(() => {
      if (change(this.image.subarray(offset, offset + lengthBytes)))
        this.#stage('write', offset, lengthBytes, forceUnitAccess, false, completion);
      else completion.done(undefined);
    });
  }

  trim(offset: number, lengthBytes: number, forceUnitAccess: boolean, completion: Completion): void {
    this.#admitWrite('trim', offset, lengthBytes);
    this.image.fill(0, offset, offset + lengthBytes);
    this.#stage('trim', offset, lengthBytes, forceUnitAccess, true, completion);
  }

  zeroIsFast(offset: number, lengthBytes: number): boolean {
    return this.#writable && offset % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0;
  }

  zero(offset: number, lengthBytes: number, mayPunch: boolean, forceUnitAccess: boolean, completion: Completion): void {
    this.#admitWrite('zero', offset, lengthBytes);
    this.image.fill(0, offset, offset + lengthBytes);
    this.#stage('zero', offset, lengthBytes, forceUnitAccess, mayPunch, completion);
  }

  flush(completion: Completion): void {
    this.#admit('flush', 0, 0);
    this.#stage('flush', 0, 0, true, false, completion);
  }

  cache(offset: number, lengthBytes: number, completion: Completion): void {
    this.#admit('cache', offset, lengthBytes);
    this.#stage('cache', offset, lengthBytes, false, false, completion);
  }

  commit(): void {
    this.commits++;
    this.#runStaged();
  }

  blockStatus(offset: number, lengthBytes: number, extentsMax: number): Promise<BlockStatusExtent[]> {
    this.#admit('read', offset, lengthBytes);
    if (this.failStatus !== undefined) return Promise.reject(this.failStatus);
    const extents: { lengthBytes: number; state: 'data' | 'hole' }[] = [];
    let position = offset;
    while (position < offset + lengthBytes) {
      const end = Math.min(offset + lengthBytes, (Math.floor(position / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      const state = this.image.subarray(position, end).some((byte) => byte !== 0) ? 'data' : 'hole';
      const last = extents.at(-1);
      if (last?.state === state) last.lengthBytes += end - position;
      else if (extents.length < extentsMax) extents.push({ lengthBytes: end - position, state });
      else break;
      position = end;
    }
    return Promise.resolve(extents);
  }

  blockMarks(mark: BlockMark, offset: number, lengthBytes: number, extentsMax: number): Promise<BlockMarkExtent[]> {
    this.#admit('read', offset, lengthBytes);
    const extents: { lengthBytes: number; marked: boolean }[] = [];
    const end = offset + lengthBytes;
    for (let at = offset; at < end;) {
      const next = Math.min(end, (Math.floor(at / BLOCK_BYTES) + 1) * BLOCK_BYTES);
      const marked = this.marked[mark].has(Math.floor(at / BLOCK_BYTES));
      const last = extents.at(-1);
      if (last?.marked === marked) last.lengthBytes += next - at;
      else if (extents.length < extentsMax) extents.push({ lengthBytes: next - at, marked });
      else break;
      at = next;
    }
    return Promise.resolve(extents);
  }

  #runStaged(): void {
    while (this.#staged.length > 0) {
      const staged = this.#staged;
      this.#staged = this.#spare;
      for (const completion of staged) completion.done(this.#takeFailure(completion));
      staged.length = 0;
      this.#spare = staged;
    }
  }

  #takeFailure(completion: Completion): GatewayError | undefined {
    if (this.#failed.size === 0) return undefined;
    const error = this.#failed.get(completion);
    this.#failed.delete(completion);
    return error;
  }

  #stage(
    op: DeviceOp,
    offset: number,
    lengthBytes: number,
    forceUnitAccess: boolean,
    mayPunch: boolean,
    completion: Completion,
  ): void {
    if (this.#keepHistory) this.#note(op, offset, lengthBytes, forceUnitAccess, mayPunch);
    const error = this.#failures.get(op);
    if (error !== undefined) {
      this.#failures.delete(op);
      this.#failed.set(completion, error);
    } else if (this.holdFlushes && forceUnitAccess) {
      this.heldFlushes.push(held(offset, lengthBytes, (failure) => completion.done(failure)));
      return;
    }
    this.#staged.push(completion);
    if (this.#commitScheduled) return;
    this.#commitScheduled = true;
    setImmediate(() => {
      this.#commitScheduled = false;
      this.#runStaged();
    });
  }

  #note(op: DeviceOp, offset: number, lengthBytes: number, forceUnitAccess: boolean, mayPunch: boolean): void {
    this.history.push({ op, offset, lengthBytes, forceUnitAccess, mayPunch });
  }

  #admit(op: DeviceOp, offset: number, lengthBytes: number): void {
    if (this.#closed) throw new GatewayError('volume-closed', `volume ${this.name} is closed`);
    if (offset + lengthBytes > this.image.length) {
      throw new GatewayError('out-of-range', `${op} of ${lengthBytes} bytes at ${offset} is past the end`);
    }
  }

  #admitWrite(op: DeviceOp, offset: number, lengthBytes: number): void {
    if (this.readOnly) throw new GatewayError('read-only', `volume ${this.name} is read-only`);
    this.#admit(op, offset, lengthBytes);
    assert(op !== 'write' || this.#writable, 'a front end asks whether the device is writable before it writes');
  }
}

function held(offset: number, lengthBytes: number, end: (error: GatewayError | undefined) => void): Held {
  let released = false;
  return {
    offset,
    lengthBytes,
    release(error) {
      assert(!released, 'a held request is released once');
      released = true;
      end(error);
    },
  };
}

/** Keeps what is saved; with `holdSaves` a save waits until the test releases it. */
export class MemoryReservations implements VolumeReservations {
  readonly unregistered = unreserved();
  readonly saves: SavedReservations[] = [];
  holdSaves = false;
  readonly heldSaves: { release(error?: Error): void }[] = [];

  saved: SavedReservations | undefined;
  /** What `reserved` was told, in order: "TYPE by HOLDER, REGISTRATIONS". */
  readonly told: string[] = [];

  constructor(saved?: SavedReservations) {
    this.saved = saved;
  }

  reserved(by: HeldReservation | undefined): void {
    this.told.push(by === undefined ? 'nobody' : `${by.type} by ${by.holder ?? 'all'}, ${by.registrations}`);
  }

  save(what: SavedReservations): Promise<void> {
    const keep = (): void => {
      this.saved = what;
      this.saves.push(what);
    };
    if (!this.holdSaves) return Promise.resolve(keep());
    return new Promise((resolve, reject) =>
      this.heldSaves.push({
        release: (error) => {
          if (error !== undefined) return reject(error);
          keep();
          resolve();
        },
      }),
    );
  }
}

export interface MemoryVolumeOptions {
  readonly shared?: boolean;
  readonly reservations?: MemoryReservations;
  readonly description?: string;
  readonly nbdEnabled?: boolean;
  readonly nbdUsers?: readonly string[];
  readonly rotational?: boolean;
  readonly iscsi?: Partial<Omit<ServedVolume['iscsi'], 'stats'>>;
}

interface Holder {
  readonly client: ClientIdentity;
  readonly control: SessionControl;
}

/** One volume of a MemoryDirectory; with `shared` false a second client is refused with volume-in-use. */
export class MemoryVolume implements ServedVolume {
  readonly description: string;
  readonly nbd: ServedVolume['nbd'];
  readonly iscsi: ServedVolume['iscsi'];
  readonly shared: boolean;
  readonly reservations: MemoryReservations;
  sanitizer: ServedVolume['sanitizer'];
  /** Attachments that are held now. */
  readonly holders: Holder[] = [];
  attachCalls = 0;
  /** Set: `attach` waits for it. */
  attachGate: Promise<void> | undefined;

  constructor(
    readonly device: MemoryDevice,
    options: MemoryVolumeOptions = {},
  ) {
    this.description = options.description ?? `the volume ${device.name}`;
    this.nbd = {
      enabled: options.nbdEnabled ?? true,
      stats: new IoStats(),
      users: options.nbdUsers ?? [],
      rotational: options.rotational ?? false,
    };
    this.iscsi = { enabled: true, initiators: [], chap: undefined, ...options.iscsi, stats: new IoStats() };
    this.shared = options.shared ?? false;
    this.reservations = options.reservations ?? new MemoryReservations();
  }

  async attach(client: ClientIdentity, control: SessionControl): Promise<Attachment> {
    this.attachCalls++;
    await this.attachGate;
    const other = this.holders.find((holder) => holder.client.key !== client.key);
    if (!this.shared && other !== undefined) {
      throw new GatewayError('volume-in-use', `${this.device.name} is in use by ${other.client.description}`);
    }
    const holder = { client, control };
    this.holders.push(holder);
    return {
      release: () => {
        const at = this.holders.indexOf(holder);
        assert(at >= 0, 'an attachment is released once');
        this.holders.splice(at, 1);
      },
    };
  }
}

export class MemoryDirectory implements VolumeDirectory {
  readonly volumes: MemoryVolume[] = [];

  constructor(...volumes: MemoryVolume[]) {
    this.volumes.push(...volumes);
  }

  list(): readonly MemoryVolume[] {
    return this.volumes;
  }

  find(name: string): MemoryVolume | undefined {
    return this.volumes.find((volume) => volume.device.name === name);
  }
}
