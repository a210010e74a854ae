/**
 * A session in the full-feature phase, with its one connection: takes PDUs, keeps the volume attached, answers what is
 * no SCSI command (RFC 7143, sections 4, 7, 11). SCSI commands go to CommandFlow.
 *
 * Everything of one wake-up is gathered: one commit of the device and one write to the stream at its end. What ends
 * outside of a wake-up (a flush, a slow read) is gathered until the end of the event loop's turn.
 *
 * The first command that touches data asks the volume's directory for the right to (access: exclusive). A refusal is
 * remembered for a second, so that a refused initiator's scan does not probe the holder once per command.
 */
import { GatewayError, ProtocolError } from '../../base/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { Stream } from '../../ports/stream.js';
import type { Attachment, ClientIdentity, SessionControl } from '../../ports/volume-directory.js';
import { readU16, readU32 } from '../../scsi/big-endian.js';
import { Nexus } from '../../scsi/nexus.js';
import { CommandFlow } from './command-flow.js';
import type { FlowHost } from './command-flow.js';
import { negotiate, REJECT } from './parameter.js';
import type { Parameters } from './parameter.js';
import type { PduSink } from './pdu-reader.js';
import type { PduWriter } from './pdu-writer.js';
import { Responder } from './responder.js';
import { sendTargets } from './send-targets.js';
import type { TargetNaming } from './send-targets.js';
import type { Sequence } from './sequence.js';
import type { ServedUnit, UnitMember } from './served-unit.js';
import type { IscsiTask } from './task.js';
import { manageTasks } from './task-management.js';
import type { Pair } from './text.js';
import { TextExchange } from './text-exchange.js';
import {
  field,
  FINAL,
  IMMEDIATE,
  logoutReason,
  logoutResponse,
  NO_TAG,
  opcode,
  OPCODE_MASK,
  rejectReason,
} from './wire.js';

export interface SessionIdentity {
  readonly initiatorName: string;
  /** 12 hexadecimal digits. */
  readonly isid: string;
  readonly tsih: number;
  readonly connectionId: number;
}

export interface SessionOptions {
  readonly identity: SessionIdentity;
  /** undefined: a discovery session. */
  readonly served: ServedUnit | undefined;
  readonly naming: TargetNaming;
  readonly parameters: Parameters;
  readonly sequence: Sequence;
  readonly stream: Stream;
  readonly writer: PduWriter;
  readonly clock: Clock;
  readonly log: Log;
  /** The volume was refused to this session (not told again while the refusal is remembered). */
  readonly refused: (error: GatewayError) => void;
  /** The session is over: sends what is gathered, then closes the connection. */
  readonly end: () => void;
  /** Closes the connection at once. */
  readonly destroy: () => void;
}

const REFUSAL_MS = 1000;

export class Session implements PduSink, FlowHost, UnitMember, SessionControl {
  readonly identity: SessionIdentity;
  readonly served: ServedUnit | undefined;
  readonly nexus: Nexus;
  readonly #options: SessionOptions;
  readonly #sequence: Sequence;
  readonly #writer: PduWriter;
  readonly #responder: Responder;
  readonly #flow: CommandFlow | undefined;
  readonly #text: TextExchange;

  /** Of a PDU that arrives in pieces: the task that its data belong to, or a copy of the PDU where it has none. */
  #pieceTask: IscsiTask | undefined;
  #pieceHeader: Uint8Array | undefined;
  #pieceData: Uint8Array | undefined;
  #pieceFill = 0;

  #attachment: Attachment | undefined;
  #attaching = false;
  #flowWaits = false;
  readonly #whenDecided: ((refusal: GatewayError | undefined) => void)[] = [];
  #refusal: GatewayError | undefined;
  #refusedUntilMs = 0;

  #pingTag = 0;
  readonly #pings = new Map<number, (alive: boolean) => void>();
  #awake = false;
  #dirty = false;
  #scheduled = false;
  #loggedOut = false;
  #whenFinished: (() => void) | undefined;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.identity = options.identity;
    this.served = options.served;
    this.#sequence = options.sequence;
    this.#writer = options.writer;
    this.#responder = new Responder(options);
    this.#text = new TextExchange((pair) => this.#answerText(pair));
    this.nexus = options.served?.unit.attach() ?? new Nexus(0);
    if (options.served === undefined) return;
    const { unit, volume } = options.served;
    this.#flow = new CommandFlow({
      ...options,
      host: this,
      volume,
      unit,
      nexus: this.nexus,
      responder: this.#responder,
    });
    options.served.join(this);
  }

  /** Commands without an answer. */
  get commandsUnderWay(): number {
    return this.#flow?.activeCount ?? 0;
  }

  get client(): ClientIdentity {
    const { initiatorName, isid } = this.identity;
    return { frontend: 'iscsi', key: `${initiatorName},${isid}`, description: `iscsi ${initiatorName}` };
  }

  get holdsVolume(): boolean {
    return this.#attachment !== undefined;
  }

  wakesUp(): void {
    this.#awake = true;
    this.#flow?.wokenUp();
  }

  /** The end of a wake-up: what was gathered takes effect. */
  settle(): void {
    this.#awake = false;
    if (this.#closed) return;
    if (this.#dirty) {
      this.#dirty = false;
      // Completions of this run inside of it, and are sent with the rest.
      this.#awake = true;
      this.served?.volume.device.commit();
      this.#awake = false;
    }
    this.#writer.flush();
    this.#finishIfIdle();
  }

  touched(): void {
    this.#dirty = true;
    if (this.#awake || this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.settle();
    });
  }

  /** The peer took what was sent. */
  progressed(): void {
    this.#flow?.progressed();
  }

  /** Calls back, once, when no command is under way any more; none is taken from now on. */
  finish(finished: () => void): void {
    this.#whenFinished = finished;
    this.#finishIfIdle();
  }

  /** The connection is gone, or is to go: nothing of this session reaches the volume any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flow?.close();
    this.served?.leave(this);
    this.#attachment?.release();
    this.#attachment = undefined;
    this.#whenDecided.length = 0;
    for (const resolve of this.#pings.values()) resolve(false);
    this.#pings.clear();
  }

  // PduSink

  get ready(): boolean {
    return !this.#writer.overloaded;
  }

  pdu(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void {
    switch ((header[at] ?? 0) & OPCODE_MASK) {
      case opcode.scsiCommand:
        if (this.#admits(header, at)) this.#flow?.command(header, at, data, start, end);
        return;
      case opcode.dataOut: {
        const flow = this.#normal(header, at);
        const task = flow?.dataOutBegins(header, at, end - start);
        if (flow === undefined || task === undefined) return;
        flow.piece(task, data, start, end);
        flow.pieceEnd(task);
        return;
      }
      default:
        this.#other(header, at, data.subarray(start, end));
    }
  }

  begin(header: Uint8Array, at: number, dataBytes: number): void {
    const code = (header[at] ?? 0) & OPCODE_MASK;
    if (code === opcode.scsiCommand) {
      this.#pieceTask = this.#admits(header, at) ? this.#flow?.commandBegins(header, at, dataBytes) : undefined;
    } else if (code === opcode.dataOut) {
      this.#pieceTask = this.#normal(header, at)?.dataOutBegins(header, at, dataBytes);
    } else {
      this.#pieceHeader = header.slice(at, at + field.cdb + 16);
      this.#pieceData = new Uint8Array(dataBytes);
      this.#pieceFill = 0;
    }
  }

  piece(data: Uint8Array, start: number, end: number): void {
    if (this.#pieceTask !== undefined) {
      this.#flow?.piece(this.#pieceTask, data, start, end);
    } else if (this.#pieceData !== undefined) {
      this.#pieceData.set(data.subarray(start, end), this.#pieceFill);
      this.#pieceFill += end - start;
    }
  }

  end(): void {
    const task = this.#pieceTask;
    const header = this.#pieceHeader;
    const data = this.#pieceData;
    this.#pieceTask = undefined;
    this.#pieceHeader = undefined;
    this.#pieceData = undefined;
    if (task !== undefined) this.#flow?.pieceEnd(task);
    else if (header !== undefined && data !== undefined) this.#other(header, 0, data);
  }

  damaged(header: Uint8Array, at: number): void {
    this.#responder.reject(rejectReason.dataDigestError, header, at);
  }

  // FlowHost

  askForVolume(): void {
    if (this.#flowWaits) return;
    this.#flowWaits = true;
    this.whenHeld((refusal) => {
      this.#flowWaits = false;
      this.#flow?.decided(refusal);
    });
  }

  /** Calls back once it is known whether the session holds the volume; never from inside the call. */
  whenHeld(callback: (refusal: GatewayError | undefined) => void): void {
    this.#whenDecided.push(callback);
    if (this.#attaching) return;
    this.#attaching = true;
    void this.#attach().then((refusal) => this.#decided(refusal));
  }

  // SessionControl

  probe(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    this.#pingTag = (this.#pingTag + 1) % NO_TAG;
    const tag = this.#pingTag;
    const answered = new Promise<boolean>((resolve) => this.#pings.set(tag, resolve));
    this.#responder.ping(tag);
    this.touched();
    return answered;
  }

  evict(reason: string): void {
    this.drop(reason);
  }

  // UnitMember

  abortTasks(): void {
    this.#flow?.abortAll();
    this.touched();
  }

  drop(reason: string): void {
    if (this.#closed) return;
    this.#options.log.info('a session was ended', { initiator: this.identity.initiatorName, reason });
    this.close();
    this.#options.destroy();
  }

  /** Aborts one task of this session; false: there is none. */
  abortTask(initiatorTaskTag: number): boolean {
    return this.#flow?.abort(initiatorTaskTag) ?? false;
  }

  async #attach(): Promise<GatewayError | undefined> {
    const { clock, served } = this.#options;
    if (served === undefined || this.#attachment !== undefined) return undefined;
    if (clock.nowMs() < this.#refusedUntilMs) return this.#refusal;
    try {
      const attachment = await served.volume.attach(this.client, this);
      if (this.#isClosed()) attachment.release();
      else this.#attachment = attachment;
      return undefined;
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this.#options.refused(error);
      this.#refusal = error;
      this.#refusedUntilMs = clock.nowMs() + REFUSAL_MS;
      return error;
    }
  }

  /** Behind a call, because TypeScript believes that nothing changes while something is awaited. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #decided(refusal: GatewayError | undefined): void {
    this.#attaching = false;
    if (this.#closed) return;
    for (const callback of this.#whenDecided.splice(0)) callback(refusal);
    this.touched();
  }

  #finishIfIdle(): void {
    if (this.#whenFinished === undefined || this.commandsUnderWay > 0 || this.#awake) return;
    const finished = this.#whenFinished;
    this.#whenFinished = undefined;
    finished();
  }

  /** Window and phase; what is outside of the window is silently ignored (4.2.2.1). */
  #admits(header: Uint8Array, at: number): boolean {
    if (this.#loggedOut || this.#whenFinished !== undefined) return false;
    const isCommand = ((header[at] ?? 0) & OPCODE_MASK) === opcode.scsiCommand;
    const isImmediate = ((header[at] ?? 0) & IMMEDIATE) !== 0;
    if (!isImmediate && !this.#sequence.admit(readU32(header, at + field.cmdSn))) return false;
    if (!isCommand) return true;
    if (this.#flow === undefined) {
      this.#responder.reject(rejectReason.commandNotSupported, header, at);
      return false;
    }
    if (isImmediate && !this.#flow.takesImmediate) {
      this.#responder.reject(rejectReason.immediateRejected, header, at);
      return false;
    }
    return true;
  }

  /** The flow of a normal session; a discovery session rejects. */
  #normal(header: Uint8Array, at: number): CommandFlow | undefined {
    if (this.#flow === undefined) this.#responder.reject(rejectReason.commandNotSupported, header, at);
    return this.#flow;
  }

  #other(header: Uint8Array, at: number, data: Uint8Array): void {
    const tag = readU32(header, at + field.initiatorTaskTag);
    switch ((header[at] ?? 0) & OPCODE_MASK) {
      case opcode.nopOut:
        this.#nopOut(header, at, tag, data);
        return;
      case opcode.text:
        if (this.#admits(header, at)) this.#answerTextRequest(header, at, tag, data);
        return;
      case opcode.logout:
        if (this.#admits(header, at)) this.#logout(header, at, tag);
        return;
      case opcode.taskManagement:
        if (!this.#admits(header, at) || this.#normal(header, at) === undefined) return;
        manageTasks({ session: this, served: this.served, responder: this.#responder }, header, at);
        return;
      case opcode.snack:
        this.#responder.reject(rejectReason.snackRejected, header, at);
        return;
      case opcode.login:
        this.#responder.reject(rejectReason.protocolError, header, at);
        return;
      default:
        this.#responder.reject(rejectReason.commandNotSupported, header, at);
    }
  }

  #nopOut(header: Uint8Array, at: number, tag: number, data: Uint8Array): void {
    const transferTag = readU32(header, at + field.targetTransferTag);
    if (tag === NO_TAG) {
      this.#pings.get(transferTag)?.(true);
      this.#pings.delete(transferTag);
      return;
    }
    if (!this.#admits(header, at)) return;
    this.#responder.nopIn(tag, data.subarray(0, this.#options.parameters.sendSegmentBytesMax));
  }

  #answerTextRequest(header: Uint8Array, at: number, tag: number, data: Uint8Array): void {
    const final = ((header[at + field.flags] ?? 0) & FINAL) !== 0;
    const transferTag = readU32(header, at + field.targetTransferTag);
    const { sendSegmentBytesMax } = this.#options.parameters;
    const reply = this.#text.request(transferTag, final, data, sendSegmentBytesMax);
    this.#responder.text(tag, reply.transferTag, reply.data);
  }

  /** The keys that may be negotiated in the full-feature phase (section 13). */
  #answerText({ key, value }: Pair): readonly Pair[] {
    const { naming, stream, parameters } = this.#options;
    if (key === 'SendTargets') {
      const connected = this.served?.volume;
      return sendTargets(naming, { initiatorName: this.identity.initiatorName, peer: stream.peer, connected }, value);
    }
    if (key === 'InitiatorAlias') return [];
    const current = { ...parameters };
    const known = negotiate(key, value, current, { discovery: this.served === undefined, digests: 'offered' });
    if (key === 'MaxRecvDataSegmentLength' && known !== undefined && known !== REJECT) {
      parameters.sendSegmentBytesMax = current.sendSegmentBytesMax;
      return [{ key, value: known }];
    }
    return [{ key, value: known === undefined ? 'NotUnderstood' : REJECT }];
  }

  #logout(header: Uint8Array, at: number, tag: number): void {
    const reason = (header[at + field.flags] ?? 0) & ~FINAL;
    if (reason === logoutReason.removeForRecovery) {
      this.#responder.logout(tag, logoutResponse.recoveryNotSupported);
      return;
    }
    const connectionId = readU16(header, at + field.connectionId);
    if (reason === logoutReason.closeConnection && connectionId !== this.identity.connectionId) {
      this.#responder.logout(tag, logoutResponse.noConnection);
      return;
    }
    if (reason > logoutReason.removeForRecovery) throw new ProtocolError('a logout has no known reason (11.14.1)');
    // What the device was given takes effect, and is answered, before the answer to the logout.
    this.settle();
    this.#awake = true;
    this.#loggedOut = true;
    this.#flow?.abortAll();
    this.#responder.logout(tag, logoutResponse.closed);
    this.#options.end();
  }
}
