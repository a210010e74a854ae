/**
 * Files that hold a secret: the key, the API token, CHAP secrets. Reading refuses what others can read; writing makes
 * the file with mode 0600 from its first moment, durably, and never replaces one.
 */
import { constants } from 'node:fs';
import { mkdir, open, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { fileError } from './disk-error.js';

const groupAndWorldBits = 0o077;
const secretBytesMax = 4096;

/** @throws GatewayError key-missing, key-permissions or key-invalid (too long); `what` is "key", "CHAP secret" */
export async function readSecretFile(path: string, what: string, bytesMax = secretBytesMax): Promise<string> {
  const file = await open(path, constants.O_RDONLY).catch((error: unknown) => {
    throw refusal(error, path, what);
  });
  try {
    const { mode, size } = await file.stat();
    if ((mode & groupAndWorldBits) !== 0) {
      const rights = (mode & 0o777).toString(8).padStart(4, '0');
      throw new GatewayError(
        'key-permissions',
        `${path}: group or world can use this ${what} (mode ${rights}); chmod 600 ${path}`,
        { context: { path } },
      );
    }
    if (size > bytesMax) throw new GatewayError('key-invalid', `${path}: this is not a ${what}`);
    return await file.readFile('utf8');
  } catch (error) {
    throw error instanceof GatewayError ? error : fileError(path, 'cannot be read', error);
  } finally {
    await file.close();
  }
}

function refusal(error: unknown, path: string, what: string): unknown {
  const code = errnoOf(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new GatewayError('key-missing', `${path}: there is no ${what} here`, { cause: error });
  }
  if (code === 'EACCES' || code === 'EISDIR') {
    return new GatewayError('key-missing', `${path}: this user cannot read the ${what} (${code})`, { cause: error });
  }
  return fileError(path, 'cannot be read', error);
}

/**
 * Makes the file and its directory; a file that could not be made whole is removed again, since nobody could use it and
 * it would stand in the way. @throws GatewayError volume-exists when there is one, directory-unwritable, disk-full, disk-failed
 */
export async function writeSecretFile(path: string, content: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    } finally {
      await file.close();
    }
    const directory = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
    await directory.sync().finally(() => directory.close());
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') {
      throw new GatewayError('volume-exists', `${path} exists; nothing was overwritten`, { cause: error });
    }
    throw fileError(path, 'cannot be written', error);
  }
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}
