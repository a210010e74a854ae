/**
 * All validation of a request's header, in one function, before anything is done with it: "Request types", "Command
 * flags" and "Error values" of proto.md. Where the document leaves a choice (a length of zero, an offset with FLUSH)
 * the request is refused, as nbdkit does.
 */
import { ioOps } from '../../base/io-stats.js';
import type { IoOp } from '../../base/io-stats.js';
import { limits } from '../../base/limits.js';
import type { BlockDevice } from '../../ports/block-device.js';
import type { UnregisteredAccess } from '../../ports/volume-reservations.js';
import { command, commandFlag, errno } from './wire.js';
import type { Errno } from './wire.js';

interface CommandRule {
  readonly op: IoOp;
  /** Beside FUA, which must be accepted with every command once SEND_FUA was advertised. */
  readonly flags: number;
  readonly changes: boolean;
  readonly lengthBytesMax: number;
  readonly pastTheEnd: Errno;
}

/** What of a client's negotiation decides which requests it may make. */
export interface Negotiation {
  /** Structured replies or extended headers. */
  readonly chunked: boolean;
  readonly extended: boolean;
  /** Metadata contexts were selected for this export. */
  readonly contexts: boolean;
}

const ANY_LENGTH = Infinity;
const PAYLOAD = limits.nbdRequestBytesMax;

/** Of a client that negotiated everything. */
const rules: readonly (CommandRule | undefined)[] = ((): (CommandRule | undefined)[] => {
  const { EINVAL, ENOSPC } = errno;
  const { df, noHole, fastZero, reqOne } = commandFlag;
  const table: (CommandRule | undefined)[] = [];
  const rule = (type: number, rest: CommandRule): void => void (table[type] = rest);
  rule(command.read, { op: 'read', flags: df, changes: false, lengthBytesMax: ANY_LENGTH, pastTheEnd: EINVAL });
  rule(command.write, { op: 'write', flags: 0, changes: true, lengthBytesMax: PAYLOAD, pastTheEnd: ENOSPC });
  rule(command.flush, { op: 'flush', flags: 0, changes: false, lengthBytesMax: 0, pastTheEnd: EINVAL });
  rule(command.trim, { op: 'trim', flags: 0, changes: true, lengthBytesMax: ANY_LENGTH, pastTheEnd: EINVAL });
  rule(command.cache, { op: 'cache', flags: 0, changes: false, lengthBytesMax: ANY_LENGTH, pastTheEnd: EINVAL });
  rule(command.writeZeroes, {
    op: 'zero',
    flags: noHole | fastZero,
    changes: true,
    lengthBytesMax: ANY_LENGTH,
    pastTheEnd: ENOSPC,
  });
  rule(command.blockStatus, {
    op: 'other',
    flags: reqOne,
    changes: false,
    lengthBytesMax: ANY_LENGTH,
    pastTheEnd: EINVAL,
  });
  return table;
})();

export class RequestCheck {
  readonly #device: BlockDevice;
  readonly #access: UnregisteredAccess;
  readonly #rules: readonly (CommandRule | undefined)[];
  readonly #extended: boolean;

  /**
   * `access`: what SCSI reservations leave to an NBD client, which is an initiator that is registered nowhere. They
   * never keep it from a flush, which shows nothing and changes nothing.
   */
  constructor(device: BlockDevice, access: UnregisteredAccess, { chunked, extended, contexts }: Negotiation) {
    this.#device = device;
    this.#access = access;
    this.#extended = extended;
    this.#rules = rules.map((rule, type) => {
      if (rule === undefined || (type === command.blockStatus && !(chunked && contexts))) return undefined;
      if (type !== command.read) return rule;
      // Only with extended headers is the longest payload not the longest READ as well: its reply comes in chunks.
      return { ...rule, flags: chunked ? rule.flags : 0, lengthBytesMax: extended ? ANY_LENGTH : PAYLOAD };
    });
  }

  /**
   * The error to answer, or errno.none. `offset` and `lengthBytes` are 64-bit fields as numbers: exact wherever they can
   * be in range. With extended headers a WRITE must have PAYLOAD_LEN; of other requests it was taken out by whoever
   * expects a payload.
   */
  error(type: number, flags: number, offset: number, lengthBytes: number): Errno {
    const rule = this.#rules[type];
    if (rule === undefined) return errno.EINVAL;
    const demanded = this.#extended && type === command.write ? commandFlag.payloadLen : 0;
    if ((flags & ~(rule.flags | commandFlag.fua)) !== demanded) return errno.EINVAL;
    if (type === command.flush) return offset === 0 && lengthBytes === 0 ? errno.none : errno.EINVAL;
    if (rule.changes ? this.#device.readOnly || !this.#access.mayWrite : !this.#access.mayRead) return errno.EPERM;
    if (lengthBytes === 0 || lengthBytes > rule.lengthBytesMax) return errno.EINVAL;
    if (offset + lengthBytes > this.#device.sizeBytes) return rule.pastTheEnd;
    // The one chunk of an unfragmented reply may not be longer than the longest payload.
    if ((flags & commandFlag.df) !== 0 && lengthBytes > PAYLOAD) return errno.EOVERFLOW;
    return errno.none;
  }
}

const opIndexes: readonly number[] = rules.map((rule) => ioOps.indexOf(rule?.op ?? 'other'));
const otherIndex = ioOps.indexOf('other');

/** Which counter of IoStats a request type belongs to. */
export function opIndex(type: number): number {
  return opIndexes[type] ?? otherIndex;
}
