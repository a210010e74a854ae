/**
 * Builds the PDUs that a target sends in the full-feature phase (RFC 7143, sections 11.4, 11.6 to 11.19).
 *
 * StatSN is taken when a PDU joins those that are to be sent, so that its order is the order on the wire.
 */
import { writeU16, writeU32 } from '../../scsi/big-endian.js';
import { SENSE_BYTES_MAX, writeSense } from '../../scsi/sense.js';
import type { Parameters } from './parameter.js';
import type { PduWriter } from './pdu-writer.js';
import type { Sequence } from './sequence.js';
import type { IscsiTask } from './task.js';
import type { TextReply } from './text-exchange.js';
import {
  asyncEvent,
  BHS_BYTES,
  DATA_IN_STATUS,
  field,
  FINAL,
  NO_TAG,
  opcode,
  residualFlag,
  TEXT_CONTINUE,
} from './wire.js';
import type { TaskResponse } from './wire.js';

const RESIDUAL_MAX = 0xffff_ffff;

export class Responder {
  readonly #writer: PduWriter;
  readonly #sequence: Sequence;
  readonly #parameters: Parameters;

  constructor(options: { readonly writer: PduWriter; readonly sequence: Sequence; readonly parameters: Parameters }) {
    this.#writer = options.writer;
    this.#sequence = options.sequence;
    this.#parameters = options.parameters;
  }

  /** Status without data, or with sense data (11.4). `transferred` is how much the SCSI command itself asked for. */
  scsiResponse(task: IscsiTask): void {
    const writer = this.#writer;
    const senseBytes = task.sense === undefined ? 0 : 2 + SENSE_BYTES_MAX;
    const bytes = writer.open(opcode.scsiResponse, senseBytes);
    const at = writer.position;
    let dataBytes = 0;
    if (task.sense !== undefined) {
      const dataAt = writer.dataAt(at);
      const length =
        task.unit?.writeSense(bytes, dataAt + 2, task.sense) ?? writeSense(bytes, dataAt + 2, task.sense, false);
      writeU16(bytes, dataAt, length);
      dataBytes = 2 + length;
      bytes[at + field.dataLength + 2] = dataBytes;
    }
    bytes[at + field.flags] = FINAL | this.#residual(bytes, at, task);
    bytes[at + field.status] = task.status;
    writeU32(bytes, at + field.initiatorTaskTag, task.initiatorTaskTag);
    this.#stamp(bytes, at);
    writeU32(bytes, at + field.expDataSn, task.dataSn);
    writer.close(dataBytes);
  }

  /**
   * The header of a Data-In PDU whose data stand behind it already (11.7). `last`: it carries the status as well, and the
   * command is over.
   */
  dataIn(bytes: Uint8Array, at: number, task: IscsiTask, segmentBytes: number, last: boolean): void {
    const offset = task.sentBytes;
    const endsSequence = last || (offset + segmentBytes) % this.#parameters.burstBytesMax === 0;
    let flags = endsSequence ? FINAL : 0;
    if (last) flags |= DATA_IN_STATUS | this.#residual(bytes, at, task);
    bytes[at + field.flags] = flags;
    if (last) bytes[at + field.status] = task.status;
    writeU32(bytes, at + field.initiatorTaskTag, task.initiatorTaskTag);
    writeU32(bytes, at + field.targetTransferTag, NO_TAG);
    if (last) this.#stamp(bytes, at);
    else this.#stampWindow(bytes, at);
    writeU32(bytes, at + field.dataSn, task.dataSn);
    writeU32(bytes, at + field.bufferOffset, offset);
    task.dataSn++;
    task.sentBytes = offset + segmentBytes;
  }

  /** 11.8. StatSN is the next one, and stays. */
  readyToTransfer(task: IscsiTask, lun: Uint8Array, transferTag: number, offset: number, lengthBytes: number): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.readyToTransfer, 0);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    bytes.set(lun, at + field.lun);
    writeU32(bytes, at + field.initiatorTaskTag, task.initiatorTaskTag);
    writeU32(bytes, at + field.targetTransferTag, transferTag);
    writeU32(bytes, at + field.statSn, this.#sequence.statSn);
    this.#stampWindow(bytes, at);
    writeU32(bytes, at + field.dataSn, task.r2tSent);
    writeU32(bytes, at + field.bufferOffset, offset);
    writeU32(bytes, at + field.desiredLength, lengthBytes);
    writer.close(0);
  }

  /** Answers a NOP-Out with its own data (11.19). */
  nopIn(initiatorTaskTag: number, data: Uint8Array): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.nopIn, data.length);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    writeU32(bytes, at + field.initiatorTaskTag, initiatorTaskTag);
    writeU32(bytes, at + field.targetTransferTag, NO_TAG);
    this.#stamp(bytes, at);
    bytes.set(data, writer.dataAt(at));
    writer.close(data.length);
  }

  /** Asks the initiator for a sign of life. */
  ping(transferTag: number): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.nopIn, 0);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    writeU32(bytes, at + field.initiatorTaskTag, NO_TAG);
    writeU32(bytes, at + field.targetTransferTag, transferTag);
    writeU32(bytes, at + field.statSn, this.#sequence.statSn);
    this.#stampWindow(bytes, at);
    writer.close(0);
  }

  /** 11.11. */
  text(initiatorTaskTag: number, { data, transferTag, continued }: TextReply): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.textResponse, data.length);
    const at = writer.position;
    bytes[at + field.flags] = transferTag === NO_TAG ? FINAL : continued ? TEXT_CONTINUE : 0;
    writeU32(bytes, at + field.initiatorTaskTag, initiatorTaskTag);
    writeU32(bytes, at + field.targetTransferTag, transferTag);
    this.#stamp(bytes, at);
    bytes.set(data, writer.dataAt(at));
    writer.close(data.length);
  }

  /** 11.9.1: wants the connection to be logged out within `seconds`. */
  requestLogout(seconds: number): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.asyncMessage, 0);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    writeU32(bytes, at + field.initiatorTaskTag, NO_TAG);
    this.#stamp(bytes, at);
    bytes[at + field.asyncEvent] = asyncEvent.logoutRequested;
    writeU16(bytes, at + field.asyncParameter3, seconds);
    writer.close(0);
  }

  /** 11.6. */
  taskManagement(initiatorTaskTag: number, response: TaskResponse): void {
    this.#plain(opcode.taskManagementResponse, initiatorTaskTag, response);
  }

  /** 11.15. */
  logout(initiatorTaskTag: number, response: number): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.logoutResponse, 0);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    bytes[at + field.response] = response;
    writeU32(bytes, at + field.initiatorTaskTag, initiatorTaskTag);
    this.#stamp(bytes, at);
    writeU16(bytes, at + field.time2Wait, this.#parameters.time2Wait);
    writeU16(bytes, at + field.time2Retain, this.#parameters.time2Retain);
    writer.close(0);
  }

  /** 11.17: gives the offending header back. */
  reject(reason: number, header: Uint8Array, headerAt: number): void {
    const writer = this.#writer;
    const bytes = writer.open(opcode.reject, BHS_BYTES);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    bytes[at + field.reason] = reason;
    writeU32(bytes, at + field.initiatorTaskTag, NO_TAG);
    this.#stamp(bytes, at);
    bytes.set(header.subarray(headerAt, headerAt + BHS_BYTES), writer.dataAt(at));
    writer.close(BHS_BYTES);
  }

  #plain(code: number, initiatorTaskTag: number, response: number): void {
    const writer = this.#writer;
    const bytes = writer.open(code, 0);
    const at = writer.position;
    bytes[at + field.flags] = FINAL;
    bytes[at + field.response] = response;
    writeU32(bytes, at + field.initiatorTaskTag, initiatorTaskTag);
    this.#stamp(bytes, at);
    writer.close(0);
  }

  /** Writes the residual count (11.4.5), and returns its flag: what the command had more, or less, than was expected. */
  #residual(bytes: Uint8Array, at: number, task: IscsiTask): number {
    if (task.bidirectional) return this.#residualOfBoth(bytes, at, task);
    const expected = task.expectedInBytes + task.expectedOutBytes;
    const actual = task.actualBytes;
    if (actual === expected) return 0;
    writeU32(bytes, at + field.residual, Math.min(Math.abs(actual - expected), RESIDUAL_MAX));
    return actual > expected ? residualFlag.overflow : residualFlag.underflow;
  }

  /** A bidirectional command is refused, so that it moves nothing (11.4.5.1). */
  #residualOfBoth(bytes: Uint8Array, at: number, task: IscsiTask): number {
    writeU32(bytes, at + field.readResidual, task.expectedInBytes);
    writeU32(bytes, at + field.residual, task.expectedOutBytes);
    const read = task.expectedInBytes > 0 ? residualFlag.readUnderflow : 0;
    return read | (task.expectedOutBytes > 0 ? residualFlag.underflow : 0);
  }

  #stamp(bytes: Uint8Array, at: number): void {
    writeU32(bytes, at + field.statSn, this.#sequence.takeStatSn());
    this.#stampWindow(bytes, at);
  }

  #stampWindow(bytes: Uint8Array, at: number): void {
    const { window } = this.#sequence;
    writeU32(bytes, at + field.expCmdSn, window.expCmdSn);
    writeU32(bytes, at + field.maxCmdSn, window.maxCmdSn);
  }
}
