/**
 * A volume as a SCSI direct access block device: SAM-5 task handling without a task set (commands are independent, and
 * take effect in the order in which the device is called), SPC-4 and SBC-3 commands.
 *
 * It validates each command once, before anything happens: unit attention, opcode, reservations, reserved bits, write
 * protection, then the command's own checks. It knows no transport: whoever carries commands calls `begin` and follows the Step.
 *
 * Hot path: `begin` of a READ or WRITE allocates nothing.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { ByteLength } from '../base/units.js';
import type { BlockDevice } from '../ports/block-device.js';
import type { VolumeReservations } from '../ports/volume-reservations.js';
import type { VolumeSanitizer } from '../ports/volume-sanitizer.js';
import type { Command, TargetPort, UnitContext } from './command.js';
import { commands, findCommand, isKnownOpcode } from './command-table.js';
import { CopyResults } from './copy-results.js';
import { errorSense } from './error-sense.js';
import { NO_SUCH_UNIT, reportLuns, standardInquiry } from './inquiry.js';
import { readU16 } from './big-endian.js';
import { ModePages } from './mode-page.js';
import { Nexus } from './nexus.js';
import { Reservations } from './reservations.js';
import { sanitizeSense } from './sanitize-command.js';
import { invalidFieldInCdb, sense, senseKey, writeSense } from './sense.js';
import type { Sense } from './sense.js';
import type { ScsiTask, Step } from './task.js';
import { senseAsData } from './unit-command.js';

export interface LogicalUnitOptions {
  readonly device: BlockDevice;
  readonly transportVersion: number;
  readonly port?: TargetPort;
  /** Default: the volume's own blocks, 4096. */
  readonly physicalBlockBytes?: ByteLength | undefined;
  /** undefined: it cannot be sanitized. */
  readonly sanitizer?: VolumeSanitizer | undefined;
  /** What of its reservations survives a restart; none do without. */
  readonly reservations?: VolumeReservations;
  /** Aborts every command of a nexus but one (PREEMPT AND ABORT). */
  readonly abort?: (nexus: Nexus, except: ScsiTask) => void;
}

export class LogicalUnit implements UnitContext {
  readonly device: BlockDevice;
  readonly transportVersion: number;
  readonly port: TargetPort | undefined;
  readonly commands = commands;
  readonly modes = new ModePages();
  readonly physicalBlockBytes: ByteLength;
  readonly copies = new CopyResults();
  prefetches = 0;
  readonly sanitizer: VolumeSanitizer | undefined;
  readonly reservations: Reservations;
  readonly #nexuses = new Set<Nexus>();
  #gatheredBytes = 0;

  constructor(options: LogicalUnitOptions) {
    this.device = options.device;
    this.physicalBlockBytes = options.physicalBlockBytes ?? BLOCK_BYTES;
    this.transportVersion = options.transportVersion;
    this.port = options.port;
    this.sanitizer = options.sanitizer;
    this.reservations = new Reservations({
      volume: options.reservations,
      abort: options.abort ?? (() => undefined),
    });
  }

  /** For each session of an initiator; `detach` ends it. */
  attach(initiatorPort: string): Nexus {
    const nexus = new Nexus(initiatorPort, this.device.sizeBytes);
    this.#nexuses.add(nexus);
    this.reservations.join(nexus);
    return nexus;
  }

  detach(nexus: Nexus): void {
    this.#nexuses.delete(nexus);
    this.reservations.leave(nexus);
  }

  establishForOthers(nexus: Nexus | undefined, what: Sense): void {
    for (const each of this.#nexuses) if (each !== nexus) each.establish(what);
  }

  /** `what`: logicalUnitReset or targetReset (SAM-5 6.3.3, 6.3.2); the transport has aborted the tasks. */
  reset(what: Sense): void {
    this.modes.reset();
    this.copies.reset();
    this.reservations.reset();
    this.establishForOthers(undefined, what);
  }

  /** Whether a command may be served to an initiator that does not hold the volume. */
  isInquiry(cdb: Uint8Array, at: number): boolean {
    // What is not supported touches nothing either, and is answered at once; nor does what is refused to everybody.
    const isServed = this.sanitizer === undefined || this.sanitizer.state !== 'running';
    return !isServed || (findCommand(cdb, at)?.inquiry ?? true);
  }

  /** cdb[at…] is at least 16 bytes; a shorter CDB is followed by anything. */
  begin(nexus: Nexus, task: ScsiTask, cdb: Uint8Array, at: number): Step {
    task.begin();
    task.nexus = nexus;
    const command = findCommand(cdb, at);
    if (command === undefined || !command.passesAttention) {
      if (nexus.knownSizeBytes !== this.device.sizeBytes) this.#noticeSize(nexus);
      if (nexus.hasAttention) return task.fail(nexus.takeAttention() ?? sense.none);
    }
    if (command === undefined) {
      return task.fail(isKnownOpcode(cdb[at] ?? 0) ? invalidFieldInCdb(1, 4) : sense.invalidOperationCode);
    }
    task.op = command.op;
    if ((command.need & nexus.denied) !== 0 && conflicts(nexus, command, cdb, at)) {
      return task.fail(sense.reservationConflict);
    }
    if (this.sanitizer !== undefined) {
      const refused = refusedForSanitize(this.sanitizer, command);
      if (refused !== undefined) return task.fail(refused);
    }
    const { usage } = command;
    for (let byte = 1; byte < usage.length; byte++) {
      const wrong = (cdb[at + byte] ?? 0) & ~(usage[byte] ?? 0);
      if (wrong !== 0) return task.fail(invalidFieldInCdb(byte, 31 - Math.clz32(wrong)));
    }
    if (command.changesMedium) {
      if (this.device.readOnly) return task.fail(sense.writeProtected);
      if (this.modes.softwareWriteProtect) return task.fail(sense.softwareWriteProtected);
    }
    if (command.accept !== undefined) task.cdb.set(cdb.subarray(at, at + usage.length));
    try {
      return command.begin(this, task, cdb, at);
    } catch (error) {
      return this.refuse(task, error);
    }
  }

  /** After step.collect, with the whole parameter list, or as much of it as the initiator sent. */
  accept(task: ScsiTask, list: Uint8Array): Step {
    const command = findCommand(task.cdb, 0);
    if (command?.accept === undefined) return task.fail(sense.internalTargetFailure);
    // Reserved while its parameters were on their way.
    if (task.nexus !== undefined && conflicts(task.nexus, command, task.cdb, 0)) {
      return task.fail(sense.reservationConflict);
    }
    try {
      return command.accept(this, task, list);
    } catch (error) {
      return this.refuse(task, error);
    }
  }

  /**
   * Memory for Data-Out that a command gathers before it begins; false: too much is taken already. Given back by `ungather`.
   * Small lists always find room: by one of them a cluster takes the unit, and its memory, from a node that hangs (PREEMPT
   * AND ABORT).
   */
  gather(lengthBytes: ByteLength): boolean {
    const isFree = lengthBytes <= limits.scsiGatheredBytesFree;
    if (!isFree && this.#gatheredBytes + lengthBytes > limits.scsiGatheredBytesMax) return false;
    this.#gatheredBytes += lengthBytes;
    return true;
  }

  ungather(lengthBytes: ByteLength): void {
    this.#gatheredBytes -= lengthBytes;
    assert(this.#gatheredBytes >= 0, 'memory for parameters is given back once');
  }

  /** Ends a command with what the device threw; anything but an operational failure is thrown on. */
  refuse(task: ScsiTask, error: unknown): Step {
    if (!(error instanceof GatewayError)) throw error;
    return task.fail(withAddress(errorSense[error.code], error, task));
  }

  /** Sense data in the format that the control mode page asks for. */
  writeSense(bytes: Uint8Array, at: number, what: Sense): number {
    return writeSense(bytes, at, what, this.modes.descriptorSense);
  }

  #noticeSize(nexus: Nexus): void {
    nexus.knownSizeBytes = this.device.sizeBytes;
    nexus.establish(sense.capacityChanged);
  }
}

function conflicts(nexus: Nexus, { need, needOf }: Command, cdb: Uint8Array, at: number): boolean {
  return ((needOf?.(cdb, at) ?? need) & nexus.denied) !== 0;
}

/** Commands to a LUN that the target does not have (SPC-4 4.6.4, SAM-5 5.11): answered without any unit. */
export function beginWithoutUnit(task: ScsiTask, transportVersion: number, cdb: Uint8Array, at: number): Step {
  task.begin();
  switch (cdb[at]) {
    case opcode.inquiry:
      if (((cdb[at + 1] ?? 0) & 0x01) !== 0) return task.fail(sense.logicalUnitNotSupported);
      return task.answer(standardInquiry(transportVersion, NO_SUCH_UNIT), readU16(cdb, at + 3));
    case opcode.reportLuns:
      return reportLuns(task, cdb, at);
    case opcode.requestSense:
      return senseAsData(task, sense.logicalUnitNotSupported, cdb, at);
    default:
      return task.fail(sense.logicalUnitNotSupported);
  }
}

const opcode = { requestSense: 0x03, inquiry: 0x12, reportLuns: 0xa0 } as const;

/** A MEDIUM ERROR names the first LBA that could not be read, where the failure knows it (SBC-3 4.18.1). */
function withAddress(what: Sense, error: GatewayError, task: ScsiTask): Sense {
  const { block } = error.context;
  if (what.key !== senseKey.mediumError || typeof block !== 'number') return what;
  const offset = Math.max(block * BLOCK_BYTES, task.offset);
  return { ...what, information: Math.floor(offset / LOGICAL_BLOCK_BYTES) };
}

/** SBC-3 4.11: INQUIRY, REPORT LUNS and REQUEST SENSE are served whatever becomes of the medium. */
function refusedForSanitize(sanitizer: VolumeSanitizer, command: Command): Sense | undefined {
  if (sanitizer.state === 'none' || command.passesAttention) return undefined;
  if (sanitizer.state === 'failed' && command.servedAfterFailedSanitize) return undefined;
  return sanitizeSense(sanitizer);
}
