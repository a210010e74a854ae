/** The one table that maps what an S3 store, the SDK or the network says to GatewayErrors. */
import { GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';

/** By the store's own error code, which says more than the status. */
const byName: Readonly<Record<string, ErrorCode>> = {
  NoSuchKey: 'object-missing',
  NoSuchBucket: 'store-bucket-missing',
  AccessDenied: 'store-forbidden',
  AllAccessDisabled: 'store-forbidden',
  AccountProblem: 'store-forbidden',
  ExpiredToken: 'store-forbidden',
  InvalidAccessKeyId: 'store-forbidden',
  InvalidToken: 'store-forbidden',
  SignatureDoesNotMatch: 'store-forbidden',
  // The SDK has taken the store's time from this very answer: the next attempt is signed with it.
  RequestTimeTooSkewed: 'store-failed',
  RequestExpired: 'store-failed',
  CredentialsProviderError: 'store-forbidden',
  PermanentRedirect: 'store-forbidden',
  SlowDown: 'store-slow-down',
  ServiceUnavailable: 'store-slow-down',
  Throttling: 'store-slow-down',
  ThrottlingException: 'store-slow-down',
  TooManyRequests: 'store-slow-down',
  RequestTimeout: 'store-unreachable',
  TimeoutError: 'store-unreachable',
  ConditionalRequestConflict: 'store-failed',
  OperationAborted: 'store-failed',
};

/** By HTTP status, where the body named no code. */
const byStatus: Readonly<Record<number, ErrorCode>> = {
  301: 'store-forbidden',
  401: 'store-forbidden',
  403: 'store-forbidden',
  404: 'object-missing',
  429: 'store-slow-down',
  503: 'store-slow-down',
};

/** `where` is the object, for messages. An error without an HTTP status never reached the store, or lost its answer. */
export function s3Failure(options: {
  readonly operation: string;
  readonly where: string;
  readonly error: unknown;
}): GatewayError {
  const { operation, where, error } = options;
  const name = error instanceof Error ? error.name : 'Error';
  const status = statusOf(error);
  const code =
    (name === 'NotImplemented' && operation === 'put' ? 'store-no-conditional-put' : byName[name]) ??
    (status === undefined ? 'store-unreachable' : (byStatus[status] ?? 'store-failed'));
  const said = error instanceof Error ? firstLine(error) : String(error);
  const shown = status === undefined ? said : `${status} ${said}`;
  return new GatewayError(code, `${where}: ${operation} failed: ${shown}`, {
    cause: error,
    context: { operation, ...(status === undefined ? {} : { status }) },
  });
}

function statusOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null || !('$metadata' in error)) return undefined;
  return (error.$metadata as { readonly httpStatusCode?: number }).httpStatusCode;
}

function firstLine(error: Error): string {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : error.name;
  const [line = ''] = error.message.split('\n');
  return line === '' || line === code ? code : `${code}: ${line}`;
}
