/**
 * The way of an initiator's data into the device: immediate data, unsolicited Data-Out PDUs up to FirstBurstLength, then
 * bursts that are asked for with R2T (RFC 7143, sections 4.2.5, 11.7, 11.8).
 *
 * A write's memory is taken when the device admits it (it is writable, and the connection's writes under way stay below
 * limits.inflightPayloadBytesPerConnectionMax). Until then no R2T is sent, and what comes unasked waits in a stash: at
 * most FirstBurstLength per command, so the command window bounds it. Reads, pings and other sessions go on meanwhile.
 *
 * A write is submitted when its last byte is here and the digests were right, never before; one whose connection dies is
 * abandoned, so nothing of it lands later. Nor does one whose initiator lost the right to write while its data were on
 * their way: others may write already.
 */
import { assert } from '../../base/assert.js';
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import { LOGICAL_BLOCK_BYTES } from '../../base/units.js';
import type { BlockDevice } from '../../ports/block-device.js';
import { readU32 } from '../../scsi/big-endian.js';
import { sense } from '../../scsi/sense.js';
import type { Sense } from '../../scsi/sense.js';
import type { Parameters } from './parameter.js';
import type { Responder } from './responder.js';
import { dataOut } from './task.js';
import type { IscsiTask } from './task.js';
import { field, FINAL, NO_TAG } from './wire.js';

export interface DataOutHost {
  /** The status of a task is known, its data have all come. */
  respond(task: IscsiTask): void;
  /** A whole parameter list is in task.stash[0, receivedBytes). */
  parametersComplete(task: IscsiTask): void;
  /** The data of a task are not what was agreed on: its status is `what`, once the rest has come. */
  failed(task: IscsiTask, what: Sense): void;
  /** Makes the thrown error a command's status; throws on what is no operational failure. */
  refused(task: IscsiTask, error: unknown): void;
  /** The device was called: commit it. Outside of a wake-up, arrange for what is gathered to be sent. */
  touched(): void;
}

const LUN_0 = new Uint8Array(8);
/** Transfer tags of one task differ in the lower bits: one per burst. */
const BURSTS_PER_TASK = 0x1_0000;
const TAGS = 0x8000_0000;

export class DataOut {
  readonly #host: DataOutHost;
  readonly #device: BlockDevice;
  readonly #parameters: Parameters;
  readonly #responder: Responder;
  /** Tasks that more data-out may come for, by their tag. */
  readonly #expecting = new Map<number, IscsiTask>();
  /** Writes that the device has not admitted yet, oldest first. */
  readonly #waiting: IscsiTask[] = [];
  #openBytes = 0;
  #listening = false;
  #nextTag = 0;
  #closed = false;

  constructor(options: {
    readonly host: DataOutHost;
    readonly device: BlockDevice;
    readonly parameters: Parameters;
    readonly responder: Responder;
  }) {
    this.#host = options.host;
    this.#device = options.device;
    this.#parameters = options.parameters;
    this.#responder = options.responder;
  }

  /** Whether a write whose payload is all there may go to the device at once. */
  get admitsWhole(): boolean {
    return this.#device.writable;
  }

  isExpected(initiatorTaskTag: number): boolean {
    return this.#expecting.has(initiatorTaskTag);
  }

  /** What is wrong with the data that a command brings or announces (11.3.1, 11.4.7.2, 13.14); undefined: nothing. */
  judge(task: IscsiTask, immediateBytes: number, final: boolean): Sense | undefined {
    const { immediateData, initialR2T, firstBurstBytesMax } = this.#parameters;
    const isBrought = immediateData && immediateBytes <= Math.min(firstBurstBytesMax, task.expectedOutBytes);
    const isAnnounced = !initialR2T && immediateBytes < task.expectedOutBytes;
    const isWrong = (immediateBytes > 0 && !isBrought) || (!final && !isAnnounced);
    return isWrong ? sense.unexpectedUnsolicitedData : undefined;
  }

  /** A command brings or announces data, right or wrong. */
  announce(task: IscsiTask, immediateBytes: number, final: boolean): void {
    if (this.#expecting.has(task.initiatorTaskTag)) throw new ProtocolError('a task tag is in use (RFC 7143 11.2.1.8)');
    task.unsolicited = !final && immediateBytes < task.expectedOutBytes;
    if (task.unsolicited || task.expectedOutBytes > immediateBytes) this.#expecting.set(task.initiatorTaskTag, task);
  }

  /** The command waits for something: its unsolicited data are kept. */
  park(task: IscsiTask, immediateBytes: number): void {
    task.outState = dataOut.stash;
    task.wantedBytes = task.expectedOutBytes;
    if (immediateBytes > 0 || task.unsolicited) this.#makeStash(task);
  }

  /** The command is a write. */
  startWrite(task: IscsiTask): void {
    const offered = Math.min(task.expectedOutBytes, task.lengthBytes);
    task.wantedBytes = offered - (offered % LOGICAL_BLOCK_BYTES);
    if (task.wantedBytes === 0) this.startDrop(task);
    else if (task.outState === dataOut.stash) this.#admit(task);
    else task.outState = dataOut.ready;
  }

  /** The command wants a parameter list. */
  startParameters(task: IscsiTask): void {
    const kept = task.stash;
    const wantedBytes = Math.min(task.expectedOutBytes, task.parameterBytes);
    if (task.unit?.gather(wantedBytes) !== true) {
      task.fail(sense.taskSetFull);
      this.startDrop(task);
      return;
    }
    task.gatheredBytes = wantedBytes;
    task.wantedBytes = wantedBytes;
    task.stash = new Uint8Array(task.wantedBytes);
    if (kept !== undefined) task.stash.set(kept.subarray(0, Math.min(task.receivedBytes, task.wantedBytes)));
    task.outState = dataOut.parameters;
  }

  /** The command has its status already. */
  startDrop(task: IscsiTask): void {
    task.outState = dataOut.drop;
    task.wantedBytes = 0;
    task.stash = undefined;
  }

  /** Checks a Data-Out PDU (11.7); undefined: its task is gone, the data are dropped. */
  find(header: Uint8Array, at: number, dataBytes: number): IscsiTask | undefined {
    const task = this.#expecting.get(readU32(header, at + field.initiatorTaskTag));
    if (task === undefined) return undefined;
    const final = ((header[at + field.flags] ?? 0) & FINAL) !== 0;
    const isUnsolicited = readU32(header, at + field.targetTransferTag) === NO_TAG;
    if (!isUnsolicited) this.#checkTransfer(task, readU32(header, at + field.targetTransferTag));
    const isUnasked = isUnsolicited && !task.unsolicited;
    const wrong = isUnasked ? sense.unexpectedUnsolicitedData : this.#judgeNext(task, header, at, dataBytes, final);
    if (wrong !== undefined && task.outState !== dataOut.drop) {
      // The framing is whole, so this costs the command only (section 7.9).
      this.#abandon(task);
      this.#host.failed(task, wrong);
      this.startDrop(task);
    }
    if (isUnasked) return task;
    task.nextDataSn = final ? 0 : task.nextDataSn + 1;
    if (final && isUnsolicited) task.unsolicited = false;
    else if (final) task.r2tDone++;
    return task;
  }

  take(task: IscsiTask, bytes: Uint8Array, start: number, end: number): void {
    const usable = Math.min(end, start + Math.max(0, task.wantedBytes - task.receivedBytes));
    if (usable > start) {
      if (task.outState === dataOut.ready && usable - start === task.wantedBytes && this.#mayWriteNow(task)) {
        task.receivedBytes += end - start;
        this.#writeNow(task, bytes, start);
        return;
      }
      if (task.outState === dataOut.ready) this.#admit(task);
      if (task.outState === dataOut.write) task.write?.fill(bytes, start, usable);
      else if (task.stash !== undefined) keep(task.stash, task.receivedBytes, bytes, start, usable);
    }
    task.receivedBytes += end - start;
  }

  /** Data have come, or the device admitted the task: whatever is next. */
  advance(task: IscsiTask): void {
    if (task.unsolicited || task.receiving) return;
    if (task.outState === dataOut.ready) this.#admit(task);
    if (task.outState === dataOut.drop) {
      if (task.r2tDone < task.r2tSent) return;
      this.#expecting.delete(task.initiatorTaskTag);
      this.#host.respond(task);
    } else if (task.outState === dataOut.write || task.outState === dataOut.parameters) {
      if (task.receivedBytes < task.wantedBytes) this.#solicit(task);
      else this.#complete(task);
    }
  }

  /** Forgets a task that is not running; its write is abandoned. */
  forget(task: IscsiTask): void {
    this.#expecting.delete(task.initiatorTaskTag);
    this.#abandon(task);
    task.outState = dataOut.none;
    if (this.#waiting.length > 0) this.admitWaiting();
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#expecting.clear();
  }

  /** Admits waiting writes, oldest first. */
  admitWaiting(): void {
    while (!this.#closed) {
      const task = this.#waiting[0];
      if (task === undefined) return;
      if (!this.#admits(task)) {
        this.#listen();
        return;
      }
      this.#waiting.shift();
      this.#open(task);
      this.advance(task);
    }
  }

  #checkTransfer(task: IscsiTask, transferTag: number): void {
    if (task.r2tDone === task.r2tSent || transferTag !== task.transferTag + task.r2tDone) {
      throw new ProtocolError('data for a transfer that was not asked for');
    }
  }

  /** Whether a Data-Out PDU carries what follows what came before, and as much as was agreed on (11.4.7.2). */
  #judgeNext(task: IscsiTask, header: Uint8Array, at: number, dataBytes: number, final: boolean): Sense | undefined {
    if (
      readU32(header, at + field.dataSn) !== task.nextDataSn ||
      readU32(header, at + field.bufferOffset) !== task.receivedBytes
    ) {
      return sense.protocolServiceCrcError;
    }
    const end = task.receivedBytes + dataBytes;
    const sequenceEnd = task.unsolicited
      ? Math.min(this.#parameters.firstBurstBytesMax, task.expectedOutBytes)
      : this.#burstEnd(task, task.r2tDone);
    return end <= sequenceEnd && final === (end === sequenceEnd) ? undefined : sense.incorrectAmountOfData;
  }

  #abandon(task: IscsiTask): void {
    const at = this.#waiting.indexOf(task);
    if (at >= 0) this.#waiting.splice(at, 1);
    if (task.write === undefined) return;
    task.write.abandon();
    task.write = undefined;
    this.#released(task);
  }

  #admits(task: IscsiTask): boolean {
    if (!this.#device.writable) return false;
    return this.#openBytes === 0 || this.#openBytes + task.wantedBytes <= limits.inflightPayloadBytesPerConnectionMax;
  }

  /** Takes the memory for a write, or lets it wait for that; what it has received already is in its stash. */
  #admit(task: IscsiTask): void {
    if (this.#waiting.length === 0 && this.#admits(task)) {
      this.#open(task);
      return;
    }
    if (task.outState !== dataOut.stash) this.#makeStash(task);
    task.outState = dataOut.stash;
    this.#waiting.push(task);
    this.#listen();
  }

  /** Whether a payload that has come in one piece is all that comes, and needs no further check. */
  #mayWriteNow(task: IscsiTask): boolean {
    const isAll = task.wantedBytes === task.expectedOutBytes && !task.unsolicited;
    return isAll && this.#device.writable && !this.#parameters.dataDigest && !task.isKeptFromWriting;
  }

  /** Straight from the receive buffer: the usual write whose header came alone. */
  #writeNow(task: IscsiTask, bytes: Uint8Array, start: number): void {
    this.#expecting.delete(task.initiatorTaskTag);
    task.outState = dataOut.none;
    task.running = true;
    try {
      this.#device.write(task.offset, task.wantedBytes, bytes, start, task.forceUnitAccess, task);
      this.#host.touched();
    } catch (error) {
      task.running = false;
      this.#host.refused(task, error);
      this.startDrop(task);
    }
  }

  #listen(): void {
    if (this.#listening || this.#device.writable) return;
    this.#listening = true;
    this.#device.onceWritable(() => {
      this.#listening = false;
      if (this.#closed) return;
      this.admitWaiting();
      this.#host.touched();
    });
  }

  #makeStash(task: IscsiTask): void {
    const unsolicitedMax = Math.min(this.#parameters.firstBurstBytesMax, task.expectedOutBytes);
    task.stash = new Uint8Array(Math.min(unsolicitedMax, task.wantedBytes));
  }

  #open(task: IscsiTask): void {
    try {
      task.write = this.#device.openWrite(task.offset, task.wantedBytes);
    } catch (error) {
      this.#host.refused(task, error);
      this.startDrop(task);
      return;
    }
    this.#openBytes += task.wantedBytes;
    task.outState = dataOut.write;
    if (task.stash === undefined) return;
    task.write.fill(task.stash, 0, Math.min(task.receivedBytes, task.wantedBytes));
    task.stash = undefined;
  }

  #released(task: IscsiTask): void {
    this.#openBytes -= task.wantedBytes;
    assert(this.#openBytes >= 0, 'write memory is given back once');
  }

  #burstEnd(task: IscsiTask, burst: number): number {
    return Math.min(task.wantedBytes, task.solicitedFrom + (burst + 1) * this.#parameters.burstBytesMax);
  }

  #solicit(task: IscsiTask): void {
    if (task.r2tSent === 0) {
      task.solicitedFrom = task.receivedBytes;
      task.transferTag = this.#nextTag;
      this.#nextTag = (this.#nextTag + BURSTS_PER_TASK) % TAGS;
    }
    for (;;) {
      const offset = task.solicitedFrom + task.r2tSent * this.#parameters.burstBytesMax;
      if (offset >= task.wantedBytes || task.r2tSent - task.r2tDone >= this.#parameters.outstandingR2TMax) return;
      const lengthBytes = this.#burstEnd(task, task.r2tSent) - offset;
      this.#responder.readyToTransfer(task, LUN_0, task.transferTag + task.r2tSent, offset, lengthBytes);
      task.r2tSent++;
    }
  }

  #complete(task: IscsiTask): void {
    this.#expecting.delete(task.initiatorTaskTag);
    if (task.outState === dataOut.parameters) {
      this.#host.parametersComplete(task);
      return;
    }
    if (task.isKeptFromWriting) {
      this.#abandon(task);
      task.outState = dataOut.none;
      this.#host.failed(task, sense.reservationConflict);
      this.#host.respond(task);
      if (this.#waiting.length > 0) this.admitWaiting();
      return;
    }
    const write = task.write;
    assert(write !== undefined, 'a write that is complete is open');
    task.write = undefined;
    task.outState = dataOut.none;
    task.running = true;
    try {
      write.submit(task.forceUnitAccess, task);
      this.#host.touched();
    } catch (error) {
      task.running = false;
      this.#host.refused(task, error);
      this.#host.respond(task);
    }
    this.#released(task);
    if (this.#waiting.length > 0) this.admitWaiting();
  }
}

/** Puts source[start, end) at `at`, as much as there is room for: a command may bring more than was agreed on. */
function keep(stash: Uint8Array, at: number, source: Uint8Array, start: number, end: number): void {
  const fitting = Math.min(end - start, stash.length - at);
  if (fitting > 0) stash.set(source.subarray(start, start + fitting), at);
}
