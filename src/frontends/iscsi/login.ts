/**
 * The login phase of one connection (RFC 7143, sections 6.3, 11.12, 11.13): security negotiation, operational
 * negotiation, then full feature. Knows no sockets: a request goes in, what to answer comes out.
 *
 * The first request names initiator, session type and target, and these decide whether CHAP is required; with a TSIH it
 * names the session that the connection is to join, or in which it is to replace one (section 6.3.1), and only what is
 * a connection's own may be negotiated. A request may be continued (C bit); its text is looked at when it is whole. So
 * may an answer: the initiator asks for the rest with empty requests. A failed login is answered with its status, and
 * the connection ends.
 */
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Random } from '../../ports/random.js';
import type { ChapSecrets, ServedVolume } from '../../ports/volume-directory.js';
import { readU16 } from '../../scsi/big-endian.js';
import { isInitiatorName } from '../../scsi/transport-id.js';
import { ChapTarget } from './chap.js';
import { defaultParameters, inOrderOfDependence, negotiate, refuseKey } from './parameter.js';
import type { DigestPolicy, Parameters } from './parameter.js';
import { findTarget, isAllowed } from './send-targets.js';
import type { TargetNaming } from './send-targets.js';
import type { Session } from './session.js';
import { formatText, parseText } from './text.js';
import type { Pair } from './text.js';
import { field, loginFlag, loginStatus, PORTAL_GROUP, stage } from './wire.js';
import type { LoginStatus, Stage } from './wire.js';

export interface LoginOptions {
  readonly naming: TargetNaming;
  readonly digests: DigestPolicy;
  readonly discoveryChap: ChapSecrets | undefined;
  readonly random: Random;
  /** The session with this TSIH. */
  readonly findSession: (tsih: number) => Session | undefined;
}

export type LoginReply =
  | { readonly kind: 'answer'; readonly flags: number; readonly data: Uint8Array }
  /** The answer, after which the full-feature phase begins. */
  | { readonly kind: 'complete'; readonly flags: number; readonly data: Uint8Array }
  | { readonly kind: 'refused'; readonly status: LoginStatus; readonly reason: string };

/** Keys of the first request that are declared, not answered. */
const NAMES = ['InitiatorName', 'TargetName', 'SessionType', 'InitiatorAlias'] as const;
/** What an initiator takes during login: the default of MaxRecvDataSegmentLength (section 13.12). */
const SEGMENT_BYTES_MAX = 8192;
const NOTHING = new Uint8Array(0);
const CHAP_KEYS = ['CHAP_A', 'CHAP_N', 'CHAP_R', 'CHAP_I', 'CHAP_C'];

class Refusal extends Error {
  constructor(
    readonly status: LoginStatus,
    reason: string,
  ) {
    super(reason);
  }
}

export class Login {
  readonly parameters: Parameters = defaultParameters();
  initiatorName = '';
  /** undefined: a discovery session. */
  volume: ServedVolume | undefined;
  /** 12 hexadecimal digits. */
  isid = '';
  connectionId = 0;
  tsih = 0;
  /** That the connection is to belong to; undefined with TSIH 0. */
  session: Session | undefined;

  readonly #options: LoginOptions;
  #stage: Stage = stage.security;
  #requests = 0;
  #named = false;
  #text: Uint8Array[] = [];
  #textBytes = 0;
  /** Of an answer that is longer than a segment. */
  #unsent: Uint8Array = NOTHING;
  readonly #seen = new Set<string>();
  #chap: ChapTarget | undefined;
  #authenticated = false;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  /** Takes one Login PDU. */
  receive(header: Uint8Array, at: number, data: Uint8Array): LoginReply {
    try {
      return this.#receive(header, at, data);
    } catch (error) {
      if (error instanceof Refusal) return { kind: 'refused', status: error.status, reason: error.message };
      if (error instanceof ProtocolError) {
        return { kind: 'refused', status: loginStatus.initiatorError, reason: error.message };
      }
      throw error;
    }
  }

  #receive(header: Uint8Array, at: number, data: Uint8Array): LoginReply {
    const flags = header[at + field.flags] ?? 0;
    const current = (flags >>> 2) & 3;
    const next = flags & 3;
    const transit = (flags & loginFlag.transit) !== 0;
    const continued = (flags & loginFlag.continue) !== 0;
    this.#checkHeader(header, at, current);
    if (continued && transit) throw new Refusal(loginStatus.initiatorError, 'a continued request asks for transit');
    if (this.#unsent.length === 0) {
      this.#collect(data);
      if (continued) return { kind: 'answer', flags: current << 2, data: NOTHING };
      this.#unsent = formatText(this.#answer(transit));
    } else if (continued || data.length > 0) {
      throw new Refusal(loginStatus.initiatorError, 'a request interrupts the answer to the one before');
    }
    const part = this.#unsent.subarray(0, SEGMENT_BYTES_MAX);
    this.#unsent = this.#unsent.subarray(part.length);
    if (this.#unsent.length > 0) return { kind: 'answer', flags: loginFlag.continue | (current << 2), data: part };
    if (!transit || !this.#mayLeave(next)) return { kind: 'answer', flags: current << 2, data: part };
    this.#stage = next === stage.fullFeature ? stage.fullFeature : stage.operational;
    const kind = this.#stage === stage.fullFeature ? 'complete' : 'answer';
    return { kind, flags: loginFlag.transit | (current << 2) | next, data: part };
  }

  #collect(data: Uint8Array): void {
    this.#textBytes += data.length;
    if (this.#textBytes > limits.iscsiTextBytesMax)
      throw new Refusal(loginStatus.initiatorError, 'too much login text');
    this.#text.push(data.slice());
  }

  /** The answer to the text that has been collected. */
  #answer(transit: boolean): readonly Pair[] {
    const keys = this.#uniqueKeys(parseText(Buffer.concat(this.#text)));
    this.#text = [];
    const pairs: Pair[] = [];
    if (!this.#named) this.#takeNames(keys, pairs);
    if (this.#stage === stage.security) this.#security(keys, pairs, transit);
    else this.#operational(keys, pairs);
    return pairs;
  }

  #checkHeader(header: Uint8Array, at: number, current: number): void {
    this.#requests++;
    if (this.#requests > limits.iscsiLoginRequestsMax)
      throw new Refusal(loginStatus.initiatorError, 'too many requests');
    const isid = Buffer.from(header.subarray(at + field.isid, at + field.isid + 6)).toString('hex');
    const connectionId = readU16(header, at + field.connectionId);
    const tsih = readU16(header, at + field.tsih);
    if (this.#requests === 1) {
      if ((header[at + field.versionMin] ?? 0) > 0) {
        throw new Refusal(loginStatus.unsupportedVersion, 'the initiator speaks a later version only');
      }
      this.isid = isid;
      this.connectionId = connectionId;
      this.tsih = tsih;
      if (tsih !== 0) this.session = this.#options.findSession(tsih);
      if (tsih !== 0 && this.session === undefined) throw noSuchSession();
      if (current === stage.operational) this.#stage = stage.operational;
    } else if (isid !== this.isid || connectionId !== this.connectionId || tsih !== this.tsih) {
      throw new Refusal(loginStatus.initiatorError, 'ISID, CID or TSIH changed during login');
    }
    if (current !== this.#stage)
      throw new Refusal(loginStatus.initiatorError, 'the login stage is not the current one');
  }

  #uniqueKeys(pairs: readonly Pair[]): Map<string, string> {
    const keys = new Map<string, string>();
    for (const { key, value } of pairs) {
      if (this.#seen.has(key)) throw new Refusal(loginStatus.initiatorError, `${key} was negotiated twice`);
      this.#seen.add(key);
      keys.set(key, value);
    }
    return keys;
  }

  #takeNames(keys: ReadonlyMap<string, string>, pairs: Pair[]): void {
    this.#named = true;
    const name = keys.get('InitiatorName');
    if (name === undefined) throw new Refusal(loginStatus.missingParameter, 'InitiatorName is missing');
    this.initiatorName = decodeUtf8(name).toLowerCase();
    if (!isInitiatorName(this.initiatorName)) {
      this.initiatorName = '';
      throw new Refusal(loginStatus.initiatorError, 'InitiatorName is malformed (RFC 7143 4.2.7)');
    }
    const type = keys.get('SessionType') ?? 'Normal';
    if (type === 'Discovery') {
      this.#checkSession();
      this.#require(this.#options.discoveryChap);
      return;
    }
    if (type !== 'Normal') throw new Refusal(loginStatus.unsupportedSessionType, `there are no ${type} sessions`);
    const wanted = keys.get('TargetName');
    if (wanted === undefined) throw new Refusal(loginStatus.missingParameter, 'TargetName is missing');
    const volume = findTarget(this.#options.naming, wanted);
    if (volume === undefined) throw new Refusal(loginStatus.notFound, `there is no target ${wanted}`);
    if (!isAllowed(volume, this.initiatorName)) {
      throw new Refusal(loginStatus.authorizationFailure, 'the initiator is not on the volume’s list');
    }
    this.volume = volume;
    this.#checkSession();
    this.#require(volume.iscsi.chap);
    pairs.push({ key: 'TargetPortalGroupTag', value: String(PORTAL_GROUP) });
  }

  /** A TSIH means a session only together with the initiator's port and the target (section 6.3.1). */
  #checkSession(): void {
    const { session } = this;
    if (session === undefined) return;
    const { initiatorName, isid } = session.identity;
    const isSame = initiatorName === this.initiatorName && isid === this.isid;
    if (!isSame || session.served?.volume !== this.volume) throw noSuchSession();
  }

  #require(secrets: ChapSecrets | undefined): void {
    if (secrets === undefined) this.#authenticated = true;
    else this.#chap = new ChapTarget({ secrets, random: this.#options.random });
    if (this.#stage === stage.operational && !this.#authenticated) {
      throw new Refusal(loginStatus.authenticationFailure, 'the initiator skips authentication, which is required');
    }
  }

  /** Section 12; keys of the operational stage have no place here. */
  #security(keys: ReadonlyMap<string, string>, pairs: Pair[], transit: boolean): void {
    const methods = keys.get('AuthMethod');
    if (methods !== undefined) pairs.push({ key: 'AuthMethod', value: this.#chooseMethod(methods.split(',')) });
    for (const key of keys.keys()) {
      if (key === 'AuthMethod' || CHAP_KEYS.includes(key) || isName(key)) continue;
      pairs.push({ key, value: refuseKey(key) });
    }
    if (this.#authenticated || this.#chap === undefined) return;
    if (!CHAP_KEYS.some((key) => keys.has(key))) {
      if (methods === undefined && transit) {
        throw new Refusal(loginStatus.authenticationFailure, 'the initiator does not authenticate itself');
      }
      return;
    }
    const result = this.#chap.receive(keys);
    if (result.kind === 'failed') throw new Refusal(loginStatus.authenticationFailure, result.reason);
    pairs.push(...result.pairs);
    if (result.kind === 'done') this.#authenticated = true;
  }

  #chooseMethod(offered: readonly string[]): string {
    const method = this.#chap === undefined ? 'None' : 'CHAP';
    if (!offered.includes(method)) {
      throw new Refusal(loginStatus.authenticationFailure, `authentication by ${method} was not offered`);
    }
    return method;
  }

  #operational(keys: ReadonlyMap<string, string>, pairs: Pair[]): void {
    const options = {
      discovery: this.volume === undefined,
      digests: this.#options.digests,
      leading: this.session === undefined,
    };
    for (const [key, value] of inOrderOfDependence(keys)) {
      if (!isName(key)) pairs.push({ key, value: negotiate(key, value, this.parameters, options) });
    }
  }

  #mayLeave(next: number): boolean {
    if (next <= this.#stage || (next !== stage.operational && next !== stage.fullFeature)) {
      throw new Refusal(loginStatus.initiatorError, 'the next login stage is none that follows');
    }
    if (!this.#authenticated) return false;
    if (next !== stage.fullFeature || this.#options.digests !== 'required') return true;
    const { headerDigest, dataDigest } = this.parameters;
    if (!headerDigest || !dataDigest) throw new Refusal(loginStatus.initiatorError, 'CRC32C digests are required');
    return true;
  }
}

function noSuchSession(): Refusal {
  return new Refusal(loginStatus.sessionDoesNotExist, 'there is no such session');
}

/** Of a value that text.ts took byte by byte; what is no UTF-8 becomes U+FFFD, which no name has. */
function decodeUtf8(value: string): string {
  return Buffer.from(value, 'latin1').toString('utf8');
}

function isName(key: string): boolean {
  return (NAMES as readonly string[]).includes(key);
}
