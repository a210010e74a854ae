/** Errors as problem+json (RFC 9457): type, title, status, detail, and the code of docs/errors.md. */
import { GatewayError, errorCodes } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';

export interface ProblemDetails {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode | 'internal';
}

export const problemContentType = 'application/problem+json';

/** Codes whose status is not 500: what a caller of the API can cause or mend. */
const statuses: Partial<Readonly<Record<ErrorCode, number>>> = {
  'config-invalid': 400,
  'invalid-request': 400,
  'size-invalid': 400,
  'out-of-range': 400,
  unauthorized: 401,
  'access-denied': 403,
  'host-refused': 403,
  'not-found': 404,
  'volume-exists': 409,
  'volume-in-use': 409,
  'volume-locked': 409,
  'read-only': 409,
  fenced: 409,
  'request-too-large': 413,
  'not-supported': 501,
  'session-limit': 503,
  'volume-closed': 503,
  'disk-full': 503,
  'buffer-full': 503,
  'store-unreachable': 503,
};

/** `title` is constant for a code: what the user does about it. */
export function problemOf(code: ErrorCode, detail: string): ProblemDetails {
  return {
    type: `urn:keepgate:error:${code}`,
    title: errorCodes[code].action,
    status: statuses[code] ?? 500,
    detail,
    code,
  };
}

/** Anything that a handler threw. What is no operational failure keeps its message to the log. */
export function problemFrom(error: unknown): ProblemDetails {
  if (error instanceof GatewayError) return problemOf(error.code, error.message);
  const status = statusOf(error);
  if (status === 401) {
    return problemOf('unauthorized', 'this request needs the API token: Authorization: Bearer TOKEN');
  }
  if (status >= 400 && status < 500) {
    const code = status === 413 ? 'request-too-large' : status === 404 ? 'not-found' : 'invalid-request';
    return { ...problemOf(code, error instanceof Error ? error.message : 'the request is wrong'), status };
  }
  return {
    type: 'urn:keepgate:error:internal',
    title: 'An error of the gateway itself; its log has more.',
    status: 500,
    detail: 'the gateway failed to answer this request',
    code: 'internal',
  };
}

/** Fastify's own errors carry the status that they stand for. */
function statusOf(error: unknown): number {
  if (typeof error !== 'object' || error === null || !('statusCode' in error)) return 500;
  return typeof error.statusCode === 'number' ? error.statusCode : 500;
}
