/**
 * A bucket in a directory: the embedded store of `file:///path`, crash-safe, with the same conditional PUT as S3.
 *
 *     DIRECTORY/<key>           an object; '/' in a key is a subdirectory
 *     DIRECTORY/.tmp/<uuid>     an object that is being written
 *
 * An object is written to a temporary file, fsynced, and then linked (If-None-Match: link(2) fails when the name is
 * taken) or renamed (replaces) to its name, and the directory fsynced: after a power loss it is there whole or not at
 * all. Left-over temporary files are removed when the store is opened, once they are a day old: another gateway may
 * share the directory.
 */
import { constants } from 'node:fs';
import { access, link, mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { getSystemErrorName } from 'node:util';
import { GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { loadAddon } from './addon.js';
import type { LaneNumber } from './addon.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';

const TEMPORARY = '.tmp';
const LEFTOVER_AGE_MS = 24 * 60 * 60 * 1000;
const KEY_BYTES_MAX = 1024;
const NAME_BYTES_MAX = 255;
/** What a key's parts are made of: no dot files (the store's own), no control characters, nothing a file system changes. */
const namePattern = /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/;

export interface FileStoreOptions {
  /** "file:///path" or a path. */
  readonly location: string;
  /** Make the directory when it is missing; without it a missing one is store-bucket-missing. */
  readonly create: boolean;
  readonly random: Random;
}

export class FileStore implements ObjectStore {
  readonly description: string;
  readonly #directory: string;
  readonly #random: Random;
  readonly #lane: LaneNumber;
  /** Directories that are durably there. */
  readonly #durable = new Set<string>();

  private constructor(directory: string, random: Random) {
    this.#directory = directory;
    this.#random = random;
    this.#lane = loadAddon().lane(`${directory}\nstore`, 'store', limits.uploadsInflightMax);
    this.description = pathToFileURL(directory).href;
  }

  static async open(options: FileStoreOptions): Promise<FileStore> {
    const { location, create, random } = options;
    const directory = resolve(location.startsWith('file:') ? fileURLToPath(location) : location);
    const store = new FileStore(directory, random);
    await store.#attempt('open', '', async () => {
      if (create) await mkdir(directory, { recursive: true, mode: 0o700 });
      const status = await stat(directory);
      if (!status.isDirectory()) {
        throw new GatewayError('store-bucket-missing', `${store.description} is not a directory`);
      }
      if (create) await syncDirectory(dirname(directory));
      await store.#removeLeftovers();
    });
    return store;
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const path = this.#path(key);
    return this.#attempt('put', key, async () => {
      options.signal?.throwIfAborted();
      await this.#makeParents(path);
      const temporary = join(this.#directory, TEMPORARY, this.#random.uuid());
      try {
        await this.#writeDurably(temporary, body);
        options.signal?.throwIfAborted();
        const answer = options.ifAbsent ? await linkIfAbsent(temporary, path) : await replace(temporary, path);
        // Also when it exists: its writer may not have come to this yet, and "exists" must stay true.
        await syncDirectory(dirname(path));
        return answer;
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  async get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    const path = this.#path(key);
    return this.#attempt('get', key, async () => {
      options.signal?.throwIfAborted();
      const file = await open(path, 'r');
      try {
        return await this.#read(key, file, options.range);
      } finally {
        await file.close();
      }
    });
  }

  async head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    const path = this.#path(key);
    options.signal?.throwIfAborted();
    try {
      return await this.#attempt('head', key, () => describe(key, path));
    } catch (error) {
      if (error instanceof GatewayError && error.code === 'object-missing') return undefined;
      throw error;
    }
  }

  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    await this.#attempt('list', prefix, () => access(this.#directory, constants.R_OK | constants.X_OK));
    for await (const key of this.#keys('', prefix, options.after ?? '')) {
      options.signal?.throwIfAborted();
      const object = await this.head(key);
      // One that was deleted since its directory was read is not there.
      if (object !== undefined) yield object;
    }
  }

  async delete(key: string, options: StoreRequest = {}): Promise<void> {
    const path = this.#path(key);
    options.signal?.throwIfAborted();
    try {
      await this.#attempt('delete', key, async () => {
        await unlink(path);
        await syncDirectory(dirname(path));
      });
    } catch (error) {
      if (!(error instanceof GatewayError && error.code === 'object-missing')) throw error;
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** On threads of the store's own, so that nothing else waits behind a disk that is slow to sync. */
  async #writeDurably(path: string, body: Uint8Array): Promise<void> {
    const result = await loadAddon().writeNewFile(this.#lane, path, body);
    if (result >= 0) return;
    const code = getSystemErrorName(result);
    throw Object.assign(new Error(`${code}: ${loadAddon().errorText(-result)}, write '${path}'`), { code });
  }

  #path(key: string): string {
    const parts = key.split('/');
    const fine = parts.every((part) => part.length <= NAME_BYTES_MAX && namePattern.test(part));
    if (!fine || key.length > KEY_BYTES_MAX) {
      throw new GatewayError('invalid-request', `${this.description}: ${JSON.stringify(key)} is not a key`);
    }
    return join(this.#directory, ...parts);
  }

  async #read(key: string, file: FileHandle, range: ByteRange | undefined): Promise<Uint8Array> {
    const { size } = await file.stat();
    const start = range?.start ?? 0;
    const wanted = range?.lengthBytes ?? size;
    if (start + wanted > size && range?.orLess !== true) {
      throw new GatewayError(
        'object-damaged',
        `${this.description}/${key}: it has ${size} bytes, ${start + wanted} were expected`,
        {
          context: { object: key },
        },
      );
    }
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(wanted, size - start)));
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled);
      if (bytesRead === 0)
        throw new GatewayError('store-failed', `${this.description}/${key}: it became shorter while it was read`);
      filled += bytesRead;
    }
    return bytes;
  }

  /** Makes what is missing between the store's directory and a file, each level durable before the next. */
  async #makeParents(path: string): Promise<void> {
    await this.#makeDurable(join(this.#directory, TEMPORARY));
    await this.#makeDurable(dirname(path));
  }

  async #makeDurable(directory: string): Promise<void> {
    if (this.#durable.has(directory)) return;
    if (directory !== this.#directory) {
      await this.#makeDurable(dirname(directory));
      await mkdir(directory, { mode: 0o700 }).catch((error: unknown) => {
        if (errnoOf(error) !== 'EEXIST') throw error;
      });
      await syncDirectory(dirname(directory));
    }
    this.#durable.add(directory);
  }

  /** Keys under `folder` ("" or "a/b/") in byte order: a directory sorts as its name and '/'. */
  async *#keys(folder: string, prefix: string, after: string): AsyncGenerator<string, void, undefined> {
    const entries = await readdir(join(this.#directory, folder), { withFileTypes: true }).catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return [];
      throw this.#translated('list', folder, error);
    });
    const names = entries
      .filter((entry) => (entry.isFile() || entry.isDirectory()) && namePattern.test(entry.name))
      .map((entry) => folder + entry.name + (entry.isDirectory() ? '/' : ''));
    // Names are ASCII, so that UTF-16 order is byte order.
    for (const name of names.sort((left, right) => (left < right ? -1 : 1))) {
      if (name.endsWith('/')) {
        const mayHold = name.startsWith(prefix) || prefix.startsWith(name);
        if (mayHold && (name > after || after.startsWith(name))) yield* this.#keys(name, prefix, after);
      } else if (name.startsWith(prefix) && name > after) {
        yield name;
      }
    }
  }

  async #removeLeftovers(): Promise<void> {
    const folder = join(this.#directory, TEMPORARY);
    const names = await readdir(folder).catch(() => []);
    for (const name of names) {
      const path = join(folder, name);
      const status = await stat(path).catch(() => undefined);
      if (status !== undefined && Date.now() - status.mtimeMs > LEFTOVER_AGE_MS) await rm(path, { force: true });
    }
  }

  async #attempt<Result>(operation: string, key: string, work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      // Where the whole directory is gone, such as with the disk that it lies on, no object is missing from it.
      const gone = errnoOf(error) === 'ENOENT' && !(await isThere(this.#directory));
      throw this.#translated(operation, key, error, gone);
    }
  }

  #translated(operation: string, key: string, error: unknown, gone = false): unknown {
    const errno = errnoOf(error);
    if (errno === undefined) return error;
    const ofObject = operation === 'get' || operation === 'head' || operation === 'delete';
    const whenMissing = ofObject && !gone ? 'object-missing' : 'store-bucket-missing';
    const codes: Readonly<Record<string, ErrorCode>> = {
      ENOENT: whenMissing,
      ENOTDIR: whenMissing,
      EISDIR: 'object-missing',
      EACCES: 'store-forbidden',
      EPERM: 'store-forbidden',
      EROFS: 'store-forbidden',
    };
    const message = `${this.description}${key === '' ? '' : `/${key}`}: ${operation} failed: ${errno}`;
    return new GatewayError(codes[errno] ?? 'store-failed', message, {
      cause: error,
      context: { operation, key, errno },
    });
  }
}

function isThere(directory: string): Promise<boolean> {
  return access(directory).then(
    () => true,
    () => false,
  );
}

async function describe(key: string, path: string): Promise<StoredObject> {
  const status = await stat(path);
  if (!status.isFile()) throw new GatewayError('object-missing', `${path} is not a file`);
  return { key, sizeBytes: status.size, modifiedMs: Math.floor(status.mtimeMs) };
}

async function linkIfAbsent(from: string, to: string): Promise<'stored' | 'exists'> {
  try {
    await link(from, to);
    return 'stored';
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'EEXIST') return 'exists';
    if (errno === 'ENOTSUP' || errno === 'EOPNOTSUPP' || errno === 'ENOSYS' || errno === 'EPERM') {
      throw new GatewayError('store-no-conditional-put', `${to}: this file system has no hard links`, { cause: error });
    }
    throw error;
  }
}

async function replace(from: string, to: string): Promise<'stored'> {
  await rename(from, to);
  return 'stored';
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || error instanceof GatewayError) return undefined;
  return typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code) ? error.code : undefined;
}
