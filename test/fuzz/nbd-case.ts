/**
 * What a fuzzed NBD session consists of, how a new one is made, and how one is made of another.
 *
 * A case is a list of steps in JSON, so that it can be kept and run again whatever becomes of the generator. What depends
 * on what was negotiated (the form of a request, the content of a payload) is left to the run unless a step says otherwise.
 */
import type { TlsMode } from '../../src/frontends/nbd/admission.js';
import { contextData } from '../fake/nbd-chunk.js';
import { CMD, FLAG, infoData, OPT } from '../fake/nbd-client.js';
import type { SeededRandom } from '../fake/random.js';
import { CALM_BYTES, DEMO_BYTES } from './nbd-world.js';

/** What carries the bytes. `memory`: TLS has no ciphers there. */
export type Carrier = 'memory' | 'tcp' | 'psk' | 'certificate';

/** Where the bytes of a step are cut; between two pieces everything runs that is ready. */
export type Cuts = readonly number[] | 'every';

/** Counts only as the first step. */
export interface SetupStep {
  readonly kind: 'setup';
  readonly carrier: Carrier;
  readonly tls: TlsMode;
  readonly readOnly: boolean;
}

interface Sent {
  /** Which of the connections; it is made when it is first used. */
  readonly connection: number;
  readonly cuts: Cuts;
  /** Sent with the next step of the connection, in one piece. */
  readonly joined?: boolean;
}

export interface OptionStep extends Sent {
  readonly kind: 'option';
  readonly option: number;
  /** Hexadecimal. */
  readonly data: string;
  /** Added to the length that is said. */
  readonly lengthOff?: number;
  readonly wrongMagic?: boolean;
}

/** A number, or more than that in hexadecimal. */
export type Wide = number | string;

export interface RequestStep extends Sent {
  readonly kind: 'request';
  readonly type: number;
  /** Without PAYLOAD_LEN, which is set where it must be. */
  readonly flags: number;
  readonly offset: Wide;
  readonly length: Wide;
  /** So many of them, one behind the other. */
  readonly times?: number;
  /** Of a BLOCK_STATUS; without extended headers there is no such thing. */
  readonly filter?: { readonly lengthBytes: Wide; readonly ids: readonly number[] };
  /** The flag PAYLOAD_LEN is there where it must not, and not where it must. */
  readonly wrongPayloadFlag?: boolean;
  /** So much more payload follows than was said, or less. */
  readonly surplus?: number;
  readonly wrongMagic?: boolean;
}

export interface FlagsStep extends Sent {
  readonly kind: 'flags';
  readonly flags: number;
}

export interface RawStep extends Sent {
  readonly kind: 'raw';
  readonly hex: string;
}

export type SendStep = OptionStep | RequestStep | FlagsStep | RawStep;

/** What a volume can have against a request. */
export type HinderStep =
  /** Reads and flushes wait from now on, or writes do, until the next `settle`. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'full' }
  /** The next such request of the device fails. */
  | { readonly kind: 'fail'; readonly op: FailingOp; readonly code: FailingCode }
  /** Somebody reserves the volume, or gives it up. */
  | { readonly kind: 'reserve'; readonly mayRead: boolean; readonly mayWrite: boolean };

export type Step =
  | SetupStep
  | SendStep
  /** TLS, where STARTTLS was answered: as alice, bob, a certificate's owner or, `mallory`, in vain. */
  | { readonly kind: 'secure'; readonly connection: number; readonly user: string }
  /** What is ready runs; the device ends what it holds, and takes writes. */
  | { readonly kind: 'settle' }
  | HinderStep
  /** The peer stops reading, or reads on. */
  | { readonly kind: 'stall' | 'take'; readonly connection: number }
  /** The peer closes its side, or all at once. */
  | { readonly kind: 'close' | 'destroy'; readonly connection: number }
  /** The clock goes on. */
  | { readonly kind: 'wait'; readonly ms: number };

export type FailingOp = 'read' | 'write' | 'trim' | 'zero' | 'flush' | 'cache' | 'status';
export type FailingCode = 'disk-failed' | 'buffer-full' | 'fenced' | 'volume-closed';
export type Case = readonly Step[];

export const connectionsMax = 3;
const STEPS_MAX = 24;
const KIB = 1024;
const MIB = 1024 * KIB;

const exportNames = ['demo', 'demo', 'demo', 'hers', 'hers', '', 'Demo', 'no', 'ä', 'n'.repeat(4096), 'n'.repeat(4097)]; // prettier-ignore
const queryPool = ['base:allocation', 'base:', 'keepgate:dirty', 'keepgate:remote', 'keepgate:', 'qemu:dirty-bitmap:x', 'base', '', ':', 'x:'.repeat(2048)]; // prettier-ignore
const edges: readonly Wide[] = [0, 1, 511, 512, 4095, 4096, 65536, DEMO_BYTES - 4096, DEMO_BYTES - 1, DEMO_BYTES, DEMO_BYTES + 1, CALM_BYTES, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, '0x7fffffffffffffff', '0x8000000000000000', '0xfffffffffffff000', '0xffffffffffffffff']; // prettier-ignore
const lengths: readonly Wide[] = [0, 1, 2, 511, 512, 513, 4096, 8192, 64 * KIB, 64 * KIB + 1, 256 * KIB, 256 * KIB + 1, MIB, 4 * MIB, 4 * MIB + 1, DEMO_BYTES, DEMO_BYTES + 1, 32 * MIB, 32 * MIB + 1, 64 * MIB, 64 * MIB + 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, '0x7fffffffffffffff', '0xffffffffffffffff']; // prettier-ignore
const small: readonly number[] = [1, 2, 511, 512, 513, 4096, 4097, 8192, 65536];
const failingOps: readonly FailingOp[] = ['read', 'read', 'write', 'trim', 'zero', 'flush', 'cache', 'status'];
const failingCodes: readonly FailingCode[] = ['disk-failed', 'buffer-full', 'fenced', 'volume-closed'];

class Maker {
  /** Connections that were made. */
  private readonly opened = new Set([0]);

  constructor(private readonly random: SeededRandom) {}

  make(setup = this.setup()): Case {
    const { random } = this;
    const steps: Step[] = [setup];
    if (this.often(0.95)) steps.push(...this.opening(0, setup));
    const count = steps.length + random.below(STEPS_MAX);
    while (steps.length < count) steps.push(...this.some(setup));
    return steps;
  }

  /** Another case made of one: steps left out, doubled, exchanged, put in, and fields changed. */
  mutate(from: Case): Case {
    const { random } = this;
    const setup = from[0]?.kind === 'setup' ? from[0] : this.setup();
    const steps = [...from];
    for (const step of from) if (step.kind === 'flags') this.opened.add(step.connection);
    for (let left = 1 + random.below(4); left > 0; left--) {
      const at = random.below(steps.length + 1);
      const choice = random.fraction();
      const step = steps[at];
      if (at === 0 && this.often(0.9)) continue;
      if (choice < 0.15) steps.splice(at, 1);
      else if (choice < 0.4) steps.splice(at, 0, ...this.some(setup));
      else if (choice < 0.5 && step !== undefined) steps.splice(at, 0, step);
      else if (choice < 0.6 && step !== undefined) steps.splice(random.below(steps.length), 0, ...steps.splice(at, 1));
      else if (step !== undefined) steps[at] = this.mutateStep(step);
    }
    return steps.slice(0, 3 * STEPS_MAX);
  }

  private often(fraction: number): boolean {
    return this.random.fraction() < fraction;
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)] as T;
  }

  private setup(): SetupStep {
    const carrier = this.often(0.96) ? 'memory' : this.pick(['tcp', 'psk', 'certificate'] as const);
    const needsTls = carrier === 'psk' || carrier === 'certificate';
    const tls = needsTls
      ? this.pick(['on', 'required'] as const)
      : this.pick(['off', 'off', 'on', 'required'] as const);
    return { kind: 'setup', carrier, tls, readOnly: this.often(0.07) };
  }

  /** From nothing to the transmission phase, or to wherever it leads. */
  private opening(connection: number, { tls }: SetupStep): Step[] {
    this.opened.add(connection);
    const flags = this.often(0.95) ? 3 : this.pick([0, 1, 2, 4, 7, 0x80000003]);
    const steps: Step[] = [{ kind: 'flags', connection, flags, ...this.sent() }];
    if (tls !== 'off' && this.often(tls === 'required' ? 0.9 : 0.5)) {
      const { joined: _, ...starttls } = this.option(connection, OPT.STARTTLS, Buffer.alloc(0));
      steps.push(this.often(0.05) ? { ...starttls, joined: true } : starttls);
      if (this.often(0.97)) steps.push({ kind: 'secure', connection, user: this.pick(['alice', 'alice', 'bob', 'mallory']) }); // prettier-ignore
    }
    while (this.often(0.25)) steps.push(this.anyOption(connection));
    const form = this.random.fraction();
    if (form < 0.35) steps.push(this.option(connection, OPT.STRUCTURED_REPLY, Buffer.alloc(0)));
    if (form > 0.28 && form < 0.75) steps.push(this.option(connection, OPT.EXTENDED_HEADERS, Buffer.alloc(0)));
    const name = this.often(0.95) ? this.pick(['demo', 'demo', 'demo', 'hers']) : this.pick(exportNames);
    const about = this.often(0.9) ? name : this.pick(exportNames);
    if (this.often(0.6)) steps.push(this.option(connection, OPT.SET_META_CONTEXT, contextData(about, this.contexts())));
    while (this.often(0.1)) steps.push(this.anyOption(connection));
    if (this.often(0.9)) steps.push(this.option(connection, OPT.GO, infoData(name, this.often(0.5) ? [] : [3])));
    else if (this.often(0.8)) steps.push(this.option(connection, OPT.EXPORT_NAME, Buffer.from(name)));
    if (this.often(0.5)) steps.push({ kind: 'settle' });
    return steps;
  }

  private some(setup: SetupStep): Step[] {
    const { random } = this;
    const connection = this.often(0.7) ? 0 : this.pick([...this.opened]);
    const choice = random.fraction();
    if (choice < 0.66) return [this.request(connection)];
    if (choice < 0.7) return [this.anyOption(connection)];
    if (choice < 0.74) return this.opening(1 + random.below(connectionsMax - 1), setup);
    if (choice < 0.82) return [{ kind: 'settle' }];
    if (choice < 0.86) return [this.often(0.7) ? { kind: 'hold' } : { kind: 'full' }];
    if (choice < 0.89) return this.failure(connection);
    if (choice < 0.9) return this.death(connection);
    if (choice < 0.905) return this.flood(connection);
    if (choice < 0.912) return [{ kind: 'reserve', mayRead: this.often(0.5), mayWrite: this.often(0.5) }];
    if (choice < 0.95) return [{ kind: this.pick(['stall', 'take']), connection }];
    if (choice < 0.96) return [{ kind: 'wait', ms: random.below(12_000) }];
    if (choice < 0.98) return [{ kind: 'raw', connection, hex: this.garbage(1 + random.below(60)), ...this.sent() }];
    if (choice < 0.985) return [{ kind: 'secure', connection, user: this.pick(['alice', 'mallory']) }];
    return [{ kind: this.pick(['close', 'destroy']), connection }];
  }

  /** A request that the device fails, mostly. */
  private failure(connection: number): Step[] {
    const op = this.pick(failingOps);
    const fail: Step = { kind: 'fail', op, code: this.pick(failingCodes) };
    if (op !== 'read' || this.often(0.3)) return [fail];
    const length = this.pick([4096, 256 * KIB + 1, MIB, 4 * MIB, DEMO_BYTES]);
    const read = this.request(connection);
    return [fail, { ...read, type: CMD.READ, flags: this.pick([0, 0, FLAG.DF]), offset: 0, length }];
  }

  /** A client that asks for much, and reads nothing of it until later. */
  private flood(connection: number): Step[] {
    const reads = Array.from({ length: 2 + this.random.below(12) }, () => {
      const { type: _type, offset: _offset, length: _length, ...request } = this.request(connection);
      const bytes = this.pick([4096, 64 * KIB, MIB, 4 * MIB]);
      const what = { type: CMD.READ, offset: this.random.below(MIB), length: 1 + this.random.below(bytes) };
      return { ...request, ...what, flags: this.pick([0, 0, FLAG.DF]) };
    });
    return [
      { kind: 'stall', connection },
      ...reads,
      ...(this.often(0.5) ? [{ kind: 'take', connection } as const] : []),
    ];
  }

  /** A client that is gone, or says no more, in the middle of a payload. */
  private death(connection: number): Step[] {
    const { joined: _, ...write } = this.request(connection);
    const cut = this.random.below(4096);
    const payload = { type: CMD.WRITE, flags: 0, offset: 0, length: 8192, surplus: -1 - cut };
    return [
      { ...write, ...payload },
      { kind: this.pick(['close', 'destroy']), connection },
    ];
  }

  private sent(): { readonly cuts: Cuts; readonly joined?: boolean } {
    if (this.often(0.25)) return { cuts: [], joined: true };
    if (this.often(0.05)) return { cuts: 'every' };
    if (!this.often(0.2)) return { cuts: [] };
    return { cuts: Array.from({ length: 1 + this.random.below(3) }, () => this.random.below(this.pick([40, 600]))) };
  }

  private garbage(count: number): string {
    return Buffer.from(this.random.bytes(count)).toString('hex');
  }

  private option(connection: number, option: number, data: Buffer): OptionStep {
    const { random } = this;
    return {
      kind: 'option',
      connection,
      option,
      data: data.toString('hex'),
      ...this.sent(),
      ...(this.often(0.01) ? { lengthOff: this.pick([-1, 1, 4, random.below(20_000), 2 ** 20, 2 ** 32 - 1]) } : {}),
      ...(this.often(0.003) ? { wrongMagic: true } : {}),
    };
  }

  private contexts(): string[] {
    if (this.often(0.5)) return this.pick([['base:allocation'], ['base:allocation', 'keepgate:dirty', 'keepgate:remote'], ['keepgate:dirty']]); // prettier-ignore
    return Array.from({ length: this.random.below(4) }, () => this.pick(queryPool));
  }

  private anyOption(connection: number): OptionStep {
    const { random } = this;
    const name = this.pick(exportNames);
    const types = Array.from({ length: random.below(5) }, () => this.pick([0, 1, 2, 3, 3, 4, 0xffff]));
    const option = this.pick([...Object.values(OPT), OPT.LIST, OPT.INFO, OPT.INFO, OPT.LIST_META_CONTEXT, 4, 0, 99, 0xffffffff]); // prettier-ignore
    let data: Buffer = Buffer.alloc(0);
    if (option === OPT.INFO || option === OPT.GO) data = infoData(name, types);
    if (option === OPT.EXPORT_NAME) data = Buffer.from(name);
    if (option === OPT.LIST_META_CONTEXT || option === OPT.SET_META_CONTEXT) data = contextData(name, this.contexts());
    if (this.often(0.1)) data = Buffer.concat([data, random.bytes(random.below(40))]);
    if (this.often(0.1)) data = data.subarray(0, random.below(data.length + 1));
    if (this.often(0.05) && data.length > 0) data[random.below(Math.min(12, data.length))] = random.below(256);
    return this.option(connection, option, data);
  }

  private request(connection: number): RequestStep {
    const { random } = this;
    const type = this.often(0.97)
      ? this.pick([CMD.READ, CMD.READ, CMD.READ, CMD.WRITE, CMD.WRITE, CMD.FLUSH, CMD.TRIM, CMD.CACHE, CMD.WRITE_ZEROES, CMD.BLOCK_STATUS, CMD.BLOCK_STATUS]) // prettier-ignore
      : this.pick([CMD.DISC, 8, 0xffff, 0x8000]);
    const isFlush = type === CMD.FLUSH && this.often(0.95);
    const length = isFlush ? 0 : this.often(0.8) ? this.pick(small) : this.pick(lengths);
    return {
      kind: 'request',
      connection,
      type,
      flags: this.flags(type),
      offset: isFlush ? 0 : this.offset(),
      length,
      ...this.sent(),
      ...(this.often(0.06) ? { times: 2 + random.below(this.often(0.8) ? 8 : 80) } : {}),
      ...(type === CMD.BLOCK_STATUS && this.often(0.4) ? { filter: this.filter(length) } : {}),
      ...(this.often(0.01) ? { wrongPayloadFlag: true } : {}),
      ...(this.often(0.01) ? { surplus: this.pick([-1, 1, -28, 28, 32, -512, 512]) } : {}),
      ...(this.often(0.003) ? { wrongMagic: true } : {}),
    };
  }

  private flags(type: number): number {
    if (this.often(0.5)) return 0;
    if (this.often(0.05)) return this.random.below(0x10000) & ~FLAG.PAYLOAD_LEN;
    if (type === CMD.READ) return this.pick([FLAG.DF, FLAG.DF, FLAG.FUA]);
    if (type === CMD.WRITE_ZEROES) return this.pick([FLAG.NO_HOLE, FLAG.FAST_ZERO, FLAG.FAST_ZERO | FLAG.FUA]);
    if (type === CMD.BLOCK_STATUS) return this.pick([FLAG.REQ_ONE, FLAG.REQ_ONE, FLAG.FUA]);
    return this.pick([FLAG.FUA, FLAG.FUA, FLAG.FUA, FLAG.DF]);
  }

  private offset(): Wide {
    const { random } = this;
    if (this.often(0.4)) return 4096 * random.below(DEMO_BYTES / 4096);
    return this.often(0.7) ? random.below(DEMO_BYTES) : this.pick(edges);
  }

  private filter(lengthBytes: Wide): NonNullable<RequestStep['filter']> {
    const ids = this.pick([[1], [1, 2], [1, 2, 3], [2], [3, 1], [1, 1], [], [0], [4, 1], [1, 2, 3, 1], [0xffffffff]]);
    return { lengthBytes, ids };
  }

  private mutateStep(step: Step): Step {
    const { random } = this;
    switch (step.kind) {
      case 'setup':
        return this.setup();
      case 'flags':
        return { ...step, flags: this.pick([0, 1, 2, 3, 3, 3, 4, 0xffffffff]), ...this.sent() };
      case 'option': {
        if (this.often(0.3)) return { ...step, ...this.sent() };
        if (this.often(0.1)) return { ...step, lengthOff: this.pick([-1, 1, 16, 20_000, 2 ** 20, 2 ** 32 - 1]) };
        if (this.often(0.2)) return this.anyOption(step.connection);
        const data = Buffer.from(step.data, 'hex');
        if (data.length > 0) data[random.below(data.length)] = random.below(256);
        return { ...step, data: data.toString('hex') };
      }
      case 'request':
        return this.mutateRequest(step);
      case 'raw':
        return { ...step, hex: this.garbage(1 + random.below(60)) };
      case 'wait':
        return { ...step, ms: random.below(12_000) };
      default:
        return step;
    }
  }

  private mutateRequest(step: RequestStep): RequestStep {
    const { random } = this;
    const choice = random.fraction();
    if (choice < 0.2) return { ...step, offset: this.offset() };
    if (choice < 0.4) return { ...step, length: this.pick(this.often(0.6) ? small : lengths) };
    if (choice < 0.55) return { ...step, flags: step.flags ^ (1 << this.pick([0, 1, 2, 3, 4, random.below(16)])) };
    if (choice < 0.65) return { ...step, type: random.below(9) };
    if (choice < 0.8) return { ...step, ...this.sent() };
    if (choice < 0.85) return { ...step, times: 1 + random.below(100) };
    if (choice < 0.9) return { ...step, filter: this.filter(step.length) };
    if (choice < 0.95) return { ...step, surplus: this.pick([-1, 1, -28, 28, -32, 32, 512]) };
    return { ...step, wrongPayloadFlag: step.wrongPayloadFlag !== true };
  }
}

/** `setup`: of a server that is already there. */
export function makeCase(random: SeededRandom, setup?: SetupStep): Case {
  return new Maker(random).make(setup);
}

export function mutateCase(from: Case, random: SeededRandom): Case {
  return new Maker(random).mutate(from);
}
