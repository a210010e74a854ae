/**
 * What an NBD server may say in the transmission phase: judged by the requests that the client sent, with code of its own
 * ("Transmission phase" of proto.md and of its extension for extended headers). Of a request that breaks several rules
 * any one may be named; one that breaks none must be done, unless the case made the device fail.
 */
import { strict as assert } from 'node:assert';
import { CHUNK } from '../fake/nbd-chunk.js';
import { CMD, E, FLAG } from '../fake/nbd-client.js';
import { ByteQueue } from './byte-queue.js';
import type { Chosen } from './nbd-handshake-judge.js';
import type { World } from './nbd-world.js';

interface Asked {
  readonly cookie: bigint;
  readonly type: number;
  readonly flags: number;
  readonly offset: bigint;
  lengthBytes: bigint;
  /** What is wrong with it, as errors. */
  readonly wrong: Set<number>;
  /** It may as well be done. */
  mayPass: boolean;
  /** Of a BLOCK_STATUS: ids of the contexts that it is about; undefined: all. */
  filter: number[] | undefined;
  // What its reply told so far.
  readonly parts: { readonly start: number; readonly end: number }[];
  readonly contexts: Set<number>;
  error: number;
  /** Where data were not what nobody can have written. */
  wrongAt: number | undefined;
}

const MIB = 1024 * 1024;
const PAYLOAD_MAX = 32n * BigInt(MIB);
const SKIPPED_MAX = 64n * BigInt(MIB);
const EXTENTS_MAX = 2 ** 20;
const ENOTSUP = E.NOTSUP;
/** What a device that fails may end a request with. */
const failures: readonly number[] = [E.IO, E.NOSPC, E.PERM];
const changing: ReadonlySet<number> = new Set([CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES]);
const flagsOf: Readonly<Record<number, number>> = {
  [CMD.READ]: FLAG.DF,
  [CMD.WRITE]: 0,
  [CMD.FLUSH]: 0,
  [CMD.TRIM]: 0,
  [CMD.CACHE]: 0,
  [CMD.WRITE_ZEROES]: FLAG.NO_HOLE | FLAG.FAST_ZERO,
  [CMD.BLOCK_STATUS]: FLAG.REQ_ONE,
};
const names = Object.fromEntries(Object.entries(CMD).map(([name, type]) => [type, name.toLowerCase()]));
const SIMPLE = 0x67446698;
const STRUCTURED = 0x668e33ef;
const EXTENDED = 0x6e8a278c;

export class TransmissionJudge {
  /** It ends by what the client did wrong, and what was on its way may be lost. */
  broken = false;
  /** DISC came: what was asked before is answered, then it ends. */
  finishing = false;
  private readonly world: World;
  private readonly chosen: Chosen;
  private readonly seen: string[];
  /** Whole requests without a whole reply. */
  private readonly asked = new Map<bigint, Asked>();
  private payload: { readonly request: Asked; bytes: Buffer[]; missing: number; readonly kept: boolean } | undefined;

  constructor(world: World, chosen: Chosen, seen: string[]) {
    this.world = world;
    this.chosen = chosen;
    this.seen = seen;
  }

  /** What is still to be answered; undefined: nothing. */
  get owed(): string | undefined {
    const [first] = this.asked.values();
    return first && `${this.asked.size} requests, one of them ${this.show(first)}`;
  }

  /** A large read in a simple reply whose device failed in the middle can only end the connection. */
  get mayBreak(): boolean {
    return this.chosen.form === 'simple' && this.world.failing.has(CMD.READ) && this.anyLargeRead();
  }

  sent(bytes: ByteQueue): void {
    while (bytes.length > 0) {
      if (this.broken || this.finishing) return bytes.clear();
      if (this.payload !== undefined) {
        const part = bytes.take(Math.min(bytes.length, this.payload.missing));
        this.payload.missing -= part.length;
        if (this.payload.kept) this.payload.bytes.push(part);
        if (this.payload.missing === 0) this.payloadEnded();
        continue;
      }
      const headBytes = this.extended ? 32 : 28;
      if (bytes.length < headBytes) return;
      this.request(bytes.take(headBytes));
    }
  }

  received(bytes: ByteQueue): void {
    while (bytes.length >= 16) {
      const magic = bytes.peek(4).readUInt32BE(0);
      const isWhole = magic === SIMPLE ? this.simple(bytes) : this.chunk(bytes, magic);
      if (!isWhole) return;
    }
  }

  private get extended(): boolean {
    return this.chosen.form === 'extended';
  }

  private anyLargeRead(): boolean {
    for (const { type, lengthBytes } of this.asked.values())
      if (type === CMD.READ && lengthBytes > 4n * BigInt(MIB)) return true;
    return false;
  }

  private request(head: Buffer): void {
    if (head.readUInt32BE(0) !== (this.extended ? 0x21e41c71 : 0x25609513)) {
      this.broken = true;
      return;
    }
    const type = head.readUInt16BE(6);
    if (type === CMD.DISC) {
      this.finishing = true;
      return;
    }
    const request: Asked = {
      cookie: head.readBigUInt64BE(8),
      type,
      flags: head.readUInt16BE(4),
      offset: head.readBigUInt64BE(16),
      lengthBytes: this.extended ? head.readBigUInt64BE(24) : BigInt(head.readUInt32BE(24)),
      wrong: new Set(),
      mayPass: true,
      filter: undefined,
      parts: [],
      contexts: new Set(),
      error: 0,
      wrongAt: undefined,
    };
    assert.ok(!this.asked.has(request.cookie), 'a case uses a cookie once at a time');
    const hasPayload = this.extended ? (request.flags & FLAG.PAYLOAD_LEN) !== 0 : type === CMD.WRITE;
    if (!hasPayload || type === CMD.WRITE) this.check(request, request.flags);
    if (!hasPayload) return this.whole(request);
    const filters = type === CMD.BLOCK_STATUS && this.isFilterLength(request.lengthBytes);
    if (type !== CMD.WRITE && !filters) this.refuse(request, E.INVAL);
    const isRefused = request.wrong.size > 0 && !filters;
    if (isRefused && request.lengthBytes > (this.extended ? PAYLOAD_MAX : SKIPPED_MAX)) {
      this.broken = true;
      return;
    }
    const missing = Number(request.lengthBytes);
    this.payload = { request, bytes: [], missing, kept: !isRefused };
    if (missing === 0) this.payloadEnded();
  }

  private isFilterLength(lengthBytes: bigint): boolean {
    return lengthBytes >= 8n && lengthBytes % 4n === 0n && lengthBytes <= 8n + 4n * BigInt(this.chosen.contexts);
  }

  private payloadEnded(): void {
    const { payload } = this;
    if (payload === undefined) return;
    this.payload = undefined;
    const { request, kept } = payload;
    if (kept && request.type === CMD.BLOCK_STATUS) {
      const bytes = Buffer.concat(payload.bytes);
      request.lengthBytes = bytes.readBigUInt64BE(0);
      request.filter = [];
      for (let at = 8; at < bytes.length; at += 4) request.filter.push(bytes.readUInt32BE(at));
      this.check(request, request.flags & ~FLAG.PAYLOAD_LEN);
    } else if (kept) {
      this.chosen.served.content.written(Number(request.offset), Buffer.concat(payload.bytes));
    }
    this.whole(request);
  }

  private whole(request: Asked): void {
    const { cookie, type, offset, lengthBytes, mayPass } = request;
    if (mayPass && (type === CMD.TRIM || type === CMD.WRITE_ZEROES))
      this.chosen.served.content.mayBeZero(Number(offset), Number(lengthBytes));
    this.asked.set(cookie, request);
  }

  private refuse(request: Asked, error: number): void {
    request.wrong.add(error);
    request.mayPass = false;
  }

  /** "Request types", "Command flags", "Error values". */
  private check(request: Asked, flags: number): void {
    const { type, offset, lengthBytes } = request;
    const { served, contexts, form } = this.chosen;
    const known = flagsOf[type];
    const needsContexts = type === CMD.BLOCK_STATUS && (form === 'simple' || contexts === 0);
    if (known === undefined || needsContexts) return this.refuse(request, E.INVAL);
    const allowed = (type === CMD.READ && form === 'simple' ? 0 : known) | FLAG.FUA;
    const demanded = this.extended && type === CMD.WRITE ? FLAG.PAYLOAD_LEN : 0;
    if ((flags & ~allowed) !== demanded) this.refuse(request, E.INVAL);
    if (type === CMD.FLUSH) {
      // Both are reserved: "MUST be set to 0".
      if (offset !== 0n || lengthBytes !== 0n) this.refuse(request, E.INVAL);
      return;
    }
    if (changing.has(type) && served.readOnly) this.refuse(request, E.PERM);
    // "A length of zero: the server's behaviour is unspecified."
    if (lengthBytes === 0n) request.wrong.add(E.INVAL);
    const isPayload = type === CMD.WRITE || (type === CMD.READ && !this.extended);
    if (isPayload && lengthBytes > PAYLOAD_MAX) this.refuse(request, E.INVAL);
    if (offset + lengthBytes > BigInt(served.sizeBytes))
      this.refuse(request, type === CMD.WRITE || type === CMD.WRITE_ZEROES ? E.NOSPC : E.INVAL);
    if (type === CMD.WRITE_ZEROES && (flags & FLAG.FAST_ZERO) !== 0) {
      const isAligned = offset % 4096n === 0n && lengthBytes % 4096n === 0n;
      if (this.world.knowsFastZero && !isAligned) this.refuse(request, ENOTSUP);
      else if (!this.world.knowsFastZero) request.wrong.add(ENOTSUP);
    }
  }

  private mayEndWith(request: Asked, error: number): boolean {
    const { type, wrong } = request;
    if (error === 0) return request.mayPass;
    if (type === CMD.BLOCK_STATUS && error === E.INVAL && !this.isFilterRight(request)) return true;
    // Full when it was looked at, which may be after it was sent.
    const isFast = type === CMD.WRITE_ZEROES && (request.flags & FLAG.FAST_ZERO) !== 0;
    if (this.world.wasFull && isFast && error === ENOTSUP) return true;
    if (this.world.wasReserved && error === E.PERM && type !== CMD.FLUSH) return true;
    return wrong.has(error) || (this.world.failing.has(type) && failures.includes(error));
  }

  /** Every id once, of a context that was selected; none at all is right, and no question. */
  private isFilterRight({ filter }: Asked): boolean {
    if (filter === undefined) return true;
    const isKnown = filter.every((id) => this.chosen.ids.includes(id));
    return filter.length > 0 && isKnown && new Set(filter).size === filter.length;
  }

  private find(cookie: bigint): Asked {
    const request = this.asked.get(cookie);
    assert.ok(request !== undefined, `a reply under the cookie ${cookie}, under which nothing is to be answered`);
    return request;
  }

  /** False: the rest of it has not come. */
  private simple(bytes: ByteQueue): boolean {
    const head = bytes.peek(16);
    const request = this.find(head.readBigUInt64BE(8));
    const error = head.readUInt32BE(4);
    assert.ok(!this.extended, 'with extended headers no reply is simple');
    assert.equal(request.parts.length + request.contexts.size, 0, 'a reply has one form');
    if (this.chosen.form === 'structured')
      assert.ok(request.type !== CMD.READ && (request.type !== CMD.BLOCK_STATUS || error !== 0), 'this one has chunks');
    const lengthBytes = error === 0 && request.type === CMD.READ ? Number(request.lengthBytes) : 0;
    this.judgeEnd(request, error);
    if (bytes.length < 16 + lengthBytes) return false;
    const data = bytes.take(16 + lengthBytes).subarray(16);
    if (lengthBytes > 0) this.judgeData(request, Number(request.offset), data);
    this.answered(request, error, 'simple');
    return true;
  }

  private chunk(bytes: ByteQueue, magic: number): boolean {
    assert.equal(magic, this.extended ? EXTENDED : STRUCTURED, 'a reply begins with the magic that was negotiated');
    assert.notEqual(this.chosen.form, 'simple', 'there are no chunks without negotiation');
    const headBytes = this.extended ? 32 : 20;
    if (bytes.length < headBytes) return false;
    const head = bytes.peek(headBytes);
    const request = this.find(head.readBigUInt64BE(8));
    const lengthBytes = this.extended ? head.readBigUInt64BE(24) : BigInt(head.readUInt32BE(16));
    assert.ok(lengthBytes <= PAYLOAD_MAX + 8n, `a chunk with a payload of ${lengthBytes} bytes`);
    if (this.extended) assert.equal(head.readBigUInt64BE(16), request.offset, 'the offset of the request is repeated');
    if (bytes.length < headBytes + Number(lengthBytes)) return false;
    const whole = bytes.take(headBytes + Number(lengthBytes));
    const flags = whole.readUInt16BE(4);
    const type = whole.readUInt16BE(6);
    assert.ok(flags <= 1, 'no flag but DONE is known');
    this.judgeChunk(request, type, flags === 1, whole.subarray(headBytes));
    if (flags === 1) {
      this.judgeEnd(request, request.error);
      this.judgeWhole(request);
      this.answered(request, request.error, `${request.parts.length} ${request.contexts.size}`);
    }
    return true;
  }

  private judgeChunk(request: Asked, type: number, isDone: boolean, payload: Buffer): void {
    switch (type) {
      case CHUNK.NONE:
        assert.ok(isDone && payload.length === 0, 'NONE ends a reply, and is empty');
        return;
      case CHUNK.ERROR: {
        assert.ok(payload.length >= 6 && payload.readUInt16BE(4) === payload.length - 6, 'an error and its message');
        assert.equal(request.error, 0, 'one error is enough');
        request.error = payload.readUInt32BE(0);
        assert.notEqual(request.error, 0, 'an error has a value');
        return;
      }
      case CHUNK.OFFSET_DATA: {
        assert.equal(request.type, CMD.READ, 'data answer a READ');
        assert.ok(payload.length > 8, 'data are not empty');
        const offset = payload.readBigUInt64BE(0);
        const data = payload.subarray(8);
        const isInside =
          offset >= request.offset && offset + BigInt(data.length) <= request.offset + request.lengthBytes;
        assert.ok(isInside, 'data lie within what was asked for');
        const unfragmented = (request.flags & FLAG.DF) !== 0;
        assert.ok(!unfragmented || request.parts.length === 0, 'with DF there is one content chunk');
        this.judgeData(request, Number(offset), data);
        return;
      }
      case CHUNK.BLOCK_STATUS:
      case CHUNK.BLOCK_STATUS_EXT:
        assert.equal(type === CHUNK.BLOCK_STATUS_EXT, this.extended, 'a status chunk of the form that was negotiated');
        return this.judgeStatus(request, payload);
      default:
        assert.fail(`a chunk of type ${type.toString(16)}`);
    }
  }

  private judgeData(request: Asked, start: number, data: Buffer): void {
    const end = start + data.length;
    for (const part of request.parts) assert.ok(end <= part.start || start >= part.end, 'each byte comes once');
    request.parts.push({ start, end });
    // With DF an error may come behind data that are nothing: then they do not count.
    request.wrongAt ??= this.chosen.served.content.wrongAt(start, data);
    if (this.chosen.form === 'simple') this.judgeContent(request);
  }

  private judgeContent(request: Asked): void {
    assert.equal(request.wrongAt, undefined, `${this.show(request)}: a byte that nobody wrote`);
  }

  private judgeStatus(request: Asked, payload: Buffer): void {
    assert.equal(request.type, CMD.BLOCK_STATUS, 'a status answers BLOCK_STATUS');
    const [headBytes, extentBytes] = this.extended ? [8, 16] : [4, 8];
    const count = (payload.length - headBytes) / extentBytes;
    assert.ok(Number.isInteger(count) && count >= 1 && count <= EXTENTS_MAX, 'whole extents, at least one');
    if (this.extended) assert.equal(payload.readUInt32BE(4), count, 'it says how many');
    const id = payload.readUInt32BE(0);
    assert.ok(this.chosen.ids.includes(id), `the context ${id} was selected`);
    assert.ok(request.filter?.includes(id) !== false, `the context ${id} was asked for`);
    assert.ok(!request.contexts.has(id), 'each context once');
    request.contexts.add(id);
    let total = 0n;
    for (let index = 0; index < count; index++) {
      const at = headBytes + index * extentBytes;
      const length = this.extended ? payload.readBigUInt64BE(at) : BigInt(payload.readUInt32BE(at));
      const flags = this.extended ? payload.readBigUInt64BE(at + 8) : BigInt(payload.readUInt32BE(at + 4));
      assert.ok(length > 0n && flags <= 3n, 'an extent has a length, and flags that are known');
      total += length;
    }
    assert.ok(total <= request.lengthBytes, 'extents lie within what was asked for');
    if ((request.flags & FLAG.REQ_ONE) !== 0) assert.equal(count, 1, 'with REQ_ONE there is one extent');
  }

  private judgeEnd(request: Asked, error: number): void {
    assert.ok(this.mayEndWith(request, error), `${this.show(request)} ends with error ${error}`);
    if (error === 0 && request.type === CMD.BLOCK_STATUS && request.filter?.length !== 0)
      assert.ok(this.isFilterRight(request), `${this.show(request)}: a filter that is wrong is refused`);
  }

  /** The chunks of a reply, all of them. */
  private judgeWhole(request: Asked): void {
    if (request.error !== 0) return;
    const covered = request.parts.reduce((sum, { start, end }) => sum + BigInt(end - start), 0n);
    if (request.type === CMD.READ) {
      assert.equal(covered, request.lengthBytes, `${this.show(request)}: all of it comes`);
      this.judgeContent(request);
    }
    if (request.type === CMD.BLOCK_STATUS)
      assert.equal(request.contexts.size, request.filter?.length ?? this.chosen.contexts, 'a status of each context');
  }

  private answered(request: Asked, error: number, how: string): void {
    this.asked.delete(request.cookie);
    const size = request.lengthBytes > 0n ? request.lengthBytes.toString(2).length : 0;
    const kind = `${names[request.type] ?? request.type} ${request.flags.toString(16)}`;
    this.seen.push(`${this.chosen.form} ${kind} 2^${size}: ${error}, ${how}`);
  }

  private show({ cookie, type, flags, offset, lengthBytes }: Asked): string {
    const name = names[type] ?? `request ${type}`;
    return `${name} ${lengthBytes} at ${offset}, flags ${flags.toString(16)}, cookie ${cookie}, ${this.chosen.form}`;
  }
}
