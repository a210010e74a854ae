/**
 * The full-feature phase of one connection: takes PDUs, and answers what is no SCSI command (RFC 7143, sections 4.2, 7,
 * 11). SCSI commands go to CommandFlow; what the connections of a session share is in session.ts.
 *
 * Everything of one wake-up is gathered: one commit of the device and one write to the stream at its end. What ends
 * outside of a wake-up (a flush, a slow read, a command that waited for its turn) is gathered until the end of the
 * event loop's turn.
 */
import { assert } from '../../base/assert.js';
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Clock, Timer } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { Stream } from '../../ports/stream.js';
import { readU32 } from '../../scsi/big-endian.js';
import type { ScsiTask } from '../../scsi/task.js';
import { CommandFlow } from './command-flow.js';
import type { FlowHost } from './command-flow.js';
import { arrival } from './command-window.js';
import type { Arrival } from './command-window.js';
import { KeepAlive } from './keep-alive.js';
import type { KeepAliveHost } from './keep-alive.js';
import { logOut } from './logout.js';
import type { Parameters } from './parameter.js';
import type { PduSink } from './pdu-reader.js';
import type { PduWriter } from './pdu-writer.js';
import { Responder } from './responder.js';
import type { TargetNaming } from './send-targets.js';
import type { Sequence } from './sequence.js';
import type { Session, SessionConnection } from './session.js';
import type { IscsiTask } from './task.js';
import { manageTasks } from './task-management.js';
import type { FunctionConnection } from './task-management.js';
import { TextService } from './text-service.js';
import { BHS_BYTES, field, FROM_TARGET, IMMEDIATE, NO_TAG, opcode, OPCODE_MASK, rejectReason } from './wire.js';

export interface FullFeatureOptions {
  readonly session: Session;
  readonly connectionId: number;
  readonly naming: TargetNaming;
  /** The session's, with this connection's own digests and segment length. */
  readonly parameters: Parameters;
  readonly sequence: Sequence;
  readonly stream: Stream;
  readonly writer: PduWriter;
  readonly clock: Clock;
  readonly log: Log;
  /** Sends what is gathered, then closes the connection. */
  readonly end: () => void;
  /** Closes the connection at once. */
  readonly destroy: () => void;
  /** Ends the connection, with a line in the log. */
  readonly cutOff: (reason: string) => void;
}

const NO_BYTES = new Uint8Array(0);

type Act = (header: Uint8Array, at: number, data: Uint8Array) => void;

/** Requests that are answered under their tag, which therefore is one; a NOP-Out without is no request (11.2.1.8, 11.18). */
function isAnswered(code: number): boolean {
  return (
    code === opcode.scsiCommand || code === opcode.taskManagement || code === opcode.text || code === opcode.logout
  );
}

function hasTag(header: Uint8Array, at: number): boolean {
  return readU32(header, at + field.initiatorTaskTag) !== NO_TAG;
}

export class FullFeature implements PduSink, FlowHost, KeepAliveHost, SessionConnection, FunctionConnection {
  readonly session: Session;
  readonly connectionId: number;
  readonly #options: FullFeatureOptions;
  readonly #writer: PduWriter;
  readonly responder: Responder;
  readonly #flow: CommandFlow | undefined;
  readonly #text: TextService;
  readonly #keepAlive: KeepAlive;

  /** Of a PDU that arrives in pieces: the task that its data belong to, or a copy of the PDU where it has none. */
  #pieceTask: IscsiTask | undefined;
  #pieceHeader: Uint8Array | undefined;
  #pieceData: Uint8Array | undefined;
  #pieceFill = 0;

  functionsWaiting = 0;
  #pingTag = 0;
  readonly #pings = new Map<number, (alive: boolean) => void>();
  #awake = false;
  #dirty = false;
  #scheduled = false;
  /** No further command is taken. */
  #done = false;
  #finishing = false;
  #logoutTimer: Timer | undefined;
  #closed = false;

  constructor(options: FullFeatureOptions) {
    const { session } = options;
    this.#options = options;
    this.session = session;
    this.connectionId = options.connectionId;
    this.#writer = options.writer;
    this.responder = new Responder(options);
    this.#text = new TextService({ ...options, responder: this.responder });
    this.#keepAlive = new KeepAlive({ ...options, host: this });
    if (session.served === undefined) return;
    const { unit, volume } = session.served;
    this.#flow = new CommandFlow({
      ...options,
      host: this,
      volume,
      unit,
      nexus: session.nexus,
      window: session.window,
      claim: session.claim,
      responder: this.responder,
    });
  }

  /** Commands without an answer. */
  get commandsUnderWay(): number {
    return this.#flow?.activeCount ?? 0;
  }

  get closed(): boolean {
    return this.#closed;
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
      this.session.served?.volume.device.commit();
      this.#awake = false;
    }
    this.#writer.flush();
    if (this.#finishing && this.commandsUnderWay === 0) this.#options.end();
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

  /** Asks the initiator to log out (11.9.1); after the time for that, ends once the commands under way are answered. */
  finish(): void {
    if (this.#flow === undefined) {
      this.#options.end();
      return;
    }
    this.responder.requestLogout(limits.iscsiLogoutMsMax / 1000);
    this.touched();
    this.#logoutTimer = this.#options.clock.after(limits.iscsiLogoutMsMax, () => {
      this.#done = true;
      this.#finishing = true;
      this.touched();
    });
  }

  /** The connection is gone, or is to go: nothing of it reaches the volume any more. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#done = true;
    this.#keepAlive.stop();
    this.#logoutTimer?.cancel();
    this.#flow?.close();
    for (const resolve of this.#pings.values()) resolve(false);
    this.#pings.clear();
    this.session.left(this);
  }

  // SessionConnection

  drop(reason: string): void {
    if (this.#closed) return;
    this.#options.log.info('a connection was ended', { initiator: this.session.identity.initiatorName, reason });
    this.close();
    this.#options.destroy();
  }

  logOut(): void {
    this.#abandonCommands();
    this.#options.end();
  }

  logOutWith(initiatorTaskTag: number, response: number): void {
    this.#abandonCommands();
    this.#awake = true;
    this.responder.logout(initiatorTaskTag, response);
    this.#options.end();
  }

  abortTasks(except?: ScsiTask): boolean {
    const found = this.#flow?.abortBegun(except) ?? false;
    this.touched();
    return found;
  }

  abortTask(initiatorTaskTag: number): boolean {
    return this.#flow?.abort(initiatorTaskTag) ?? false;
  }

  probe(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    const tag = this.#sendPing();
    return new Promise<boolean>((resolve) => this.#pings.set(tag, resolve));
  }

  // KeepAliveHost

  get readingStopped(): boolean {
    return this.#writer.overloaded;
  }

  ping(): void {
    this.#sendPing();
  }

  lost(): void {
    this.#options.cutOff('the initiator does not answer');
  }

  // PduSink

  get ready(): boolean {
    return !this.#writer.overloaded;
  }

  pdu(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void {
    switch ((header[at] ?? 0) & OPCODE_MASK) {
      case opcode.scsiCommand: {
        if (!hasTag(header, at)) break;
        const when = this.#arrive(header, at);
        if (when === arrival.due) {
          this.#flow?.command(header, at, data, start, end);
          if (this.session.window.crowded) this.session.window.advance();
        } else if (when === arrival.early) {
          const task = this.#beginEarly(header, at, end - start);
          this.#flow?.piece(task, data, start, end);
          this.#flow?.pieceEnd(task);
        }
        return;
      }
      case opcode.dataOut: {
        const flow = this.#normal(header, at);
        const task = flow?.dataOutBegins(header, at, end - start);
        if (flow === undefined || task === undefined) return;
        flow.piece(task, data, start, end);
        flow.pieceEnd(task);
        return;
      }
    }
    this.#other(header, at, data.subarray(start, end));
  }

  begin(header: Uint8Array, at: number, dataBytes: number): void {
    const code = (header[at] ?? 0) & OPCODE_MASK;
    if (code === opcode.scsiCommand && hasTag(header, at)) {
      this.#pieceTask = this.#beginCommand(header, at, dataBytes);
    } else if (code === opcode.dataOut) {
      this.#pieceTask = this.#normal(header, at)?.dataOutBegins(header, at, dataBytes);
    } else {
      this.#pieceHeader = header.slice(at, at + BHS_BYTES);
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
    this.responder.reject(rejectReason.dataDigestError, header, at);
  }

  #beginCommand(header: Uint8Array, at: number, dataBytes: number): IscsiTask | undefined {
    const when = this.#arrive(header, at);
    if (when === arrival.ignored) return undefined;
    if (when === arrival.early) return this.#beginEarly(header, at, dataBytes);
    const task = this.#flow?.commandBegins(header, at, dataBytes);
    if (this.session.window.crowded) this.session.window.advance();
    return task;
  }

  #beginEarly(header: Uint8Array, at: number, dataBytes: number): IscsiTask {
    const task = this.#flow?.commandEarly(header, at, dataBytes, this);
    assert(task?.early !== undefined, 'a discovery session has one connection, on which no command is early');
    this.session.hold(task.early);
    return task;
  }

  /** Phase and window (4.2.2.1). A SCSI command that is due is to be begun, its successors then with `advance`. */
  #arrive(header: Uint8Array, at: number): Arrival {
    if (this.#done) return arrival.ignored;
    const isCommand = ((header[at] ?? 0) & OPCODE_MASK) === opcode.scsiCommand;
    const isImmediate = ((header[at] ?? 0) & IMMEDIATE) !== 0;
    const when = isImmediate ? arrival.due : this.session.window.arrive(readU32(header, at + field.cmdSn));
    if (!isCommand || when === arrival.ignored) return when;
    if (this.#normal(header, at) === undefined) return arrival.ignored;
    if (isImmediate && this.#flow?.takesImmediate !== true) {
      this.responder.reject(rejectReason.immediateRejected, header, at);
      return arrival.ignored;
    }
    return when;
  }

  /** The flow of a normal session; a discovery session rejects. */
  #normal(header: Uint8Array, at: number): CommandFlow | undefined {
    if (this.#flow === undefined) this.responder.reject(rejectReason.commandNotSupported, header, at);
    return this.#flow;
  }

  /** A numbered PDU that is no SCSI command: acts when it is due. */
  #inOrder(header: Uint8Array, at: number, data: Uint8Array, act: Act): void {
    const when = this.#arrive(header, at);
    if (when === arrival.due) {
      act(header, at, data);
      if (this.session.window.crowded) this.session.window.advance();
    } else if (when === arrival.early) {
      if (data.length > limits.iscsiTextBytesMax) throw new ProtocolError('a request that comes early is too long');
      const kept = header.slice(at, at + BHS_BYTES);
      const keptData = data.slice();
      const begin = (): void => this.#later(() => act(kept, 0, keptData));
      this.session.hold({ owner: this, cmdSn: readU32(header, at + field.cmdSn), begin });
    }
  }

  /** Runs what waited for another connection, in whose wake-up we are: errors are this connection's own. */
  #later(act: () => void): void {
    if (this.#closed) return;
    try {
      act();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#options.cutOff(error.message);
    }
    this.touched();
  }

  #other(header: Uint8Array, at: number, data: Uint8Array): void {
    const code = (header[at] ?? 0) & OPCODE_MASK;
    if (isAnswered(code) && !hasTag(header, at)) {
      this.#refuse(rejectReason.invalidPduField, header, at);
      return;
    }
    switch (code) {
      case opcode.nopOut:
        this.#nopOut(header, at, data);
        return;
      case opcode.text:
        this.#inOrder(header, at, data, (...request) => this.#text.answer(...request));
        return;
      case opcode.logout:
        this.#inOrder(header, at, data, (request, requestAt) => logOut(this, request, requestAt));
        return;
      case opcode.taskManagement:
        this.#inOrder(header, at, data, (request, requestAt) => this.#manageTasks(request, requestAt));
        return;
      case opcode.snack:
        // Error recovery level 0 sends nothing again (11.16).
        this.responder.reject(rejectReason.snackRejected, header, at);
        return;
      case opcode.login:
        this.responder.reject(rejectReason.protocolError, header, at);
        return;
      default:
        if (((header[at] ?? 0) & FROM_TARGET) === 0) this.#refuse(rejectReason.commandNotSupported, header, at);
        else this.responder.reject(rejectReason.protocolError, header, at);
    }
  }

  /** Rejects a numbered PDU, which uses its number up all the same: the initiator goes on with the next (4.2.2.1). */
  #refuse(reason: number, header: Uint8Array, at: number): void {
    this.#inOrder(header, at, NO_BYTES, (request, requestAt) => this.responder.reject(reason, request, requestAt));
  }

  #nopOut(header: Uint8Array, at: number, data: Uint8Array): void {
    const tag = readU32(header, at + field.initiatorTaskTag);
    const transferTag = readU32(header, at + field.targetTransferTag);
    this.#pings.get(transferTag)?.(true);
    this.#pings.delete(transferTag);
    if (tag === NO_TAG) {
      // It wants no answer, so that it has to be immediate (11.18.1).
      if (((header[at] ?? 0) & IMMEDIATE) === 0) this.#refuse(rejectReason.protocolError, header, at);
      return;
    }
    this.#inOrder(header, at, data, (_request, _at, given) => {
      this.responder.nopIn(tag, given.subarray(0, this.#options.parameters.sendSegmentBytesMax));
    });
  }

  #manageTasks(header: Uint8Array, at: number): void {
    if (this.#normal(header, at) === undefined) return;
    const { session } = this;
    manageTasks({ session, served: session.served, connection: this, clock: this.#options.clock }, header, at);
  }

  #sendPing(): number {
    this.#pingTag = (this.#pingTag + 1) % NO_TAG;
    if (this.#flow !== undefined) this.responder.ping(this.#pingTag);
    this.touched();
    return this.#pingTag;
  }

  #abandonCommands(): void {
    this.settle();
    this.#done = true;
    this.#flow?.abortAll();
  }
}
