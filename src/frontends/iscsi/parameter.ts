/**
 * Every key that is negotiated or declared (RFC 7143, section 13), one row each: what it defaults to, how offer and own
 * limit become the result, and where the result goes. Keys of security negotiation are in chap.ts and login.ts, names
 * and session type in login.ts.
 *
 * The functions of section 6.2: `list` takes the first of the initiator's values that we know, `lowest` and `highest`
 * the minimum or maximum of both sides, `and`, `or` combine booleans, `declared` is each side's own.
 */
import { limits } from '../../base/limits.js';
import { parseNumber } from './text.js';

/** What a connection in full-feature phase goes by; the defaults are those of section 13. */
export interface Parameters {
  headerDigest: boolean;
  dataDigest: boolean;
  initialR2T: boolean;
  immediateData: boolean;
  /** The largest data segment that the initiator takes; ours is limits.iscsiDataSegmentBytesMax. */
  sendSegmentBytesMax: number;
  burstBytesMax: number;
  firstBurstBytesMax: number;
  outstandingR2TMax: number;
  time2Wait: number;
  time2Retain: number;
}

export function defaultParameters(): Parameters {
  return {
    headerDigest: false,
    dataDigest: false,
    initialR2T: true,
    immediateData: true,
    sendSegmentBytesMax: 8192,
    burstBytesMax: 262_144,
    firstBurstBytesMax: 65_536,
    outstandingR2TMax: 1,
    time2Wait: 2,
    time2Retain: 20,
  };
}

export type DigestPolicy = 'offered' | 'required';

export const REJECT = 'Reject';
const YES = 'Yes';
const NO = 'No';
const BURST_BYTES_MIN = 512;
const U24_MAX = 0xff_ffff;

interface Row {
  readonly key: string;
  /** Meaningless in a discovery session: answered Irrelevant. */
  readonly normalOnly?: boolean;
  /** The answer to `value`, or undefined for a value that is malformed or out of range: Reject. */
  answer(value: string, into: Parameters, digests: DigestPolicy): string | undefined;
}

function list(
  key: string,
  supported: (digests: DigestPolicy) => readonly string[],
  take: (value: string, into: Parameters) => void,
): Row {
  return {
    key,
    answer: (value, into, digests) => {
      const chosen = value.split(',').find((offer) => supported(digests).includes(offer));
      if (chosen !== undefined) take(chosen, into);
      return chosen;
    },
  };
}

function number(
  key: string,
  range: { readonly min: number; readonly max: number },
  combine: (offer: number) => number,
  take: (value: number, into: Parameters) => void,
): Row {
  return {
    key,
    normalOnly: true,
    answer: (value, into) => {
      const offer = parseNumber(value);
      if (offer === undefined || offer < range.min || offer > range.max) return undefined;
      const result = combine(offer);
      take(result, into);
      return String(result);
    },
  };
}

const lowest = (own: number) => (offer: number) => Math.min(own, offer);
const highest = (own: number) => (offer: number) => Math.max(own, offer);

function boolean(
  key: string,
  combine: (offer: boolean) => boolean,
  take: (value: boolean, into: Parameters) => void,
): Row {
  return {
    key,
    normalOnly: true,
    answer: (value, into) => {
      if (value !== YES && value !== NO) return undefined;
      const result = combine(value === YES);
      take(result, into);
      return result ? YES : NO;
    },
  };
}

const or = (own: boolean) => (offer: boolean) => own || offer;
const and = (own: boolean) => (offer: boolean) => own && offer;
const ignore = (): void => undefined;

const CRC32C = 'CRC32C';
const digestValues = (digests: DigestPolicy): readonly string[] =>
  digests === 'required' ? [CRC32C] : [CRC32C, 'None'];

export const rows: readonly Row[] = [
  // 13.1
  list('HeaderDigest', digestValues, (value, into) => void (into.headerDigest = value === CRC32C)),
  list('DataDigest', digestValues, (value, into) => void (into.dataDigest = value === CRC32C)),
  // 13.2
  number('MaxConnections', { min: 1, max: 65_535 }, lowest(1), ignore),
  // 13.10
  boolean('InitialR2T', or(false), (value, into) => void (into.initialR2T = value)),
  // 13.11
  boolean('ImmediateData', and(true), (value, into) => void (into.immediateData = value)),
  // 13.12: declared, ours is the answer
  {
    key: 'MaxRecvDataSegmentLength',
    answer: (value, into) => {
      const offer = parseNumber(value);
      if (offer === undefined || offer < BURST_BYTES_MIN || offer > U24_MAX) return undefined;
      into.sendSegmentBytesMax = offer;
      return String(limits.iscsiDataSegmentBytesMax);
    },
  },
  // 13.13
  number(
    'MaxBurstLength',
    { min: BURST_BYTES_MIN, max: U24_MAX },
    lowest(limits.iscsiBurstBytesMax),
    (value, into) => void (into.burstBytesMax = value),
  ),
  // 13.14
  number(
    'FirstBurstLength',
    { min: BURST_BYTES_MIN, max: U24_MAX },
    lowest(limits.iscsiFirstBurstBytesMax),
    (value, into) => void (into.firstBurstBytesMax = value),
  ),
  // 13.15, 13.16
  number('DefaultTime2Wait', { min: 0, max: 3600 }, highest(2), (value, into) => void (into.time2Wait = value)),
  number('DefaultTime2Retain', { min: 0, max: 3600 }, lowest(0), (value, into) => void (into.time2Retain = value)),
  // 13.17
  number(
    'MaxOutstandingR2T',
    { min: 1, max: 65_535 },
    lowest(limits.iscsiOutstandingR2TMax),
    (value, into) => void (into.outstandingR2TMax = value),
  ),
  // 13.18, 13.19: what arrives in order is written straight on
  boolean('DataPDUInOrder', or(true), ignore),
  boolean('DataSequenceInOrder', or(true), ignore),
  // 13.20
  number('ErrorRecoveryLevel', { min: 0, max: 2 }, lowest(0), ignore),
  // 13.23
  list('TaskReporting', () => ['RFC3720'], ignore),
  // RFC 7144 7.1.1; 1 is RFC 7143 without the additions of RFC 7144
  number('iSCSIProtocolLevel', { min: 0, max: 31 }, lowest(1), ignore),
  // 13.25, obsolete: never NotUnderstood
  ...['IFMarker', 'OFMarker', 'IFMarkInt', 'OFMarkInt'].map((key): Row => ({ key, answer: () => REJECT })),
];

const byKey = new Map(rows.map((row) => [row.key, row]));

/** The answer to one key, which takes effect in `into`; undefined for a key that is not in the table. */
export function negotiate(
  key: string,
  value: string,
  into: Parameters,
  options: { readonly discovery: boolean; readonly digests: DigestPolicy },
): string | undefined {
  const row = byKey.get(key);
  if (row === undefined) return undefined;
  if (options.discovery && row.normalOnly === true) return 'Irrelevant';
  return row.answer(value, into, options.digests) ?? REJECT;
}
