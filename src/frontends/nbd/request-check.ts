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
  readonly flags: number;
  readonly changes: boolean;
  readonly lengthBytesMax: number;
  readonly pastTheEnd: Errno;
}

const FUA = commandFlag.fua;
const ANY_LENGTH = 0xffffffff;

const rules: readonly (CommandRule | undefined)[] = ((): (CommandRule | undefined)[] => {
  const table: (CommandRule | undefined)[] = [];
  const rule = (type: number, rest: CommandRule): void => void (table[type] = rest);
  const payload = limits.nbdRequestBytesMax;
  // FUA must be accepted with every command once SEND_FUA was advertised.
  rule(command.read, { op: 'read', flags: FUA, changes: false, lengthBytesMax: payload, pastTheEnd: errno.EINVAL });
  rule(command.write, { op: 'write', flags: FUA, changes: true, lengthBytesMax: payload, pastTheEnd: errno.ENOSPC });
  rule(command.flush, { op: 'flush', flags: FUA, changes: false, lengthBytesMax: 0, pastTheEnd: errno.EINVAL });
  rule(command.trim, { op: 'trim', flags: FUA, changes: true, lengthBytesMax: ANY_LENGTH, pastTheEnd: errno.EINVAL });
  rule(command.cache, {
    op: 'cache',
    flags: FUA,
    changes: false,
    lengthBytesMax: ANY_LENGTH,
    pastTheEnd: errno.EINVAL,
  });
  rule(command.writeZeroes, {
    op: 'zero',
    flags: FUA | commandFlag.noHole,
    changes: true,
    lengthBytesMax: ANY_LENGTH,
    pastTheEnd: errno.ENOSPC,
  });
  return table;
})();

/**
 * The error to answer, or errno.none. `offset` is a 64-bit field as a number: exact wherever it can be in range. `access`:
 * what SCSI reservations leave to an NBD client, which is an initiator that is registered nowhere. They never keep it from
 * a flush, which shows nothing and changes nothing.
 */
export function checkRequest(
  device: BlockDevice,
  access: UnregisteredAccess,
  type: number,
  flags: number,
  offset: number,
  lengthBytes: number,
): Errno {
  const rule = rules[type];
  if (rule === undefined || (flags & ~rule.flags) !== 0) return errno.EINVAL;
  if (type === command.flush) return offset === 0 && lengthBytes === 0 ? errno.none : errno.EINVAL;
  if (rule.changes ? device.readOnly || !access.mayWrite : !access.mayRead) return errno.EPERM;
  if (lengthBytes === 0 || lengthBytes > rule.lengthBytesMax) return errno.EINVAL;
  if (offset + lengthBytes > device.sizeBytes) return rule.pastTheEnd;
  return errno.none;
}

const opIndexes: readonly number[] = rules.map((rule) => ioOps.indexOf(rule?.op ?? 'other'));
const otherIndex = ioOps.indexOf('other');

/** Which counter of IoStats a request type belongs to. */
export function opIndex(type: number): number {
  return opIndexes[type] ?? otherIndex;
}
