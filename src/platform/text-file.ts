/** Small text files outside a volume: the configuration, run.json, what `init` writes, and the machine's own files. */
import { constants } from 'node:fs';
import { access, chmod, mkdir, open, readdir, readFile, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { fileError } from './disk-error.js';

/** undefined when there is none. @throws GatewayError config-invalid where this user cannot read it, disk-failed */
export async function readTextFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    if (code === 'EIO') throw fileError(path, 'cannot be read', error);
    throw new GatewayError('config-invalid', `${path} cannot be read (${code ?? String(error)})`, { cause: error });
  }
}

/** Replaces a file atomically, with mode 0600. Not durable: for what is made anew at each start. */
export async function replaceTextFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    await rm(temporary, { force: true });
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(content);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    throw fileError(path, 'cannot be written', error);
  }
}

/** Makes a file that must not exist yet. @throws GatewayError volume-exists, directory-unwritable, disk-full, disk-failed */
export async function createTextFile(path: string, content: string): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o644);
    try {
      await file.writeFile(content);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') {
      throw new GatewayError('volume-exists', `${path} exists; nothing was overwritten`, { cause: error });
    }
    throw fileError(path, 'cannot be written', error);
  }
}

export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true });
}

/** Removes a directory with all that is in it. */
export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

/** Gives a directory another name, where there is none yet, durably. @throws GatewayError disk-full, disk-failed */
export async function moveDirectory(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
    await syncDirectory(dirname(resolve(to)));
    await syncDirectory(dirname(resolve(from)));
  } catch (error) {
    throw fileError(to, 'cannot be made', error);
  }
}

/**
 * Makes the directory when it is missing, durably with those above it that it makes: what is acknowledged in it must not
 * go with its name. One that is there was perhaps made by a process that was killed, so its own name is made durable in
 * any case. @throws GatewayError directory-unwritable, disk-full, disk-failed, in one line
 */
export async function ensureWritableDirectory(path: string, setting: string): Promise<void> {
  try {
    const made = await mkdir(path, { recursive: true, mode: 0o700 });
    await access(path, constants.W_OK | constants.X_OK);
    const top = dirname(resolve(made ?? path));
    let parent = dirname(resolve(path));
    await syncDirectory(parent);
    for (; parent !== top; parent = dirname(parent)) await syncDirectory(dirname(parent));
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EIO') throw fileError(path, 'cannot be made', error);
    throw unwritable(path, setting, error);
  }
}

/**
 * Whether a directory that is missing could be made, as far as can be told without making it.
 * @throws GatewayError directory-unwritable, in one line
 */
export async function checkDirectoryCanBeMade(path: string, setting: string): Promise<void> {
  for (let above = dirname(resolve(path)); ; above = dirname(above)) {
    try {
      // Also refuses a file.
      await access(`${above}/.`, constants.W_OK | constants.X_OK);
      return;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw unwritable(path, setting, error);
    }
  }
}

function unwritable(path: string, setting: string, error: unknown): GatewayError {
  const code = errnoOf(error);
  const why =
    code === 'ENOTDIR' || code === 'EEXIST' ? 'it, or a parent, is a file' : `${code ?? String(error)} for this user`;
  return new GatewayError('directory-unwritable', `${path} is not a writable directory: ${why} (${setting})`, {
    cause: error,
  });
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Names in a directory; none when there is no such directory. */
export async function listDirectory(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw fileError(path, 'cannot be read', error);
  }
}

/** Takes from everybody else the rights to a file, or to connect to a Unix socket. */
export async function restrictToOwner(path: string): Promise<void> {
  await chmod(path, 0o600);
}

/** Bytes that an unprivileged user can still write in the file system of `path`. */
export async function freeSpace(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** One that this user cannot open is another's, and keeps what it holds as far as that one sees to it. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY).catch((error: unknown) => {
    if (errnoOf(error) === 'EACCES') return undefined;
    throw error;
  });
  try {
    await directory?.sync();
  } catch (error) {
    // A file system without anything to sync for a directory.
    if (errnoOf(error) !== 'EINVAL') throw error;
  } finally {
    await directory?.close();
  }
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
