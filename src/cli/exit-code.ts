/** Exit codes (docs: 0 done, 1 found something or failed, 2 usage or configuration, 3 gateway unreachable). */
import { GatewayError, errorCodes } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';

export const exitCodes = { done: 0, failed: 1, usage: 2, unreachable: 3 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** What the user mends in a command, a configuration or a directory before trying again. */
const usageCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'config-invalid',
  'key-missing',
  'key-invalid',
  'key-permissions',
  'key-mismatch',
  'listen-refused',
  'insecure-listener',
  'tls-invalid',
  'not-supported',
  'unauthorized',
  'not-found',
  'volume-locked',
  'volume-incomplete',
  'volume-exists',
  'format-newer',
  'format-unknown',
  'size-invalid',
  'directory-unwritable',
  'store-bucket-missing',
  'store-forbidden',
  'store-no-conditional-put',
  'remote-exists',
  'remote-ahead',
  'remote-forked',
  'remote-vanished',
]);

/** Codes whose messages say themselves what would be right. */
const selfContained: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'config-invalid',
  'not-supported',
  'insecure-listener',
  'volume-exists',
]);

export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof GatewayError)) return exitCodes.failed;
  if (error.code === 'gateway-unreachable') return exitCodes.unreachable;
  return usageCodes.has(error.code) ? exitCodes.usage : exitCodes.failed;
}

/** What stderr shows: a line for each problem, with what to do, and never a stack. */
export function errorLines(error: unknown): string {
  if (!(error instanceof GatewayError)) {
    return `keepgate: ${error instanceof Error ? error.message : String(error)}`;
  }
  const remedy = selfContained.has(error.code) ? '' : `. ${errorCodes[error.code].action}`;
  return error.message
    .split('\n')
    .map((line) => `keepgate: ${line}${remedy}`)
    .join('\n');
}
