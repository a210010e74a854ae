/**
 * The Disk port over the native addon, rooted at one directory: everything that may wait for a disk runs on threads of
 * this root, never on libuv's pool, so that a disk that hangs delays its own volume and nothing else.
 *
 * Reads of all files share a few threads, so that a cold image is read at more than depth one. A lane has one thread for
 * what changes its files, in order, and another, "…-sync", for fdatasync and whatever else waits as long. Paths that lead out of the root are refused, and the last component is never
 * followed where it is a symbolic link. Files are made with mode 0600, directories with 0700.
 */
import { constants } from 'node:os';
import { join, normalize, resolve } from 'node:path';
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { MIB } from '../base/units.js';
import type { Disk, DiskFile, DiskLock, OpenOptions } from '../ports/disk.js';
import { loadAddon, openModes } from './addon.js';
import type { Addon, LaneNumber } from './addon.js';
import { isRotational } from './disk-kind.js';
import { diskError } from './disk-error.js';
import { NativeFile } from './native-file.js';

const WRITE_LANE = 'io';
const READ_THREADS = 8;
const SMALL_FILE_BYTES_MAX = MIB;

export class NativeDisk implements Disk {
  /** Absolute. */
  readonly root: string;
  readonly #addon: Addon;
  readonly #io: LaneNumber;
  readonly #sync: LaneNumber;

  /** The root need not exist: makeDirectory('.') makes it. */
  constructor(root: string) {
    this.root = resolve(root);
    this.#addon = loadAddon();
    this.#io = this.#lane('read', READ_THREADS);
    this.#sync = this.#lane(`${WRITE_LANE}-sync`, 1);
  }

  isRotational(): Promise<boolean> {
    return isRotational(this.root);
  }

  async open(path: string, options: OpenOptions): Promise<DiskFile> {
    assert(options.create !== true || options.mode === 'write', 'a file that is created is written');
    const lane = options.lane ?? WRITE_LANE;
    const mode = options.create === true ? openModes.create : openModes[options.mode];
    const result = await this.#addon.openFile(
      this.#resolve(path),
      mode,
      this.#io,
      this.#lane(lane, 1),
      this.#lane(`${lane}-sync`, 1),
    );
    return new NativeFile(this.#addon, checked('open', path, result), path, options.keepsSpace);
  }

  async exists(path: string): Promise<boolean> {
    return checked('stat', path, await this.#addon.exists(this.#io, this.#resolve(path))) === 1;
  }

  async list(path: string): Promise<string[]> {
    const result = await this.#addon.list(this.#io, this.#resolve(path));
    if (typeof result === 'number') throw diskError({ call: 'opendir', path, result });
    return result.sort();
  }

  async makeDirectory(path: string): Promise<void> {
    checked('mkdir', path, await this.#addon.makeDirectories(this.#io, this.#resolve(path)));
  }

  async rename(from: string, to: string): Promise<void> {
    checked('rename', from, await this.#addon.rename(this.#io, this.#resolve(from), this.#resolve(to)));
  }

  async remove(path: string): Promise<void> {
    checked('unlink', path, await this.#addon.remove(this.#io, this.#resolve(path)));
  }

  async syncDirectory(path: string): Promise<void> {
    checked('fsync', path, await this.#addon.syncDirectory(this.#sync, this.#resolve(path)));
  }

  async readSmall(path: string): Promise<Uint8Array> {
    const result = await this.#addon.readSmall(this.#io, this.#resolve(path), SMALL_FILE_BYTES_MAX);
    if (typeof result === 'number') throw diskError({ call: 'read', path, result });
    return result;
  }

  /** By way of PATH.tmp; calls for one path do not overtake one another. */
  async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
    assert(bytes.length <= SMALL_FILE_BYTES_MAX, 'a small file is at most 1 MiB');
    checked('write', path, await this.#addon.writeSmall(this.#sync, this.#resolve(path), bytes));
  }

  /** The lock's file stays behind, unlocked: removing it could let two processes hold "the" lock. */
  async lock(path: string): Promise<DiskLock> {
    const [result, holder] = await this.#addon.openLock(this.#resolve(path), this.#io);
    if (result === -constants.errno.EAGAIN) {
      const by = holder > 0 ? ` by process ${holder}` : '';
      throw new GatewayError('volume-locked', `${join(this.root, path)} is locked${by}`, { context: { path, holder } });
    }
    const file = new NativeFile(this.#addon, checked('open', path, result), path);
    return { release: () => file.close() };
  }

  async freeBytes(): Promise<number> {
    return checked('statvfs', this.root, await this.#addon.freeBytes(this.#io, this.root));
  }

  #lane(name: string, threadsMax: number): LaneNumber {
    return this.#addon.lane(`${this.root}\n${threadsMax} ${name}`, name, threadsMax);
  }

  #resolve(path: string): string {
    const relative = normalize(path);
    assert(
      !relative.startsWith('/') && relative !== '..' && !relative.startsWith('../'),
      'a path must not lead out of its root',
    );
    return join(this.root, relative);
  }
}

function checked(call: string, path: string, result: number): number {
  if (result >= 0) return result;
  throw diskError({ call, path, result });
}
