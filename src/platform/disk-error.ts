/** From the errno of a failed system call to the GatewayError that says so, in one line. */
import { constants } from 'node:os';
import { GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import { loadAddon } from './addon.js';

const { errno } = constants;

const codes: ReadonlyMap<number, ErrorCode> = new Map([
  [errno.ENOSPC, 'disk-full'],
  [errno.EDQUOT, 'disk-full'],
  [errno.EACCES, 'directory-unwritable'],
  [errno.EPERM, 'directory-unwritable'],
  [errno.EROFS, 'directory-unwritable'],
  [errno.ENOENT, 'not-found'],
]);

const names: ReadonlyMap<number, string> = new Map(
  Object.entries(errno)
    .filter(([name]) => name !== 'EWOULDBLOCK' && name !== 'EOPNOTSUPP')
    .map(([name, number]) => [number, name]),
);

export interface FailedCall {
  /** The system call, "pwritev". */
  readonly call: string;
  /** As the caller named the file. */
  readonly path: string;
  readonly position?: number;
  /** Negative, as the addon returns it. */
  readonly result: number;
}

/** "pwritev log/00000003 at 4096: input/output error (EIO)" */
export function diskError(failed: FailedCall): GatewayError {
  const number = -failed.result;
  const name = names.get(number) ?? `errno ${number}`;
  const text = loadAddon().errorText(number);
  const where = failed.position === undefined ? failed.path : `${failed.path} at ${failed.position}`;
  return new GatewayError(
    codes.get(number) ?? 'disk-failed',
    `${failed.call} ${where}: ${text.charAt(0).toLowerCase()}${text.slice(1)} (${name})`,
    { context: { call: failed.call, path: failed.path, errno: name } },
  );
}

/** For what goes through node:fs: "/etc/keepgate/key cannot be read: i/o error (EIO)". */
export function fileError(path: string, what: string, error: unknown): GatewayError {
  const { errno: number, code = '' } = error instanceof Error ? (error as NodeJS.ErrnoException) : {};
  if (number === undefined)
    return new GatewayError('disk-failed', `${path} ${what}: ${String(error)}`, { cause: error });
  const text = /^\w+: ([^,]+)/.exec((error as Error).message)?.[1] ?? 'it failed';
  const known = codes.get(-number);
  const mended = known === undefined || known === 'not-found' ? 'disk-failed' : known;
  return new GatewayError(mended, `${path} ${what}: ${text} (${code})`, {
    cause: error,
    context: { path, errno: code },
  });
}
