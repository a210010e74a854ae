/**
 * What an NBD server may say in a handshake: judged by what the client sent, with code of its own ("Fixed newstyle
 * negotiation", "TLS support", "Option types" of proto.md). Each option has one answer here, since nothing in a handshake
 * is left to chance.
 */
import { strict as assert } from 'node:assert';
import { OPT } from '../fake/nbd-client.js';
import { ByteQueue } from './byte-queue.js';
import type { Export, World } from './nbd-world.js';

export type Form = 'simple' | 'structured' | 'extended';

/** What transmission begins with. */
export interface Chosen {
  readonly served: Export;
  readonly form: Form;
  /** How many contexts were selected for it, and their ids, once the server has told them. */
  readonly contexts: number;
  readonly ids: readonly number[];
}

const REP = { ACK: 1, SERVER: 2, INFO: 3, META_CONTEXT: 4 } as const;
const ERR = {
  UNSUP: 0x80000001,
  POLICY: 0x80000002,
  INVALID: 0x80000003,
  TLS_REQD: 0x80000005,
  UNKNOWN: 0x80000006,
  TOO_BIG: 0x80000009,
} as const;
const NBDMAGIC = 'NBDMAGICIHAVEOPT';
const OPTION_DATA_MAX = 16 * 1024;
const SKIPPED_DATA_MAX = 1024 * 1024;
const STRING_MAX = 4096;
const HANDSHAKE_MS = 10_000;
const contextNames = ['base:allocation', 'keepgate:dirty', 'keepgate:remote'];

/** Option replies. */
type Answer =
  /** Each once, in any order, and at their end ACK. */
  | { readonly kind: 'replies'; readonly option: number; readonly items: Map<string, (data: Buffer) => void> }
  | { readonly kind: 'error'; readonly option: number; readonly error: number };

/** What comes next from the server. */
type Expected =
  | Answer
  | { readonly kind: 'greeting' }
  /** The answer to EXPORT_NAME. */
  | { readonly kind: 'export'; readonly bytes: Buffer };

export class HandshakeJudge {
  phase: 'flags' | 'option' | 'data' | 'skipped' | 'securing' | 'transmission' | 'over' = 'flags';
  chosen: Chosen | undefined;
  /** It ends by what the client did wrong, and what was on its way may be lost. */
  broken = false;
  readonly expected: Expected[] = [{ kind: 'greeting' }];
  /** What has been seen, in words; for the search for new behaviour. */
  readonly seen: string[];
  private readonly world: World;
  private flags = 0;
  private form: Form = 'simple';
  private selected: { readonly name: string; readonly count: number; readonly ids: number[] } | undefined;
  private secured: { readonly user: string | undefined } | undefined;
  private option = 0;
  private optionBytes = 0;
  private elapsedMs = 0;

  constructor(world: World, seen: string[]) {
    this.world = world;
    this.seen = seen;
  }

  /** The client's bytes, as far as they belong to the handshake. */
  sent(bytes: ByteQueue): void {
    while (this.phase !== 'transmission') {
      if (this.phase === 'over') return bytes.clear();
      if (this.phase === 'securing') {
        // In clear behind STARTTLS; without sockets what comes later is what TLS will carry.
        if (bytes.length > 0) this.breakOff('bytes in clear');
        return;
      }
      const needed = this.phase === 'flags' ? 4 : this.phase === 'option' ? 16 : this.optionBytes;
      if (bytes.length < needed) return;
      this.step(bytes.take(needed));
    }
  }

  /** TLS is there, or was refused. */
  securedAs(user: string | undefined): void {
    this.secured = { user };
    this.form = 'simple';
    this.selected = undefined;
    this.phase = 'option';
  }

  breakOff(why: string): void {
    this.seen.push(`broken off: ${why}`);
    this.broken = true;
    this.phase = 'over';
  }

  waited(ms: number): void {
    this.elapsedMs += ms;
    const isLate = this.elapsedMs >= HANDSHAKE_MS && this.phase !== 'transmission' && this.phase !== 'over';
    if (isLate) this.breakOff('too late');
  }

  /** The server's bytes, as far as they answer the handshake. */
  received(bytes: ByteQueue): void {
    for (let next = this.expected[0]; next !== undefined; next = this.expected[0]) {
      if (next.kind === 'greeting') {
        if (bytes.length < 18) return;
        const greeting = bytes.take(18);
        assert.equal(greeting.toString('latin1', 0, 16), NBDMAGIC, 'a newstyle greeting');
        assert.equal(greeting.readUInt16BE(16), 3, 'fixed newstyle and no zeroes are offered');
        this.expected.shift();
      } else if (next.kind === 'export') {
        if (bytes.length < next.bytes.length) return;
        assert.deepEqual(bytes.take(next.bytes.length), next.bytes, 'the answer to EXPORT_NAME');
        this.expected.shift();
      } else {
        if (bytes.length < 20) return;
        const head = bytes.peek(20);
        assert.equal(head.readBigUInt64BE(0), 0x3e889045565a9n, 'an option reply begins with its magic');
        const lengthBytes = head.readUInt32BE(16);
        assert.ok(lengthBytes <= STRING_MAX + 64, `an option reply of ${lengthBytes} bytes`);
        if (bytes.length < 20 + lengthBytes) return;
        const reply = bytes.take(20 + lengthBytes);
        assert.equal(reply.readUInt32BE(8), next.option, 'the option that was asked is answered');
        if (this.judgeReply(next, reply.readUInt32BE(12), reply.subarray(20))) this.expected.shift();
      }
    }
  }

  /** True: the option is answered. */
  private judgeReply(next: Answer, type: number, data: Buffer): boolean {
    const name = `option ${next.option} answered ${(type >>> 0).toString(16)}`;
    if (next.kind === 'error') {
      assert.equal(type.toString(16), next.error.toString(16), name);
      new TextDecoder('utf-8', { fatal: true }).decode(data);
      this.seen.push(name);
      return true;
    }
    if (type === REP.ACK) {
      assert.equal(data.length, 0, 'ACK has no data');
      assert.deepEqual([...next.items.keys()], [], `${name} before all that was asked for`);
      this.seen.push(name);
      return true;
    }
    const key = this.keyOf(type, data);
    const judge = next.items.get(key);
    assert.ok(judge !== undefined, `${name}, ${key}, which was not asked for, or twice`);
    next.items.delete(key);
    judge(data);
    return false;
  }

  private keyOf(type: number, data: Buffer): string {
    if (type === REP.INFO && data.length >= 2) return `info ${data.readUInt16BE(0)}`;
    if (type === REP.SERVER && data.length >= 4) return `server ${data.toString('utf8', 4, 4 + data.readUInt32BE(0))}`;
    if (type === REP.META_CONTEXT && data.length > 4) return `context ${data.toString('utf8', 4)}`;
    return `type ${type.toString(16)}`;
  }

  private step(bytes: Buffer): void {
    if (this.phase === 'flags') {
      this.flags = bytes.readUInt32BE(0);
      if (this.flags > 3) return this.breakOff('flags');
      this.phase = 'option';
    } else if (this.phase === 'option') {
      if (bytes.readBigUInt64BE(0) !== 0x49484156454f5054n) return this.breakOff('magic');
      this.option = bytes.readUInt32BE(8);
      this.optionBytes = bytes.readUInt32BE(12);
      this.phase = this.optionBytes <= OPTION_DATA_MAX ? 'data' : 'skipped';
      const isHopeless = this.option === OPT.EXPORT_NAME || this.optionBytes > SKIPPED_DATA_MAX;
      if (this.phase === 'skipped' && isHopeless) return this.breakOff('length');
      if (this.optionBytes === 0) this.step(Buffer.alloc(0));
    } else if (this.phase === 'skipped') {
      this.phase = 'option';
      if (!this.refusedForTls()) this.refuse(ERR.TOO_BIG);
    } else {
      this.phase = 'option';
      this.answer(bytes);
    }
  }

  /** "FORCEDTLS mode": true where the option is answered by that. */
  private refusedForTls(): boolean {
    if (this.world.tls !== 'required' || this.secured !== undefined) return false;
    if (this.option === OPT.EXPORT_NAME || (this.flags & 1) === 0) this.phase = 'over';
    else this.refuse(ERR.TLS_REQD);
    return true;
  }

  private answer(data: Buffer): void {
    const { option } = this;
    if (option !== OPT.STARTTLS && option !== OPT.ABORT && this.refusedForTls()) return;
    switch (option) {
      case OPT.EXPORT_NAME:
        return this.exportName(data);
      case OPT.ABORT:
        this.expect(new Map());
        this.phase = 'over';
        return;
      case OPT.LIST:
        if (data.length > 0) return this.refuse(ERR.INVALID);
        return this.expect(new Map(this.visible().map((each) => [`server ${each.name}`, describes(each)])));
      case OPT.STARTTLS:
        return this.startTls(data);
      case OPT.INFO:
      case OPT.GO:
        return this.infoOrGo(data);
      case OPT.STRUCTURED_REPLY:
      case OPT.EXTENDED_HEADERS:
        if (data.length > 0) return this.refuse(ERR.INVALID);
        if (option === OPT.EXTENDED_HEADERS) this.form = 'extended';
        else if (this.form === 'simple') this.form = 'structured';
        return this.expect(new Map());
      case OPT.LIST_META_CONTEXT:
      case OPT.SET_META_CONTEXT:
        return this.metaContext(data);
      default:
        return this.refuse(ERR.UNSUP);
    }
  }

  private startTls(data: Buffer): void {
    if (data.length > 0 || this.secured !== undefined) return this.refuse(ERR.INVALID);
    if (this.world.tls === 'off' || (this.flags & 1) === 0) return this.refuse(ERR.POLICY);
    this.expect(new Map());
    this.phase = 'securing';
  }

  private exportName(data: Buffer): void {
    if (this.form === 'extended') return this.breakOff('EXPORT_NAME');
    const served = this.find(data);
    if (typeof served === 'number') {
      this.phase = 'over';
      return;
    }
    const bytes = Buffer.alloc((this.flags & 2) !== 0 ? 10 : 134);
    this.writeExport(bytes, 0, served);
    this.expected.push({ kind: 'export', bytes });
    this.choose(served);
  }

  private infoOrGo(data: Buffer): void {
    const nameBytes = data.length >= 6 ? data.readUInt32BE(0) : STRING_MAX + 1;
    const countAt = 4 + nameBytes;
    if (nameBytes > STRING_MAX || data.length < countAt + 2) return this.refuse(ERR.INVALID);
    const count = data.readUInt16BE(countAt);
    if (data.length !== countAt + 2 + 2 * count) return this.refuse(ERR.INVALID);
    const served = this.find(data.subarray(4, countAt));
    if (typeof served === 'number') return this.refuse(served);
    const wanted = new Set([0]);
    for (let at = countAt + 2; at < data.length; at += 2) wanted.add(data.readUInt16BE(at));
    const items = new Map<string, (data: Buffer) => void>();
    for (const type of wanted) {
      const right = this.information(type, served);
      if (right !== undefined) items.set(`info ${type}`, (told) => assert.deepEqual(told.subarray(2), right));
    }
    this.expect(items);
    if (this.option === OPT.GO) this.choose(served);
  }

  private information(type: number, served: Export): Buffer | undefined {
    if (type === 1) return Buffer.from(served.name);
    if (type === 2) return Buffer.from(served.description);
    const bytes = Buffer.alloc(type === 0 ? 10 : 12);
    if (type === 0) this.writeExport(bytes, 0, served);
    else [1, 4096, 32 * 1024 * 1024].forEach((size, index) => bytes.writeUInt32BE(size, 4 * index));
    return type === 0 || type === 3 ? bytes : undefined;
  }

  private metaContext(data: Buffer): void {
    const selects = this.option === OPT.SET_META_CONTEXT;
    if (selects) this.selected = undefined;
    if (this.form === 'simple') return this.refuse(ERR.INVALID);
    const strings: Buffer[] = [];
    let at = 0;
    const next = (): boolean => {
      const lengthBytes = data.length - at >= 4 ? data.readUInt32BE(at) : STRING_MAX + 1;
      if (lengthBytes > STRING_MAX || lengthBytes > data.length - at - 4) return false;
      strings.push(data.subarray(at + 4, at + 4 + lengthBytes));
      at += 4 + lengthBytes;
      return true;
    };
    if (!next() || data.length - at < 4) return this.refuse(ERR.INVALID);
    const count = data.readUInt32BE(at);
    at += 4;
    for (let query = 0; query < count; query++) if (!next()) return this.refuse(ERR.INVALID);
    const [name, ...queries] = strings as [Buffer, ...Buffer[]];
    const texts = queries.map(textOf);
    if (at !== data.length || texts.some((text) => text?.includes(':') !== true)) return this.refuse(ERR.INVALID);
    const served = this.find(name);
    if (typeof served === 'number') return this.refuse(served);
    const chosen = contextNames.filter((context) =>
      selects
        ? texts.includes(context)
        : texts.length === 0 || texts.some((text) => text === context || text === context.replace(/:.*/, ':')),
    );
    const ids: number[] = [];
    if (selects) this.selected = { name: served.name, count: chosen.length, ids };
    const judge = (told: Buffer): void => {
      const id = told.readUInt32BE(0);
      assert.ok(selects ? !ids.includes(id) : id === 0, 'ids of contexts are told apart, and are 0 in a list');
      ids.push(id);
    };
    this.expect(new Map(chosen.map((context) => [`context ${context}`, judge])));
  }

  private choose(served: Export): void {
    const { count, ids } = this.selectedFor(served);
    this.chosen = { served, form: this.form, contexts: count, ids };
    this.phase = 'transmission';
    const others = this.selected !== undefined && this.selected.name !== served.name ? ', contexts of another' : '';
    this.seen.push(`attached ${this.form} ${count} ${served.name}${others}`);
  }

  private selectedFor({ name }: Export): { readonly count: number; readonly ids: readonly number[] } {
    return this.selected?.name === name ? this.selected : { count: 0, ids: [] };
  }

  /** Size 8, transmission flags 2. */
  private writeExport(bytes: Buffer, at: number, served: Export): void {
    bytes.writeBigUInt64BE(BigInt(served.sizeBytes), at);
    let flags = 0x050d | (served.readOnly ? 0x0002 : 0x0860);
    if (this.world.rotational) flags |= 0x0010;
    if (this.form !== 'simple') flags |= 0x0080;
    if (this.form === 'extended' && this.selectedFor(served).count > 0) flags |= 0x1000;
    bytes.writeUInt16BE(flags, at + 8);
  }

  private visible(): Export[] {
    return this.world.exports.filter((each) => this.refusal(each) === undefined);
  }

  private refusal({ users }: Export): number | undefined {
    if (users.length === 0) return undefined;
    if (this.secured === undefined) return ERR.TLS_REQD;
    return this.secured.user !== undefined && users.includes(this.secured.user) ? undefined : ERR.POLICY;
  }

  /** With several exports none is the default one. */
  private find(name: Buffer): Export | number {
    const text = name.length <= STRING_MAX ? textOf(name) : undefined;
    const served = this.world.exports.find((each) => each.name === text);
    return served === undefined ? ERR.UNKNOWN : (this.refusal(served) ?? served);
  }

  private expect(items: Map<string, (data: Buffer) => void>): void {
    this.expected.push({ kind: 'replies', option: this.option, items });
  }

  private refuse(error: number): void {
    this.expected.push({ kind: 'error', option: this.option, error });
  }
}

function describes({ name, description }: Export): (data: Buffer) => void {
  return (data) => assert.equal(data.toString('utf8', 4 + name.length), description);
}

function textOf(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
