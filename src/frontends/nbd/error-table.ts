/** The one place where failures become what NBD can say: "Error values" and "Option reply types" of proto.md. */
import { GatewayError } from '../../base/errors.js';
import type { ErrorCode } from '../../base/errors.js';
import { errno } from './wire.js';
import type { Errno, OptionError } from './wire.js';

interface NbdAnswer {
  /** In the transmission phase. */
  readonly request: Errno;
  /** In the handshake. */
  readonly option: OptionError;
}

const failed: NbdAnswer = { request: errno.EIO, option: 'errPlatform' };
const denied: NbdAnswer = { request: errno.EPERM, option: 'errPolicy' };

/**
 * Codes that no request can meet (configuration, restore, bucket) are EIO like any failure without a name of its own.
 * volume-closed is EIO too, not ESHUTDOWN: a client that is told ESHUTDOWN must disconnect softly and never retries.
 */
export const nbdAnswers: Readonly<Record<ErrorCode, NbdAnswer>> = {
  'config-invalid': failed,
  'key-missing': failed,
  'key-invalid': failed,
  'key-permissions': failed,
  'key-mismatch': failed,
  'key-last': failed,
  'listen-refused': failed,
  'insecure-listener': failed,
  'tls-invalid': failed,
  'not-supported': { request: errno.ENOTSUP, option: 'errUnsupported' },
  'addon-missing': failed,
  'gateway-unreachable': failed,
  unauthorized: denied,
  'not-found': { request: errno.EIO, option: 'errUnknown' },
  'volume-locked': failed,
  'volume-incomplete': failed,
  'volume-exists': failed,
  'format-newer': failed,
  'format-unknown': failed,
  'size-invalid': failed,
  'log-damaged': failed,
  'superblock-damaged': failed,
  'checksum-mismatch': failed,
  'disk-full': { request: errno.ENOSPC, option: 'errPlatform' },
  'disk-failed': failed,
  'directory-unwritable': failed,
  'reservations-damaged': failed,
  'buffer-full': { request: errno.ENOSPC, option: 'errPlatform' },
  'out-of-range': { request: errno.EINVAL, option: 'errInvalid' },
  'invalid-request': { request: errno.EINVAL, option: 'errInvalid' },
  'request-too-large': { request: errno.EINVAL, option: 'errTooBig' },
  'read-only': { request: errno.EPERM, option: 'errPolicy' },
  'volume-in-use': denied,
  'volume-sanitizing': { request: errno.EIO, option: 'errPolicy' },
  'volume-closed': { request: errno.EIO, option: 'errShutdown' },
  'access-denied': denied,
  'host-refused': denied,
  'session-limit': denied,
  'tls-required': { request: errno.EPERM, option: 'errTlsRequired' },
  'tls-failed': denied,
  'handshake-timeout': denied,
  'store-unreachable': failed,
  'store-forbidden': failed,
  'store-bucket-missing': failed,
  'store-slow-down': failed,
  'store-failed': failed,
  'store-no-conditional-put': failed,
  'object-missing': failed,
  'object-damaged': failed,
  'remote-exists': failed,
  'remote-ahead': failed,
  'remote-forked': failed,
  'remote-vanished': failed,
  'remote-gap': failed,
  'remote-behind': failed,
  'remote-in-use': failed,
  'receipt-unmet': failed,
  'receipt-outlet-failed': failed,
  'receipt-invalid': failed,
  fenced: { request: errno.EPERM, option: 'errPolicy' },
};

/** The answer to what a device threw; anything but a GatewayError goes on upwards. */
export function errnoOf(error: unknown): Errno {
  if (error instanceof GatewayError) return nbdAnswers[error.code].request;
  throw error;
}
