/**
 * The transmission phase of one connection ("Transmission phase" of proto.md): requests in, replies out, out of order
 * where the device is.
 *
 *   received -> header -> checkRequest -> read | write | … of the device -> commit, once -> replies, one write
 *
 * Hot path: requests are parsed where they were received, a payload that arrived whole is written straight from there,
 * a read lands where its reply is sent from. Nothing is allocated per request. Measure with test/bench/nbd-memory-server.ts.
 *
 * What cannot go on is left in the stream (`received` uses up less than it was given) and comes again after
 * `stream.resume`: a write while the device is not writable, a read beyond the reply budget, a request beyond
 * nbdInflightMax. Whatever may have ended that state calls #unblock; the request is then simply tried again.
 *
 * Invariant: once `closed`, nothing reaches the device any more, and a payload that was still arriving is abandoned.
 */
import { assert } from '../../base/assert.js';
import { ProtocolError } from '../../base/errors.js';
import type { GatewayError } from '../../base/errors.js';
import type { IoStats } from '../../base/io-stats.js';
import { limits } from '../../base/limits.js';
import type { BlockDevice } from '../../ports/block-device.js';
import type { Clock } from '../../ports/clock.js';
import type { Stream } from '../../ports/stream.js';
import type { UnregisteredAccess } from '../../ports/volume-reservations.js';
import { errnoOf, nbdAnswers } from './error-table.js';
import { IncomingPayload } from './incoming-payload.js';
import { BufferedRead, StreamedRead } from './large-read.js';
import type { LargeReadHost } from './large-read.js';
import type { ReplyBuffer, ReplyBufferPool, ReplySender } from './reply-buffer.js';
import { statusReplyBytes, writeStatusReply } from './block-status-reply.js';
import type { ContextStatus } from './block-status-reply.js';
import type { MetaContext } from './meta-context.js';
import { dataHeadBytesOf, formOf, replyForm, writeDataHead } from './reply-form.js';
import type { ReplyForm } from './reply-form.js';
import { ReplyWriter } from './reply-writer.js';
import { opIndex, RequestCheck } from './request-check.js';
import { RequestLedger } from './request-ledger.js';
import { RequestStart } from './request-start.js';
import type { RequestSlot, SlotOwner } from './request-slot.js';
import { StatusRequests } from './status-request.js';
import type { StatusHost } from './status-request.js';
import { command, commandFlag, errno, magic, readU16, readU32, wireBytes } from './wire.js';
import type { Errno } from './wire.js';

export interface TransmissionOptions {
  readonly stream: Stream;
  readonly device: BlockDevice;
  /** What SCSI reservations leave to this client. */
  readonly access: UnregisteredAccess;
  /** What replies look like, and the metadata contexts that were selected. */
  readonly form: ReplyForm;
  readonly contexts: readonly MetaContext[];
  readonly stats: IoStats;
  readonly clock: Clock;
  readonly pool: ReplyBufferPool;
  /** Bytes of replies that this connection may hold now, see NbdServer. */
  readonly replyBudgetBytes: () => number;
  /** Ends the connection at once; calls `close` before it returns. */
  readonly fail: (reason: string) => void;
}

/** Answer of #request: this request cannot go on now, leave its bytes. */
const BLOCKED = -1;
/** A finished read up to this size is copied to the gathered replies: cheaper than a write of its own. */
const COPIED_READ_BYTES_MAX = 32 * 1024;

export class Transmission implements SlotOwner, ReplySender, LargeReadHost, StatusHost {
  readonly device: BlockDevice;
  readonly #access: UnregisteredAccess;
  readonly #form: ReplyForm;
  readonly #check: RequestCheck;
  readonly #statuses: StatusRequests;
  readonly #extended: boolean;
  readonly #headBytes: number;
  readonly #stream: Stream;
  readonly #pool: ReplyBufferPool;
  readonly #replyBudgetBytes: () => number;
  readonly #failConnection: (reason: string) => void;
  readonly #writer: ReplyWriter;
  readonly #ledger: RequestLedger;
  readonly #start: RequestStart;
  readonly #payload = new IncomingPayload();

  #phase: 'running' | 'finishing' | 'closed' = 'running';
  /** The beginning of a request whose rest has not arrived. */
  readonly #carry = new Uint8Array(wireBytes.extendedRequest);
  #carryBytes = 0;
  /** Something was staged in this wake-up. */
  #staged = false;
  #flushScheduled = false;
  #blocked = false;
  #streamed: StreamedRead | undefined;

  constructor(options: TransmissionOptions) {
    this.device = options.device;
    this.#access = options.access;
    this.#form = options.form;
    this.#extended = options.form === replyForm.extended;
    this.#headBytes = this.#extended ? wireBytes.extendedRequest : wireBytes.request;
    this.#check = new RequestCheck(options.device, options.access, {
      chunked: options.form !== replyForm.simple,
      extended: this.#extended,
      contexts: options.contexts.length > 0,
    });
    this.#statuses = new StatusRequests(this, options.contexts, this.#check);
    this.#stream = options.stream;
    this.#pool = options.pool;
    this.#replyBudgetBytes = options.replyBudgetBytes;
    this.#failConnection = options.fail;
    this.#writer = new ReplyWriter(options.stream, options.pool, this);
    this.#ledger = new RequestLedger(this, options.stats, options.clock);
    this.#start = new RequestStart({
      ...options,
      ledger: this.#ledger,
      statuses: this.#statuses,
      pieceBytes: this.pieceBytes,
      onWritable: () => this.#unblock(),
    });
  }

  /** Requests received so far. */
  get requests(): number {
    return this.#ledger.begun;
  }

  get inflight(): number {
    return this.#ledger.used;
  }

  get closed(): boolean {
    return this.#phase === 'closed';
  }

  get pendingBytes(): number {
    return this.#stream.pendingBytes;
  }

  get takesStatus(): boolean {
    return this.#start.takesStatus;
  }

  get pieceBytes(): number {
    return this.#pool.dataBytesMax;
  }

  /** As StreamHandler.received; throws ProtocolError where the peer must be cut off. */
  received(buffer: Uint8Array, start: number, end: number): number {
    this.#ledger.beginWakeUp();
    try {
      return this.#consume(buffer, start, end) - start;
    } finally {
      if (this.#staged) {
        this.#staged = false;
        this.device.commit();
      }
      this.#endWakeUp();
    }
  }

  /** Takes no further request; what is in flight is answered, then the stream ends. */
  finish(): void {
    if (this.#phase !== 'running') return;
    this.#phase = 'finishing';
    this.#dropPayload();
    if (!this.#ledger.inWakeUp) this.#finishIfIdle();
  }

  /** The connection is gone. */
  close(): void {
    if (this.#phase === 'closed') return;
    this.#phase = 'closed';
    this.#dropPayload();
    this.#writer.close();
    this.#streamed?.progressed();
  }

  /** ReplySender: the kernel took some of the replies. */
  progressed(): void {
    this.#streamed?.progressed();
    this.#statuses.advance();
    this.#unblock();
  }

  /** SlotOwner: the device ended a request. */
  completed(slot: RequestSlot, error: GatewayError | undefined): void {
    if (error !== undefined) slot.error = nbdAnswers[error.code].request;
    const buffer = slot.buffer;
    if (buffer === undefined) this.#reply(slot);
    else this.#replyToRead(slot, buffer);
  }

  takeBuffer(): ReplyBuffer {
    return this.#pool.take(this);
  }

  sendPart(buffer: ReplyBuffer, start: number, end: number): void {
    this.#writer.sendPart(buffer, start, end);
  }

  readEnded(slot: RequestSlot, error: Errno, answered: boolean): void {
    this.#streamed = undefined;
    this.#start.readingBytes -= slot.lengthBytes;
    slot.error = error;
    if (answered) this.#ended(slot);
    else this.#reply(slot);
  }

  fail(reason: string): void {
    this.#failConnection(reason);
  }

  #consume(buffer: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end) {
      // After DISC nothing is expected; what comes is not ours to answer.
      if (this.#phase !== 'running') return end;
      if (this.#payload.remainingBytes > 0) {
        at = this.#payload.take(buffer, at, end);
        this.#submitIfWhole();
        continue;
      }
      const split = this.#carryBytes > 0 || end - at < this.#headBytes;
      const next = split
        ? this.#splitRequest(buffer, at, end)
        : this.#request(buffer, at, buffer, at + this.#headBytes, end);
      if (next === BLOCKED) {
        this.#blocked = true;
        return at;
      }
      at = next;
    }
    return at;
  }

  /** A header in two or more pieces. If it is blocked, the last piece is left in the stream and completes it again. */
  #splitRequest(buffer: Uint8Array, at: number, end: number): number {
    const taken = Math.min(this.#headBytes - this.#carryBytes, end - at);
    this.#carry.set(buffer.subarray(at, at + taken), this.#carryBytes);
    if (this.#carryBytes + taken < this.#headBytes) {
      this.#carryBytes += taken;
      return at + taken;
    }
    const next = this.#request(this.#carry, 0, buffer, at + taken, end);
    if (next !== BLOCKED) this.#carryBytes = 0;
    return next;
  }

  /** Handles the request at header[at]; its payload begins at buffer[bodyAt]. Returns where the next one begins. */
  #request(header: Uint8Array, at: number, buffer: Uint8Array, bodyAt: number, end: number): number {
    if (readU32(header, at) !== (this.#extended ? magic.extendedRequest : magic.request))
      throw new ProtocolError('a request begins with the wrong magic');
    const type = readU16(header, at + 6);
    if (type === command.disconnect) {
      this.finish();
      return bodyAt;
    }
    if (this.#ledger.used >= limits.nbdInflightMax || this.#streamed !== undefined) return BLOCKED;
    const flags = readU16(header, at + 4);
    const offset = readU32(header, at + 16) * 0x1_0000_0000 + readU32(header, at + 20);
    let lengthBytes = readU32(header, at + 24);
    if (this.#extended) lengthBytes = lengthBytes * 0x1_0000_0000 + readU32(header, at + 28);
    const error = this.#check.error(type, flags, offset, lengthBytes);
    const filters = type === command.blockStatus && this.#hasPayload(type, flags);
    if ((error === errno.none || filters) && !this.#start.mayStart(type, flags, lengthBytes)) return BLOCKED;

    const slot = this.#ledger.take();
    slot.op = opIndex(type);
    slot.form = formOf(this.#form, type);
    slot.identify(header, at);
    slot.lengthBytes = lengthBytes;
    slot.forceUnitAccess = (flags & commandFlag.fua) !== 0;
    slot.error = error;
    if (this.#hasPayload(type, flags)) {
      if (type === command.write) return this.#write(slot, offset, buffer, bodyAt, end);
      this.#filter(slot, type, flags, offset);
      return bodyAt;
    }
    if (error !== errno.none) this.#reply(slot);
    else if (type === command.read) this.#read(slot, offset, flags);
    else if (type === command.blockStatus) this.#statuses.start(slot, offset, lengthBytes, flags);
    else this.#other(slot, type, flags, offset);
    return bodyAt;
  }

  /** Before extended headers only WRITE has one; with them a flag says so, whatever the request is. */
  #hasPayload(type: number, flags: number): boolean {
    return this.#extended ? (flags & commandFlag.payloadLen) !== 0 : type === command.write;
  }

  #read(slot: RequestSlot, offset: number, flags: number): void {
    const { lengthBytes } = slot;
    slot.unfragmented = (flags & commandFlag.df) !== 0;
    if (lengthBytes > this.pieceBytes) return this.#readLarge(slot, offset);
    const headBytes = dataHeadBytesOf(slot.form);
    const replyBytes = headBytes + lengthBytes;
    const buffer = this.#writer.reserve(replyBytes);
    const position = this.#writer.position;
    let done;
    try {
      done = this.device.read(offset, lengthBytes, buffer.bytes, position + headBytes, slot);
    } catch (error) {
      slot.error = errnoOf(error);
      return this.#reply(slot);
    }
    if (done) {
      writeDataHead(buffer.bytes, position, slot, offset, lengthBytes, true);
      this.#writer.advance(replyBytes);
      return this.#ended(slot);
    }
    slot.buffer = this.#writer.lend(replyBytes);
    slot.position = position;
    slot.offset = offset;
    this.#start.readingBytes += lengthBytes;
  }

  #readLarge(slot: RequestSlot, offset: number): void {
    this.#start.readingBytes += slot.lengthBytes;
    if (slot.lengthBytes <= this.#replyBudgetBytes() / 2) {
      new BufferedRead(this, slot).start(offset);
      return;
    }
    this.#writer.flush();
    this.#streamed = new StreamedRead(this, slot, offset);
    this.#streamed.advance();
  }

  #write(slot: RequestSlot, offset: number, buffer: Uint8Array, bodyAt: number, end: number): number {
    const { lengthBytes } = slot;
    if (slot.error === errno.none) {
      try {
        if (end - bodyAt >= lengthBytes) {
          this.device.write(offset, lengthBytes, buffer, bodyAt, slot.forceUnitAccess, slot);
          this.#staged = true;
          return bodyAt + lengthBytes;
        }
        this.#payload.begin(slot, lengthBytes, this.device.openWrite(offset, lengthBytes));
        return bodyAt;
      } catch (error) {
        slot.error = errnoOf(error);
      }
    }
    this.#skip(slot);
    return bodyAt;
  }

  /** The payload of a request that was refused. */
  #skip(slot: RequestSlot): void {
    const { lengthBytes } = slot;
    if (lengthBytes > (this.#extended ? limits.nbdRequestBytesMax : limits.nbdSkippedPayloadBytesMax)) {
      // Reading on would mean to swallow it all for a request that can only fail.
      this.#ledger.drop(slot);
      throw new ProtocolError(`a payload of ${lengthBytes} bytes is far beyond the maximum`);
    }
    this.#payload.begin(slot, lengthBytes, undefined);
    this.#submitIfWhole();
  }

  /** A payload that is not data: of all requests BLOCK_STATUS may have one, which says what contexts it is about. */
  #filter(slot: RequestSlot, type: number, flags: number, offset: number): void {
    const payloadBytes = slot.lengthBytes;
    const filter = type === command.blockStatus ? this.#statuses.filter(slot, offset, flags) : undefined;
    slot.error = filter === undefined ? errno.EINVAL : errno.none;
    if (filter === undefined) return this.#skip(slot);
    this.#payload.begin(slot, payloadBytes, filter);
  }

  statusEnded(slot: RequestSlot, answers: readonly ContextStatus[]): void {
    if (this.closed || slot.error !== errno.none) return this.#reply(slot);
    const { bytes } = this.#writer.reserve(statusReplyBytes(slot, answers));
    this.#writer.advance(writeStatusReply(bytes, this.#writer.position, slot, answers));
    this.#ended(slot);
  }

  #submitIfWhole(): void {
    if (this.#payload.remainingBytes > 0) return;
    // Reserved by somebody, who may have written already, while the payload was on its way.
    if (!this.#access.mayWrite && this.#payload.isWrite) this.#payload.refuse(errno.EPERM);
    const refused = this.#payload.submit();
    if (refused === undefined) this.#staged = true;
    else this.#reply(refused);
  }

  #dropPayload(): void {
    const slot = this.#payload.abandon();
    if (slot !== undefined) this.#ledger.drop(slot);
  }

  #other(slot: RequestSlot, type: number, flags: number, offset: number): void {
    const { lengthBytes, forceUnitAccess } = slot;
    try {
      switch (type) {
        case command.flush:
          this.device.flush(slot);
          break;
        case command.trim:
          this.device.trim(offset, lengthBytes, forceUnitAccess, slot);
          break;
        case command.writeZeroes:
          if ((flags & commandFlag.fastZero) !== 0 && !this.device.zeroIsFast(offset, lengthBytes)) {
            slot.error = errno.ENOTSUP;
            return this.#reply(slot);
          }
          this.device.zero(offset, lengthBytes, (flags & commandFlag.noHole) === 0, forceUnitAccess, slot);
          break;
        case command.cache:
          this.device.cache(offset, lengthBytes, slot);
          break;
        default:
          assert(false, 'an unknown request was answered with EINVAL');
      }
      this.#staged = true;
    } catch (error) {
      slot.error = errnoOf(error);
      this.#reply(slot);
    }
  }

  #replyToRead(slot: RequestSlot, buffer: ReplyBuffer): void {
    const { lengthBytes, position } = slot;
    this.#start.readingBytes -= lengthBytes;
    if (this.closed || slot.error !== errno.none) {
      buffer.release();
      this.#reply(slot);
      return;
    }
    const end = position + dataHeadBytesOf(slot.form) + lengthBytes;
    writeDataHead(buffer.bytes, position, slot, slot.offset, lengthBytes, true);
    if (lengthBytes <= COPIED_READ_BYTES_MAX) {
      const target = this.#writer.reserve(end - position);
      target.bytes.set(buffer.bytes.subarray(position, end), this.#writer.position);
      this.#writer.advance(end - position);
      buffer.release();
    } else {
      this.#writer.sendPart(buffer, position, end);
    }
    this.#ended(slot);
  }

  /** Answers without data. */
  #reply(slot: RequestSlot): void {
    if (!this.closed) this.#writer.append(slot);
    this.#ended(slot);
  }

  #ended(slot: RequestSlot): void {
    this.#ledger.end(slot);
    this.#statuses.advance();
    if (this.#ledger.inWakeUp) return;
    this.#unblock();
    if (this.#flushScheduled) return;
    // Completions of one poll of the event loop share a write.
    this.#flushScheduled = true;
    setImmediate(this.#flushLater);
  }

  readonly #flushLater = (): void => {
    this.#flushScheduled = false;
    if (this.closed) return;
    this.#writer.flush();
    this.#finishIfIdle();
  };

  #endWakeUp(): void {
    if (this.#ledger.endWakeUp()) this.#unblock();
    if (this.closed) return;
    this.#writer.flush();
    this.#finishIfIdle();
  }

  #unblock(): void {
    if (!this.#blocked || this.closed) return;
    this.#blocked = false;
    this.#stream.resume();
  }

  #finishIfIdle(): void {
    if (this.#phase !== 'finishing' || this.#ledger.used > 0) return;
    this.#writer.flush();
    this.#stream.end();
  }
}
