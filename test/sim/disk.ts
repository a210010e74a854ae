/**
 * A machine's disk: files and directory entries, each in a volatile and a durable state, that outlive the processes
 * which use them. `attach` gives one life its Disk. Between syncs anything may reach the platter in any order; a sync
 * covers what was written before it was called; entries become durable by syncing their directory.
 */
import { GatewayError } from '../../src/base/errors.js';
import type { Disk, DiskFile, DiskLock, OpenOptions } from '../../src/ports/disk.js';
import type { SeededRandom } from '../fake/random.js';
import { Inode } from './inode.js';
import type { Life } from './scheduler.js';

export type DiskOperation =
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'sync'
  | 'allocate'
  | 'punch'
  | 'truncate'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'list';

/** fail: an error, nothing done. partly: an error after a part was done (a short write; a sync that lost its pages). */
export type DiskFault = { readonly kind: 'fail' | 'partly'; readonly code: 'disk-full' | 'disk-failed' };

export interface DiskPlan {
  /** Asked before every operation; undefined: it goes well. */
  fault: (operation: DiskOperation, path: string) => DiskFault | undefined;
  /** Milliseconds that an operation takes. */
  latencyMs: (operation: DiskOperation) => number;
  /** Share of inline reads that the page cache cannot answer. */
  cacheMisses: number;
  /** A write goes to another place of its file instead. */
  misdirect: (path: string) => boolean;
}

/** A change of a directory that is not durable yet. */
type EntryChange =
  | { readonly kind: 'link'; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'unlink'; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string; readonly inode: Inode };

/** Sees every batch as it is appended. */
export type AppendObserver = (file: Inode, bytes: Uint8Array, position: number, failed: boolean) => void;

export class SimDisk {
  readonly plan: DiskPlan = {
    fault: () => undefined,
    latencyMs: () => 0,
    cacheMisses: 0,
    misdirect: () => false,
  };
  onAppend: AppendObserver = () => undefined;
  /** Called before every operation. */
  onOperation: (operation: DiskOperation, path: string) => void = () => undefined;

  /** Calls back once at the next operation that fits: a place where order matters is rarely met by chance. */
  atNext(fits: (operation: DiskOperation, path: string) => boolean, run: () => void): void {
    const before = this.onOperation;
    this.onOperation = (operation, path) => {
      before(operation, path);
      if (!fits(operation, path)) return;
      this.onOperation = before;
      run();
    };
  }

  private readonly random: SeededRandom;
  private entries = new Map<string, Inode>();
  private durable = new Map<string, Inode>();
  private changes: EntryChange[] = [];
  private locks = new Set<string>();
  /** Changes that a life has asked for and that have not happened yet. */
  private readonly pending = new Set<() => void>();

  constructor(random: SeededRandom) {
    this.random = random;
  }

  attach(life: Life): Disk {
    life.onDeath(() => this.locks.clear());
    return new DiskOfLife(this, life, this.random);
  }

  /** The process died: the kernel lives, and may still do what it was asked for. */
  processDied(): void {
    for (const change of this.pending) if (this.random.fraction() < 0.5) change();
    this.pending.clear();
  }

  /** The machine died. */
  powerLoss(): void {
    this.processDied();
    const names = new Map(this.durable);
    for (const change of this.changes) {
      if (this.random.fraction() < 0.5) continue;
      applyChange(names, change);
    }
    this.changes = [];
    this.entries = names;
    this.durable = new Map(names);
    for (const inode of new Set(names.values())) inode.settle(this.random);
  }

  /** How many things a power loss would decide on: unsynced pages, and changes of directories. */
  get unsynced(): number {
    const pages = [...new Set(this.entries.values())].reduce((sum, inode) => sum + inode.unsyncedPages.length, 0);
    return pages + this.changes.length;
  }

  /** The machine dies, and `keeps(i)` says of each unsynced thing whether it is there afterwards. */
  powerLossKeeping(keeps: (thing: number) => boolean): void {
    this.pending.clear();
    let thing = 0;
    const names = new Map(this.durable);
    for (const change of this.changes) if (keeps(thing++)) applyChange(names, change);
    for (const inode of new Set(this.entries.values())) {
      const kept = new Map(inode.unsyncedPages.map((page) => [page, keeps(thing++)]));
      inode.settleKeeping((page) => kept.get(page) === true);
    }
    this.changes = [];
    this.entries = names;
    this.durable = new Map(names);
  }

  /** The kernel needs memory: clean pages are dropped. */
  dropCache(): void {
    for (const inode of this.entries.values()) inode.evict(this.random, 0.7);
  }

  /** Everything is removed, durably. */
  wipe(): void {
    this.entries.clear();
    this.durable.clear();
    this.changes = [];
  }

  /** The disk as a copy taken while the machine is off. */
  clone(): SimDisk {
    const copy = new SimDisk(this.random.fork());
    const copies = new Map<Inode, Inode>();
    for (const [name, inode] of this.durable) {
      const twin = copies.get(inode) ?? inode.clone();
      copies.set(inode, twin);
      copy.entries.set(name, twin);
    }
    copy.durable = new Map(copy.entries);
    return copy;
  }

  file(path: string): Inode | undefined {
    return this.entries.get(path);
  }

  /** Where a file is now: it may have been renamed since it was opened. */
  pathOf(inode: Inode): string | undefined {
    for (const [path, other] of this.entries) if (other === inode) return path;
    return undefined;
  }

  paths(): string[] {
    return [...this.entries.keys()].sort();
  }

  // For the lives.

  lookUp(path: string): Inode | undefined {
    return this.entries.get(path);
  }

  change(change: EntryChange): void {
    applyChange(this.entries, change);
    this.changes.push(change);
  }

  syncDirectory(path: string): void {
    const inside = (name: string): boolean => (path === '.' ? !name.includes('/') : name.startsWith(`${path}/`));
    for (const name of [...this.durable.keys()]) if (inside(name)) this.durable.delete(name);
    for (const [name, inode] of this.entries) if (inside(name)) this.durable.set(name, inode);
    this.changes = this.changes.filter((change) => !inside(change.kind === 'rename' ? change.to : change.name));
  }

  takeLock(path: string): void {
    if (this.locks.has(path)) throw new GatewayError('volume-locked', `${path} is held`);
    this.locks.add(path);
  }

  releaseLock(path: string): void {
    this.locks.delete(path);
  }

  begin(effect: () => void): () => void {
    this.pending.add(effect);
    return () => this.pending.delete(effect);
  }
}

function applyChange(names: Map<string, Inode>, change: EntryChange): void {
  if (change.kind === 'link') {
    names.set(change.name, change.inode);
  } else if (change.kind === 'unlink') {
    if (names.get(change.name) === change.inode) names.delete(change.name);
  } else if (names.get(change.from) === change.inode) {
    names.delete(change.from);
    names.set(change.to, change.inode);
  }
}

function failure(fault: DiskFault, operation: string, path: string): GatewayError {
  return new GatewayError(fault.code, `${operation} ${path}: injected`);
}

class DiskOfLife implements Disk {
  private readonly laneEndsMs = new Map<string, number>();

  constructor(
    private readonly machine: SimDisk,
    readonly life: Life,
    private readonly random: SeededRandom,
  ) {}

  async open(path: string, options: OpenOptions): Promise<DiskFile> {
    return this.perform(options.create === true ? 'create' : 'open', path, 'io', () => {
      let inode = this.machine.lookUp(path);
      if (options.create === true) {
        if (inode !== undefined) throw new GatewayError('volume-exists', `${path} exists`);
        inode = new Inode();
        this.machine.change({ kind: 'link', name: path, inode });
      }
      if (inode === undefined) throw new GatewayError('not-found', `${path}: no such file`);
      return new FileOfLife(this, this.machine, path, inode, options.lane ?? 'io', this.random);
    });
  }

  async exists(path: string): Promise<boolean> {
    return this.perform('list', path, 'io', () => this.machine.lookUp(path) !== undefined);
  }

  async list(path: string): Promise<string[]> {
    return this.perform('list', path, 'io', () => {
      const prefix = path === '.' ? '' : `${path}/`;
      const names = this.machine
        .paths()
        .filter((name) => name.startsWith(prefix))
        .map((name) => name.slice(prefix.length).split('/')[0] ?? '');
      return [...new Set(names)].sort();
    });
  }

  makeDirectory(): Promise<void> {
    return Promise.resolve();
  }

  async rename(from: string, to: string): Promise<void> {
    await this.perform('rename', from, 'io', () => {
      const inode = this.machine.lookUp(from);
      if (inode === undefined) throw new GatewayError('not-found', `${from}: no such file`);
      this.machine.change({ kind: 'rename', from, to, inode });
    });
  }

  async remove(path: string): Promise<void> {
    await this.perform('remove', path, 'io', () => {
      const inode = this.machine.lookUp(path);
      if (inode === undefined) throw new GatewayError('not-found', `${path}: no such file`);
      this.machine.change({ kind: 'unlink', name: path, inode });
    });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.perform('syncDirectory', path, 'io', () => this.machine.syncDirectory(path));
  }

  async readSmall(path: string): Promise<Uint8Array> {
    const file = await this.open(path, { mode: 'read' });
    const bytes = new Uint8Array(await file.sizeBytes());
    await file.read(bytes, 0, bytes.length, 0);
    return bytes;
  }

  /** As native-disk.ts does it: each step may fail or be the last. */
  async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    const temporary = `${path}.tmp`;
    if (await this.exists(temporary)) await this.remove(temporary);
    const file = await this.open(temporary, { mode: 'write', create: true });
    await file.write([bytes], 0);
    await file.sync();
    await this.rename(temporary, path);
    await this.syncDirectory(path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.');
  }

  async lock(path: string): Promise<DiskLock> {
    return this.perform('open', path, 'io', () => {
      // What a process leaves behind when it dies is no lock.
      if (this.life.alive) this.machine.takeLock(path);
      if (this.machine.lookUp(path) === undefined) {
        this.machine.change({ kind: 'link', name: path, inode: new Inode() });
      }
      const release = async (): Promise<void> => {
        await Promise.resolve();
        if (this.life.alive) this.machine.releaseLock(path);
      };
      return { release };
    });
  }

  freeBytes(): Promise<number> {
    return Promise.resolve(2 ** 40);
  }

  /** A fault that is due for this operation; counts it. */
  faultOf(operation: DiskOperation, path: string): DiskFault | undefined {
    this.machine.onOperation(operation, path);
    return this.machine.plan.fault(operation, path);
  }

  /** Runs `effect` after the operation's time, in the order of its lane where it has one. */
  perform<Result>(
    operation: DiskOperation,
    path: string,
    lane: string | undefined,
    effect: () => Result,
    partly?: () => void,
    /** What may be done when nobody waits for it any more; default: a part, or all. */
    orphaned = partly,
  ): Promise<Result> {
    // What a dead process still runs has no effect, and hears of nothing.
    if (!this.life.alive) return new Promise(() => undefined);
    return new Promise((resolve, reject) => {
      const fault = this.faultOf(operation, path);
      if (!this.life.alive) return;
      const run = (): void => {
        if (fault !== undefined) {
          if (fault.kind === 'partly') partly?.();
          throw failure(fault, operation, path);
        }
        resolve(effect());
      };
      const scheduler = this.life.scheduler;
      const latencyMs = this.machine.plan.latencyMs(operation);
      let endsMs = scheduler.nowMs + latencyMs;
      if (lane !== undefined) {
        endsMs = Math.max(endsMs, this.laneEndsMs.get(lane) ?? 0);
        this.laneEndsMs.set(lane, endsMs);
      }
      const happened = this.machine.begin(() => {
        // Nobody waits for it any more: a part of it, or all.
        try {
          if (fault === undefined && this.random.fraction() < 0.5) effect();
          else orphaned?.();
        } catch {
          // What would have failed has no effect.
        }
      });
      this.life.later(endsMs - scheduler.nowMs, () => {
        happened();
        try {
          run();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }
}

class FileOfLife implements DiskFile {
  constructor(
    private readonly disk: DiskOfLife,
    private readonly machine: SimDisk,
    readonly path: string,
    private readonly inode: Inode,
    private readonly lane: string,
    private readonly random: SeededRandom,
  ) {}

  sizeBytes(): Promise<number> {
    return Promise.resolve(this.inode.sizeBytes);
  }

  readNow(target: Uint8Array, targetStart: number, lengthBytes: number, position: number): boolean {
    const { plan } = this.machine;
    if (!this.disk.life.alive) return false;
    if (plan.cacheMisses > 0 && this.random.fraction() < plan.cacheMisses) return false;
    if (position + lengthBytes > this.inode.sizeBytes || this.inode.hasUnreadable(position, lengthBytes)) return false;
    return this.inode.read(target, targetStart, lengthBytes, position) === lengthBytes;
  }

  read(target: Uint8Array, targetStart: number, lengthBytes: number, position: number): Promise<number> {
    return this.disk.perform('read', this.path, undefined, () => {
      if (this.inode.hasUnreadable(position, lengthBytes))
        throw new GatewayError('disk-failed', `read ${this.path}: a sector cannot be read`);
      return this.inode.read(target, targetStart, lengthBytes, position);
    });
  }

  readScattered(target: Uint8Array, runs: Float64Array, runCount: number): Promise<number> {
    return this.disk.perform('read', this.path, undefined, () => {
      let done = 0;
      let end: number | undefined;
      for (let k = 0; k < runCount; k++) {
        const [start = 0, lengthBytes = 0, position = 0] = runs.subarray(3 * k, 3 * k + 3);
        // As the real one, which reads across small gaps.
        const from = end !== undefined && position >= end && position - end <= 16 * 1024 ? end : position;
        end = position + lengthBytes;
        if (this.inode.hasUnreadable(from, end - from))
          throw new GatewayError('disk-failed', `preadv ${this.path}: a sector cannot be read`);
        if (this.inode.read(target, start, lengthBytes, position) < lengthBytes) return done;
        done += lengthBytes;
      }
      return done;
    });
  }

  writeNow(parts: readonly Uint8Array[], position: number): void {
    const fault = this.disk.faultOf('write', this.path);
    // Dead before, or because that was counted.
    if (!this.disk.life.alive) throw new GatewayError('disk-failed', 'this process is dead');
    const bytes = Buffer.concat(parts);
    if (fault !== undefined) {
      // A part may be all that counts: what is missing may have been there already.
      if (fault.kind === 'partly') this.putPart(bytes, position);
      if (fault.kind === 'partly') this.machine.onAppend(this.inode, bytes, position, true);
      throw failure(fault, 'write', this.path);
    }
    this.put(bytes, position);
    this.machine.onAppend(this.inode, bytes, position, false);
  }

  write(parts: readonly Uint8Array[], position: number): Promise<void> {
    const bytes = (): Buffer => Buffer.concat(parts);
    return this.disk.perform(
      'write',
      this.path,
      this.lane,
      () => this.put(bytes(), position),
      () => this.putPart(bytes(), position),
    );
  }

  async writeScattered(source: Uint8Array, runs: Float64Array, runCount: number): Promise<void> {
    const put = (from: number, to: number): void => {
      for (let k = from; k < to; k++) {
        const start = runs[3 * k] ?? 0;
        this.put(source.subarray(start, start + (runs[3 * k + 1] ?? 0)), runs[3 * k + 2] ?? 0);
      }
    };
    // In two steps, so that a reader can meet it half-way.
    const half = this.random.below(runCount + 1);
    const partly = (): void => put(0, this.random.below(half + 1));
    await this.disk.perform('write', this.path, this.lane, () => put(0, half), partly);
    await this.disk.perform('write', this.path, this.lane, () => put(half, runCount));
  }

  sync(): Promise<void> {
    const capture = this.inode.capture();
    return this.disk.perform(
      'sync',
      this.path,
      `${this.lane} syncs`,
      () => this.inode.commit(capture),
      () => this.inode.commitFailed(capture, this.random),
      () => undefined,
    );
  }

  startWriteOut(): void {
    this.inode.writeOut(this.random, 0.5);
  }

  allocate(position: number, lengthBytes: number): Promise<void> {
    return this.disk.perform('allocate', this.path, this.lane, () => {
      if (position + lengthBytes > this.inode.sizeBytes) this.inode.resize(position + lengthBytes);
    });
  }

  reserve(): Promise<boolean> {
    return this.disk.perform('allocate', this.path, this.lane, () => true);
  }

  punch(position: number, lengthBytes: number): Promise<void> {
    return this.disk.perform('punch', this.path, this.lane, () => this.inode.zero(position, lengthBytes));
  }

  truncate(lengthBytes: number): Promise<void> {
    return this.disk.perform('truncate', this.path, this.lane, () => this.inode.resize(lengthBytes));
  }

  nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    const { sizeBytes } = this.inode;
    return Promise.resolve(position < sizeBytes ? { start: position, end: sizeBytes } : undefined);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private put(bytes: Uint8Array, position: number): void {
    if (!this.machine.plan.misdirect(this.path)) {
      this.inode.write(bytes, position);
      return;
    }
    const pages = Math.max(1, Math.floor(this.inode.sizeBytes / 4096));
    const elsewhere = 4096 * this.random.below(pages);
    this.inode.write(bytes.subarray(0, Math.max(0, this.inode.sizeBytes - elsewhere)), elsewhere);
  }

  private putPart(bytes: Uint8Array, position: number): void {
    // Never all of it.
    this.put(bytes.subarray(0, 512 * this.random.below(Math.max(1, Math.floor(bytes.length / 512)))), position);
  }
}
