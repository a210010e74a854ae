/**
 * A Disk in memory that tells durable from volatile: `crash` keeps what was synced, and of every 512-byte sector that was
 * not, at random, the old or the new content or garbage; directory entries that were not synced may be lost.
 */
import { GatewayError } from '../../src/base/errors.js';
import type { Disk, DiskFile, DiskLock, OpenOptions } from '../../src/ports/disk.js';
import type { SeededRandom } from './random.js';

class Inode {
  data = new Uint8Array(0);
  durable = new Uint8Array(0);
  /** Sectors written since the last sync. */
  readonly dirty = new Set<number>();
  /** Sectors of the medium that cannot be read until they are written. */
  readonly unreadable = new Set<number>();

  resize(length: number): void {
    if (length === this.data.length) return;
    const grown = new Uint8Array(length);
    grown.set(this.data.subarray(0, length));
    this.data = grown;
  }

  write(bytes: Uint8Array, position: number): void {
    if (position + bytes.length > this.data.length) this.resize(position + bytes.length);
    this.data.set(bytes, position);
    for (let s = Math.floor(position / 512); s * 512 < position + bytes.length; s++) {
      this.dirty.add(s);
      if (s * 512 >= position && (s + 1) * 512 <= position + bytes.length) this.unreadable.delete(s);
    }
  }
}

/** Called before every operation: may throw to make it fail, or to stop the world. */
export type DiskHook = (operation: string, path: string) => void;

export class MemoryDisk implements Disk {
  private entries = new Map<string, Inode>();
  private durableEntries = new Map<string, Inode>();
  private readonly locks = new Set<string>();
  private generation = 0;
  hook: DiskHook = () => undefined;
  free = 2 ** 40;
  canReserve = true;
  /** Bytes of each file that have their space, from its beginning on. */
  readonly reserved = new Map<string, number>();

  /** Power loss. Handles of before are dead for good. */
  crash(random: SeededRandom): void {
    this.generation++;
    this.locks.clear();
    const names = new Map(this.durableEntries);
    for (const [name, inode] of this.entries) if (random.fraction() < 0.5) names.set(name, inode);
    for (const name of this.durableEntries.keys()) {
      if (!this.entries.has(name) && random.fraction() < 0.5) names.delete(name);
    }
    const seen = new Set<Inode>();
    for (const [name, inode] of [...names]) {
      if (seen.has(inode)) names.delete(name); // a rename half done: one of both names
      seen.add(inode);
    }
    for (const inode of seen) settle(inode, random);
    this.entries = names;
    this.durableEntries = new Map(names);
  }

  /** SIGKILL: the page cache stays, handles die. */
  kill(): void {
    this.generation++;
    this.locks.clear();
  }

  async open(path: string, options: OpenOptions): Promise<DiskFile> {
    this.hook('open', path);
    let inode = this.entries.get(path);
    if (options.create === true) {
      if (inode !== undefined) throw new GatewayError('volume-exists', `${path} exists`);
      inode = new Inode();
      this.entries.set(path, inode);
    }
    if (inode === undefined) throw new GatewayError('not-found', `${path}: no such file`);
    return Promise.resolve(this.file(path, inode, options.keepsSpace === true));
  }

  private file(path: string, inode: Inode, keepsSpace: boolean): DiskFile {
    const born = this.generation;
    const act = <T>(operation: string, run: () => T): T => {
      if (born !== this.generation)
        throw new GatewayError('disk-failed', `${operation} ${path}: this incarnation is dead`);
      this.hook(operation, path);
      return run();
    };
    const later = async <T>(operation: string, run: () => T): Promise<T> => {
      await Promise.resolve();
      const value = act(operation, run);
      await Promise.resolve();
      if (born !== this.generation) await new Promise(() => undefined); // died meanwhile: nobody hears
      return value;
    };
    const put = (parts: readonly Uint8Array[], position: number): void => {
      for (let at = position, i = 0; i < parts.length; at += parts[i]!.length, i++) inode.write(parts[i]!, at);
    };
    const get = (target: Uint8Array, start: number, length: number, position: number): number => {
      for (const sector of inode.unreadable)
        if (sector * 512 < position + length && (sector + 1) * 512 > position)
          throw new GatewayError('disk-failed', `read ${path} at ${position}: input/output error (EIO)`);
      const found = inode.data.subarray(position, position + length);
      target.set(found, start);
      return found.length;
    };
    return {
      path,
      sizeBytes: () => later('size', () => inode.data.length),
      readNow: (target, start, length, position) => {
        try {
          return act('read', () => get(target, start, length, position) === length);
        } catch {
          return false; // As the real one: `read` finds out why.
        }
      },
      read: (target, start, length, position) => later('read', () => get(target, start, length, position)),
      readScattered: (target, runs, count) =>
        later('read', () => {
          let done = 0;
          for (let k = 0; k < count; k++) {
            const [start = 0, length = 0, position = 0] = runs.subarray(3 * k, 3 * k + 3);
            if (get(target, start, length, position) < length) return done;
            done += length;
          }
          return done;
        }),
      writeNow: (parts, position) => act('write', () => put(parts, position)),
      write: (parts, position) => later('write', () => put(parts, position)),
      writeScattered: (source, runs, count) =>
        later('write', () => {
          for (let k = 0; k < count; k++)
            inode.write(source.subarray(runs[3 * k], runs[3 * k]! + runs[3 * k + 1]!), runs[3 * k + 2]!);
        }),
      sync: () =>
        later('sync', () => {
          inode.durable = inode.data.slice();
          inode.dirty.clear();
        }),
      startWriteOut: () => undefined,
      allocate: (position, length) =>
        later('allocate', () => {
          if (position + length > inode.data.length) inode.resize(position + length);
        }),
      reserve: (position, length) =>
        later('reserve', () => {
          if (this.canReserve) this.reserved.set(path, Math.max(this.reserved.get(path) ?? 0, position + length));
          return this.canReserve;
        }),
      punch: (position, length) =>
        later('punch', () => {
          if (!keepsSpace && position < (this.reserved.get(path) ?? 0)) this.reserved.set(path, position);
          const end = Math.min(inode.data.length, position + length);
          if (end > position) inode.write(new Uint8Array(end - position), position);
        }),
      truncate: (length) =>
        later('truncate', () => {
          if (length < (this.reserved.get(path) ?? 0)) this.reserved.set(path, length);
          inode.resize(length);
        }),
      nextData: (position) =>
        later('seek', () => (position < inode.data.length ? { start: position, end: inode.data.length } : undefined)),
      close: () => Promise.resolve(),
    };
  }

  async exists(path: string): Promise<boolean> {
    this.hook('stat', path);
    return Promise.resolve(this.entries.has(path));
  }

  async list(path: string): Promise<string[]> {
    this.hook('list', path);
    const prefix = path === '.' ? '' : `${path}/`;
    const names = [...this.entries.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length).split('/')[0]!);
    return Promise.resolve([...new Set(names)].sort());
  }

  async makeDirectory(path: string): Promise<void> {
    this.hook('mkdir', path);
    return Promise.resolve();
  }

  async rename(from: string, to: string): Promise<void> {
    this.hook('rename', from);
    const inode = this.entries.get(from);
    if (inode === undefined) throw new GatewayError('not-found', `${from}: no such file`);
    this.entries.delete(from);
    this.entries.set(to, inode);
    return Promise.resolve();
  }

  async remove(path: string): Promise<void> {
    this.hook('remove', path);
    this.entries.delete(path);
    return Promise.resolve();
  }

  async syncDirectory(path: string): Promise<void> {
    this.hook('sync-directory', path);
    const inside = (name: string): boolean => (path === '.' ? !name.includes('/') : name.startsWith(`${path}/`));
    for (const name of [...this.durableEntries.keys()]) if (inside(name)) this.durableEntries.delete(name);
    for (const [name, inode] of this.entries) if (inside(name)) this.durableEntries.set(name, inode);
    return Promise.resolve();
  }

  async readSmall(path: string): Promise<Uint8Array> {
    this.hook('read', path);
    const inode = this.entries.get(path);
    if (inode === undefined) throw new GatewayError('not-found', `${path}: no such file`);
    return Promise.resolve(inode.data.slice());
  }

  async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    this.hook('write', path);
    const inode = new Inode();
    inode.write(bytes, 0);
    inode.durable = inode.data.slice();
    inode.dirty.clear();
    this.entries.set(path, inode);
    await this.syncDirectory(path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '.');
  }

  async lock(path: string): Promise<DiskLock> {
    this.hook('lock', path);
    if (this.locks.has(path)) throw new GatewayError('volume-locked', `${path} is held`);
    this.locks.add(path);
    const release = (): Promise<void> => {
      this.locks.delete(path);
      return Promise.resolve();
    };
    return Promise.resolve({ release });
  }

  freeBytes(): Promise<number> {
    return Promise.resolve(this.free);
  }

  /** Every file as it is now, durable or not. */
  snapshot(): Map<string, Uint8Array> {
    return new Map([...this.entries].map(([name, { data }]) => [name, data.slice()]));
  }

  /** The files of a snapshot, and no others, all durable. Handles of before are dead for good. */
  restore(snapshot: ReadonlyMap<string, Uint8Array>): void {
    this.kill();
    this.entries = new Map();
    for (const [name, bytes] of snapshot) {
      const inode = new Inode();
      inode.data = bytes.slice();
      inode.durable = bytes.slice();
      this.entries.set(name, inode);
    }
    this.durableEntries = new Map(this.entries);
  }

  /** The 512 bytes around a place of a file cannot be read any more. */
  makeUnreadable(path: string, position: number): void {
    this.entries.get(path)?.unreadable.add(Math.floor(position / 512));
  }

  /** For tests of rot: the bytes of a file, to be changed in place. */
  bytesOf(path: string): Uint8Array {
    const inode = this.entries.get(path);
    if (inode === undefined) throw new Error(`${path}: no such file`);
    return inode.data;
  }
}

function settle(inode: Inode, random: SeededRandom): void {
  const survivor = new Uint8Array(Math.max(inode.durable.length, random.fraction() < 0.5 ? inode.data.length : 0));
  survivor.set(inode.durable.subarray(0, survivor.length));
  for (const sector of inode.dirty) {
    const at = sector * 512;
    if (at >= survivor.length) continue;
    const choice = random.fraction();
    if (choice < 0.45) survivor.set(inode.data.subarray(at, Math.min(at + 512, survivor.length)), at);
    else if (choice > 0.95) survivor.set(random.bytes(Math.min(512, survivor.length - at)), at);
  }
  inode.data = survivor;
  inode.durable = survivor.slice();
  inode.dirty.clear();
}
