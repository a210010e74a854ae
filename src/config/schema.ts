/**
 * Every key of the configuration, with its default and its check, in the order in which the documentation lists them.
 * A key that is documented but not built yet is here too: its check refuses every value that would promise something.
 */
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, LOGICAL_BLOCK_BYTES, KIB } from '../base/units.js';
import { bandwidthSchedule } from './bandwidth-schedule.js';
import { parseListenAddress, parseListenAddressOrSystemd } from './listen-address.js';
import { WrongValue, shown } from './problem.js';
import { formatBytes, formatDuration, parseDuration, parseRateLimit, parseSize } from './quantity.js';
import { flag, list, oneOf, optional, required, setting, structure, text, withEnvironment } from './setting.js';

function volumeName(raw: unknown): string {
  if (typeof raw !== 'string' || !/^[a-z0-9][a-z0-9-]{0,62}$/.test(raw)) {
    throw new WrongValue(
      `${shown(raw)} is not a volume name; write 1 to ${limits.volumeNameCharsMax} of a-z, 0-9 and -, beginning with a letter or digit`,
    );
  }
  return raw;
}

/** A size within limits and a multiple of 4 KiB; the message names the nearest multiple. */
function sizeBetween(lengthBytesMin: number, lengthBytesMax: number): (raw: unknown) => number {
  return (raw) => {
    const lengthBytes = parseSize(raw);
    if (lengthBytes < lengthBytesMin || lengthBytes > lengthBytesMax) {
      throw new WrongValue(
        `${shown(raw)} is out of range; write ${formatBytes(lengthBytesMin)} to ${formatBytes(lengthBytesMax)}`,
      );
    }
    if (lengthBytes % BLOCK_BYTES !== 0) {
      const nearest = Math.round(lengthBytes / BLOCK_BYTES) * BLOCK_BYTES;
      throw new WrongValue(`${shown(raw)} is not a multiple of 4 KiB; the nearest is ${nearest / KIB}KiB`);
    }
    return lengthBytes;
  };
}

/** VMware and some older systems refuse a disk whose physical blocks are larger than its logical ones. */
function physicalBlock(raw: unknown): number {
  const lengthBytes = parseSize(raw);
  if (lengthBytes === BLOCK_BYTES || lengthBytes === LOGICAL_BLOCK_BYTES) return lengthBytes;
  throw new WrongValue(`${shown(raw)} is not a physical block; write 4KiB, or 512B for initiators that refuse it`);
}

function durationBetween(durationMsMin: number, durationMsMax: number): (raw: unknown) => number {
  return (raw) => {
    const durationMs = parseDuration(raw);
    if (durationMs < durationMsMin || durationMs > durationMsMax) {
      throw new WrongValue(
        `${shown(raw)} is out of range; write ${formatDuration(durationMsMin)} to ${formatDuration(durationMsMax)}`,
      );
    }
    return durationMs;
  };
}

function storeUrl(raw: unknown): string {
  if (typeof raw === 'string') {
    if (/^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/.*)?$/.test(raw)) return raw.replace(/\/+$/, '');
    if (/^file:\/\/\/./.test(raw)) return raw.replace(/\/+$/, '');
  }
  throw new WrongValue(`${shown(raw)} is not a store; write s3://BUCKET/PREFIX or file:///DIRECTORY`);
}

function httpUrl(raw: unknown): string {
  if (typeof raw === 'string' && /^https?:\/\//.test(raw) && URL.canParse(raw)) return raw;
  throw new WrongValue(`${shown(raw)} is not an endpoint; write http://HOST:PORT or https://HOST:PORT`);
}

function scrubPeriod(raw: unknown): number | undefined {
  return raw === 'never' || raw === false ? undefined : durationBetween(60_000, 3650 * 86_400_000)(raw);
}

function snapshotPeriod(raw: unknown): number | undefined {
  return raw === 'never' || raw === false ? undefined : durationBetween(60_000, 3650 * 86_400_000)(raw);
}

/** As many as there may be, less some for those that people take. */
function snapshotsKept(raw: unknown): number {
  const most = limits.snapshotsMax - 1000;
  if (typeof raw === 'number' && Number.isInteger(raw) && raw >= 1 && raw <= most) return raw;
  throw new WrongValue(`${shown(raw)} is no number of snapshots; write a whole number from 1 to ${most}`);
}

function pathOrUrl(raw: unknown): string {
  if (
    typeof raw === 'string' &&
    raw !== '' &&
    (!raw.includes('://') || (/^https?:\/\//.test(raw) && URL.canParse(raw)))
  ) {
    return raw;
  }
  throw new WrongValue(`${shown(raw)} is no place for receipts; write /PATH/FILE or https://HOST/PATH`);
}

/** Objects must be readable at once: a restore, and each read of a block that is not here yet, wait for them. */
function storageClass(raw: unknown): string {
  if (raw === 'GLACIER' || raw === 'DEEP_ARCHIVE') {
    throw new WrongValue(`${shown(raw)} cannot be read at once; write for example STANDARD_IA or GLACIER_IR`);
  }
  if (typeof raw === 'string' && /^[A-Z][A-Z0-9_]{0,63}$/.test(raw)) return raw;
  throw new WrongValue(`${shown(raw)} is not a storage class; write for example STANDARD_IA`);
}

function accountNumber(raw: unknown): string {
  if (typeof raw === 'string' && /^\d{12}$/.test(raw)) return raw;
  throw new WrongValue(`${shown(raw)} is not an account; write its 12 digits in quotes`);
}

function iqnPrefix(raw: unknown): string {
  if (typeof raw === 'string' && /^iqn\.\d{4}-\d{2}\.[a-z0-9.-]+(:[a-z0-9.:-]+)?$/.test(raw) && raw.length <= 159) {
    return raw;
  }
  throw new WrongValue(
    `${shown(raw)} is not an iSCSI name; write iqn.YEAR-MONTH.REVERSED-DOMAIN such as iqn.2026-11.io.keepgate`,
  );
}

function initiatorName(raw: unknown): string {
  if (typeof raw === 'string' && /^(iqn|eui|naa)\.\S{1,219}$/.test(raw)) return raw;
  throw new WrongValue(`${shown(raw)} is not an initiator name; write for example iqn.1993-08.org.debian:01:abc`);
}

function portal(raw: unknown): string {
  const address = parseListenAddress(raw);
  if (address.kind === 'unix') throw new WrongValue(`${shown(raw)} is not HOST:PORT`);
  return String(raw);
}

function tcpListen(raw: unknown): ReturnType<typeof parseListenAddress> {
  const address = parseListenAddress(raw);
  if (address.kind === 'unix') throw new WrongValue(`${shown(raw)} is a socket path; iSCSI listens on HOST:PORT`);
  return address;
}

function timeZone(raw: unknown): string {
  const name = text(raw);
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return name;
  } catch {
    throw new WrongValue(`${shown(raw)} is not a time zone; write for example Europe/Paris`);
  }
}

/** In quotes: what YAML makes of 0660 without them is another number. */
function socketMode(raw: unknown): number {
  if (typeof raw === 'string' && /^0?[0-7]{3}$/.test(raw)) return parseInt(raw, 8);
  throw new WrongValue(`${shown(raw)} is not a mode; write three octal digits in quotes, such as "0660"`);
}

function socketOwner(raw: unknown): string {
  if (typeof raw === 'string' && /^(?:[^\s:]+(?::[^\s:]+)?|:[^\s:]+)$/.test(raw)) return raw;
  throw new WrongValue(`${shown(raw)} is not an owner; write USER, USER:GROUP or ":GROUP"`);
}

/** As `onOrOff`, and a third word. */
function tlsMode(raw: unknown): 'off' | 'on' | 'required' {
  if (raw === 'required') return raw;
  if (raw === 'on' || raw === true) return 'on';
  if (raw === 'off' || raw === false) return 'off';
  throw new WrongValue(`${shown(raw)} is not known; write off, on or required`);
}

/** YAML 1.2 leaves the words alone; other readers, and people, may not. */
function onOrOff(raw: unknown): boolean {
  if (raw === 'on' || raw === true) return true;
  if (raw === 'off' || raw === false) return false;
  throw new WrongValue(`${shown(raw)} is not known; write on or off`);
}

export const volumeSettings = {
  name: required('disk0', volumeName),
  size: required('100GiB', sizeBetween(limits.volumeBytesMin, limits.volumeBytesMax)),
  buffer: {
    size: setting('1GiB', sizeBetween(limits.bufferBytesMin, limits.bufferBytesMax)),
    whenFull: setting('track', oneOf('track', 'throttle', 'fail')),
  },
  provision: setting('thin', oneOf('thin', 'full')),
  fullTimeout: setting('30s', durationBetween(100, 3_600_000)),
  access: setting('exclusive', oneOf('exclusive', 'shared')),
  readOnly: flag(false),
  nbd: {
    enabled: flag(true),
    users: list([], text),
  },
  iscsi: {
    enabled: flag(true),
    initiators: list([], initiatorName),
    physicalBlock: setting('4KiB', physicalBlock),
    chap: {
      user: optional(text),
      secretFile: optional(text),
      mutualUser: optional(text),
      mutualSecretFile: optional(text),
    },
  },
  replicate: {
    enabled: flag(true),
    interval: setting('10s', durationBetween(100, 86_400_000)),
    segmentSize: setting('8MiB', sizeBetween(256 * KIB, limits.segmentBytesMax)),
  },
  whenFenced: setting('readOnly', oneOf('readOnly', 'continue')),
  scrub: {
    every: setting('30d', scrubPeriod),
    remote: flag(false),
  },
  receipts: {
    exportTo: optional(pathOrUrl),
    method: setting('PUT', oneOf('PUT', 'POST')),
    every: setting('1h', durationBetween(1000, 30 * 86_400_000)),
  },
  compaction: setting('on', onOrOff),
  snapshots: {
    every: optional(snapshotPeriod),
    keep: setting(30, snapshotsKept),
  },
};

export const gatewaySettings = withEnvironment(
  {
    dataDir: optional(text),
    keyFile: optional(text),
    trustedNetwork: flag(false),
    nbd: {
      enabled: flag(true),
      listen: list(['127.0.0.1:10809'], parseListenAddressOrSystemd),
      socketMode: setting('0600', socketMode),
      socketOwner: optional(socketOwner),
      tls: setting('off', tlsMode),
      tlsCertificates: optional(text),
      tlsVerifyPeer: flag(false),
      tlsPsk: optional(text),
    },
    iscsi: {
      enabled: flag(true),
      listen: list(['127.0.0.1:3260'], tcpListen),
      advertise: list([], portal),
      targetPrefix: setting('iqn.2026-11.io.keepgate', iqnPrefix),
      digests: setting('offered', oneOf('offered', 'required')),
      discoveryChap: {
        user: optional(text),
        secretFile: optional(text),
      },
    },
    api: {
      listen: setting('127.0.0.1:9470', parseListenAddress),
      tokenFile: optional(text),
    },
    store: {
      url: optional(storeUrl),
      endpoint: optional(httpUrl),
      region: setting('us-east-1', text),
      forcePathStyle: flag(false),
      fencing: setting('auto', oneOf('auto', 'none')),
      caFile: optional(text),
      proxy: optional(httpUrl),
      storageClass: optional(storageClass),
      serverSideEncryption: optional(oneOf('AES256', 'aws:kms', 'aws:kms:dsse')),
      kmsKeyId: optional(text),
      requestPayer: optional(oneOf('requester')),
      expectedBucketOwner: optional(accountNumber),
    },
    bandwidth: {
      upload: setting('unlimited', parseRateLimit),
      download: setting('unlimited', parseRateLimit),
      timezone: optional(timeZone),
      schedule: structure([], bandwidthSchedule),
    },
    volumes: structure(null, (raw) => {
      if (raw === null) return undefined;
      if (!Array.isArray(raw)) throw new WrongValue(`${shown(raw)} is not a list of volumes; write - name: disk0`);
      return raw as readonly unknown[];
    }),
  },
  'KEEPGATE',
);
