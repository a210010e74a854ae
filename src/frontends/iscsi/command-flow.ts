/**
 * SCSI commands of one connection, from their PDU to their status: who may run them, where their data go, how they end.
 *
 * An initiator that does not hold the volume yet is served inquiry-like commands only. Its first other command asks for
 * the volume; until that is decided such commands wait in the session's VolumeClaim, in order, and their unsolicited
 * data here. A refusal is RESERVATION CONFLICT for each: the status that means "another initiator has it", which
 * initiators report at once instead of retrying. Commands that came before their turn wait the same way, in the
 * session's CommandWindow.
 *
 * Hot path: a READ that the device answers at once, and a WRITE whose data came with the command, allocate nothing. To
 * measure: test/bench/iscsi-memory-server.ts under `node --cpu-prof`, with a client at depth 32.
 */
import { limits } from '../../base/limits.js';
import type { GatewayError } from '../../base/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { ServedVolume } from '../../ports/volume-directory.js';
import { readU32 } from '../../scsi/big-endian.js';
import { beginWithoutUnit } from '../../scsi/logical-unit.js';
import type { LogicalUnit } from '../../scsi/logical-unit.js';
import type { Nexus } from '../../scsi/nexus.js';
import { scsiStatus, sense } from '../../scsi/sense.js';
import type { Sense } from '../../scsi/sense.js';
import { step } from '../../scsi/task.js';
import type { ScsiTask, Step } from '../../scsi/task.js';
import { bidirectionalReadBytes, isLunZero } from './command-header.js';
import type { CommandWindow } from './command-window.js';
import { DataOut } from './data-out.js';
import type { DataOutHost } from './data-out.js';
import type { Parameters } from './parameter.js';
import type { PduWriter } from './pdu-writer.js';
import type { Responder } from './responder.js';
import { dataOut, TaskPool } from './task.js';
import type { IscsiTask, TaskOwner } from './task.js';
import type { Claimant, VolumeClaim } from './volume-claim.js';
import { commandFlag, field, FINAL, IMMEDIATE, ISCSI_VERSION_DESCRIPTOR, opcode } from './wire.js';

export interface FlowHost {
  /** The device was called, or a PDU gathered: commit and send soon. */
  touched(): void;
}

export interface FlowOptions {
  readonly host: FlowHost;
  readonly volume: ServedVolume;
  readonly unit: LogicalUnit;
  readonly nexus: Nexus;
  readonly writer: PduWriter;
  readonly responder: Responder;
  readonly window: CommandWindow;
  readonly claim: VolumeClaim;
  readonly parameters: Parameters;
  readonly clock: Clock;
}

const US_PER_MS = 1000;
const BIDIRECTIONAL = commandFlag.read | commandFlag.write;

export class CommandFlow implements TaskOwner, DataOutHost, Claimant {
  readonly #host: FlowHost;
  readonly #volume: ServedVolume;
  readonly #unit: LogicalUnit;
  readonly #nexus: Nexus;
  readonly #writer: PduWriter;
  readonly #responder: Responder;
  readonly #window: CommandWindow;
  readonly #claim: VolumeClaim;
  readonly #parameters: Parameters;
  readonly #clock: Clock;
  readonly #tasks: TaskPool = new TaskPool(this);
  readonly #dataOut: DataOut;
  /** Reads that wait for the peer to take what was sent: oldest first. */
  readonly #stalledReads: IscsiTask[] = [];
  #immediates = 0;
  #nowMs = 0;
  #closed = false;

  constructor(options: FlowOptions) {
    this.#host = options.host;
    this.#volume = options.volume;
    this.#unit = options.unit;
    this.#nexus = options.nexus;
    this.#writer = options.writer;
    this.#responder = options.responder;
    this.#window = options.window;
    this.#claim = options.claim;
    this.#parameters = options.parameters;
    this.#clock = options.clock;
    this.#dataOut = new DataOut({
      host: this,
      device: options.volume.device,
      parameters: options.parameters,
      responder: options.responder,
    });
  }

  get activeCount(): number {
    return this.#tasks.activeCount;
  }

  /** Commands that follow were received now. */
  wokenUp(): void {
    this.#nowMs = this.#clock.nowMs();
  }

  /** Whether a further immediate command may be taken. */
  get takesImmediate(): boolean {
    return this.#immediates < limits.iscsiImmediateCommandsMax;
  }

  /** A command whose data, data[start, end), are all here. */
  command(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void {
    const task = this.#take(header, at, end - start);
    this.#count(task);
    const next = this.#begin(task, header, at);
    if (next === step.writeMedium && this.#isSimple(task, header, at, end - start)) {
      this.#writeNow(task, data, start);
      return;
    }
    this.#follow(task, next, header, at, end - start);
    if (end > start) this.#dataOut.take(task, data, start, end);
    this.#dataOut.advance(task);
  }

  /** A command whose data come in pieces: `piece`, then `pieceEnd`. */
  commandBegins(header: Uint8Array, at: number, dataBytes: number): IscsiTask {
    const task = this.#take(header, at, dataBytes);
    this.#count(task);
    task.receiving = true;
    this.#follow(task, this.#begin(task, header, at), header, at, dataBytes);
    return task;
  }

  /**
   * A command whose number is not due: task.early is to wait in the window. Its data come by `piece` and `pieceEnd`.
   */
  commandEarly(header: Uint8Array, at: number, dataBytes: number, owner: object): IscsiTask {
    const task = this.#take(header, at, dataBytes);
    task.receiving = true;
    task.cdb.set(header.subarray(at + field.cdb, at + field.cdb + task.cdb.length));
    task.early = { owner, cmdSn: readU32(header, at + field.cmdSn), begin: () => this.#due(task) };
    this.#follow(task, undefined, header, at, dataBytes);
    return task;
  }

  /** A Data-Out PDU; undefined: its data are to be dropped. */
  dataOutBegins(header: Uint8Array, at: number, dataBytes: number): IscsiTask | undefined {
    const task = this.#dataOut.find(header, at, dataBytes);
    if (task !== undefined) task.receiving = true;
    return task;
  }

  piece(task: IscsiTask, data: Uint8Array, start: number, end: number): void {
    if (task.active) this.#dataOut.take(task, data, start, end);
  }

  pieceEnd(task: IscsiTask): void {
    task.receiving = false;
    if (task.active) this.#dataOut.advance(task);
  }

  // Claimant

  /** The volume is ours, or `refusal` says why not. */
  decided(task: IscsiTask, refusal: GatewayError | undefined): void {
    if (refusal === undefined) {
      this.#unpark(task, this.#unit.begin(this.#nexus, task, task.cdb, 0));
    } else {
      task.begin();
      this.#unpark(task, this.#unit.refuse(task, refusal));
    }
    this.#host.touched();
  }

  /** The peer took what was sent. */
  progressed(): void {
    if (this.#closed || this.#stalledReads.length === 0) return;
    for (const task of this.#stalledReads.splice(0)) this.#continueRead(task);
    this.#host.touched();
  }

  /** ABORT TASK: whether there was such a task. What the device was given already takes effect, unanswered. */
  abort(initiatorTaskTag: number): boolean {
    const task = this.#tasks.all.find(
      (each) => each.active && !each.aborted && each.initiatorTaskTag === initiatorTaskTag,
    );
    if (task !== undefined) this.#abort(task);
    return task !== undefined;
  }

  /**
   * All but those that follow whatever aborts the others (they came before their turn, or wait for the volume behind
   * it), and but `except`. Returns whether there was one.
   */
  abortBegun(except?: ScsiTask): boolean {
    let found = false;
    for (const task of this.#tasks.all) {
      if (!task.active || task.aborted || task.early !== undefined || task === except) continue;
      if (this.#claim.isBehind(task)) continue;
      found = true;
      this.#abort(task);
    }
    return found;
  }

  abortAll(): void {
    for (const task of this.#tasks.all) if (task.active && !task.aborted) this.#abort(task);
  }

  /** The session is over: nothing is answered, and nothing that is not with the device yet will be. */
  close(): void {
    this.#closed = true;
    this.#dataOut.close();
    this.abortAll();
  }

  // TaskOwner

  ended(task: IscsiTask, error: GatewayError | undefined): void {
    task.running = false;
    const { lent } = task;
    task.lent = undefined;
    if (task.aborted || this.#closed) {
      lent?.release();
      this.#tasks.giveBack(task);
      return;
    }
    if (error !== undefined) this.#unit.refuse(task, error);
    if (lent === undefined) {
      this.respond(task);
    } else if (error !== undefined) {
      lent.release();
      this.respond(task);
    } else if (this.#finishSegment(task, lent.bytes, task.lentAt, task.segmentBytes)) {
      this.#writer.closeLent(lent, task.lentAt, task.segmentBytes);
      this.#tasks.giveBack(task);
    } else {
      this.#writer.closeLent(lent, task.lentAt, task.segmentBytes);
      this.#continueRead(task);
    }
    this.#host.touched();
  }

  // DataOutHost

  respond(task: IscsiTask): void {
    if (task.status === scsiStatus.good && task.response.length > 0 && task.expectedInBytes > 0) {
      this.#sendResponseData(task);
    } else {
      this.#over(task);
      this.#responder.scsiResponse(task);
    }
    this.#tasks.giveBack(task);
  }

  parametersComplete(task: IscsiTask): void {
    const list = task.stash ?? new Uint8Array(0);
    const next = this.#unit.accept(task, list.subarray(0, Math.min(task.receivedBytes, task.wantedBytes)));
    task.outState = dataOut.none;
    if (next === step.waiting) {
      task.running = true;
      this.#host.touched();
    } else {
      this.respond(task);
    }
  }

  failed(task: IscsiTask, what: Sense): void {
    this.#withdraw(task);
    task.fail(what);
  }

  refused(task: IscsiTask, error: unknown): void {
    this.#unit.refuse(task, error);
  }

  touched(): void {
    this.#host.touched();
  }

  #take(header: Uint8Array, at: number, dataBytes: number): IscsiTask {
    const task = this.#tasks.take();
    const flags = header[at + field.flags] ?? 0;
    const expected = readU32(header, at + field.expectedLength);
    task.initiatorTaskTag = readU32(header, at + field.initiatorTaskTag);
    task.bidirectional = (flags & BIDIRECTIONAL) === BIDIRECTIONAL;
    task.expectedOutBytes = (flags & commandFlag.write) !== 0 ? expected : 0;
    if (task.bidirectional) task.expectedInBytes = bidirectionalReadBytes(header, at);
    else task.expectedInBytes = (flags & commandFlag.read) !== 0 ? expected : 0;
    task.unit = isLunZero(header, at + field.lun) ? this.#unit : undefined;
    task.immediate = ((header[at] ?? 0) & IMMEDIATE) !== 0;
    task.unwelcome = this.#dataOut.judge(task, dataBytes, (flags & FINAL) !== 0);
    task.startedMs = this.#nowMs;
    this.#volume.iscsi.stats.inflight++;
    return task;
  }

  /** The command takes its place in the window, or among the immediate ones. */
  #count(task: IscsiTask): void {
    if (task.immediate) this.#immediates++;
    else this.#window.underway++;
  }

  #begin(task: IscsiTask, header: Uint8Array, at: number): Step | undefined {
    return this.#beginCdb(task, header, at + field.cdb);
  }

  /** undefined: the command waits for the volume. */
  #beginCdb(task: IscsiTask, cdb: Uint8Array, at: number): Step | undefined {
    if (task.bidirectional || task.unwelcome !== undefined) {
      task.begin();
      return task.fail(task.unwelcome ?? sense.invalidFieldInInformationUnit);
    }
    if (task.unit === undefined) return beginWithoutUnit(task, ISCSI_VERSION_DESCRIPTOR, cdb, at);
    if (!this.#claim.held && !this.#unit.isInquiry(cdb, at)) {
      if (cdb !== task.cdb) task.cdb.set(cdb.subarray(at, at + task.cdb.length));
      this.#claim.await(task, this);
      return undefined;
    }
    return this.#unit.begin(this.#nexus, task, cdb, at);
  }

  /** A command that came early has its turn. */
  #due(task: IscsiTask): void {
    task.early = undefined;
    this.#count(task);
    const next = this.#beginCdb(task, task.cdb, 0);
    if (next !== undefined) this.#unpark(task, next);
    this.#host.touched();
  }

  /** It waits for nothing any more; the number of an early command stays taken. */
  #withdraw(task: IscsiTask): void {
    this.#claim.withdraw(task);
    if (task.early !== undefined) task.early.begin = undefined;
  }

  /** All data are here, none is too much, and the device takes them now. */
  #isSimple(task: IscsiTask, header: Uint8Array, at: number, dataBytes: number): boolean {
    return (
      dataBytes === task.lengthBytes &&
      dataBytes === task.expectedOutBytes &&
      ((header[at + field.flags] ?? 0) & FINAL) !== 0 &&
      this.#dataOut.admitsWhole
    );
  }

  #writeNow(task: IscsiTask, data: Uint8Array, start: number): void {
    task.movesMedium = true;
    task.wantedBytes = task.lengthBytes;
    task.running = true;
    try {
      this.#volume.device.write(task.offset, task.lengthBytes, data, start, task.forceUnitAccess, task);
      this.#host.touched();
    } catch (error) {
      task.running = false;
      this.#unit.refuse(task, error);
      this.respond(task);
    }
  }

  /** Does what a command's Step asks for, as far as that goes before its data come. */
  #follow(task: IscsiTask, next: Step | undefined, header: Uint8Array, at: number, dataBytes: number): void {
    const final = ((header[at + field.flags] ?? 0) & FINAL) !== 0;
    if (task.expectedOutBytes > 0 || dataBytes > 0 || !final) this.#dataOut.announce(task, dataBytes, final);
    if (next === undefined) this.#dataOut.park(task, dataBytes);
    else this.#proceed(task, next, dataBytes > 0 || !final);
  }

  #unpark(task: IscsiTask, next: Step): void {
    this.#proceed(task, next, task.unsolicited || task.receiving);
    this.#dataOut.advance(task);
  }

  /** `dataComing`: the initiator has more to send for it, wanted or not. */
  #proceed(task: IscsiTask, next: Step, dataComing: boolean): void {
    switch (next) {
      case step.writeMedium:
        task.movesMedium = true;
        this.#dataOut.startWrite(task);
        return;
      case step.collect:
        this.#dataOut.startParameters(task);
        return;
      case step.finished:
        this.#dataOut.startDrop(task);
        return;
      case step.readMedium:
        task.movesMedium = true;
        if (task.expectedOutBytes > 0) this.#dataOut.forget(task);
        task.wantedBytes = Math.min(task.expectedInBytes, task.lengthBytes);
        if (dataComing || task.wantedBytes === 0) this.#dataOut.startDrop(task);
        else this.#continueRead(task);
        return;
      case step.waiting:
        if (task.expectedOutBytes > 0) this.#dataOut.forget(task);
        task.running = true;
        this.#host.touched();
    }
  }

  /** Sends the next segments of a read, until it is over, the device has to be waited for, or the peer. */
  #continueRead(task: IscsiTask): void {
    const writer = this.#writer;
    for (;;) {
      if (writer.congested) {
        this.#stalledReads.push(task);
        return;
      }
      const segmentBytes = this.#segment(task, task.wantedBytes);
      const bytes = writer.open(opcode.dataIn, segmentBytes);
      const at = writer.position;
      let isDone: boolean;
      try {
        const offset = task.offset + task.sentBytes;
        isDone = this.#volume.device.read(offset, segmentBytes, bytes, writer.dataAt(at), task);
      } catch (error) {
        this.#unit.refuse(task, error);
        this.respond(task);
        return;
      }
      if (!isDone) {
        task.lent = writer.lend(segmentBytes);
        task.lentAt = at;
        task.segmentBytes = segmentBytes;
        task.running = true;
        return;
      }
      const isOver = this.#finishSegment(task, bytes, at, segmentBytes);
      writer.close(segmentBytes);
      if (isOver) {
        this.#tasks.giveBack(task);
        return;
      }
    }
  }

  /** How much the next Data-In PDU carries: a segment, and not past the end of a burst. */
  #segment(task: IscsiTask, totalBytes: number): number {
    const { burstBytesMax, sendSegmentBytesMax } = this.#parameters;
    return Math.min(sendSegmentBytesMax, totalBytes - task.sentBytes, burstBytesMax - (task.sentBytes % burstBytesMax));
  }

  /** Completes the header of a Data-In PDU; true: it was the last, and carries the status. */
  #finishSegment(task: IscsiTask, bytes: Uint8Array, at: number, segmentBytes: number): boolean {
    const isLast = task.sentBytes + segmentBytes === task.wantedBytes;
    if (isLast) this.#over(task);
    this.#responder.dataIn(bytes, at, task, segmentBytes, isLast);
    return isLast;
  }

  #sendResponseData(task: IscsiTask): void {
    const writer = this.#writer;
    task.wantedBytes = Math.min(task.expectedInBytes, task.response.length);
    for (let isOver = false; !isOver;) {
      const segmentBytes = this.#segment(task, task.wantedBytes);
      const bytes = writer.open(opcode.dataIn, segmentBytes);
      const at = writer.position;
      bytes.set(task.response.subarray(task.sentBytes, task.sentBytes + segmentBytes), writer.dataAt(at));
      isOver = this.#finishSegment(task, bytes, at, segmentBytes);
      writer.close(segmentBytes);
    }
  }

  /** The command leaves the window and the books; its answer is built next. */
  #over(task: IscsiTask): void {
    if (task.immediate) this.#immediates--;
    else if (task.early === undefined) this.#window.underway--;
    const { stats } = this.#volume.iscsi;
    stats.inflight--;
    const failed = task.status !== scsiStatus.good && task.status !== scsiStatus.conditionMet;
    stats.record(
      task.op,
      task.movesMedium ? task.wantedBytes : 0,
      (this.#clock.nowMs() - task.startedMs) * US_PER_MS,
      failed,
    );
  }

  #abort(task: IscsiTask): void {
    task.aborted = true;
    task.status = scsiStatus.taskAborted;
    this.#over(task);
    this.#withdraw(task);
    remove(this.#stalledReads, task);
    this.#dataOut.forget(task);
    if (!task.running) this.#tasks.giveBack(task);
  }
}

function remove(list: IscsiTask[], task: IscsiTask): void {
  const at = list.indexOf(task);
  if (at >= 0) list.splice(at, 1);
}
