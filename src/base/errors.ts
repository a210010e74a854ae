/**
 * The registry of operational failures, and the four kinds of error (docs/errors.md lists every code; a test holds
 * that page equal to this table).
 *
 *   InvariantError (assert.ts)   a bug: the process stops
 *   GatewayError                 an operational failure with a stable code; fails one command or one start
 *   ProtocolError                a peer broke its protocol: ends that connection, nothing else
 *   DurabilityLostError          fsync failed or the log is damaged: caught by the composition root alone
 */

/** What a user does about an error; `retryable` says whether the same call may succeed later without a change. */
interface ErrorEntry {
  readonly retryable: boolean;
  readonly action: string;
}

export const errorCodes = {
  // configuration and start
  'config-invalid': { retryable: false, action: 'Correct the key that the message names.' },
  'key-missing': {
    retryable: false,
    action:
      'Name the right file. A volume that exists opens with its own key only; for new ones `keepgate key generate FILE` makes a key.',
  },
  'key-invalid': { retryable: false, action: 'A key is 32 bytes in base64; restore the file from its backup.' },
  'key-permissions': { retryable: false, action: 'Make the key readable by its owner only: chmod 600 FILE.' },
  'key-mismatch': {
    retryable: false,
    action: 'The volume was made with another key: give that key, or choose another prefix.',
  },
  'key-last': {
    retryable: false,
    action: 'A volume keeps at least one key that opens it: add another one first, and give that.',
  },
  'listen-refused': { retryable: false, action: 'Choose a free port, or one that this user may open.' },
  'insecure-listener': {
    retryable: false,
    action: 'Listen on loopback or a Unix socket, require TLS, or set trustedNetwork: true.',
  },
  'tls-invalid': {
    retryable: false,
    action: 'Correct the certificate or key file that the message names; docs/operations.md says how they are made.',
  },
  'not-supported': {
    retryable: false,
    action: 'This version does not have that part yet; the message says what to use instead.',
  },
  'addon-missing': { retryable: false, action: 'Run `npm run build`; it says what is missing.' },
  'gateway-unreachable': { retryable: true, action: 'Start the gateway, or name its API with --api.' },
  unauthorized: {
    retryable: false,
    action: 'Read the token from the data directory as the user that runs the gateway.',
  },
  'not-found': { retryable: false, action: 'Check the name; `keepgate status` lists the volumes.' },
  // local volume
  'volume-locked': { retryable: true, action: 'Another gateway has this data directory open: stop that one.' },
  'volume-incomplete': {
    retryable: false,
    action:
      'Files are there but volume.json is not: nothing was overwritten. Move the directory away, then restore the volume, or start anew.',
  },
  'volume-exists': { retryable: false, action: 'Choose an empty directory or another name; nothing was overwritten.' },
  'format-newer': { retryable: false, action: 'A newer version wrote this: run that version.' },
  'format-unknown': { retryable: false, action: 'This is not a Keepgate volume, or it is damaged: restore it.' },
  'size-invalid': { retryable: false, action: 'Give a multiple of 4 KiB; a volume can grow but not shrink.' },
  'log-damaged': { retryable: false, action: 'The log lost data that it had promised: restore from the bucket.' },
  'superblock-damaged': { retryable: false, action: 'Both superblocks are unreadable: restore from the bucket.' },
  'checksum-mismatch': {
    retryable: false,
    action: 'A block has rotted and no sound copy could be had: write it anew or restore it, and replace the disk.',
  },
  'disk-full': { retryable: true, action: 'Free space in the data directory; writes go on by themselves.' },
  'disk-failed': { retryable: false, action: 'The disk under the data directory fails: replace it, then restore.' },
  'directory-unwritable': {
    retryable: false,
    action: 'Make the data directory writable for this user, or choose another.',
  },
  'buffer-full': {
    retryable: true,
    action: 'The buffer is full and whenFull is fail: enlarge it or raise the bandwidth.',
  },
  'reservations-damaged': {
    retryable: false,
    action: 'Nobody knows who may write: make sure that no cluster node uses the volume, then do as the message says.',
  },
  // requests
  'out-of-range': { retryable: false, action: 'The request reaches past the end of the volume.' },
  'invalid-request': { retryable: false, action: 'The request contradicts its protocol.' },
  'request-too-large': { retryable: false, action: 'Split the request; the limit is advertised at login.' },
  'read-only': { retryable: false, action: 'The volume is read-only: readOnly is set, or it was fenced.' },
  'volume-in-use': {
    retryable: true,
    action: 'Another client has the volume: detach it there first, or set access: shared.',
  },
  'volume-sanitizing': {
    retryable: true,
    action: 'Wait until the sanitize is over; end one that failed with SANITIZE, EXIT FAILURE MODE, or sanitize again.',
  },
  'volume-closed': { retryable: true, action: 'The gateway is stopping; the client reconnects after its start.' },
  'access-denied': { retryable: false, action: 'This client is not on the volume’s list.' },
  'host-refused': {
    retryable: false,
    action: 'Ask at the address that the API listens on: another name in the Host header may be a web page’s trick.',
  },
  'session-limit': { retryable: true, action: 'Too many connections: close some.' },
  'tls-required': {
    retryable: false,
    action: 'Connect over TLS (nbds:): nbd.tls is required, or the volume is for users that only TLS can tell.',
  },
  'tls-failed': {
    retryable: false,
    action: 'Give the client a certificate of the gateway’s CA, or a user and key that stand in nbd.tlsPsk.',
  },
  'handshake-timeout': {
    retryable: true,
    action: 'A client connected and then said nothing, or too little; look at it, or at what scans this port.',
  },
  // store and remote volume
  'store-unreachable': { retryable: true, action: 'Check endpoint, network and proxy; replication resumes by itself.' },
  'store-forbidden': { retryable: false, action: 'Check the credentials and the bucket policy.' },
  'store-bucket-missing': {
    retryable: false,
    action: 'Create the bucket (of a file:// store, the directory), or correct store.url.',
  },
  'store-slow-down': { retryable: true, action: 'The store throttles; the gateway backs off by itself.' },
  'store-failed': { retryable: true, action: 'The store answered with an error; it is tried again.' },
  'store-no-conditional-put': {
    retryable: false,
    action: 'The store ignores If-None-Match: set store.fencing: none, and run one gateway only.',
  },
  'object-missing': {
    retryable: false,
    action: 'An object that must exist is gone: check life-cycle rules; see restore --accept-loss.',
  },
  'object-damaged': { retryable: false, action: 'An object was changed or is another’s: its authentication failed.' },
  'remote-exists': {
    retryable: false,
    action: 'The bucket already holds a volume of this name: restore it, or choose another name or prefix.',
  },
  'remote-behind': {
    retryable: true,
    action: 'Drain the volume first, or give --accept-loss where the bucket need not have it.',
  },
  'remote-in-use': {
    retryable: false,
    action: 'A gateway may own this volume: stop it and take the volume out of its configuration, then give --force.',
  },
  'remote-ahead': {
    retryable: false,
    action: 'The bucket is newer than this directory (rolled back or cloned): restore or take over.',
  },
  'remote-forked': { retryable: false, action: 'The bucket’s history is not this directory’s: restore or take over.' },
  'remote-vanished': {
    retryable: false,
    action: 'The bucket’s history is gone: check the bucket; do not overwrite it.',
  },
  'remote-gap': {
    retryable: false,
    action: 'Committed segments are missing: restore --accept-loss takes what is before the gap.',
  },
  'receipt-invalid': { retryable: false, action: 'This is no receipt, or it was changed: take another copy of it.' },
  'receipt-unmet': {
    retryable: false,
    action: 'The bucket is older than, or no descendant of, the receipt: it was rolled back.',
  },
  'receipt-outlet-failed': {
    retryable: true,
    action: 'Check receipts.exportTo: receipts could not be exported or read back; it is tried again.',
  },
  fenced: { retryable: false, action: 'Another gateway owns the remote volume: stop it, then `keepgate takeover`.' },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof errorCodes;

/** Where and with what it happened; shown to the user, so never a secret. */
export type ErrorContext = Readonly<Record<string, string | number | boolean>>;

export class GatewayError extends Error {
  override readonly name = 'GatewayError';
  readonly code: ErrorCode;
  readonly context: ErrorContext;

  constructor(code: ErrorCode, message: string, options: { context?: ErrorContext; cause?: unknown } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.context = options.context ?? {};
  }

  get retryable(): boolean {
    return errorCodes[this.code].retryable;
  }
}

/** A peer broke its protocol beyond what an error reply can mend; `message` says which rule. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** A promise can no longer be kept (P1): no further acknowledgement, the process ends, recovery decides. */
export class DurabilityLostError extends Error {
  override readonly name = 'DurabilityLostError';
}
