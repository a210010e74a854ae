/**
 * Every key that is negotiated or declared (RFC 7143, section 13), one row each: what it defaults to, how offer and own
 * limit become the result, and where the result goes. Keys of security negotiation are in chap.ts and login.ts, names
 * and session type in login.ts.
 *
 * The functions of section 6.2: `list` takes the first of the initiator's values that we know, `lowest` and `highest`
 * the minimum or maximum of both sides, `and`, `or` combine booleans; a declared value is each side's own.
 */
import { limits } from '../../base/limits.js';
import { parseNumber } from './text.js';

/** What a connection in full-feature phase goes by; the defaults are those of section 13. */
export interface Parameters {
  connectionsMax: number;
  headerDigest: boolean;
  dataDigest: boolean;
  initialR2T: boolean;
  immediateData: boolean;
  /** The largest data segment that we send: the initiator takes no more; what it may send is ours alone. */
  sendSegmentBytesMax: number;
  burstBytesMax: number;
  firstBurstBytesMax: number;
  outstandingR2TMax: number;
  time2Wait: number;
  time2Retain: number;
}

export function defaultParameters(): Parameters {
  return {
    connectionsMax: 1,
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

/** Of a connection that joins a session: the session's, but for what is each connection's own. */
export function joinedParameters(session: Parameters, own: Parameters): Parameters {
  const { headerDigest, dataDigest, sendSegmentBytesMax } = own;
  return { ...session, headerDigest, dataDigest, sendSegmentBytesMax };
}

export type DigestPolicy = 'offered' | 'required';

export const REJECT = 'Reject';
const IRRELEVANT = 'Irrelevant';
const YES = 'Yes';
const NO = 'No';
const BURST_BYTES_MIN = 512;
const U24_MAX = 0xff_ffff;

/**
 * connection: each connection negotiates its own. session: only the leading login may (LO in section 13).
 * normalSession: so, and it is meaningless in a discovery session.
 */
type Scope = 'connection' | 'session' | 'normalSession';

interface Row {
  readonly key: string;
  readonly scope: Scope;
  /** The answer to `value`, or undefined for a value that is malformed or out of range: Reject. */
  answer(value: string, into: Parameters, digests: DigestPolicy): string | undefined;
}

function list(
  key: string,
  scope: Scope,
  supported: (digests: DigestPolicy) => readonly string[],
  take: (value: string, into: Parameters) => void,
): Row {
  return {
    key,
    scope,
    answer: (value, into, digests) => {
      const chosen = value.split(',').find((offer) => supported(digests).includes(offer));
      if (chosen !== undefined) take(chosen, into);
      return chosen;
    },
  };
}

interface Range {
  readonly min: number;
  readonly max: number;
}

function numberIn(value: string, { min, max }: Range): number | undefined {
  const offer = parseNumber(value);
  return offer === undefined || offer < min || offer > max ? undefined : offer;
}

function number(
  key: string,
  scope: Scope,
  range: Range,
  combine: (offer: number) => number,
  take: (value: number, into: Parameters) => void,
): Row {
  return {
    key,
    scope,
    answer: (value, into) => {
      const offer = numberIn(value, range);
      if (offer === undefined) return undefined;
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
    scope: 'normalSession',
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

const BURST: Range = { min: BURST_BYTES_MIN, max: U24_MAX };
const SECONDS: Range = { min: 0, max: 3600 };
const COUNT: Range = { min: 1, max: 65_535 };

export const rows: readonly Row[] = [
  // 13.1
  list('HeaderDigest', 'connection', digestValues, (value, into) => void (into.headerDigest = value === CRC32C)),
  list('DataDigest', 'connection', digestValues, (value, into) => void (into.dataDigest = value === CRC32C)),
  // 13.2
  number(
    'MaxConnections',
    'normalSession',
    COUNT,
    lowest(limits.iscsiConnectionsPerSessionMax),
    (value, into) => void (into.connectionsMax = value),
  ),
  // 13.10
  boolean('InitialR2T', or(false), (value, into) => void (into.initialR2T = value)),
  // 13.11
  boolean('ImmediateData', and(true), (value, into) => void (into.immediateData = value)),
  // 13.12: declared, ours is the answer
  {
    key: 'MaxRecvDataSegmentLength',
    scope: 'connection',
    answer: (value, into) => {
      const offer = numberIn(value, BURST);
      if (offer === undefined) return undefined;
      into.sendSegmentBytesMax = Math.min(offer, limits.iscsiDataSegmentBytesMax);
      return String(limits.iscsiDataSegmentBytesMax);
    },
  },
  // 13.13
  number(
    'MaxBurstLength',
    'normalSession',
    BURST,
    lowest(limits.iscsiBurstBytesMax),
    (value, into) => void (into.burstBytesMax = value),
  ),
  // 13.14: never more than MaxBurstLength, and irrelevant where nothing may come unasked
  {
    key: 'FirstBurstLength',
    scope: 'normalSession',
    answer: (value, into) => {
      const offer = numberIn(value, BURST);
      if (offer === undefined) return undefined;
      if (into.initialR2T && !into.immediateData) return IRRELEVANT;
      into.firstBurstBytesMax = Math.min(offer, limits.iscsiFirstBurstBytesMax, into.burstBytesMax);
      return String(into.firstBurstBytesMax);
    },
  },
  // 13.15, 13.16
  number('DefaultTime2Wait', 'session', SECONDS, highest(2), (value, into) => void (into.time2Wait = value)),
  number('DefaultTime2Retain', 'session', SECONDS, lowest(0), (value, into) => void (into.time2Retain = value)),
  // 13.17
  number(
    'MaxOutstandingR2T',
    'normalSession',
    COUNT,
    lowest(limits.iscsiOutstandingR2TMax),
    (value, into) => void (into.outstandingR2TMax = value),
  ),
  // 13.18, 13.19: what arrives in order is written straight on
  boolean('DataPDUInOrder', or(true), ignore),
  boolean('DataSequenceInOrder', or(true), ignore),
  // 13.20
  number('ErrorRecoveryLevel', 'session', { min: 0, max: 2 }, lowest(0), ignore),
  // 13.23
  list('TaskReporting', 'normalSession', () => ['RFC3720'], ignore),
  // RFC 7144 7.1.1; 1 is RFC 7143 without the additions of RFC 7144
  number('iSCSIProtocolLevel', 'session', { min: 0, max: 31 }, lowest(1), ignore),
  // 13.25, obsolete: never NotUnderstood
  ...['IFMarker', 'OFMarker', 'IFMarkInt', 'OFMarkInt'].map((key): Row => ({
    key,
    scope: 'connection',
    answer: () => REJECT,
  })),
];

const byKey = new Map(rows.map((row) => [row.key, row]));

/** Keys that are declared, by whom they are for, or belong to another stage: never NotUnderstood. */
const NOT_NEGOTIATED: readonly string[] = [
  ...['InitiatorName', 'TargetName', 'SessionType', 'InitiatorAlias', 'TargetAlias', 'TargetAddress'],
  ...['TargetPortalGroupTag', 'SendTargets', 'AuthMethod'],
  ...['CHAP_A', 'CHAP_N', 'CHAP_R', 'CHAP_I', 'CHAP_C'],
];

/** The answer to a key that has no place where it came (6.2): we know it, or we do not. */
export function refuseKey(key: string): string {
  return byKey.has(key) || NOT_NEGOTIATED.includes(key) ? REJECT : 'NotUnderstood';
}

export interface NegotiationOptions {
  readonly discovery: boolean;
  readonly digests: DigestPolicy;
  /** It is the login that makes the session. */
  readonly leading: boolean;
}

/** The answer to one key, which takes effect in `into`. */
export function negotiate(key: string, value: string, into: Parameters, options: NegotiationOptions): string {
  const row = byKey.get(key);
  if (row === undefined) return refuseKey(key);
  if (options.discovery && row.scope === 'normalSession') return IRRELEVANT;
  if (!options.leading && row.scope !== 'connection') return REJECT;
  return row.answer(value, into, options.digests) ?? REJECT;
}

/** In the order in which they are to be answered: keys behind those that they depend on (13.14). */
export function inOrderOfDependence(keys: ReadonlyMap<string, string>): [string, string][] {
  const isDependent = (key: string): number => (key === 'FirstBurstLength' ? 1 : 0);
  return [...keys].sort(([left], [right]) => isDependent(left) - isDependent(right));
}
