/**
 * One SCSI command between its arrival at a logical unit and its status.
 *
 * A transport extends the class with its own addresses and pools the objects: the unit writes what is to be done into
 * the fields, and says with a Step who goes on. Whoever ends a command, a device or the unit, calls `done`, once.
 */
import { ioOps } from '../base/io-stats.js';
import type { ByteLength, ByteOffset } from '../base/units.js';
import type { GatewayError } from '../base/errors.js';
import type { Completion } from '../ports/block-device.js';
import type { Nexus } from './nexus.js';
import { need } from './reservation-type.js';
import { scsiStatus } from './sense.js';
import type { Sense } from './sense.js';

/** Who goes on with a command. */
export const step = {
  /** Nobody: status, sense and `response` are set. */
  finished: 0,
  /** The transport: it reads [offset, offset + lengthBytes) of the device to the initiator. */
  readMedium: 1,
  /** The transport: it writes the initiator's data to [offset, offset + lengthBytes) of the device. */
  writeMedium: 2,
  /** The transport: it collects parameterBytes from the initiator and hands them to LogicalUnit.accept. */
  collect: 3,
  /** The unit or the device: `done` follows, never from inside the call. */
  waiting: 4,
} as const;
export type Step = (typeof step)[keyof typeof step];

const NOTHING = new Uint8Array(0);
const CDB_BYTES_MAX = 16;
/** What a command counts as that is no other of `ioOps`, or that never began. */
export const otherOp = ioOps.indexOf('other');

export abstract class ScsiTask implements Completion {
  nexus: Nexus | undefined;
  offset: ByteOffset = 0;
  lengthBytes: ByteLength = 0;
  forceUnitAccess = false;
  /** Data-Out bytes that the command wants as a parameter list. */
  parameterBytes: ByteLength = 0;
  /** Data-In of a command that is no read, cut to the allocation length already. */
  response: Uint8Array = NOTHING;
  status: number = scsiStatus.good;
  sense: Sense | undefined;
  /** Index into ioOps, for the counters. */
  op = otherOp;
  /** The initiator gave it up: whoever works on it in several parts stops at the next one. */
  aborted = false;
  /** Kept where the command goes on after its parameter list came. */
  readonly cdb = new Uint8Array(CDB_BYTES_MAX);

  /** Data-Out bytes that the initiator said it has, wanted or not. */
  abstract get offeredBytes(): ByteLength;

  /** The end of what a Step left to others. An error becomes sense data by `LogicalUnit.fail`. */
  abstract done(error: GatewayError | undefined): void;

  begin(): void {
    this.offset = 0;
    this.lengthBytes = 0;
    this.forceUnitAccess = false;
    this.parameterBytes = 0;
    this.response = NOTHING;
    this.status = scsiStatus.good;
    this.sense = undefined;
    this.op = otherOp;
    this.aborted = false;
  }

  /** A reservation keeps its initiator from writing now, whatever held when the command began. */
  get isKeptFromWriting(): boolean {
    return ((this.nexus?.denied ?? 0) & need.write) !== 0;
  }

  fail(what: Sense): Step {
    this.status = what.status;
    this.sense = what.status === scsiStatus.checkCondition ? what : undefined;
    this.response = NOTHING;
    return step.finished;
  }

  /** Ends well with data, cut to what the initiator made room for. */
  answer(data: Uint8Array, allocationLength: number): Step {
    this.response = data.length > allocationLength ? data.subarray(0, allocationLength) : data;
    return step.finished;
  }
}
